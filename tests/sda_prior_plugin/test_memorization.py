"""Whether a prior recites: the test behind the verdict, the verdict while training, and the report."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sda_prior_plugin import CodeCorpus, EpochDone, MemorizingFound, PriorError, TrainingEvent, train_prior
from sda_prior_plugin.copy_meter import SIGNIFICANCE, CopyMeter
from sda_prior_plugin.copy_test import chances_of_more
from sda_prior_plugin.judging import Checkpoint
from sda_prior_plugin.memorization import (
    COPYING,
    GAP,
    NO_SIGN,
    UNKNOWN,
    VERY_LIKELY,
    CopyRate,
    MemorizationReport,
    Recited,
)
from sda_prior_plugin.natural import FEWEST_TRAINED
from sda_prior_plugin.nearness import Nearness
from sda_prior_plugin.watch import Bits, Watch

from .conftest import BANDS, LEVELS, SIZE, small_settings

OPEN = Bits(train=0.5, held_out=3.0, best=2.0)
CLOSED = Bits(train=1.9, held_out=2.0, best=2.0)


def noise(count: int, seed: int, frames: int = 12) -> list[np.ndarray]:
    """Grids that have nothing in common with each other."""
    return list(np.random.default_rng(seed).integers(0, SIZE, (count, frames, BANDS, LEVELS)))


@pytest.fixture(scope="module")
def unlike(codebooks: np.ndarray) -> CodeCorpus:
    """A corpus whose held-out recordings share nothing with the others."""
    return CodeCorpus.from_sequences(noise(8, 1), noise(8, 2), codebooks=codebooks)


@pytest.fixture(scope="module")
def alike(codebooks: np.ndarray) -> CodeCorpus:
    """A corpus whose held-out recordings are made of the same material as the others."""
    bars = np.concatenate(noise(4, 1, frames=4))
    rows = np.random.default_rng(3).integers(0, 4, (20, 3))
    grids = [np.concatenate([bars[4 * one : 4 * one + 4] for one in row]) for row in rows]
    return CodeCorpus.from_sequences(grids[:12], grids[12:], codebooks=codebooks)


def recited(corpus: CodeCorpus, count: int = 40) -> list[np.ndarray]:
    return [corpus.train[index % len(corpus.train)] for index in range(count)]


def test_what_is_recited_is_significantly_more_than_natural(unlike: CodeCorpus) -> None:
    telling = CopyMeter(unlike).measured(recited(unlike)).telling
    assert telling is not None
    rate, near = telling
    assert not near
    assert (rate.samples, rate.natural) == (1.0, 0.0)


def test_what_is_new_is_not(unlike: CodeCorpus) -> None:
    assert CopyMeter(unlike).measured(noise(40, 4)).telling is None


def test_material_that_unheard_recordings_share_is_not_held_against_a_prior(alike: CodeCorpus) -> None:
    meter = CopyMeter(alike)
    natural = meter.measured([alike.held_out[0]]).exact[0].natural
    assert natural > 0.7
    again = [alike.held_out[index % len(alike.held_out)] for index in range(40)]
    assert meter.measured(again).telling is None


@pytest.mark.slow
def test_chance_is_found_significant_as_often_as_it_is_allowed_to_be() -> None:
    """Sequences of one kind, split at random: p-values are uniform, though windows of one sequence hang together."""
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(300):
        counted = rng.integers(3, 12, 60)
        copied = rng.binomial(counted, rng.beta(0.3, 1.2, 60))
        p_values += chances_of_more([(copied[:40], counted[:40])], [(copied[40:], counted[40:])])
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(np.array(p_values) <= SIGNIFICANCE) == pytest.approx(SIGNIFICANCE, abs=0.04)


@pytest.mark.slow
def test_chance_is_found_significant_no_more_often_by_windows_of_several_lengths() -> None:
    """Three lengths, of which the longest fits only some sequences: the least p-value of them is uniform."""
    rng = np.random.default_rng(1)
    least = []
    for _ in range(300):
        counted = np.stack([rng.integers(3, 12, 60), np.full(60, 5), rng.integers(0, 2, 60)])
        copied = rng.binomial(counted, rng.beta(0.3, 1.2, 60))
        both = list(zip(copied, counted, strict=True))
        least.append(min(chances_of_more([(a[:40], b[:40]) for a, b in both], [(a[40:], b[40:]) for a, b in both])))
    assert np.mean(np.array(least) <= 0.1) == pytest.approx(0.1, abs=0.06)


def test_more_sequences_make_the_same_rates_more_significant() -> None:
    def p_value(pairs: int) -> float:
        counted = np.full(2 * pairs, 10)
        (chance,) = chances_of_more([(np.tile([2, 6], pairs), counted)], [(np.tile([0, 5], pairs), counted)])
        return chance

    assert p_value(20) < p_value(2)


def test_one_look_accuses_nobody_and_two_in_a_row_do(unlike: CodeCorpus) -> None:
    watch = Watch(CopyMeter(unlike))
    watch.look(5, OPEN, recited(unlike))
    assert not watch.memorizing
    watch.look(10, OPEN, recited(unlike))
    assert watch.memorizing
    watch.look(15, OPEN, noise(40, 5))
    assert watch.memorizing
    watch.look(20, OPEN, noise(40, 6))
    assert not watch.memorizing
    assert watch.stretches == [(5, 10)]


def test_without_a_gap_between_known_and_unheard_nobody_is_accused(unlike: CodeCorpus) -> None:
    watch = Watch(CopyMeter(unlike))
    for epoch in range(1, 6):
        watch.look(epoch, CLOSED, recited(unlike))
    assert not watch.memorizing


def test_what_was_found_is_told_in_plain_numbers(unlike: CodeCorpus) -> None:
    watch = Watch(CopyMeter(unlike))
    for epoch in (5, 10):
        watch.look(epoch, OPEN, recited(unlike))
    assert watch.finding is not None
    assert watch.finding.sentence(3) == (
        "100% of the 0.3 s stretches that this prior generates now are verbatim from your recordings; recordings "
        "share 0% with each other; best checkpoint: epoch 3."
    )


def test_with_too_few_recordings_the_gap_alone_is_judged_and_it_is_said(codebooks: np.ndarray) -> None:
    corpus = CodeCorpus.from_sequences(noise(FEWEST_TRAINED - 1, 1), noise(1, 2), codebooks=codebooks)
    watch = Watch(CopyMeter(corpus))
    assert not watch.meter.calibrated
    for epoch in (1, 2):
        watch.look(epoch, Bits(train=1.6, held_out=2.1, best=2.0), recited(corpus))
    assert not watch.memorizing, "the margin is wide"
    for epoch in (1, 2):
        watch.look(epoch, OPEN, noise(40, 9))
    assert not watch.memorizing, "what copies nothing does not recite, however well it knows what it was trained on"
    for epoch in (3, 4):
        watch.look(epoch, OPEN, recited(corpus))
    assert watch.finding is not None
    assert watch.finding.sentence(2).startswith("It copies your recordings; there are too few different ones to know")
    report = watch.report(4, OPEN, [recited(corpus)], None, 0.0)
    assert (report.basis, report.verdict) == (GAP, VERY_LIKELY)
    known = watch.report(4, CLOSED, [recited(corpus)], None, 0.0)
    assert known.verdict == UNKNOWN, "what cannot be known is not no sign"


@pytest.mark.slow
def test_a_training_that_recites_is_told_of_and_the_best_checkpoint_is_from_before(unlike: CodeCorpus) -> None:
    events: list[TrainingEvent] = []
    settings = small_settings(unlike, epochs=150, dropout=0.0, weight_decay=0.0, hidden_size=64, context_seconds=3.0)
    run = train_prior(unlike, settings, on_event=events.append)
    (found,) = [event for event in events if isinstance(event, MemorizingFound)]
    assert found.finding.rate is not None
    assert ("near copies of" if found.finding.near else "verbatim from") + " your recordings" in found.sentence
    accused = [event.epoch for event in events if isinstance(event, EpochDone) and event.memorizing]
    assert accused[0] > found.epoch, "the look after the first one that told made it sure"
    memorization = run.report.memorization
    assert memorization is not None
    assert memorization.basis == COPYING
    assert run.report.best_epoch < found.epoch == memorization.memorizing_epochs[0][0]
    assert memorization.verdict == NO_SIGN


@pytest.mark.slow
def test_a_training_that_learns_is_left_alone(corpus: CodeCorpus) -> None:
    """Up to its best epoch, the 9th, and a little beyond; of thirty, the last ten get worse by a fifth and more."""
    events: list[TrainingEvent] = []
    train_prior(corpus, small_settings(corpus, epochs=15), on_event=events.append)
    assert not any(isinstance(event, MemorizingFound) for event in events)


def test_of_checkpoints_that_are_as_good_within_noise_the_older_one_stays_in_the_running() -> None:
    bits = np.random.default_rng(0).normal(100, 20, 30)
    wavering = np.tile([-1.0, 1.0], 15)

    def checkpoint(change: np.ndarray) -> Checkpoint:
        return Checkpoint(1, float((bits + change).sum()), bits + change, {}, 0.0)

    best = checkpoint(np.zeros(30))
    assert checkpoint(wavering + 0.1).as_good_as(best)
    assert not checkpoint(wavering + 0.3).as_good_as(best)


def test_copying_less_is_told_from_copying_more(unlike: CodeCorpus) -> None:
    meter = CopyMeter(unlike)
    assert meter.copies_more(recited(unlike), noise(40, 7))
    assert not meter.copies_more(noise(40, 7), recited(unlike))
    assert not meter.copies_more(noise(40, 7), noise(40, 8))


REPORT = MemorizationReport(
    verdict=NO_SIGN,
    basis=COPYING,
    rates=(CopyRate(0.34, 2, 0.01, 900, 0.05, 120, 0.9),),
    longest=Recited("a.wav", 1.5, 0.7),
    memorizing_epochs=((10, 14), (20, 20)),
    seconds=1.5,
)


def test_a_report_is_read_as_it_was_written() -> None:
    report = dataclasses.replace(REPORT, near=REPORT.rates[0], nearness=Nearness(0.3, 0.2, 0.7, 0.01))
    assert MemorizationReport.from_dict(report.as_dict()) == report
    without = dataclasses.replace(REPORT, longest=None)
    assert MemorizationReport.from_dict(without.as_dict()) == without


def test_a_report_of_an_earlier_version_is_read() -> None:
    """When only what is held out was natural, and was called that."""
    report = dataclasses.replace(REPORT, near=REPORT.rates[0], nearness=Nearness(0.3, 0.2, 0.7, 0.01))
    earlier = json.dumps(report.as_dict()).replace("natural", "held_out")
    assert MemorizationReport.from_dict(json.loads(earlier)) == report


@pytest.mark.parametrize(
    "damage",
    [{"rates": 3}, {"rates": [{}]}, {"longest": {"file": "a"}}, {"memorizing_epochs": [[1]]}, {"seconds": "1"}],
)
def test_a_damaged_report_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(PriorError, match="memorization report is damaged"):
        MemorizationReport.from_dict(REPORT.as_dict() | damage)
