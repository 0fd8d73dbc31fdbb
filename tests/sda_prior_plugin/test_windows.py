"""Which windows an epoch has: every second of every recording equally often, in random order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sda_prior_plugin import windows as windows_module
from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.schedule import EPOCH_WINDOWS, epochs_per_round
from sda_prior_plugin.windows import Rounds, Windows, mean_frames, segments, whole_windows

from .conftest import counting_grids

SHAPE = CodeShape(bands=2, levels=2, codebook_size=300)


def sequences_of(lengths: list[int], names: list[str] | None = None) -> CodeSequences:
    return CodeSequences.from_grids(counting_grids(lengths), SHAPE, names)


def visits_of_frames(sequences: CodeSequences, windows: Windows) -> list[np.ndarray]:
    """How often the windows visit each frame of each sequence."""
    seen = [np.zeros(length, int) for length in sequences.lengths]
    for sequence, first, frames in zip(windows.sequence, windows.first_frame, windows.frames, strict=True):
        seen[sequence][first : first + frames] += 1
    return seen


def joined(windows: list[Windows]) -> Windows:
    return Windows(*(np.concatenate(each) for each in zip(*(vars(some).values() for some in windows), strict=True)))


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5), context=st.integers(1, 12), seed=st.integers(0, 99)
)
def test_windows_cover_every_frame_once(lengths: list[int], context: int, seed: int) -> None:
    sequences = sequences_of(lengths)
    phase = np.random.default_rng(seed).integers(0, context, len(lengths))
    windows = whole_windows(sequences, context, np.arange(len(lengths)), phase)
    assert windows.frames.max() <= context
    assert all((counts == 1).all() for counts in visits_of_frames(sequences, windows))


@given(
    recordings=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=6),
    context=st.integers(1, 12),
    seed=st.integers(0, 99),
    visits=st.integers(1, 5),
)
def test_a_round_visits_so_many_variants_of_each_recording_whole(
    recordings: list[list[int]], context: int, seed: int, visits: int
) -> None:
    names = [str(number) for number, lengths in enumerate(recordings) for _ in lengths]
    sequences = sequences_of([length for lengths in recordings for length in lengths], names)
    rounds = Rounds(sequences, context, seed, batch_size=8)
    rounds.visits = visits
    seen = visits_of_frames(sequences, rounds.round(0))
    assert all(len(set(counts.tolist())) == 1 for counts in seen)
    visited = np.bincount(sequences.recordings, [counts[0] for counts in seen])
    assert visited.tolist() == [min(visits, len(lengths)) for lengths in recordings]


def test_in_the_long_run_all_variants_are_visited_equally_often_and_cuts_fall_everywhere() -> None:
    sequences = sequences_of([30] * 8, ["a"] * 8)
    rounds = Rounds(sequences, 10, seed=0, batch_size=8)
    rounds.visits = 2
    windows = joined([rounds.round(number) for number in range(400)])
    assert np.bincount(windows.sequence[windows.first_frame == 0]) == pytest.approx(100, abs=35)
    cuts = np.bincount(windows.first_frame[windows.first_frame > 0])[1:]
    assert (cuts > 0).sum() == 29


def test_windows_have_as_many_frames_on_average_as_is_said() -> None:
    sequences, context = sequences_of([3, 12, 12, 31, 70]), 12
    every = [whole_windows(sequences, context, np.arange(5), np.full(5, phase)).frames for phase in range(context)]
    found = float(np.concatenate(every).mean())
    assert mean_frames(sequences.lengths, context) == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("count", [100, 700, 2000])
def test_a_round_of_a_large_corpus_is_shared_out_over_epochs(count: int) -> None:
    """So that a validation is never far away; over the epochs of a round every recording is visited once."""
    rounds = Rounds(sequences_of([2] * count), 8, seed=0, batch_size=8)
    epochs = epochs_per_round(count, 1, 8)
    windows = [rounds.epoch(epoch) for epoch in range(1, 2 * epochs + 1)]
    assert max(len(some) for some in windows) <= 1.5 * EPOCH_WINDOWS
    for some in (windows[:epochs], windows[epochs:]):
        assert sorted(joined(some).sequence.tolist()) == list(range(count))
    assert windows[0].sequence.tolist() != windows[epochs].sequence.tolist()


def test_a_round_of_several_visits_in_many_steps_is_shared_out_and_each_epoch_hears_all_about_once() -> None:
    """A few long recordings are many steps of few windows; a training is to end soon after it gains no more."""
    assert epochs_per_round(8, 32, batch_size=3) == 2
    assert epochs_per_round(75, 3, batch_size=2) == 3
    assert epochs_per_round(75, 3, batch_size=8) == 1
    assert epochs_per_round(400, 1, batch_size=1) == 1
    assert epochs_per_round(150, 2, batch_size=1) == 2


def test_a_round_of_many_recordings_leaves_variants_for_the_next() -> None:
    windows = Rounds(
        sequences_of([2] * 1000, [str(number // 8) for number in range(1000)]), 8, seed=0, batch_size=8
    ).epoch(1)
    assert len(windows) == 250
    assert np.bincount(windows.sequence // 8).tolist() == [2] * 125
    assert len(set(windows.sequence.tolist())) == 250


def test_an_epoch_is_the_same_whatever_was_asked_for_before() -> None:
    sequences = sequences_of([20] * 700)
    rounds = Rounds(sequences, 8, seed=3, batch_size=8)
    asked = [rounds.epoch(epoch) for epoch in (9, 2, 1, 9)]
    for epoch, windows in zip((9, 2, 1, 9), asked, strict=True):
        alone = Rounds(sequences, 8, seed=3, batch_size=8).epoch(epoch)
        assert all(np.array_equal(a, b) for a, b in zip(vars(alone).values(), vars(windows).values(), strict=True))


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let codes be large from so few bytes on that a test can hold them: segments of 1000 frames."""

    def make_small() -> None:
        monkeypatch.setattr(windows_module, "LARGE_BYTES", 10_000)
        monkeypatch.setattr(windows_module, "SEGMENT_BYTES", 8_000)

    return make_small


