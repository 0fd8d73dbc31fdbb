"""The state of a training, as it is written down: what it takes to go on later as if it had never been broken off."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.devices import STREAMS
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.facts import Perplexities, plain_fields, read_fields
from sda_prior_plugin.mapped import parts
from sda_prior_plugin.muon import moments_of
from sda_prior_plugin.network import LATER_WEIGHTS
from sda_prior_plugin.settings import KNOBS_BY_NAME, LATER_KNOBS, PriorSettings

ITS_COMPANION = "embedding.projection"
"""What states of older versions have wherever they lack the network's `LATER_WEIGHTS`."""
NO_FACTS = frozenset({"settings", "tensors"})
"""Fields of a `TrainingState` that are no plain facts."""
IN_OLDER_STATES = "network.", "optimizer."
"""Names of tensors in states of older versions, whose AdamW had a schedule: weights that run `ahead`, and moments."""


class NotResumable(PriorError):  # noqa: N818 - what is the case, as callers would say it
    """A training cannot go on from a state; `reason` says why, beginning with "it" or "its"."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The training cannot be continued: {reason}.")
        self.reason = reason


@dataclass(frozen=True)
class Progress:
    """How far a training has come: what each batch and epoch adds to, plain and small.

    Attributes:
        batches: of the epoch under way that are done; 0 between two epochs.
        step: batches done in all epochs.
        epoch_bits, epoch_codes: bits of those `batches`, and how many codes they had.
        train_perplexities, held_out_perplexities, memorizing: of each epoch that is over.
        skipped_batches: that had no finite loss.
        looked_at: epoch and step of the last look at copies.
        hurried_since: the epoch since which these are hurried, or 0.
        looking_seconds: that looking at copies has taken.
    """

    batches: int = 0
    step: int = 0
    epoch_bits: float = 0.0
    epoch_codes: int = 0
    train_perplexities: Perplexities = ()
    held_out_perplexities: Perplexities = ()
    memorizing: tuple[bool, ...] = ()
    skipped_batches: int = 0
    looked_at: tuple[int, int] = (0, 0)
    hurried_since: int = 0
    looking_seconds: float = 0.0

    @property
    def epochs(self) -> int:
        """Whole epochs that are over."""
        return len(self.held_out_perplexities)


@dataclass(frozen=True, kw_only=True)
class TrainingState(Progress):
    """A training between two of its batches, or epochs: the `state_dict` of its run, as facts and named tensors.

    Attributes:
        settings: of the training.
        corpus: `corpus_digest` of what it learns from and is judged by.
        kept_epochs, kept_seconds: of each checkpoint that is kept, the best one last; none before a finite epoch.
        watch: what the watch for memorizing knows, as `Watch.as_dict` has it.
        judged_codes: held-out codes that it is judged by; 0 in a state from before some were left out.
        seconds: that training has taken.
        machine: what decides, besides all this, whether going on gives the same prior bit for bit.
        tensors: weights, averaged weights, checkpoints, what the optimiser knows and random streams; each is called by
            the names on the way to it in the `state_dict`, with dots between.
    """

    settings: PriorSettings
    corpus: str
    kept_epochs: tuple[int, ...]
    kept_seconds: tuple[float, ...]
    watch: dict[str, Any]
    judged_codes: int
    seconds: float
    machine: dict[str, str]
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> TrainingState:
        """That of a run with this `state_dict`. Its tensors are on the CPU, the run's own where that is there, too."""
        facts = {field.name: state[field.name] for field in fields(cls) if field.name not in NO_FACTS}
        tensors = {name: tensor.detach().cpu() for name, tensor in named_tensors(state).items()}
        return cls(settings=PriorSettings(**state["settings"]), tensors=tensors, **facts)

    def state_dict(self, weights: Mapping[str, Tensor], sequences: int) -> dict[str, Any]:
        """What `of` made it of: the `state_dict` of a run.

        Args:
            weights: what the network of that run has, by name; they may be without data. All of it is learned.
            sequences: held-out sequences.

        Raises:
            NotResumable: a tensor is missing, unknown, of another shape or type, or holds numbers that cannot be.
        """
        given = of_this_version(self.tensors, weights)
        bits = torch.empty(sequences, dtype=torch.float64, device="meta")
        streams = {name: given[f"random.{name}"] for name in STREAMS if f"random.{name}" in given}
        momentum, squares = moments_of(weights)
        tensors = {
            "ahead": weights,
            "momentum": momentum,
            "squares": squares,
            "average": weights,
            "kept": [{"weights": weights, "sequence_bits": bits} for _ in self.kept_epochs],
            "random": streams | {"cpu": torch.get_rng_state()},
        }
        expected = named_tensors(tensors)
        for name in sorted(expected.keys() | given.keys()):
            if name not in given or name not in expected:
                what = f"it lacks {name}" if name in expected else f"{name} is unknown"
                raise NotResumable(f"it is damaged ({what})")
            if (given[name].dtype, given[name].shape) != (expected[name].dtype, expected[name].shape):
                found = f"{given[name].dtype} {list(given[name].shape)}"
                raise NotResumable(f"it is damaged (its {name} is {found})")
        if name := not_finite(given):
            raise NotResumable(f"it is damaged (its {name} holds numbers that are not finite)")
        facts = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in NO_FACTS}
        return facts | {"settings": self.settings.as_dict()} | filled(tensors, given)

    def as_dict(self) -> dict[str, Any]:
        """All but the tensors, as plain JSON; a perplexity that is infinite is null."""
        return plain_fields(self, but=NO_FACTS) | {"settings": self.settings.as_dict()}

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TrainingState:
        """The state that `as_dict` and `tensors` gave. The tensors are looked at only where training goes on from it.

        Raises:
            NotResumable: a fact is missing, or not what it should be.
        """
        try:
            values = read_fields(cls, {"judged_codes": 0, **facts}, but=NO_FACTS)
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
        if part.kinds is not None:
            digest.update(repr(corpus.kinds).encode() + np.ascontiguousarray(part.kinds, dtype="<i8").tobytes())
        for rows in parts(part.codes):
            digest.update(np.ascontiguousarray(part.codes[rows]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def named_tensors(nested: Any, way: str = "") -> dict[str, Tensor]:
    """The tensors in nested dicts and lists, called by the names and numbers on the way to them, with dots between."""
    if isinstance(nested, Tensor):
        return {way[1:]: nested}
    inner = nested.items() if isinstance(nested, dict) else enumerate(nested) if isinstance(nested, list) else ()
    return {name: one for key, value in inner for name, one in named_tensors(value, f"{way}.{key}").items()}


def filled(nested: Any, tensors: Mapping[str, Tensor], way: str = "") -> Any:
    """Nested dicts and lists of tensors with others in their places, by their `named_tensors` names."""
    if isinstance(nested, Tensor):
        return tensors[way[1:]]
    if isinstance(nested, list):
        return [filled(value, tensors, f"{way}.{number}") for number, value in enumerate(nested)]
    return {key: filled(value, tensors, f"{way}.{key}") for key, value in nested.items()}


def of_this_version(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors of a state; of an older one, what this version makes of it.

    Args:
        tensors: by name.
        weights: what the network of that run has, by name.
    """
    return _with_later_weights(_without_schedule(tensors, weights), weights)


def _without_schedule(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights that were learned with a schedule run ahead from where they are."""
    if not any(name.startswith(IN_OLDER_STATES) for name in tensors):
        return tensors
    made = {name: tensor for name, tensor in tensors.items() if not name.startswith(IN_OLDER_STATES)}
    made |= {f"ahead.{name[len('network.') :]}": one for name, one in tensors.items() if name.startswith("network.")}
    for part, moment, new in zip(("momentum", "squares"), ("exp_avg", "exp_avg_sq"), moments_of(weights), strict=True):
        for name in new.keys() - LATER_WEIGHTS.keys():
            then = tensors.get(f"optimizer.{name}.{moment}")
            made[f"{part}.{name}"] = torch.zeros(new[name].shape) if then is None else then
    return made


def _with_later_weights(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights that were not there yet are what it was as if they had been, and nothing has been learned of them."""
    prefixes = [name[: -len(ITS_COMPANION)] for name in tensors if name.endswith(ITS_COMPANION)]
    lacking = {
        part + name: torch.full(weights[name].shape, 0.0 if part == "squares." else value)
        for name, value in LATER_WEIGHTS.items()
        if name in weights and not any(known.endswith(f".{name}") for known in tensors)
        for part in prefixes
    }
    return {**tensors, **lacking}


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of a tensor that holds numbers that are not finite, if any does."""
    return next((name for name, tensor in sorted(tensors.items()) if not bool(torch.isfinite(tensor).all())), "")


def _settings(values: object) -> PriorSettings:
    """The settings of a state, all of them, as this version knows them."""
    if not isinstance(values, dict) or {**LATER_KNOBS, **values}.keys() != KNOBS_BY_NAME.keys():
        raise NotResumable("its settings are not those that this version of the program has")
    try:
        return PriorSettings(**{**LATER_KNOBS, **values})
    except PriorError as error:
        raise NotResumable(f"it is damaged ({str(error).rstrip('.')})") from error
