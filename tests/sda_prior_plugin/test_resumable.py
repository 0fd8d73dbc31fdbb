"""The file that a training's state is kept in: whole or not there, checked when it is read, and one process's alone."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sda_prior_plugin import BatchDone, CodeCorpus, EpochDone, NotResumable, TrainingEvent, train_prior
from sda_prior_plugin.edge.resumable import (
    DIGEST,
    DOCUMENT,
    SECONDS_BETWEEN_STATES,
    NewerState,
    StateFile,
    StateKeeper,
    Unfinished,
    now,
)
from sda_prior_plugin.training_state import TrainingState

from .conftest import small_settings


def about(state: TrainingState) -> Unfinished:
    return Unfinished("small.sda", now(), "0" * 64, ("epochs",), (1, 2, 3), state)


@pytest.fixture(scope="module")
def unfinished(corpus: CodeCorpus) -> Unfinished:
    """A training in its second epoch."""
    states: list[TrainingState] = []

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, BatchDone) and (event.epoch, event.batch) == (2, 2):
            states.append(copy.deepcopy(event.state()))

    train_prior(corpus, small_settings(corpus, epochs=2, hidden_size=8), on_event=on_event)
    return about(states[0])


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "small.sda")


def same(one: Unfinished, other: Unfinished) -> bool:
    tensors = one.state.tensors, other.state.tensors
    return (
        one.as_dict() == other.as_dict()
        and tensors[0].keys() == tensors[1].keys()
        and all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    )


def test_what_was_written_is_read_and_nothing_else_is_left(file: StateFile, unfinished: Unfinished) -> None:
    file.write(unfinished)
    read = file.read()
    assert read is not None
    assert same(read, unfinished)
    looked = file.look()
    assert looked is not None
    assert (looked.as_dict(), looked.state.tensors) == (unfinished.as_dict(), {})
    assert os.listdir(file.path.parent) == ["small.sda.training"]
    file.remove()
    assert file.read() is None
    assert os.listdir(file.path.parent) == []


def test_it_says_since_when_and_how_far(unfinished: Unfinished) -> None:
    sentence = replace(unfinished, written="2026-11-24T10:04:00+00:00").sentence
    assert re.fullmatch(
        r"small\.sda has an unfinished training, kept 2\d November 2026, \d\d:\d4, after epoch 1 of 2\.", sentence
    )


def test_a_link_and_the_file_that_it_leads_to_have_one_state(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.sda").symlink_to(tmp_path / "folder" / "small.sda")
    assert StateFile(tmp_path / "link.sda").path == tmp_path / "folder" / "small.sda.training"


def test_a_state_that_cannot_be_written_leaves_the_one_before(file: StateFile, unfinished: Unfinished) -> None:
    """A folder stands where the new one is to be made."""
    file.write(unfinished)
    before = file.path.read_bytes()
    (file.path.parent / ".small.sda.training.tmp").mkdir()
    with pytest.raises(OSError):  # noqa: PT011 - which one is the system's affair
        file.write(replace(unfinished, written=now()))
    assert file.path.read_bytes() == before


def test_what_a_killed_process_left_half_written_does_no_harm(file: StateFile, unfinished: Unfinished) -> None:
    file.write(unfinished)
    half = file.path.parent / ".small.sda.training.tmp"
    half.write_bytes(file.path.read_bytes()[:1000])
    read = file.read()
    assert read is not None
    assert same(read, unfinished)
    file.write(unfinished)
    assert not half.exists()
    half.write_bytes(b"half")
    file.remove()
    assert os.listdir(file.path.parent) == []


def rewritten(file: StateFile, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> None:
    """Change facts or tensors of a state file as somebody would who knows how its digests are made."""
    with safe_open(file.path, framework="pt") as opened:
        facts = json.loads(opened.metadata()[DOCUMENT])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
    change(facts, tensors)
    text = json.dumps(facts)
    save_file(tensors, file.path, {DOCUMENT: text, DIGEST: hashlib.sha256(text.encode()).hexdigest()})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "sda"), ("version", 0), ("output", "missing"), ("written", "yesterday"), ("found", [1]),
        ("found", 7), ("given", None), ("state", None), ("state", []), ("tensors_sha256", "0"),
        ("codebooks_sha256", "missing"),
    ],
)  # fmt: skip
def test_a_fact_that_cannot_be_is_refused(file: StateFile, unfinished: Unfinished, name: str, value: Any) -> None:
    def change(facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        facts[name] = value
        if value == "missing":
            del facts[name]

    file.write(unfinished)
    rewritten(file, change)
    with pytest.raises(NotResumable):
        file.read()


def test_a_newer_versions_state_is_refused_by_its_version(file: StateFile, unfinished: Unfinished) -> None:
    file.write(unfinished)
    rewritten(file, lambda facts, tensors: facts.update(version=2))
    with pytest.raises(NewerState, match="version 2 of its format, and this program knows 1"):
        file.look()


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x80\x04N.", b"PK\x03\x04", (10**10).to_bytes(8, "little") + b"{", b"\0" * 100]
)
def test_what_is_no_state_is_refused(file: StateFile, content: bytes) -> None:
    file.path.write_bytes(content)
    for read in (file.look, file.read):
        with pytest.raises(NotResumable, match="it is damaged"):
            read()


def test_very_deep_facts_are_refused(file: StateFile) -> None:
    text = '{"format": ' + "[" * 100_000 + "]" * 100_000 + "}"
    metadata = {DOCUMENT: text, DIGEST: hashlib.sha256(text.encode()).hexdigest()}
    save_file({"a": torch.zeros(1)}, file.path, metadata)
    with pytest.raises(NotResumable, match="it is damaged"):
        file.look()


def test_a_folder_or_pipe_of_that_name_is_no_state(file: StateFile) -> None:
    os.mkfifo(file.path)
    assert file.look() is None
    file.path.unlink()
    file.path.mkdir()
    assert file.look() is None


def test_any_byte_that_changes_is_noticed(file: StateFile, unfinished: Unfinished) -> None:
    """Or it does not matter, like a space in the header: then what is read is what was written."""
    file.write(unfinished)
    whole = file.path.read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    noticed = 0
    for number in range(300):
        content = bytearray(whole)
        place = int(rng.integers(header if number % 2 else len(whole)))
        content[place] ^= 1 << int(rng.integers(8))
        if number % 10 == 0:
            del content[place:]
        file.path.write_bytes(content)
        try:
            read = file.read()
        except NotResumable:
            noticed += 1
        else:
            assert read is not None
            assert same(read, unfinished)
    assert noticed > 290


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keeper(file: StateFile, clock: Clock, told: list[str]) -> StateKeeper:
    return StateKeeper(file, about, told.append, clock=clock)


def batch_done(unfinished: Unfinished) -> BatchDone:
    return BatchDone(2, 2, 5, (1.0, 1.0), lambda: unfinished.state)


def epoch_done(unfinished: Unfinished, epoch: int = 2) -> EpochDone:
    return EpochDone(
        epoch,
        9,
        9,
        1,
        2.0,
        2.0,
        1,
        2.0,
        False,
        (),
        0,
        1.0,
        (1.0, 1.0),
        lambda frames, seed: np.zeros(0),
        lambda: unfinished.state,
    )


def test_a_state_is_kept_after_the_first_epoch_every_minute_and_after_the_last_epoch(
    keeper: StateKeeper, file: StateFile, clock: Clock, unfinished: Unfinished
) -> None:
    def kept(event: TrainingEvent, seconds: float) -> bool:
        clock.now += seconds
        file.remove()
        keeper.on_event(event)
        return file.path.exists()

    batch, epoch = batch_done(unfinished), epoch_done(unfinished)
    assert not kept(batch, 10)
    assert kept(epoch, 10)
    assert not kept(epoch, 10)
    assert not kept(batch, SECONDS_BETWEEN_STATES - 11)
    assert kept(batch, 1)
    assert not kept(epoch, SECONDS_BETWEEN_STATES - 1)
    assert kept(epoch, 1)
    assert kept(epoch_done(unfinished, 9), 1)


def test_where_writing_takes_long_a_state_is_kept_less_often(
    file: StateFile, clock: Clock, unfinished: Unfinished
) -> None:
    class Slow(StateFile):
        """A disk that takes ten seconds."""

        def write(self, unfinished: Unfinished) -> None:
            clock.now += 10
            super().write(unfinished)

    slow = Slow(file.output)
    keeper = StateKeeper(slow, about, print, clock=clock)
    keeper.on_event(epoch_done(unfinished))
    slow.remove()
    clock.now += 999
    keeper.on_event(epoch_done(unfinished))
    assert not slow.path.exists()
    clock.now += 1
    keeper.on_event(epoch_done(unfinished))
    assert slow.path.exists()


def test_before_anything_is_learned_there_is_nothing_to_keep(
    keeper: StateKeeper, file: StateFile, clock: Clock, unfinished: Unfinished
) -> None:
    nothing = replace(unfinished.state, held_out_perplexities=(), epoch_codes=0)
    clock.now += 1000
    keeper.on_event(batch_done(replace(unfinished, state=nothing)))
    assert not file.path.exists()


def test_a_state_that_cannot_be_kept_is_told_once_and_tried_again(
    keeper: StateKeeper, file: StateFile, clock: Clock, unfinished: Unfinished, told: list[str]
) -> None:
    obstacle = file.path.parent / ".small.sda.training.tmp"
    obstacle.mkdir()
    for _ in range(3):
        keeper.on_event(epoch_done(unfinished))
        clock.now += SECONDS_BETWEEN_STATES
    assert len(told) == 1
    assert "cannot be kept" in told[0]
    assert "goes on, but could not be continued" in told[0]
    obstacle.rmdir()
    keeper.on_event(epoch_done(unfinished))
    assert file.path.exists()


def test_the_state_of_a_model_with_a_very_long_name_has_a_name_that_fits_and_is_no_other_models(tmp_path: Path) -> None:
    one, other = (tmp_path / f"{'n' * 250}{last}.sda" for last in "ab")
    paths = [StateFile(path).path for path in (one, other)]
    assert paths[0] != paths[1]
    for path in paths:
        path.with_name(f".{path.name}.tmp").touch()
        assert path.name.endswith(".training")
    assert StateFile(tmp_path / "tabla.sda").path == tmp_path / "tabla.sda.training"
