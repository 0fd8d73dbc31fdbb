"""Follows a training and says when it has very likely gone over to reciting, and since when."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.extraction import Extraction
from sda_prior_plugin.facts import read_fact
from sda_prior_plugin.memorization import COPYING, GAP, NO_SIGN, UNKNOWN, VERY_LIKELY, CopyRate, MemorizationReport

CONSECUTIVE = 2
"""Looks in a row that have to agree before a prior is accused or cleared."""

OPEN_GAP = 0.25
"""Share of the held-out bits by which the training bits lie below them, to count as second witness."""
WIDE_GAP = 0.5
WIDE_RISE = 1.15
"""Held-out bits over the best ones, with a wide gap: the witness where the natural copy rate is not known. There have
to be some copies, too."""


@dataclass(frozen=True)
class Bits:
    """Bits per code at the end of an epoch: on the codes just trained on, held out, and the best held out so far."""

    train: float
    held_out: float
    best: float

    @property
    def gap(self) -> float:
        """How much of the held-out bits is known of the training codes beyond what is known of unheard ones."""
        return 1 - self.train / max(self.held_out, 1e-9)


@dataclass(frozen=True)
class Finding:
    """Why a prior is very likely memorizing, in numbers; `rate` is None where only the gap could be judged.

    `near` is whether the rate is of near copies.
    """

    rate: CopyRate | None
    train_bits: float
    held_out_bits: float
    best_bits: float
    near: bool = False

    def sentence(self, best_epoch: int) -> str:
        """For a person."""
        best = f"best checkpoint: epoch {best_epoch}"
        if self.rate is not None:
            how, share = "verbatim from your recordings", f"recordings share {self.rate.natural:.0%} with each other"
            if self.near:
                how = "near copies of your recordings (most of their codes are the same, not all)"
                share = f"of the recordings {self.rate.natural:.0%} are near copies of each other"
            return (
                f"{self.rate.samples:.0%} of the {self.rate.seconds:.1f} s stretches that this prior generates now are "
                f"{how}; {share}; {best}."
            )
        return (
            "It copies your recordings; there are too few different ones to know how much recordings of this kind "
            "share anyway, so this goes by the gap: it predicts what it was trained on with "
            f"{self.train_bits:.2f} bits per code, unheard recordings with {self.held_out_bits:.2f} and getting worse "
            f"({self.best_bits:.2f} at its best); "
            f"{best}."
        )


class Watch:
    """Follows a training and says when it has very likely gone over to reciting, and when it is no longer so.

    `stretches` of epochs, first and last, tell since when and how long, to everyone that shows it: a stretch begins
    with the first look that told, though only the next one confirmed it, and lasts until the last look that told; one
    that goes on, until the latest epoch.
    """

    def __init__(self, meter: CopyMeter) -> None:
        self.meter = meter
        self.finding: Finding | None = None
        self.stretches: list[tuple[int, int]] = []
        self._agreeing = 0
        self._first_disagreeing = 0

    @property
    def memorizing(self) -> bool:
        return self.finding is not None

    @property
    def since(self) -> int:
        """The epoch since which it recites, as far as is known; 0 where it does not."""
        return self.stretches[-1][0] if self.memorizing else 0

    def stretches_until(self, epoch: int) -> tuple[tuple[int, int], ...]:
        """The stretches as they are after `epoch`, up to which one that is under way lasts."""
        if not self.memorizing:
            return tuple(self.stretches)
        return (*self.stretches[:-1], (self.since, max(epoch, self.stretches[-1][1])))

    @property
    def undecided(self) -> bool:
        """Whether the last look disagreed with what is held, so that another one is wanted soon."""
        return self._agreeing > 0

    def hurried(self, bits: Bits) -> bool:
        """Whether the gap makes it worth to look more often."""
        return bits.gap >= WIDE_GAP and not self.memorizing

    def told(self, bits: Bits, grids: Sequence[np.ndarray]) -> Finding | None:
        """What one look finds, by bits per code and codes that the prior drew; None where it is no sign."""
        if not self.meter.calibrated:
            wide = bits.gap >= WIDE_GAP and bits.held_out >= WIDE_RISE * bits.best
            seen = wide and self.meter.measured(grids).some
            return Finding(None, bits.train, bits.held_out, bits.best) if seen else None
        telling = self.meter.measured(grids).telling
        if telling is None or bits.gap < OPEN_GAP:
            return None
        rate, near = telling
        return Finding(rate, bits.train, bits.held_out, bits.best, near)

    def look(self, epoch: int, bits: Bits, grids: Sequence[np.ndarray]) -> None:
        """Take one look: bits per code after `epoch`, and codes that the prior of that moment drew."""
        found = self.told(bits, grids)
        seen = found is not None
        if seen == self.memorizing:
            self._agreeing = 0
        else:
            self._first_disagreeing = epoch if not self._agreeing else self._first_disagreeing
            self._agreeing += 1
        if seen and (self.memorizing or self._agreeing >= CONSECUTIVE):
            if not self.memorizing:
                self.stretches.append((self._first_disagreeing, epoch))
                self._agreeing = 0
            self.finding = found
            self.stretches[-1] = (self.stretches[-1][0], epoch)
        elif not seen and self._agreeing >= CONSECUTIVE:
            self.finding, self._agreeing = None, 0

    def as_dict(self) -> dict[str, Any]:
        """What it knows of the training so far, as plain JSON; bits that are not finite are null."""
        finding = self.finding
        bits = finding and [finding.train_bits, finding.held_out_bits, finding.best_bits]
        return {
            "rate": finding and finding.rate and dataclasses.asdict(finding.rate),
            "near": finding is not None and finding.near,
            "bits": bits and [one if math.isfinite(one) else None for one in bits],
            "stretches": [list(stretch) for stretch in self.stretches],
            "agreeing": self._agreeing,
            "first_disagreeing": self._first_disagreeing,
        }

    def take_up(self, facts: Mapping[str, Any]) -> None:
        """Go on from what `as_dict` gave.

        Raises:
            PriorError: it is damaged.
        """
        try:
            rate, bits = facts["rate"], facts["bits"]
            finding = None
            if bits is not None:
                train, held_out, best = (math.inf if one is None else read_fact("float", one) for one in bits)
                near = read_fact("bool", facts.get("near", False))  # which earlier versions did not look for
                finding = Finding(rate and CopyRate.from_dict(rate), train, held_out, best, near)
            self.stretches = list(read_fact("tuple[tuple[int, int], ...]", facts["stretches"]))
            self._agreeing = read_fact("int", facts["agreeing"])
            self._first_disagreeing = read_fact("int", facts["first_disagreeing"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise PriorError("What the watch for memorizing knew is damaged.") from error
        if finding is not None and not self.stretches:
            raise PriorError("What the watch for memorizing knew is damaged.")
        self.finding = finding

    def report(
        self,
        epoch: int,
        bits: Bits,
        looks: Sequence[Sequence[np.ndarray]],
        extraction: Extraction | None,
        seconds: float,
    ) -> MemorizationReport:
        """What is known of the memory of the kept checkpoint, and of the training up to `epoch`.

        Its verdict follows the warning's rule: CONSECUTIVE looks that tell, and the bits as second witness.

        Args:
            epoch: the last one.
            bits: of the checkpoint.
            looks: sounds that it drew for each look, independent of each other.
            extraction: what continuing the recordings gave.
            seconds: that drawing and looking took.
        """
        meter, grids = self.meter, [grid for look in looks for grid in look]
        measured = meter.measured(grids)
        telling = all(self.told(bits, look) is not None for look in looks)
        return MemorizationReport(
            verdict=VERY_LIKELY if telling else NO_SIGN if meter.calibrated else UNKNOWN,
            basis=COPYING if meter.calibrated else GAP,
            rates=measured.exact,
            longest=meter.longest_passage(grids),
            memorizing_epochs=self.stretches_until(epoch),
            seconds=seconds,
            near=measured.near,
            nearness=meter.nearness(measured),
            extraction=extraction,
        )
