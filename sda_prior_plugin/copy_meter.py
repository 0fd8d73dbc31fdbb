"""Measures how much sounds copy from one corpus, against what its unheard recordings share with those trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sda_prior_plugin.copy_test import Counts, by_recording, chances_of_more, share
from sda_prior_plugin.copying import Heard, copied_windows, shortest_window
from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.memorization import CopyRate, Recited
from sda_prior_plugin.near_copies import Sketch, near_window
from sda_prior_plugin.nearness import Nearness, nearness, unit_shares
from sda_prior_plugin.unheard import unheard

LONGER_WINDOW_SECONDS = (0.5, 1.0, 2.0, 4.0)
LONGEST_SAMPLE_SECONDS = 4.0
FEWEST_NATURAL_WINDOWS = 30
FEWEST_NATURAL_RECORDINGS = 5
"""Of the shortest length, held out and unheard: with less the natural copy rate is not known."""
FEWEST_WINDOWS = 10
"""Of any other length."""

SIGNIFICANCE = 0.05
"""Of one look, over all kinds of windows; two in a row and the second witness are wanted besides."""
TIMES_NATURAL = 2.0
ABOVE_NATURAL = 0.03


@dataclass(frozen=True)
class Measured:
    """Copying of some sounds: verbatim by windows of each length that there is enough of, and near."""

    exact: tuple[CopyRate, ...]
    near: CopyRate | None

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
        rates = [(rate, False) for rate in self.exact] + ([] if self.near is None else [(self.near, True)])
        more = [
            (rate, near)
            for rate, near in rates
            if rate.p_value <= SIGNIFICANCE
            and rate.samples >= TIMES_NATURAL * rate.held_out
            and rate.samples >= rate.held_out + ABOVE_NATURAL
        ]
        return max(more, key=lambda one: (not one[1], one[0].samples - one[0].held_out), default=None)


class CopyMeter:
    """Measures copying against one corpus.

    Attributes:
        heard, sketch: the training codes, for verbatim and for near copies.
        unheard: what of the held-out recordings is not trained on as well.
        shortest: frames of the shortest window that counts.
        sample_frames: how long a sound should be that is drawn to be measured, at most.
        calibrated: whether enough is held out and unheard, of enough recordings, to know the natural copy rate.
    """

    def __init__(self, corpus: CodeCorpus) -> None:
        held_out, self.frame_seconds = corpus.held_out, corpus.frame_seconds
        self.heard = Heard.of(corpus.train)
        self.shortest = shortest_window(corpus.frame_seconds)
        self.sketch = Sketch.of(corpus.train, near_window(corpus.frame_seconds, corpus.train_frames, self.shortest))
        longest = max(self.shortest, round(LONGEST_SAMPLE_SECONDS / corpus.frame_seconds))
        self.sample_frames = min(longest, int(corpus.train_frames.max()))
        neighbours = self.sketch.neighbours([np.asarray(held_out[index]) for index in range(len(held_out))])
        self.unheard = unheard(self.heard, self.sketch, held_out, neighbours, corpus.frame_seconds, self.shortest)
        self.pieces, recordings = self.unheard.pieces(held_out)
        longer = {max(self.shortest, round(seconds / corpus.frame_seconds)) for seconds in LONGER_WINDOW_SECONDS}
        self._lengths = sorted({self.shortest, *longer})
        counts = copied_windows(self.heard, self.pieces, self._lengths)
        copied, counted = (by_recording(one, recordings, held_out.recording_count) for one in counts)
        self._natural: list[Counts] = list(zip(copied, counted, strict=True))
        found = self.sketch.neighbours(self.pieces)
        near, compared = self.sketch.near_counts(found)
        count = held_out.recording_count
        self._natural_near = by_recording(near, recordings, count), by_recording(compared, recordings, count)
        self._natural_shares = unit_shares(found, recordings.tolist())
        self.calibrated = bool(
            self.unheard.enough
            and counted[0].sum() >= FEWEST_NATURAL_WINDOWS
            and np.count_nonzero(counted[0]) >= FEWEST_NATURAL_RECORDINGS
        )

    def measured(self, grids: Sequence[np.ndarray]) -> Measured:
        """How much some grids `[frames, bands, levels]` copy."""
        kinds = [*self._lengths, self.sketch.frames]
        copied, counted = copied_windows(self.heard, grids, self._lengths)
        samples: list[Counts] = list(zip(copied, counted, strict=True))
        samples.append(self.sketch.near_counts(self.sketch.neighbours(grids)))
        natural = [*self._natural, self._natural_near]
        kept = [
            kind
            for kind in range(len(kinds))
            if samples[kind][1].any() and (natural[kind][1].sum() >= FEWEST_WINDOWS or not self.calibrated)
        ]
        chances = chances_of_more([samples[kind] for kind in kept], [natural[kind] for kind in kept])
        rates = {
            kind: CopyRate(
                seconds=kinds[kind] * self.frame_seconds,
                frames=kinds[kind],
                samples=share(*samples[kind]),
                sample_windows=int(samples[kind][1].sum()),
                held_out=share(*natural[kind]),
                held_out_windows=int(natural[kind][1].sum()),
                p_value=chance,
            )
            for kind, chance in zip(kept, chances, strict=True)
        }
        near = rates.pop(len(self._lengths), None)
        return Measured(tuple(rates.values()), near)

    def copies_more(self, grids: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
        """Whether some grids hold significantly more copies than others."""
        counts = [copied_windows(self.heard, some, [self.shortest]) for some in (grids, others)]
        (chance,) = chances_of_more(*([(copied[0], counted[0])] for copied, counted in counts))
        return chance < SIGNIFICANCE

    def nearness(self, grids: Sequence[np.ndarray]) -> Nearness | None:
        """How near some grids lie to the recordings; None where that cannot be compared."""
        return nearness(unit_shares(self.sketch.neighbours(grids)), self._natural_shares)

    def longest_passage(self, grids: Sequence[np.ndarray]) -> Recited | None:
        """The longest passage that occurs in any of the grids."""
        passage = self.heard.longest_passage(grids, self.shortest)
        if passage is None:
            return None
        return Recited(passage.name, passage.at * self.frame_seconds, passage.frames * self.frame_seconds)
