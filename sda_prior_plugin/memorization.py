"""Whether a prior recites the recordings: what it copies, measured against what unheard recordings share with them.

The copy rate is the share of all windows of some frames that occur verbatim in the training codes. What a prior draws
is compared with the held-out recordings, whose rate is the natural one: a corpus of repetitive material has a high one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sda_prior_plugin.copying import Heard, copied_windows, shortest_window
from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.facts import read_fact, read_fields

LONGER_WINDOW_SECONDS = (0.5, 1.0, 2.0, 4.0)
LONGEST_SAMPLE_SECONDS = 4.0
FEWEST_NATURAL_WINDOWS = 30
FEWEST_NATURAL_PIECES = 5
"""Of the shortest length, held out: with less the natural copy rate is not known."""
FEWEST_WINDOWS = 10
"""Of any other length."""

SIGNIFICANCE = 0.05
"""Of one look, over all window lengths; two in a row and the second witness are wanted besides."""
PERMUTATIONS = 1999
TIMES_NATURAL = 2.0
ABOVE_NATURAL = 0.03
CONSECUTIVE = 2
"""Looks in a row that have to agree before a prior is accused or cleared."""

OPEN_GAP = 0.25
"""Share of the held-out bits by which the training bits lie below them, to count as second witness."""
WIDE_GAP = 0.5
WIDE_RISE = 1.15
"""Held-out bits over the best ones, with a wide gap: the only witness where the natural copy rate is not known."""


@dataclass(frozen=True)
class CopyRate:
    """Copying by windows of one length.

    Attributes:
        seconds: length of the windows, and in `frames`.
        samples: share of the windows of what the prior drew that are copies, `sample_windows` having been counted.
        held_out: the same for the held-out recordings, the natural copy rate.
        p_value: how probable it is that samples copy so much more by chance, by windows of any length.
    """

    seconds: float
    frames: int
    samples: float
    sample_windows: int
    held_out: float
    held_out_windows: int
    p_value: float


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
        verdict: VERY_LIKELY or NO_SIGN, of the kept checkpoint.
        basis: COPYING, or GAP where there was too little held out to know the natural copy rate.
        rates: of the kept checkpoint, for each window length.
        longest: the longest passage that it recited in the sounds that were drawn to judge it.
        memorizing_epochs: stretches of epochs, first and last, in which training had very likely gone over to reciting.
        seconds: that looking for all this took.
    """

    verdict: str
    basis: str
    rates: tuple[CopyRate, ...]
    longest: Recited | None
    memorizing_epochs: tuple[tuple[int, int], ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return dataclasses.asdict(self) | {
            "rates": [dataclasses.asdict(rate) for rate in self.rates],
            "memorizing_epochs": [list(stretch) for stretch in self.memorizing_epochs],
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> MemorizationReport:
        """The report that `as_dict` wrote.

        Raises:
            PriorError: it is not one.
        """
        try:
            longest, rates = facts["longest"], facts["rates"]
            return cls(
                rates=tuple(CopyRate(**read_fields(CopyRate, rate)) for rate in rates),
                longest=None if longest is None else Recited(**read_fields(Recited, longest)),
                **read_fields(cls, facts, but=frozenset({"rates", "longest"})),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise PriorError(
                "The prior's memorization report is damaged; train it again with train-prior --overwrite."
            ) from error


VERY_LIKELY = "very likely memorizing"
NO_SIGN = "no sign of memorizing"
COPYING = "copying"
GAP = "gap"


class CopyMeter:
    """Measures copying against one corpus.

    Attributes:
        heard: the training codes.
        shortest: frames of the shortest window that counts.
        sample_frames: how long a sound should be that is drawn to be measured, at most.
        calibrated: whether enough is held out to know the natural copy rate.
    """

    def __init__(self, corpus: CodeCorpus) -> None:
        self.heard = Heard.of(corpus.train)
        self.frame_seconds = corpus.frame_seconds
        self.shortest = shortest_window(corpus.frame_seconds)
        longest = max(self.shortest, round(LONGEST_SAMPLE_SECONDS / corpus.frame_seconds))
        self.sample_frames = min(longest, int(corpus.train_frames.max()))
        pieces = [
            grid[first : first + self.sample_frames]
            for grid in (corpus.held_out[index] for index in range(len(corpus.held_out)))
            for first in range(0, len(grid), self.sample_frames)
        ]
        longer = {max(self.shortest, round(seconds / corpus.frame_seconds)) for seconds in LONGER_WINDOW_SECONDS}
        lengths = {self.shortest, *longer}
        self._natural = {frames: copied_windows(self.heard, pieces, frames) for frames in sorted(lengths)}
        counted = self._natural[self.shortest][1]
        self.calibrated = bool(
            counted.sum() >= FEWEST_NATURAL_WINDOWS and np.count_nonzero(counted) >= FEWEST_NATURAL_PIECES
        )

    def rates(self, grids: Sequence[np.ndarray]) -> tuple[CopyRate, ...]:
        """The copy rates of some grids `[frames, bands, levels]`, for each window length that there is enough of."""
        samples: dict[int, Counts] = {frames: copied_windows(self.heard, grids, frames) for frames in self._natural}
        lengths = [
            frames
            for frames, natural in self._natural.items()
            if samples[frames][1].any() and (natural[1].sum() >= FEWEST_WINDOWS or not self.calibrated)
        ]
        chances = chances_of_more(
            [samples[frames] for frames in lengths], [self._natural[frames] for frames in lengths]
        )
        return tuple(
            CopyRate(
                seconds=frames * self.frame_seconds,
                frames=frames,
                samples=share(*samples[frames]),
                sample_windows=int(samples[frames][1].sum()),
                held_out=share(*self._natural[frames]),
                held_out_windows=int(self._natural[frames][1].sum()),
                p_value=chance,
            )
            for frames, chance in zip(lengths, chances, strict=True)
        )

    def copies_more(self, grids: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
        """Whether some grids hold significantly more copies than others."""
        (chance,) = chances_of_more(*([copied_windows(self.heard, some, self.shortest)] for some in (grids, others)))
        return chance < 0.05

    def longest_passage(self, grids: Sequence[np.ndarray]) -> Recited | None:
        """The longest passage that occurs in any of the grids."""
        passage = self.heard.longest_passage(grids, self.shortest)
        if passage is None:
            return None
        return Recited(passage.name, passage.at * self.frame_seconds, passage.frames * self.frame_seconds)


def share(copied: np.ndarray, counted: np.ndarray) -> float:
    """The copy rate, from copied and counted windows of each sequence."""
    return float(copied.sum() / max(counted.sum(), 1))


Counts = tuple[np.ndarray, np.ndarray]
"""Windows of one length in some sequences, `[sequences]` each: those that are copied, and all."""


def chances_of_more(samples: Sequence[Counts], natural: Sequence[Counts]) -> list[float]:
    """For each window length, the one-sided p-value of the copy rate of `samples` being above the `natural` one.

    A permutation test over whole sequences (Good 2005, section 3.2): windows of one sequence overlap and depend on each
    other, sequences do not. Only sequences that have windows of the same lengths are exchanged. The p-values hold for
    all lengths together, which depend on each other, by the least one of each permutation (Westfall and Young 1993,
    section 2.3).
    """
    if not samples:
        return []
    copied, counted = (
        np.concatenate([np.stack([one[part] for one in group]) for group in (samples, natural)], axis=1)
        for part in (0, 1)
    )  # [lengths, sequences]
    first = np.arange(copied.shape[1]) < len(samples[0][0])
    drawn = np.tile(first, (1 + PERMUTATIONS, 1))
    kind = (counted > 0).sum(axis=0)
    rng = np.random.default_rng(0)
    for one in np.unique(kind):
        drawn[1:, kind == one] = rng.permuted(drawn[1:, kind == one], axis=1)
    mine, theirs = (
        (rows @ copied.T) / np.maximum(rows @ counted.T, 1) for rows in (drawn.astype(float), (~drawn).astype(float))
    )
    difference = mine - theirs  # [permutations, lengths]
    ordered = np.sort(difference, axis=0)
    p_values = np.stack(
        [
            1 - np.searchsorted(ordered[:, length], difference[:, length] - 1e-12) / len(ordered)
            for length in range(len(samples))
        ],
        axis=1,
    )
    least = p_values.min(axis=1)
    return [float(np.mean(least <= p_value + 1e-12)) for p_value in p_values[0]]


def telling(rates: Sequence[CopyRate]) -> CopyRate | None:
    """The rate that shows best that samples copy more than is natural, if any does.

    More means: so much more that the test rules out chance, and by a margin that matters.
    """
    more = [
        rate
        for rate in rates
        if rate.p_value <= SIGNIFICANCE
        and rate.samples >= TIMES_NATURAL * rate.held_out
        and rate.samples >= rate.held_out + ABOVE_NATURAL
    ]
    return max(more, key=lambda rate: rate.samples - rate.held_out, default=None)


@dataclass(frozen=True)
class Finding:
    """Why a prior is very likely memorizing, in numbers; `rate` is None where only the gap could be judged."""

    rate: CopyRate | None
    train_bits: float
    held_out_bits: float
    best_bits: float

    def sentence(self, best_epoch: int) -> str:
        """For a person."""
        best = f"best checkpoint: epoch {best_epoch}"
        if self.rate is not None:
            return (
                f"{self.rate.samples:.0%} of the {self.rate.seconds:.1f} s stretches that this prior generates now are "
                f"verbatim from your recordings; unheard recordings share {self.rate.held_out:.0%}; {best}."
            )
        return (
            "Too little is held out to know how much recordings of this kind share anyway, so this goes by the gap "
            f"alone: it predicts what it was trained on with {self.train_bits:.2f} bits per code, unheard recordings "
            f"with {self.held_out_bits:.2f} and getting worse ({self.best_bits:.2f} at its best); {best}."
        )


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


class Watch:
    """Follows a training and says when it has very likely gone over to reciting, and when it is no longer so."""

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
    def undecided(self) -> bool:
        """Whether the last look disagreed with what is held, so that another one is wanted soon."""
        return self._agreeing > 0

    def hurried(self, bits: Bits) -> bool:
        """Whether the gap makes it worth to look more often."""
        return bits.gap >= WIDE_GAP and not self.memorizing

    def look(self, epoch: int, bits: Bits, grids: Sequence[np.ndarray]) -> None:
        """Take one look: bits per code after `epoch`, and codes that the prior of that moment drew."""
        if self.meter.calibrated:
            rate = telling(self.meter.rates(grids))
            seen = rate is not None and bits.gap >= OPEN_GAP
        else:
            rate = None
            seen = bits.gap >= WIDE_GAP and bits.held_out >= WIDE_RISE * bits.best
        if seen == self.memorizing:
            self._agreeing = 0
        else:
            self._first_disagreeing = epoch if not self._agreeing else self._first_disagreeing
            self._agreeing += 1
        if seen and (self.memorizing or self._agreeing >= CONSECUTIVE):
            if not self.memorizing:
                self.stretches.append((self._first_disagreeing, epoch))
                self._agreeing = 0
            self.finding = Finding(rate, bits.train, bits.held_out, bits.best)
            self.stretches[-1] = (self.stretches[-1][0], epoch)
        elif not seen and self._agreeing >= CONSECUTIVE:
            self.finding, self._agreeing = None, 0

    def as_dict(self) -> dict[str, Any]:
        """What it knows of the training so far, as plain JSON; bits that are not finite are null."""
        finding = self.finding
        bits = finding and [finding.train_bits, finding.held_out_bits, finding.best_bits]
        return {
            "rate": finding and finding.rate and dataclasses.asdict(finding.rate),
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
                finding = Finding(rate and CopyRate(**read_fields(CopyRate, rate)), train, held_out, best)
            self.stretches = list(read_fact("tuple[tuple[int, int], ...]", facts["stretches"]))
            self._agreeing = read_fact("int", facts["agreeing"])
            self._first_disagreeing = read_fact("int", facts["first_disagreeing"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise PriorError("What the watch for memorizing knew is damaged.") from error
        if finding is not None and not self.stretches:
            raise PriorError("What the watch for memorizing knew is damaged.")
        self.finding = finding

    def report(self, grids: Sequence[np.ndarray], seconds: float) -> MemorizationReport:
        """What is known of the memory of a prior that drew `grids`, and of the training up to now.

        `seconds` is what drawing and looking took.
        """
        rates = self.meter.rates(grids)
        return MemorizationReport(
            verdict=VERY_LIKELY if self.meter.calibrated and telling(rates) else NO_SIGN,
            basis=COPYING if self.meter.calibrated else GAP,
            rates=rates,
            longest=self.meter.longest_passage(grids),
            memorizing_epochs=tuple(self.stretches),
            seconds=seconds,
        )
