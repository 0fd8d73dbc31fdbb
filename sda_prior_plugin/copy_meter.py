"""Measures how much sounds copy from one corpus, against what its recordings share with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sda_prior_plugin.copy_test import Counts, chances_of_more, joined, share
from sda_prior_plugin.copying import Heard, copied_windows, shortest_window
from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.memorization import CopyRate, Recited
from sda_prior_plugin.natural import MOST_TWICE, natural
from sda_prior_plugin.near_copies import Neighbours, Sketch, near_window
from sda_prior_plugin.nearness import Nearness, nearness, unit_shares

LONGER_WINDOW_SECONDS = (0.5, 1.0, 2.0, 4.0)
LONGEST_SAMPLE_SECONDS = 4.0
FEWEST_NATURAL_WINDOWS = 30
FEWEST_NATURAL_RECORDINGS = 5
"""Of the shortest length: with less the natural copy rate is not known."""
FEWEST_WINDOWS = 10
"""Of any other length."""

SIGNIFICANCE = 0.05
"""Of one look, over all kinds of windows; two in a row and the second witness are wanted besides."""
TIMES_NATURAL = 2.0
ABOVE_NATURAL = 0.03
TOGETHER_ABOVE = 0.035
"""The same of the rates of verbatim and of near copies, added. Of 100 choices of seconds of long notes, 12 were falsely
accused with 0.03 and 8 with this; with 0.04, copies from another start offset would be noticed in 91 to 96 of 100."""


@dataclass(frozen=True)
class Kind:
    """Windows of one kind: their length, and those of sounds and of recordings, by unit."""

    frames: int
    samples: Counts
    natural: Counts


@dataclass(frozen=True)
class Measured:
    """Copying of some sounds: verbatim by windows of each length that there is enough of, and near.

    `telling` is the rate that shows best that they copy more than is natural, and whether it is of near copies; or
    None. More means: so much more that the test rules out chance, and by a margin that matters. `neighbours` are those
    of each sound.
    """

    exact: tuple[CopyRate, ...]
    near: CopyRate | None
    telling: tuple[CopyRate, bool] | None
    neighbours: Sequence[Neighbours] = ()

    @property
    def some(self) -> bool:
        """Whether there are copies enough to tell, if none at all were natural."""
        rates = self.exact if self.near is None else (*self.exact, self.near)
        return any(rate.samples >= ABOVE_NATURAL for rate in rates)


def _matters(rate: CopyRate) -> bool:
    """Whether it is so much above the natural one."""
    return rate.p_value <= SIGNIFICANCE and _much_more(rate.samples, rate.natural, ABOVE_NATURAL)


def _much_more(samples: float, natural: float, above: float) -> bool:
    """Whether a rate is above a natural one by a margin that matters."""
    return samples >= TIMES_NATURAL * natural and samples >= natural + above


def _compared(below: list[Kind], near: list[Kind], longer: list[Kind]) -> tuple[bool, float, list[float]]:
    """Whether those `below` near ones and these tell together, the p-value of both, and those of `longer` ones."""
    weights = np.array([1 / len(below) for _ in below] + [1.0 for _ in near])
    samples, natural = [kind.samples for kind in (*below, *near)], [kind.natural for kind in (*below, *near)]
    both = joined(samples, natural, weights)
    p_value, *others = chances_of_more(
        [both[0], *(kind.samples for kind in longer)], [both[1], *(kind.natural for kind in longer)]
    )
    of_sounds, of_recordings = (float(weights @ [share(*one) for one in group]) for group in (samples, natural))
    return p_value <= SIGNIFICANCE and _much_more(of_sounds, of_recordings, TOGETHER_ABOVE), p_value, others


class CopyMeter:
    """Measures copying against one corpus.

    Attributes:
        heard, sketch: the training codes, for verbatim and for near copies.
        unheard: what of the held-out recordings is not trained on as well, and `pieces`, that.
        shortest: frames of the shortest window that counts.
        sample_frames: how long a sound should be that is drawn to be measured, at most.
        calibrated: whether there are recordings enough, and enough of them is unheard, to know the natural copy rate.
    """

    def __init__(self, corpus: CodeCorpus) -> None:
        self.frame_seconds = corpus.frame_seconds
        self.heard = Heard.of(corpus.train)
        self.shortest = shortest_window(corpus.frame_seconds)
        self.sketch = Sketch.of(corpus.train, near_window(corpus.frame_seconds, corpus.train_frames, self.shortest))
        longest = max(self.shortest, round(LONGEST_SAMPLE_SECONDS / corpus.frame_seconds))
        self.sample_frames = min(longest, int(corpus.train_frames.max()))
        longer = {max(self.shortest, round(seconds / corpus.frame_seconds)) for seconds in LONGER_WINDOW_SECONDS}
        self._lengths = sorted({self.shortest, *longer})
        self._natural = natural(corpus, self.heard, self.sketch, self._lengths, longest)
        self.unheard, self.pieces = self._natural.unheard, self._natural.pieces
        _, counted = self._natural.exact[0]
        self.calibrated = bool(
            self.unheard.enough
            and self._natural.twice <= MOST_TWICE
            and counted.sum() >= FEWEST_NATURAL_WINDOWS
            and np.count_nonzero(counted) >= FEWEST_NATURAL_RECORDINGS
        )

    def measured(self, grids: Sequence[np.ndarray]) -> Measured:
        """How much some grids `[frames, bands, levels]` copy.

        Windows up to the length of near ones are one kind to the test, and have its p-value: what is verbatim counts
        as such, by the mean of the lengths below, and as near. Longer ones tell what these cannot where all is made of
        the same material, and are kinds of their own.
        """
        found, frames = self.sketch.neighbours(grids), self.sketch.frames
        copied = zip(*copied_windows(self.heard, grids, self._lengths), strict=True)
        exact = list(filter(self._known, map(Kind, self._lengths, copied, self._natural.exact)))
        near_counts, weights = self.sketch.near_counts(found), self.sketch.near_weights(found, self._natural.alike)
        weighed = list(filter(self._known, [Kind(frames, (weights, near_counts[1]), self._natural.weighed)]))
        below = [kind for kind in exact if kind.frames == self.shortest or kind.frames < frames]
        longer = [kind for kind in exact if kind.frames > frames]
        if not below and not weighed:
            return Measured((), None, None, found)
        together, p_value, p_values = _compared(below, weighed, longer)
        chances = dict(zip((kind.frames for kind in longer), p_values, strict=True))
        rates = tuple(self._rate(kind, chances.get(kind.frames, p_value)) for kind in exact)
        near = self._rate(Kind(frames, near_counts, self._natural.near), p_value) if weighed else None
        alone = {kind.frames for kind in (*below, *longer)}
        telling = [rate for rate in rates if _matters(rate) and (together or rate.frames in alone)]
        if together and not telling:
            telling = [*rates, *([] if near is None else [near])]
        most = max(telling, key=lambda rate: rate.samples - rate.natural, default=None)
        return Measured(rates, near, None if most is None else (most, most is near), found)

    def _known(self, kind: Kind) -> bool:
        """Whether there are windows enough, by the counts of recordings; all where the natural rate is not known."""
        enough = kind.natural[1].sum() >= FEWEST_WINDOWS or not self.calibrated
        return bool(kind.samples[1].any() and enough)

    def _rate(self, kind: Kind, p_value: float) -> CopyRate:
        return CopyRate(
            seconds=kind.frames * self.frame_seconds,
            frames=kind.frames,
            samples=share(*kind.samples),
            sample_windows=int(kind.samples[1].sum()),
            natural=share(*kind.natural),
            natural_windows=int(kind.natural[1].sum()),
            p_value=p_value,
        )

    def copies_more(self, grids: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
        """Whether some grids hold significantly more copies than others."""
        counts = [copied_windows(self.heard, some, [self.shortest]) for some in (grids, others)]
        (chance,) = chances_of_more(*([(copied[0], counted[0])] for copied, counted in counts))
        return chance < SIGNIFICANCE

    def copies_some(self, grids: Sequence[np.ndarray]) -> bool:
        """Whether some grids hold any copy; if not, they do not hold more than others."""
        copied, _ = copied_windows(self.heard, grids, [self.shortest])
        return bool(copied.any())

    def nearness(self, measured: Measured) -> Nearness | None:
        """How near what was measured lies to the recordings; None where that cannot be compared."""
        return nearness(unit_shares(measured.neighbours), self._natural.shares)

    def longest_passage(self, grids: Sequence[np.ndarray]) -> Recited | None:
        """The longest passage that occurs in any of the grids."""
        passage = self.heard.longest_passage(grids, self.shortest)
        if passage is None:
            return None
        return Recited(passage.name, passage.at * self.frame_seconds, passage.frames * self.frame_seconds)
