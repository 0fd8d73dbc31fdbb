"""A run: a training that can be held, saved and gone on from."""

from __future__ import annotations

import dataclasses
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from sda_prior_plugin import CodeCorpus, NotResumable, PriorRun, TrainingState
from sda_prior_plugin.run import Run, checked_state
from sda_prior_plugin.training import end_epoch, train, train_epoch
from sda_prior_plugin.training_state import named_tensors

from .conftest import LEVELS, SIZE, assert_same, small_settings

CPU = torch.device("cpu")


def epochs_of(run: Run, count: int) -> None:
    for _ in range(count):
        assert not train_epoch(run, lambda event: None)
        assert not end_epoch(run, lambda event: None)


def to_the_end(run: Run) -> PriorRun:
    return train(run, lambda event: None, threading.Event())


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_it_goes_on_from_what_pytorch_has_saved_of_it(corpus: CodeCorpus, tmp_path: Path, architecture: str) -> None:
    settings = small_settings(corpus, architecture=architecture, dropout=0.2, layers=1)
    with torch.random.fork_rng():
        run = Run(corpus, settings, CPU)
        epochs_of(run, 2)
        torch.save(run.state_dict(), tmp_path / "run.pt")
        unbroken = to_the_end(run)
        other = Run(corpus, settings, CPU)
        other.load_state_dict(torch.load(tmp_path / "run.pt", weights_only=True))
        assert other.epoch == 3
        assert_same(to_the_end(other), unbroken)


def test_what_it_is_gone_on_from_stays_as_it_was(corpus: CodeCorpus) -> None:
    settings = small_settings(corpus)
    with torch.random.fork_rng():
        run = Run(corpus, settings, CPU)
        epochs_of(run, 1)
        state = run.snapshot()
        before = {name: tensor.clone() for name, tensor in state.tensors.items()}
        del run
        other = Run(corpus, settings, CPU)
        other.load_state_dict(checked_state(state, corpus, settings))
        epochs_of(other, 2)
        assert all(torch.equal(state.tensors[name], before[name]) for name in before)


@pytest.fixture(scope="module")
def reciting() -> Run:
    """A run that has found that it recites what it learns, and keeps two checkpoints."""
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, SIZE, (int(rng.integers(8, 20)), 4, LEVELS)) for _ in range(18)]
    corpus = CodeCorpus.from_sequences(noise[:6], noise[6:], codebooks=rng.normal(size=(LEVELS, SIZE, 8)))
    settings = small_settings(corpus, epochs=60, dropout=0.0, weight_decay=0.0, learning_rate=1e-2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        run = Run(corpus, settings, CPU)
        while not run.watch.memorizing:
            epochs_of(run, 1)
    return run


def test_its_state_is_one_thing_in_two_forms(reciting: Run) -> None:
    state = reciting.snapshot()
    nested = checked_state(state, reciting.corpus, reciting.settings)
    assert nested.keys() == reciting.state_dict().keys()
    assert named_tensors(nested).keys() == named_tensors(reciting.state_dict()).keys()
    again = TrainingState.of(nested)
    assert again.as_dict() == state.as_dict()
    assert all(torch.equal(again.tensors[name], state.tensors[name]) for name in state.tensors)


def test_what_a_watch_has_found_is_plain_enough_to_be_saved_by_pytorch(reciting: Run, tmp_path: Path) -> None:
    torch.save(reciting.state_dict(), tmp_path / "run.pt")
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    other = Run(reciting.corpus, reciting.settings, CPU)
    with torch.random.fork_rng():
        other.load_state_dict(state)
    assert other.watch.finding == reciting.watch.finding
    assert other.progress == reciting.progress


def test_a_run_judged_by_other_codes_is_not_gone_on_from(reciting: Run) -> None:
    state = reciting.state_dict() | {"judged_codes": reciting.judged_codes - 4}
    with pytest.raises(NotResumable, match="also trained on"):
        Run(reciting.corpus, reciting.settings, CPU).load_state_dict(state)


def test_the_page_on_the_file_has_every_fact_of_a_state() -> None:
    page = (Path(__file__).parents[2] / "docs" / "training-state.md").read_text("utf-8")
    table = page.split("| fact of `state` | what |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == {field.name for field in dataclasses.fields(TrainingState)} - {"tensors"}
