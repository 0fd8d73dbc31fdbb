"""A training's state in a file beside the model, so that a training that is broken off can be continued.

It is a safetensors file, written in one step every minute or so and removed once the prior is in its model;
docs/training-state.md is its specification.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sda_prior_plugin.dates import day
from sda_prior_plugin.edge.file_state import FileState
from sda_prior_plugin.events import BatchDone, EpochDone, TrainingEvent
from sda_prior_plugin.training_state import NotResumable, TrainingState, not_finite

FORMAT, VERSION = "sda-prior-training", 1
SUFFIX = ".training"
"""After the whole name of the model's file."""
LONGEST_NAME = 200
"""Bytes of that name, of which most file systems take 255; a longer one is cut, and has a digest of all of it."""
SECONDS_BETWEEN_STATES = 60.0
SHARE_FOR_STATES = 0.01
"""Of the training's time, about the most that keeping its state may take."""
DOCUMENT, DIGEST = "training", "sha256"
"""Names in the file's metadata."""


class NewerState(NotResumable):
    """A newer version of the program has written it."""


@dataclass(frozen=True)
class Unfinished:
    """A training that was broken off, or is under way.

    Attributes:
        output: name of the file that its prior is for.
        written: when, ISO 8601 in UTC.
        codebooks: SHA-256 of the codec's codebooks.
        given: the names of the knobs that the user had set.
        found: what was known of the output file when training began.
        state: to go on from; without tensors where the file was only looked at.
    """

    output: str
    written: str
    codebooks: str
    given: tuple[str, ...]
    found: FileState
    state: TrainingState

    @property
    def sentence(self) -> str:
        """Since when it is unfinished, and how far it was."""
        done, epochs = self.state.epochs, self.state.settings.epochs
        where = f"after epoch {done} of {epochs}" if done else "in its first epoch"
        return f"{self.output} has an unfinished training, kept {day(self.written)}, {where}."

    def without_tensors(self) -> Unfinished:
        """The same, to be remembered at no cost."""
        return replace(self, state=replace(self.state, tensors={}))

    def as_dict(self) -> dict[str, Any]:
        """All but the tensors, as plain JSON."""
        return {
            "output": self.output,
            "written": self.written,
            "codebooks_sha256": self.codebooks,
            "given": list(self.given),
            "found": self.found and list(self.found),
            "state": self.state.as_dict(),
        }

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Unfinished:
        """What `as_dict` gave. Raises NotResumable, ValueError, KeyError or TypeError for anything else."""
        output, written, codebooks = (str(facts[name]) for name in ("output", "written", "codebooks_sha256"))
        datetime.datetime.fromisoformat(written)
        found = facts["found"]
        if found is not None:
            number, size, changed = (int(part) for part in found)
            found = number, size, changed
        given = tuple(str(name) for name in facts["given"])
        return cls(output, written, codebooks, given, found, TrainingState.from_parts(facts["state"], tensors))