def test_large_codes_are_visited_segment_by_segment_and_everything_once(small_segments: Callable[[], None]) -> None:
    sequences = sequences_of([20] * 500)
    plain = Rounds(sequences, 8, seed=0, batch_size=8).round(0)
    assert not segments(sequences, plain).any()
    small_segments()
    windows = Rounds(sequences, 8, seed=0, batch_size=8).round(0)
    assert all((counts == 1).all() for counts in visits_of_frames(sequences, windows))
    segment = segments(sequences, windows)
    order = segment[np.flatnonzero(np.diff(segment, prepend=-1))]
    assert sorted(order.tolist()) == list(range(10)), "each segment is visited in one go"
    assert order.tolist() != list(range(10)), "in random order"
    inside = windows.sequence[segment == order[0]]
    assert inside.tolist() != sorted(inside.tolist()), "and so are its windows"


def test_codes_that_are_not_large_come_in_the_plain_random_order(small_segments: Callable[[], None]) -> None:
    small_segments()
    sequences = sequences_of([20] * 60)
    assert sequences.codes.nbytes == 9600
    rng = np.random.default_rng([5, 0])
    chosen = windows_module.chosen_variants(sequences, 1, rng)
    windows = whole_windows(sequences, 8, chosen, rng.integers(0, 8, len(chosen)))
    expected = windows[rng.permutation(len(windows))]
    found = Rounds(sequences, 8, seed=5, batch_size=8).round(0)
    assert all(np.array_equal(a, b) for a, b in zip(vars(expected).values(), vars(found).values(), strict=True))


@pytest.mark.parametrize(("share", "visits"), [(0.0, 4), (0.5, 4), (0.75, 2), (0.6, 1)])
def test_about_the_wanted_share_of_visits_are_copies_of_recordings_that_have_some(share: float, visits: int) -> None:
    """Of several visits of a recording one is as recorded; without copies all are."""
    names = [*["a"] * 12, *["b"] * 6]
    kinds = [0] * 6 + [1, 2, 3, 4, 5, 6] + [0] * 6
    sequences = CodeSequences.from_grids(counting_grids([5] * 18), SHAPE, names, kinds)
    rng = np.random.default_rng(0)
    rounds = [windows_module.chosen_variants(sequences, visits, rng, share) for _ in range(400)]
    of_a = [chosen[chosen < 12] for chosen in rounds]
    assert all(len(chosen) == 2 * visits and len(set(chosen)) == 2 * visits for chosen in rounds)
    assert all(len(chosen) == visits for chosen in of_a)
    wanted = share if visits == 1 else min(share, (visits - 1) / visits)
    assert np.mean(np.concatenate(of_a) >= 6) == pytest.approx(wanted, abs=0.07)
    assert visits == 1 or all((chosen < 6).any() for chosen in of_a)
    visited = np.bincount(np.concatenate(rounds), minlength=18)
    assert (visited[6:12] > 0).all() == (share > 0)
