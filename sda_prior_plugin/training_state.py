"""All that a training is at one moment: what it takes to go on later as if it had never been broken off."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.facts import Perplexities, plain_fields, read_fields
from sda_prior_plugin.mapped import parts
from sda_prior_plugin.settings import KNOBS_BY_NAME, PriorSettings

NETWORK, AVERAGE, OPTIMIZER = "network.", "average.", "optimizer."
STEP = ".step"
MOMENTS = (STEP, ".exp_avg", ".exp_avg_sq")
"""What the optimiser knows of each weight."""
STREAMS = ("random.cpu", "random.cuda", "random.mps")
"""Random streams: the processor's, and that of the device where it is another one."""


def kept_weights(number: int) -> str:
    """What the names of a kept checkpoint's weights begin with."""
    return f"kept.{number}.weights."


def kept_bits(number: int) -> str:
    """The name of a kept checkpoint's bits, `[held-out sequences]`."""
    return f"kept.{number}.sequence_bits"


class NotResumable(PriorError):  # noqa: N818 - what is the case, as callers would say it
    """A training cannot go on from a state; `reason` says why, beginning with "it" or "its"."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The training cannot be continued: {reason}.")
        self.reason = reason


@dataclass(frozen=True)
class TrainingState:
    """A training between two of its batches, or epochs. Everything but `tensors` is plain and small.

    Attributes:
        settings: of the training.
        corpus: `corpus_digest` of what it learns from and is judged by.
        batches: of the epoch under way that are done; 0 between two epochs.
        step: batches done in all epochs.
        epoch_bits, epoch_codes: bits of those `batches`, and how many codes they had.
        train_perplexities, held_out_perplexities, memorizing: of each epoch that is over.
        kept_epochs, kept_seconds: of each checkpoint that is kept, the best one last; none before a finite epoch.
        skipped_batches: that had no finite loss.
        looked_at: epoch and step of the last look at copies.
        hurried_since: the epoch since which these are hurried, or 0.
        watch: what the watch for memorizing knows, as `Watch.as_dict` has it.
        judged_codes: held-out codes that it is judged by; 0 in a state from before some were left out.
        seconds, looking_seconds: that training has taken, and looking at copies.
        machine: what decides, besides all this, whether going on gives the same prior bit for bit.
        tensors: weights, averaged weights, checkpoints, the optimiser's moments and random streams, by name.
    """

    settings: PriorSettings
    corpus: str
    batches: int
    step: int
    epoch_bits: float
    epoch_codes: int
    train_perplexities: Perplexities
    held_out_perplexities: Perplexities
    memorizing: tuple[bool, ...]
    kept_epochs: tuple[int, ...]
    kept_seconds: tuple[float, ...]
    skipped_batches: int
    looked_at: tuple[int, int]
    hurried_since: int
    watch: dict[str, Any]
    judged_codes: int
    seconds: float
    looking_seconds: float
    machine: dict[str, str]
    tensors: Mapping[str, Tensor]

    @property
    def epochs(self) -> int:
        """Whole epochs that are over."""
        return len(self.held_out_perplexities)

    def as_dict(self) -> dict[str, Any]:
        """All but the tensors, as plain JSON; a perplexity that is infinite is null."""
        return plain_fields(self, but=frozenset({"tensors", "settings"})) | {"settings": self.settings.as_dict()}

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TrainingState:
        """The state that `as_dict` and `tensors` gave. The tensors are looked at only where training goes on from it.

        Raises:
            NotResumable: a fact is missing, or not what it should be.
        """
        try:
            known = {"judged_codes": 0, **facts}
            values = read_fields(cls, known, but=frozenset({"tensors", "settings"}))
        except (KeyError, TypeError) as error:
            raise NotResumable(f"it is damaged (its {error.args[0]} is not what it should be)") from error
        state = cls(settings=_settings(facts.get("settings")), tensors=tensors, **values)
        if problem := state._disagreement():
            raise NotResumable(f"it is damaged (its {problem})")
        return state

    def _disagreement(self) -> str:
        """Which facts do not agree with each other, if any."""
        epochs = self.epochs
        if not len(self.train_perplexities) == len(self.memorizing) == epochs:
            return "curves are not of one length"
        if epochs > self.settings.epochs or (self.batches and epochs == self.settings.epochs):
            return "position is after the end"
        last = (0, *self.kept_epochs, epochs + 1)
        counts = len(self.kept_epochs), len(self.kept_seconds)
        finite = [math.isfinite(perplexity) for perplexity in self.held_out_perplexities]
        if counts not in ([(1, 1), (2, 2)] if any(finite) else [(0, 0)]) or sorted({*last}) != list(last):
            return "checkpoints are not those of its epochs"
        if not all(finite[epoch - 1] for epoch in self.kept_epochs):
            return "checkpoints are of epochs that diverged"
        if not self.batches and (self.epoch_codes or self.epoch_bits):
            return "position is in no epoch"
        if self.looked_at[0] > epochs or self.looked_at[1] > self.step or self.hurried_since > epochs:
            return "looks are after its position"
        return ""


def corpus_digest(corpus: CodeCorpus) -> str:
    """SHA-256 of all that training knows of a corpus."""
    digest = hashlib.sha256(repr((corpus.shape, corpus.frame_seconds)).encode())
    digest.update(np.ascontiguousarray(corpus.codebooks, dtype="<f4").data)
    for part in (corpus.train, corpus.held_out):
        digest.update(repr((part.names, part.codes.shape, part.codes.dtype.str)).encode())
        for array in (part.starts, part.recordings):
            digest.update(np.ascontiguousarray(array, dtype="<i8").data)
        for rows in parts(part.codes):
            digest.update(np.ascontiguousarray(part.codes[rows]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def check_tensors(state: TrainingState, weights: Mapping[str, Tensor], sequences: int) -> None:
    """See that a state's tensors are those of a training with these `weights`, which may be without data.

    Args:
        state: to go on from.
        weights: what the network has, by name; all of it is learned.
        sequences: held-out sequences.

    Raises:
        NotResumable: a tensor is missing, unknown, of another shape or type, or holds numbers that cannot be.
    """
    scalar = torch.empty((), device="meta")
    expected = {f"{part}{name}": like for part in (NETWORK, AVERAGE) for name, like in weights.items()}
    for number in range(len(state.kept_epochs)):
        expected |= {kept_weights(number) + name: like for name, like in weights.items()}
        expected[kept_bits(number)] = torch.empty(sequences, dtype=torch.float64, device="meta")
    for name, like in weights.items():
        if OPTIMIZER + name + MOMENTS[0] in state.tensors:  # a weight that was of no use yet has no moments
            expected |= {OPTIMIZER + name + part: like if part != STEP else scalar for part in MOMENTS}
    expected |= {name: torch.empty(0, dtype=torch.uint8) for name in state.tensors if name in STREAMS}
    expected[STREAMS[0]] = torch.get_rng_state()
    for name in sorted(expected.keys() | state.tensors.keys()):
        if name not in state.tensors or name not in expected:
            raise NotResumable(f"it is damaged ({f'it lacks {name}' if name in expected else f'{name} is unknown'})")
        given, wanted = state.tensors[name], expected[name]
        if given.dtype != wanted.dtype or (given.shape != wanted.shape and name not in STREAMS[1:]):
            raise NotResumable(f"it is damaged (its {name} is {given.dtype} {list(given.shape)})")
    if name := not_finite(state.tensors):
        raise NotResumable(f"it is damaged (its {name} holds numbers that are not finite)")


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of a tensor that holds numbers that are not finite, if any does."""
    return next((name for name, tensor in sorted(tensors.items()) if not bool(torch.isfinite(tensor).all())), "")