class StateFile:
    """Where the state of a training is kept whose prior is for the file `output`.

    Attributes:
        path: of the state, whether or not it is there.
    """

    def __init__(self, output: Path) -> None:
        target = Path(os.path.realpath(output))  # as saving follows links
        self.output = target
        self.path = target.with_name(_short(target.name) + SUFFIX)
        self._temporary = target.with_name(f".{self.path.name}.tmp")

    def look(self) -> Unfinished | None:
        """What there is, without its tensors; None if there is nothing.

        Raises:
            NotResumable: what there is cannot be continued.
        """
        return self._read(tensors=False)

    def read(self) -> Unfinished | None:
        """The same with its tensors, all checked against what was written."""
        return self._read(tensors=True)

    def write(self, unfinished: Unfinished) -> None:
        """Put a state there in one step: afterwards there is the old one or the new one, whole.

        Raises:
            OSError: it cannot be written; the old one is as it was.
        """
        tensors = {name: tensor.contiguous() for name, tensor in unfinished.state.tensors.items()}
        facts = {"format": FORMAT, "version": VERSION, **unfinished.as_dict(), "tensors_sha256": _digest(tensors)}
        text = json.dumps(facts, allow_nan=False)
        metadata = {DOCUMENT: text, DIGEST: hashlib.sha256(text.encode()).hexdigest()}
        try:
            try:
                save_file(tensors, self._temporary, metadata)
            except SafetensorError as error:
                raise OSError(str(error)) from error
            _flush(self._temporary)
            os.replace(self._temporary, self.path)
        finally:
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)
        with suppress(OSError):  # some file systems cannot flush a folder
            _flush(self.path.parent)

    def remove(self) -> None:
        """Take away what there is, and what a process that was killed has left."""
        for path in (self.path, self._temporary):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _read(self, *, tensors: bool) -> Unfinished | None:
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                text = metadata[DOCUMENT]
                if hashlib.sha256(text.encode()).hexdigest() != metadata[DIGEST]:
                    raise ValueError("its facts are not those that were written")
                facts = json.loads(text)
                if facts["format"] != FORMAT:
                    raise ValueError("its format is another")
                version = facts["version"]
                if not isinstance(version, int) or version < VERSION:
                    raise ValueError(f"its version is {version!r}")
                if version > VERSION:
                    raise NewerState(f"it is of version {version} of its format, and this program knows {VERSION}")
                held = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118 - no dict
            if tensors and _digest(held) != facts["tensors_sha256"]:
                raise ValueError("its numbers are not those that were written")
            return Unfinished.from_parts(facts, held)
        except NotResumable:
            raise
        except FileNotFoundError:
            return None
        except KeyError as error:
            raise NotResumable(f"it is damaged (it has no {error})") from error
        except OSError as error:
            raise NotResumable(f"it cannot be read ({error.strerror or error})") from error
        except (SafetensorError, ValueError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
            raise NotResumable(f"it is damaged ({' '.join(str(error).split())})") from error


class StateKeeper:
    """Writes a training's state, when that is due; give it each event of `train_prior`.

    It is due at the end of the first and of the last epoch, and whenever `seconds` have passed since the last time: so
    much is lost at most. Where writing takes long, it is due less often.

    Args:
        file: where to.
        about: gives what to write with a state.
        on_note: called with a sentence when the state cannot be kept, once.
        kept: what is there already of this training, where it is one that was broken off.
        seconds: between two states.
        clock: gives seconds that only grow.
    """

    def __init__(
        self,
        file: StateFile,
        about: Callable[[TrainingState], Unfinished],
        on_note: Callable[[str], object],
        kept: Unfinished | None = None,
        seconds: float = SECONDS_BETWEEN_STATES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.file, self.about, self.on_note, self.kept = file, about, on_note, kept
        self.seconds, self.clock = seconds, clock
        self._due = clock() + seconds
        self._failed = False

    def on_event(self, event: TrainingEvent) -> None:
        """Keep the state that an event gives, if that is due."""
        began = self.clock()
        if not isinstance(event, BatchDone | EpochDone) or not (began >= self._due or self._due_after(event)):
            return
        state = event.state()
        if not (state.epochs or state.epoch_codes):  # nothing is learned yet, perhaps it never will be
            return
        if not_finite(state.tensors):  # nothing will be learned from here on
            return
        unfinished = self.about(state)
        try:
            self.file.write(unfinished)
        except OSError as error:
            if not self._failed:
                self.on_note(
                    f"the state of this training cannot be kept in {self.file.path} ({error.strerror or error}); it "
                    "goes on, but could not be continued if it were broken off"
                )
            self._failed = True
        else:
            self.kept, self._failed = unfinished.without_tensors(), False
        now = self.clock()
        self._due = now + max(self.seconds, (now - began) / SHARE_FOR_STATES if self.seconds else 0)

    def _due_after(self, event: BatchDone | EpochDone) -> bool:
        if isinstance(event, BatchDone):
            return False
        return event.epoch == event.last_epoch or (self.kept is None and not self._failed)

    def drop(self) -> None:
        """The training is not to be continued: take away what was kept of it."""
        if self.kept is not None:
            self.file.remove()
        self.kept = None


def now() -> str:
    """This moment, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors, their names, types and shapes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(repr((name, str(tensor.dtype), list(tensor.shape))).encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _short(name: str) -> str:
    """A name to which more can be added, and which is no other file's."""
    given = os.fsencode(name)
    if len(given) <= LONGEST_NAME:
        return name
    mark = hashlib.sha256(given).hexdigest()[:16]
    return f"{given[: LONGEST_NAME - 17].decode('utf-8', 'ignore')}~{mark}"


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
