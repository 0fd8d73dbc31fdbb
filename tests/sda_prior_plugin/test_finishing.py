"""A training knows when it is done: it finishes once it gets no better, and goes on for as long as it does."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from sda_prior_plugin import (
    BatchDone,
    CodeCorpus,
    EpochDone,
    FinishingBegan,
    PriorRun,
    PriorSettings,
    TrainingEvent,
    TrainingStarted,
    TrainingState,
    train_prior,
)
from sda_prior_plugin.schedule import FINAL_RATE, last_epoch_from, rate_at

from .conftest import LEVELS, SIZE, assert_same, small_settings

PATIENCE, MOST = 3, 60


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
    """A run that finishes early, all that it told, and its state after each batch and epoch."""
    events: list[TrainingEvent] = []
    states: list[TrainingState] = []

    def on_event(event: TrainingEvent) -> None:
        events.append(event)
        if isinstance(event, BatchDone | EpochDone):
            state = copy.deepcopy(event.state())
            states.append(TrainingState.from_parts(json.loads(json.dumps(state.as_dict())), state.tensors))

    return train_prior(noise, settings, on_event=on_event), events, states


def test_it_finishes_when_as_many_epochs_as_its_patience_brought_nothing(
    told: tuple[PriorRun, list[TrainingEvent], list[TrainingState]],
) -> None:
    run, events, _ = told
    (began,) = [event for event in events if isinstance(event, FinishingBegan)]
    curve = run.report.held_out_perplexities
    assert began.epoch - began.best_epoch == PATIENCE
    assert began.best_epoch == 1 + int(np.argmin(curve[: began.epoch]))
    assert (run.report.ended, run.report.epochs_trained) == ("no better", began.epochs)
    assert began.epoch < began.epochs == last_epoch_from(began.epoch) < MOST
    assert f"no better for {PATIENCE} epochs: finishing" in began.sentence


def test_the_time_left_is_a_range_until_it_is_known_when_it_ends(
    told: tuple[PriorRun, list[TrainingEvent], list[TrainingState]],
) -> None:
    _, events, _ = told
    (where,) = [place for place, event in enumerate(events) if isinstance(event, FinishingBegan)]
    before = [event for event in events[: where - 1] if isinstance(event, BatchDone | EpochDone)]
    after = [event for event in events[where:] if isinstance(event, BatchDone | EpochDone)]
    assert all(event.seconds_left[0] < event.seconds_left[1] for event in before)
    assert all(event.seconds_left[0] == event.seconds_left[1] for event in after)
    assert after[-1].seconds_left == (0, 0)
    started = events[0]
    assert isinstance(started, TrainingStarted)
    assert {event.epochs for event in events[: where - 1] if isinstance(event, EpochDone)} == {started.epochs}


def test_broken_off_before_or_while_it_finishes_it_goes_on_to_the_same_prior(
    told: tuple[PriorRun, list[TrainingEvent], list[TrainingState]], noise: CodeCorpus, settings: PriorSettings
) -> None:
    run, _, states = told
    finishing = [state for state in states if state.finishing_since]
    assert len({state.epochs for state in finishing}) > 1
    before = states[-len(finishing) - 1]
    for state in (before, finishing[0], finishing[len(finishing) // 2]):
        events: list[TrainingEvent] = []
        assert_same(train_prior(noise, settings, on_event=events.append, resume_from=state), run)
        assert sum(isinstance(event, FinishingBegan) for event in events) == 1, "a person who continues it is told"


def test_it_goes_on_for_as_long_as_it_gains(corpus: CodeCorpus) -> None:
    run = train_prior(corpus, small_settings(corpus, epochs=8, patience=2))
    assert (run.report.ended, run.report.epochs_trained) == ("finished", 8)


def test_whoever_sets_the_epochs_gets_them(noise: CodeCorpus) -> None:
    chosen = small_settings(noise, epochs=30, dropout=0.0, weight_decay=0.0, learning_rate=1e-2)
    assert chosen.patience == 0
    run = train_prior(noise, chosen)
    assert (run.report.ended, run.report.epochs_trained) == ("finished", 30)
    assert run.report.best_epoch < 20, "it must have got no better for long"


def test_the_rate_falls_only_at_the_end_wherever_that_is() -> None:
    for steps in (200, 1000):
        rates = [rate_at(step, steps) for step in range(steps + 1)]
        assert set(rates[60 : round(0.8 * steps)]) == {1.0}
        assert rates == sorted(rates[:60]) + sorted(rates[60:], reverse=True)
        assert rates[-1] == pytest.approx(FINAL_RATE)