def random_streams(device: torch.device) -> dict[str, Tensor]:
    """Where the random streams that training on a device draws from are now."""
    streams = {STREAMS[0]: torch.get_rng_state()}
    if device.type == "cuda":
        streams[STREAMS[1]] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        streams[STREAMS[2]] = torch.mps.get_rng_state()
    return streams


def set_random_streams(streams: Mapping[str, Tensor], device: torch.device) -> None:
    """Go to where `random_streams` was; on another kind of device its own stream stays where it is.

    Raises:
        RuntimeError: no stream is ever there.
    """
    torch.set_rng_state(streams[STREAMS[0]])
    if device.type == "cuda" and STREAMS[1] in streams:
        torch.cuda.set_rng_state(streams[STREAMS[1]], device)
    elif device.type == "mps" and STREAMS[2] in streams:
        torch.mps.set_rng_state(streams[STREAMS[2]])


def machine_facts(device: torch.device, precision: torch.dtype) -> dict[str, str]:
    """What decides, besides a training's state, whether going on gives the same prior bit for bit."""
    processors = {"cpu": torch.backends.cpu.get_cpu_capability, "cuda": torch.cuda.get_device_name}
    return {
        "device": device.type,
        "processor": processors[device.type]() if device.type in processors else "",
        "precision": str(precision).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
    }


def _settings(values: object) -> PriorSettings:
    """The settings of a state, all of them, as this version knows them."""
    if not isinstance(values, dict) or values.keys() != KNOBS_BY_NAME.keys():
        raise NotResumable("its settings are not those that this version of the program has")
    try:
        return PriorSettings(**values)
    except PriorError as error:
        raise NotResumable(f"it is damaged ({str(error).rstrip('.')})") from error
