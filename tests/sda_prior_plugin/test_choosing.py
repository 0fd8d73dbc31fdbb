"""The end of a training: which checkpoint is kept, after a look that is told of and counted in the time left."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from sda_prior_plugin import (
    BatchDone,
    ChoosingStarted,
    CodeCorpus,
    EpochDone,
    TrainingEnded,
    TrainingEvent,
    TrainingState,
    looking,
    train_prior,
)
from sda_prior_plugin.edge.tab.training import PriorProgress
from sda_prior_plugin.half import halved
from sda_prior_plugin.judging import Checkpoint
from sda_prior_plugin.looking import CONSECUTIVE, chosen_checkpoint
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.run import Run

from .conftest import small_settings


@pytest.fixture(scope="module")
def reciting(noise: CodeCorpus) -> PriorNetwork:
    """A network that has learned the recordings by heart."""
    states: list[TrainingState] = []

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, EpochDone):
            states[:] = [copy.deepcopy(event.state())]

    settings = small_settings(noise, epochs=60, dropout=0.0, weight_decay=0.0, learning_rate=1e-2, hidden_size=64)
    network = train_prior(noise, settings, on_event=on_event).prior.network
    prefix = "average."
    weights = {name.removeprefix(prefix): one for name, one in states[-1].tensors.items() if name.startswith(prefix)}
    network.load_state_dict(weights)
    return network


def ended_with(corpus: CodeCorpus, older: PriorNetwork, best: PriorNetwork) -> Run:
    """A run after two epochs that has kept these, which are as good within noise."""
    run = Run(corpus, small_settings(corpus, hidden_size=64), torch.device("cpu"))
    run.progress = replace(run.progress, train_perplexities=(4.0, 4.0), held_out_perplexities=(4.0, 4.0))
    run.kept = [
        Checkpoint(epoch, 2.0, np.full(len(corpus.held_out), 1.0), halved(network.state_dict()), 1.0)
        for epoch, network in ((1, older), (2, best))
    ]
    return run


def test_of_two_checkpoints_as_good_the_one_that_copies_less_is_kept(noise: CodeCorpus, reciting: PriorNetwork) -> None:
    fresh = Run(noise, small_settings(noise, hidden_size=64), torch.device("cpu")).average
    assert chosen_checkpoint(ended_with(noise, fresh, reciting))[0].epoch == 1
    assert chosen_checkpoint(ended_with(noise, reciting, fresh))[0].epoch == 2
    assert chosen_checkpoint(ended_with(noise, reciting, reciting))[0].epoch == 2


def test_what_is_kept_is_the_candidate(noise: CodeCorpus, reciting: PriorNetwork) -> None:
    fresh = Run(noise, small_settings(noise, hidden_size=64), torch.device("cpu")).average
    for older, best, kept in ((fresh, reciting, fresh), (reciting, fresh, fresh)):
        run = ended_with(noise, older, best)
        chosen_checkpoint(run)
        assert torch.equal(run.candidate.band, kept.band)


def test_where_the_best_one_copies_nothing_no_other_is_looked_at(
    noise: CodeCorpus, reciting: PriorNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def counted(run: Run, count: int, seconds: float, stream: int) -> list[np.ndarray]:
        looks.append(count)
        return drawn_grids(run, count, seconds, stream)

    drawn_grids = looking.drawn_grids
    monkeypatch.setattr(looking, "drawn_grids", counted)
    fresh = Run(noise, small_settings(noise, hidden_size=64), torch.device("cpu")).average
    chosen_checkpoint(ended_with(noise, reciting, fresh))
    assert len(looks) == CONSECUTIVE
    chosen_checkpoint(ended_with(noise, fresh, reciting))
    assert len(looks) == 3 * CONSECUTIVE


def test_the_look_at_the_end_is_told_of_and_part_of_the_time_left(
    corpus: CodeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "STEPS_BETWEEN_LOOKS", 1)
    events: list[TrainingEvent] = []
    train_prior(corpus, small_settings(corpus), on_event=events.append)
    *before, last_epoch, choosing, ended = events
    assert isinstance(last_epoch, EpochDone)
    assert isinstance(choosing, ChoosingStarted)
    assert isinstance(ended, TrainingEnded)
    assert last_epoch.seconds_left == (choosing.seconds_left, choosing.seconds_left)
    assert choosing.seconds_left > 0
    last_batch = next(event for event in reversed(before) if isinstance(event, BatchDone))
    assert last_batch.seconds_left[0] > 0
    page = PriorProgress()
    page.on_event(choosing)
    assert page.choosing
    assert page.seconds_left == last_epoch.seconds_left


def test_before_a_look_nothing_is_known_of_the_one_at_the_end(corpus: CodeCorpus) -> None:
    events: list[TrainingEvent] = []
    train_prior(corpus, small_settings(corpus), on_event=events.append)
    assert [event.seconds_left for event in events if isinstance(event, ChoosingStarted)] == [0.0]
    page = PriorProgress()
    page.on_event(events[-2])
    assert page.seconds_left is None
