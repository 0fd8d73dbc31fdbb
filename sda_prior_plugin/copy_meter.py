"""Measures how much sounds copy from one corpus, against what its recordings share with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sda_prior_plugin.copy_test import Counts, chances_of_more, share
from sda_prior_plugin.copying import Heard, copied_windows, shortest_window
from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.memorization import CopyRate, Recited
from sda_prior_plugin.natural import MOST_TWICE, natural
from sda_prior_plugin.near_copies import Sketch, near_window
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


@dataclass(frozen=True)
class Measured:
    """Copying of some sounds: verbatim by windows of each length that there is enough of, and near.

    `weighed` is as `near`, but each window counts by how near it is; it has the p-value of both.
    """

    exact: tuple[CopyRate, ...]
    near: CopyRate | None
    weighed: CopyRate | None

    @property
    def some(self) -> bool:
        """Whether there are copies enough to tell, if none at all were natural."""
        rates = self.exact if self.near is None else (*self.exact, self.near)
        return any(rate.samples >= ABOVE_NATURAL for rate in rates)

    @property
    def telling(self) -> tuple[CopyRate, bool] | None:
        """The rate that shows best that they copy more than is natural, and whether it is of near copies; or None.

        One of verbatim copies comes before one of near ones.

        More means: so much more that the test rules out chance, and by a margin that matters.
        """
        more = [(rate, False) for rate in self.exact if _matters(rate)]
        if self.near is not None and self.weighed is not None and _matters(self.weighed):
            more.append((self.near, True))
        return max(more, key=lambda one: (not one[1], one[0].samples - one[0].natural), default=None)


def _matters(rate: CopyRate) -> bool:
    """Whether it is so much above the natural one."""
    return (
        rate.p_value <= SIGNIFICANCE
        and rate.samples >= TIMES_NATURAL * rate.natural
        and rate.samples >= rate.natural + ABOVE_NATURAL
    )


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
        """How much some grids `[frames, bands, levels]` copy."""
        found = self.sketch.neighbours(grids)
        near, compared = self.sketch.near_counts(found)
        weighed = self.sketch.near_weights(found, self._natural.alike)
        exact: list[Counts] = list(zip(*copied_windows(self.heard, grids, self._lengths), strict=True))
        samples, recordings = [*exact, (weighed, compared)], [*self._natural.exact, self._natural.weighed]
        both = enumerate(zip(samples, recordings, strict=True))
        kept = [kind for kind, (sample, counts) in both if sample[1].any() and self._known(counts)]
        chances = chances_of_more([samples[kind] for kind in kept], [recordings[kind] for kind in kept])
        p_values = dict(zip(kept, chances, strict=True))
        rates = [
            self._rate(frames, samples[kind], recordings[kind], p_values[kind])
            for kind, frames in enumerate([*self._lengths, self.sketch.frames])
            if kind in p_values
        ]
        last = len(self._lengths)
        if last not in p_values:
            return Measured(tuple(rates), None, None)
        shown = self._rate(self.sketch.frames, (near, compared), self._natural.near, p_values[last])
        return Measured(tuple(rates[:-1]), shown, rates[-1])

    def _known(self, counts: Counts) -> bool:
        """Whether there are windows enough, by the counts of recordings; all where the natural rate is not known."""
        return bool(counts[1].sum() >= FEWEST_WINDOWS) or not self.calibrated

    def _rate(self, frames: int, samples: Counts, recordings: Counts, p_value: float) -> CopyRate:
        return CopyRate(
            seconds=frames * self.frame_seconds,
            frames=frames,
            samples=share(*samples),
            sample_windows=int(samples[1].sum()),
            natural=share(*recordings),
            natural_windows=int(recordings[1].sum()),
            p_value=p_value,
        )

    def copies_more(self, grids: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
        """Whether some grids hold significantly more copies than others."""
        counts = [copied_windows(self.heard, some, [self.shortest]) for some in (grids, others)]
        (chance,) = chances_of_more(*([(copied[0], counted[0])] for copied, counted in counts))
        return chance < SIGNIFICANCE

    def nearness(self, grids: Sequence[np.ndarray]) -> Nearness | None:
        """How near some grids lie to the recordings; None where that cannot be compared."""
        return nearness(unit_shares(self.sketch.neighbours(grids)), self._natural.shares)

    def longest_passage(self, grids: Sequence[np.ndarray]) -> Recited | None:
        """The longest passage that occurs in any of the grids."""
        passage = self.heard.longest_passage(grids, self.shortest)
        if passage is None:
            return None
        return Recited(passage.name, passage.at * self.frame_seconds, passage.frames * self.frame_seconds)
