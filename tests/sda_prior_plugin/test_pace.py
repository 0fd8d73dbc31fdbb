"""How long a training will take yet."""

from __future__ import annotations

import threading

import pytest
import torch

from sda_prior_plugin import BatchDone, CodeCorpus, TrainingEvent
from sda_prior_plugin.pace import Pace
from sda_prior_plugin.run import Run
from sda_prior_plugin.training import train

from .conftest import small_settings


class Clock:
    """A clock that stands still unless it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def paced(clock: Clock, epochs: list[list[float]], judging: float = 1.0) -> Pace:
    """The pace of a training of ten epochs of ten batches, some of which took so many seconds each."""
    pace = Pace(10, clock)
    for batches in epochs:
        pace.epoch_begins()
        for seconds in batches:
            clock.now += seconds
            pace.batch_done()
        if len(batches) == 10:
            clock.now += judging
            pace.epoch_done()
    return pace


def test_time_left_follows_from_whole_epochs_with_their_judging() -> None:
    assert paced(Clock(), [[2.0] * 10] * 4).seconds_left(5, 0, 10) == pytest.approx(6 * 21)
    assert paced(Clock(), [[2.0] * 10] * 4 + [[2.0] * 5]).seconds_left(5, 5, 10) == pytest.approx(5.5 * 21)


def test_before_an_epoch_is_over_it_follows_from_the_batches() -> None:
    assert paced(Clock(), [[2.0] * 3]).seconds_left(1, 3, 10) == pytest.approx(97 * 2)


def test_at_the_end_nothing_is_left() -> None:
    assert paced(Clock(), [[2.0] * 10] * 10).seconds_left(10, 10, 10) == 0


@pytest.mark.parametrize("asleep_in", ["the first epoch", "a later epoch", "judging"])
def test_what_a_laptop_sleeps_through_changes_the_time_left_by_little(asleep_in: str) -> None:
    night = 8 * 3600.0
    clock = Clock()
    if asleep_in == "the first epoch":
        left = paced(clock, [[2.0, 2.0, 2.0, night, 2.0]]).seconds_left(1, 5, 10)
        assert 95 * 2 < left < 4 * 95 * 2
    elif asleep_in == "a later epoch":
        pace = paced(clock, [[2.0] * 10, [2.0] * 4 + [night] + [2.0] * 5, [2.0] * 10])
        assert pace.seconds_left(4, 0, 10) == pytest.approx(7 * 21, rel=0.01)
    else:
        pace = paced(clock, [[2.0] * 10] * 2)
        pace.epoch_begins()
        clock.now += night
        pace.epoch_done()
        assert pace.seconds_left(4, 0, 10) == pytest.approx(7 * 21, rel=0.01)


def test_a_machine_that_becomes_slower_is_followed() -> None:
    assert paced(Clock(), [[2.0] * 10] * 4 + [[4.0] * 10] * 3).seconds_left(8, 0, 10) == pytest.approx(3 * 41)


def test_a_training_whose_laptop_slept_says_a_sensible_time_left(corpus: CodeCorpus) -> None:
    """Every look at the clock is a hundredth of a second, and once it is the next morning."""
    clock, left = Clock(), []
    settings = small_settings(corpus, epochs=6)

    def tick() -> float:
        clock.now += 0.01
        return clock.now

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, BatchDone):
            left.append(event.seconds_left[1])
            if (event.epoch, event.batch) == (3, 2):
                clock.now += 8 * 3600

    train(Run(corpus, settings, torch.device("cpu"), tick), on_event, threading.Event())
    assert max(left) < 3
    assert left[-1] == 0
