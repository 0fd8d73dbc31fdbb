"""`Prior.live`: a frame at a time, by settings that change meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pytest

from sda_prior_plugin import Prior, PriorError, PriorRun
from sda_prior_plugin.sequences import DEFAULT_TOP_P


@dataclass(frozen=True)
class Settings:
    """What a host has of them."""

    temperature: float = 1.0
    top_p: float = DEFAULT_TOP_P
    top_k: int = 0
    seed: int = 0
    resets: int = 0
    hold: bool = False


def played(prior: Prior, frames: int, by_frame: Callable[[int], Settings]) -> np.ndarray:
    """So many frames, each by the settings of its number."""
    numbers = iter([0, *range(frames)])  # the first ones are looked at to begin with, too
    return np.concatenate([*islice(prior.live(lambda: by_frame(next(numbers))), frames)])


def test_settings_that_stay_give_what_sample_gives(run: PriorRun) -> None:
    how = {"seed": 3, "temperature": 0.9, "top_p": 0.9, "top_k": 6}
    expected = run.prior.sample(120, **how)
    settings = Settings(**how)
    np.testing.assert_array_equal(played(run.prior, 120, lambda number: settings), expected)
    frames = list(run.prior.live(lambda: settings, 120))
    assert {frame.shape for frame in frames} == {(1, *expected.shape[1:])}
    np.testing.assert_array_equal(np.concatenate(frames), expected)


def test_it_keeps_to_the_longest_copy(run: PriorRun) -> None:
    frames = list(run.prior.live(lambda: Settings(seed=5), 60, max_copy=0.3))
    np.testing.assert_array_equal(np.concatenate(frames), run.prior.sample(60, seed=5, max_copy=0.3))


def test_a_change_counts_from_the_next_frame_on(run: PriorRun) -> None:
    seed = next(seed for seed in range(100) if len(run.prior.sample(seed=seed)) > 8)
    before = run.prior.sample(4, seed=seed)
    changed = played(run.prior, 8, lambda number: Settings(seed=seed, top_k=0 if number < 4 else 1))
    np.testing.assert_array_equal(changed[:4], before)
    np.testing.assert_array_equal(changed[4:], run.prior.sample(4, seed=seed, top_k=1, start=before))


def test_another_seed_begins_anew(run: PriorRun) -> None:
    codes = played(run.prior, 20, lambda number: Settings(seed=1 if number < 7 else 2))
    np.testing.assert_array_equal(codes[7:], run.prior.sample(13, seed=2))


def test_what_is_reset_begins_another_sound(run: PriorRun) -> None:
    codes = played(run.prior, 6, lambda number: Settings(top_k=1, resets=int(number >= 5)))
    np.testing.assert_array_equal(codes[5:], run.prior.sample(1, top_k=1))


def test_what_is_held_is_drawn_anew_and_not_remembered(run: PriorRun) -> None:
    beginning, next_one = (run.prior.sample(frames, top_k=1)[frames - 1].tobytes() for frames in (1, 5))
    held = Settings(top_k=1, hold=True)
    codes = played(run.prior, 40, lambda number: held if number >= 4 else replace(held, hold=False))
    frames = [frame.tobytes() for frame in codes[4:]]
    assert set(frames) <= {beginning, next_one}  # what follows the fourth frame, or the beginning of another sound
    assert frames.count(next_one) > 5
    released = played(run.prior, 40, lambda number: replace(held, hold=4 <= number < 39))
    assert released[39].tobytes() in (beginning, next_one)
    varied = played(run.prior, 40, lambda number: Settings(top_p=1.0, hold=number >= 4))
    assert len({frame.tobytes() for frame in varied[4:]}) > 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [(Settings(temperature=0), "temperature is 0"), (Settings(top_p=1.5), "top_p is 1.5"), (Settings(seed=-1), "seed")],
)
def test_settings_out_of_bounds_are_refused(run: PriorRun, settings: Settings, message: str) -> None:
    with pytest.raises(PriorError, match=message):
        played(run.prior, 3, lambda number: settings if number == 2 else Settings())


def test_a_length_of_nothing_is_refused(run: PriorRun) -> None:
    with pytest.raises(PriorError, match="frames is 0"):
        run.prior.live(Settings, 0)
