"""A training knows when it is done: it finishes once it hardly gets better, and goes on for as long as it does."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest

from sda_prior_plugin import (
    BatchDone,
    CodeCorpus,
    EpochDone,
    PriorRun,
    PriorSettings,
    TrainingEvent,
    TrainingStarted,
    TrainingState,
    train_prior,
)
from sda_prior_plugin.schedule import LEAST_PATIENCE, as_good_as_best, last_epoch_after

from .conftest import LEVELS, SIZE, assert_same, small_settings

PATIENCE, MOST = 0.5, 200


@pytest.fixture(scope="module")
def noise() -> CodeCorpus:
    """A corpus in which there is nothing to learn but the recordings themselves, and that is soon done."""
    rng = np.random.default_rng(3)
    grids = [rng.integers(0, SIZE, (int(rng.integers(8, 20)), 4, LEVELS)) for _ in range(18)]
    return CodeCorpus.from_sequences(grids[:6], grids[6:], codebooks=rng.normal(size=(LEVELS, SIZE, 8)))


@pytest.fixture(scope="module")
def settings(noise: CodeCorpus) -> PriorSettings:
    return small_settings(noise, epochs=MOST, patience=PATIENCE, dropout=0.1, learning_rate=1e-2)


@pytest.fixture(scope="module")
def told(noise: CodeCorpus, settings: PriorSettings) -> tuple[PriorRun, list[TrainingEvent], list[TrainingState]]:
    """A run that ends early, all that it told, and its state after each batch and epoch."""
    events: list[TrainingEvent] = []
    states: list[TrainingState] = []

    def on_event(event: TrainingEvent) -> None:
        events.append(event)
        if isinstance(event, BatchDone | EpochDone):
            state = copy.deepcopy(event.state())
            states.append(TrainingState.from_parts(json.loads(json.dumps(state.as_dict())), state.tensors))

    return train_prior(noise, settings, on_event=on_event), events, states


Told = tuple[PriorRun, list[TrainingEvent], list[TrainingState]]


def test_it_ends_once_a_share_of_its_epochs_has_brought_nothing_and_says_so_before(told: Told) -> None:
    run, events, _ = told
    report, epochs = run.report, [event for event in events if isinstance(event, EpochDone)]
    steps = next(event.batches for event in events if isinstance(event, TrainingStarted))
    assert report.ended == "no better"
    gained = as_good_as_best(report.held_out_perplexities, report.final_perplexity)
    assert report.epochs_trained == last_epoch_after(gained, report.best_epoch, PATIENCE, steps) < MOST
    assert report.best_epoch == 1 + int(np.argmin(report.held_out_perplexities))
    for event in epochs:
        ago = event.epoch - event.gained_epoch
        near = ago >= max(2, event.last_epoch - event.epoch)
        assert event.finishing.startswith(f"hardly better for {ago} epochs: finishing") == near
        assert event.last_epoch == last_epoch_after(event.gained_epoch, event.best_epoch, PATIENCE, steps)
    assert f"with epoch {report.epochs_trained} if that stays so" in epochs[-2].finishing


def test_whatever_the_corpus_the_best_epoch_lies_in_the_last_two_fifths_of_a_training() -> None:
    for steps in (1, 10, 20, 40, 100, 1000):
        for best in range(5, 1000):
            assert best / last_epoch_after(best, best, 0.25, steps) > 0.6


@pytest.mark.parametrize(
    ("steps", "resting", "worse"), [(1, 8, 8), (20, 8, 6), (40, 8, 3), (64, 5, 3), (200, 3, 3), (1000, 3, 3)]
)
def test_it_waits_for_so_many_steps_without_a_gain_and_for_fewer_that_get_worse(
    steps: int, resting: int, worse: int
) -> None:
    assert last_epoch_after(1, 100, 0.25, steps) == 1 + resting
    assert last_epoch_after(100, 20, 0.25, steps) == 20 + worse


def test_it_does_not_wait_for_more_than_half_as_many_epochs_as_the_best_took() -> None:
    assert last_epoch_after(100, 9, 0.25, 1) == 9 + 4
    assert last_epoch_after(100, 1, 0.25, 1) == 1 + LEAST_PATIENCE


def test_longer_trainings_wait_for_longer() -> None:
    assert last_epoch_after(100, 200, 0.25, 40) == 125
    assert last_epoch_after(200, 200, 0.25, 40) == 200 + 17, "a third of the patience where it gets worse"


@pytest.mark.parametrize("best", [1.5, 3.0, 30.0])
def test_a_gain_is_a_share_of_the_perplexity_however_many_bits_a_code_has(best: float) -> None:
    assert as_good_as_best([math.inf, best * 2, best * 1.04, best * 1.02, best], best) == 4
    assert as_good_as_best([math.inf, math.nan], math.inf) == 0


def test_the_time_left_is_told_as_least_and_most(told: Told) -> None:
    _, events, _ = told
    left = [event.seconds_left for event in events if isinstance(event, BatchDone | EpochDone)]
    assert [pair for pair in left[:-2] if not 0 < pair[0] < pair[1]] == []
    assert left[-2][0] == 0 < left[-2][1], "the last epoch is not judged yet, and may be the best"
    assert left[-1] == (0, 0)


def test_broken_off_while_it_gains_or_not_it_goes_on_to_the_same_end(
    told: Told, noise: CodeCorpus, settings: PriorSettings
) -> None:
    run, _, states = told
    best = run.report.best_epoch
    for epochs in (best - 1, best + 1, run.report.epochs_trained):
        state = next(state for state in states if state.epochs == epochs)
        assert_same(train_prior(noise, settings, resume_from=state), run)


def test_it_goes_on_for_as_long_as_it_gains(corpus: CodeCorpus) -> None:
    run = train_prior(corpus, small_settings(corpus, epochs=8, patience=0.5))
    assert (run.report.ended, run.report.epochs_trained) == ("finished", 8)


def test_whoever_sets_the_epochs_gets_them(told: Told, noise: CodeCorpus, settings: PriorSettings) -> None:
    chosen = small_settings(noise, epochs=told[0].report.epochs_trained + 2, dropout=0.1, learning_rate=1e-2)
    assert chosen.patience == 0
    run = train_prior(noise, chosen)
    assert (run.report.ended, run.report.epochs_trained) == ("finished", chosen.epochs)
    assert run.report.best_epoch == told[0].report.best_epoch
