"""What is known of a prior's memory: how much of what it draws is copied from the recordings; it travels with it.

The copy rate is the share of all windows of some frames that occur verbatim, or nearly, in the training codes. What a
prior draws is compared with what recordings share with each other, the natural rate: a corpus of repetitive material
has a high one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sda_prior_plugin.errors import TRAIN_AGAIN, PriorError
from sda_prior_plugin.extraction import Extraction
from sda_prior_plugin.facts import read_fields
from sda_prior_plugin.nearness import Nearness

Part = TypeVar("Part")
VERY_LIKELY = "very likely memorizing"
NO_SIGN = "no sign of memorizing"
UNKNOWN = "cannot be known"
COPYING = "copying"
GAP = "gap"


@dataclass(frozen=True)
class CopyRate:
    """Copying by windows of one length.

    Attributes:
        seconds: length of the windows, and in `frames`.
        samples: share of the windows of what the prior drew that are copies, `sample_windows` having been counted.
        natural: the same for recordings and the others that are trained on, `natural_windows` having been counted.
        p_value: how probable it is that samples copy so much more by chance, by windows of any kind; the same for all
            lengths up to that of near copies, verbatim and near.
    """

    seconds: float
    frames: int
    samples: float
    sample_windows: int
    natural: float
    natural_windows: int
    p_value: float

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> CopyRate:
        """A rate from plain JSON, as it is written now or was in an earlier version.

        Raises:
            KeyError, TypeError: it is not one.
        """
        return cls(**read_fields(cls, of_now(facts)))


def of_now(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts with the names of now: natural was what is held out, in earlier versions."""
    return {name.replace("held_out", "natural"): value for name, value in facts.items()}


@dataclass(frozen=True)
class Recited:
    """A passage of a recording, in seconds."""

    file: str
    start: float
    seconds: float


@dataclass(frozen=True)
class MemorizationReport:
    """What is known of a prior's memory.

    Attributes:
        verdict: of the kept checkpoint, VERY_LIKELY, NO_SIGN, or UNKNOWN where there is too little to compare with.
        basis: COPYING, or GAP where there was too little to know the natural copy rate.
        rates: of the kept checkpoint, verbatim copies for each window length.
        longest: the longest passage that it recited in the sounds that were drawn to judge it.
        memorizing_epochs: stretches of epochs, first and last, in which training had very likely gone over to reciting.
        seconds: that looking for all this took.
        near: near copies, by windows of about a second; like the rest, None in older files and where unknown.
        nearness: how near what it draws lies to the recordings.
        extraction: how often it goes on as a recording did.
    """

    verdict: str
    basis: str
    rates: tuple[CopyRate, ...]
    longest: Recited | None
    memorizing_epochs: tuple[tuple[int, int], ...]
    seconds: float
    near: CopyRate | None = None
    nearness: Nearness | None = None
    extraction: Extraction | None = None

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return dataclasses.asdict(self) | {
            "rates": [dataclasses.asdict(rate) for rate in self.rates],
            "memorizing_epochs": [list(stretch) for stretch in self.memorizing_epochs],
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> MemorizationReport:
        """The report that `as_dict` wrote, now or in an earlier version.

        Raises:
            PriorError: it is not one.
        """

        def part(kind: type[Part], fact: Mapping[str, Any] | None) -> Part | None:
            return None if fact is None else kind(**read_fields(kind, fact))

        later = frozenset({"near", "nearness", "extraction"})
        try:
            return cls(
                rates=tuple(CopyRate.from_dict(rate) for rate in facts["rates"]),
                longest=part(Recited, facts["longest"]),
                near=part(CopyRate, facts.get("near") and of_now(facts["near"])),
                nearness=part(Nearness, facts.get("nearness") and of_now(facts["nearness"])),
                extraction=part(Extraction, facts.get("extraction")),
                **read_fields(cls, facts, but=later | {"rates", "longest"}),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise PriorError("The prior's memorization report is damaged; ", TRAIN_AGAIN, ".") from error
