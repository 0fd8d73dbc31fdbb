"""What recordings share with each other: which of them are looked at, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

from sda_prior_plugin import CodeCorpus
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.natural import FEWEST_TRAINED, some_pieces

from .conftest import phrases


@pytest.fixture(scope="module")
def codebooks() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(3, 32, 8)).astype(np.float32)


def natural_rates(corpus: CodeCorpus) -> tuple[list[float], list[int], float, int]:
    """Natural rates and windows by length, and the same of near copies."""
    measured = CopyMeter(corpus).measured(phrases(10, 99))
    assert measured.near is not None
    return (
        [rate.natural for rate in measured.exact],
        [rate.natural_windows for rate in measured.exact],
        measured.near.natural,
        measured.near.natural_windows,
    )


def test_a_recording_is_compared_with_the_others_and_with_no_variant_of_its_own(codebooks: np.ndarray) -> None:
    learned, held_out = phrases(12, 1), phrases(3, 2)
    names = [str(number) for number in range(12) for _ in range(3)]
    tripled = [grid for grid in learned for _ in range(3)]
    corpus = CodeCorpus.from_sequences(tripled, held_out, codebooks=codebooks, train_names=names)
    exact, counted, near, compared = natural_rates(corpus)
    assert counted[0] == (12 + 3) * 11
    assert compared > 3 * 7
    assert (exact, near) == ([0.0] * len(exact), 0.0)


def test_material_of_many_recordings_is_natural(codebooks: np.ndarray) -> None:
    bars, orders = phrases(4, 1, frames=6), np.random.default_rng(3).integers(0, 4, (15, 3))
    loops = [np.concatenate([bars[one] for one in order]) for order in orders]
    exact, counted, near, _ = natural_rates(CodeCorpus.from_sequences(loops[:14], loops[14:], codebooks=codebooks))
    assert counted[0] == 15 * 17, "each recording once"
    assert exact[0] > 0.8
    assert near > 0.8


def test_a_take_that_is_trained_on_twice_does_not_raise_what_is_natural(codebooks: np.ndarray) -> None:
    learned, held_out = phrases(12, 1), phrases(3, 2)
    corpus = CodeCorpus.from_sequences([*learned, learned[0], learned[5]], held_out, codebooks=codebooks)
    exact, counted, near, _ = natural_rates(corpus)
    assert counted[0] == (10 + 3) * 11, "neither of two takes of one sound counts"
    assert (exact, near) == ([0.0] * len(exact), 0.0)


def test_where_takes_cannot_be_told_from_material_nothing_is_known(codebooks: np.ndarray) -> None:
    learned = phrases(12, 1)
    once = CodeCorpus.from_sequences(learned, phrases(6, 2), codebooks=codebooks)
    twice = CodeCorpus.from_sequences([*learned, *learned], phrases(6, 2), codebooks=codebooks)
    assert CopyMeter(once).calibrated
    assert not CopyMeter(twice).calibrated


def test_of_few_recordings_only_what_is_held_out_is_looked_at(codebooks: np.ndarray) -> None:
    """To leave one out of few would leave much less to share with."""
    few, enough = (
        CodeCorpus.from_sequences(phrases(count, 1), phrases(2, 2), codebooks=codebooks)
        for count in (FEWEST_TRAINED - 1, FEWEST_TRAINED)
    )
    assert natural_rates(few)[1][0] == 2 * 11
    assert natural_rates(enough)[1][0] == (FEWEST_TRAINED + 2) * 11
    assert not CopyMeter(few).calibrated
    assert CopyMeter(enough).calibrated


def test_what_is_looked_at_is_bounded_and_of_as_many_recordings_as_can_be(codebooks: np.ndarray) -> None:
    learned = phrases(40, 1, frames=100)
    corpus = CodeCorpus.from_sequences(learned, phrases(1, 2), codebooks=codebooks)
    grids, recordings = some_pieces(corpus.train, 23, 1000)
    assert 800 <= sum(map(len, grids)) <= 1000
    assert len(set(recordings)) == 40
    assert all(len(grid) <= 23 for grid in grids)
    again, _ = some_pieces(corpus.train, 23, 1000)
    assert all(map(np.array_equal, grids, again))
    whole, _ = some_pieces(corpus.train, 23, 10**6)
    np.testing.assert_array_equal(np.concatenate(whole), corpus.train.codes)


def test_copies_are_noticed_though_little_is_held_out(codebooks: np.ndarray) -> None:
    """Sixty sounds of which nine are of the recordings, and one recording that is held out."""
    learned = phrases(40, 1)
    meter = CopyMeter(CodeCorpus.from_sequences(learned, phrases(1, 2), codebooks=codebooks))
    for seed in range(5):
        sounds = phrases(60, 10 + seed, frames=6)
        assert meter.measured(sounds).telling is None
        sounds[:9] = [grid[3:9] for grid in learned[seed : seed + 9]]
        assert meter.measured(sounds).telling is not None
