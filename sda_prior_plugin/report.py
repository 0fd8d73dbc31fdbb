"""What is known of how a prior came about; it travels with the prior."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.facts import Perplexities, plain_fields, read_fact, read_fields
from sda_prior_plugin.memorization import MemorizationReport

MOST_DRAWN = 1e6
"""Perplexities above say no more than that an epoch diverged."""


def perplexity_text(perplexity: float) -> str:
    """A perplexity for a person, of an epoch that may have diverged."""
    if not math.isfinite(perplexity):
        return "not finite"
    return f"{perplexity:.2f}" if perplexity < MOST_DRAWN else f"{perplexity:.0e}"


@dataclass(frozen=True)
class TrainingReport:
    """How a prior was trained, and how good it is.

    Attributes:
        epochs_trained: whole epochs, whether or not they made it better.
        best_epoch: the one whose checkpoint was kept, counted from 1.
        final_perplexity: held-out perplexity of the kept checkpoint.
        training_date: when training ended, ISO 8601 in UTC.
        held_out: names of the recordings that it was judged by and never trained on.
        train_perplexities, held_out_perplexities: one for each epoch trained, infinite for one that diverged.
        ended: "finished" (after all its epochs), "no better" (before, as it had hardly got better), "stopped" (by the
            user) or "diverged".
        skipped_batches: batches left out because their loss was not finite.
        parameters: learned numbers in the network.
        seconds: of training and judging.
        best_seconds: from the start of training to the kept checkpoint.
        memorization: what is known of its memory; None in a file from before that was looked at.
        heard_seconds, held_out_seconds: seconds of the held-out recordings that are also trained on, and all; None in a
            file from before that was looked at.
    """

    epochs_trained: int
    best_epoch: int
    final_perplexity: float
    training_date: str
    held_out: tuple[str, ...]
    train_perplexities: Perplexities
    held_out_perplexities: Perplexities
    ended: str
    skipped_batches: int
    parameters: int
    seconds: float
    best_seconds: float
    memorization: MemorizationReport | None = None
    heard_seconds: float | None = None
    held_out_seconds: float | None = None

    @property
    def bits_per_code(self) -> float:
        """log2 of the final perplexity."""
        return math.log2(self.final_perplexity)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON; a perplexity that is infinite is null."""
        plain = plain_fields(self, but=frozenset({"memorization"}))
        return plain | {"memorization": self.memorization and self.memorization.as_dict()}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> TrainingReport:
        """The report that `as_dict` wrote; what else `facts` holds is passed over.

        Raises:
            PriorError: a part is missing or of the wrong kind.
        """
        memorization = facts.get("memorization")
        later = ("heard_seconds", "held_out_seconds")
        try:
            values = read_fields(cls, facts, but=frozenset({"memorization", *later}))
            for name in later:
                if facts.get(name) is not None:
                    values[name] = _seconds(name, facts[name])
        except (KeyError, TypeError) as error:
            raise PriorError(f"The prior's {error.args[0]} is not what it should be.") from error
        if memorization is not None:
            values["memorization"] = MemorizationReport.from_dict(memorization)
        if not values["final_perplexity"] >= 1:
            raise PriorError(f"The prior's final_perplexity is {values['final_perplexity']}, below 1.")
        return cls(**values)


def _seconds(name: str, value: object) -> float:
    """A fact that may be missing. Raises TypeError as `read_fields` does."""
    try:
        return float(read_fact("float", value))
    except (TypeError, ValueError) as error:
        raise TypeError(name, value) from error
