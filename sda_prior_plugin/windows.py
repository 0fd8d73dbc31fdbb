"""Which stretches of the recordings an epoch visits, and in which order.

A round visits every recording equally often, each time in another variant; an epoch is a round or, where that is much
sound, a part of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.schedule import epochs_per_round, variants_heard, visits_per_round, windows_once

LARGE_BYTES = 2**27
"""Codes of more bytes are visited segment by segment, so that no more than a part of them need be in memory."""
SEGMENT_BYTES = 2**25
"""Of the segments: hours of sound each, so that the windows of a batch still are a mixture."""


@dataclass(frozen=True)
class Windows:
    """Stretches of sequences, `[windows]` each: which sequence, the first frame, and the number of frames."""

    sequence: np.ndarray
    first_frame: np.ndarray
    frames: np.ndarray

    def __len__(self) -> int:
        return len(self.sequence)

    def __getitem__(self, index: np.ndarray | slice) -> Windows:
        return Windows(self.sequence[index], self.first_frame[index], self.frames[index])


def whole_windows(sequences: CodeSequences, context: int, chosen: np.ndarray, phase: np.ndarray) -> Windows:
    """Windows of at most `context` frames that cover the `chosen` sequences without overlap.

    A sequence that fits the context is one window, start to end. In a longer one the first window is `phase` frames
    shorter than the context (`phase` int `[chosen]`), so that another phase cuts it elsewhere.
    """
    lengths = sequences.lengths[chosen]
    phase = np.where(lengths <= context, 0, phase)
    counts = -(-(lengths + phase) // context)
    sequence = np.repeat(chosen, counts)
    number = np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)
    begin = number * context - np.repeat(phase, counts)
    end = np.minimum(begin + context, np.repeat(lengths, counts))
    begin = np.maximum(begin, 0)
    return Windows(sequence, begin, end - begin)


def mean_frames(lengths: np.ndarray, context: int) -> float:
    """Frames of the windows of sequences of these `lengths`, int `[sequences]`, on average over all phases."""
    windows = np.where(lengths <= context, 1, 1 + lengths / context)
    return float(lengths.sum() / windows.sum())


def chosen_variants(
    sequences: CodeSequences, visits: int, rng: np.random.Generator, augmented_share: float = 0.0
) -> np.ndarray:
    """Sequences to visit: of each recording `visits` variants at random, or all where it has no more.

    About `augmented_share` of these are copies, where it has some; of several at least one is as recorded.
    """
    of, first = sequences.recordings, sequences.first_variants
    shuffled = np.lexsort((rng.random(len(of)), sequences.copies, of))  # the copies of a recording last
    copies = np.bincount(of, sequences.copies, sequences.recording_count).astype(np.int64)
    recorded, augmented = np.diff(first) - copies, np.zeros(len(copies), np.int64)
    if augmented_share:
        augmented = np.floor(augmented_share * visits + rng.random(len(copies))).astype(np.int64)
        augmented = np.minimum(np.minimum(augmented, max(visits - 1, 1)), copies)
    number = np.arange(len(of)) - first[of]
    as_recorded = number < recorded[of]
    return shuffled[np.where(as_recorded, number < (visits - augmented)[of], number < (recorded + augmented)[of])]


def segments(sequences: CodeSequences, windows: Windows) -> np.ndarray:
    """The segment of the codes in which each window begins, int `[windows]`; all 0 where the codes are not large."""
    if sequences.codes.nbytes <= LARGE_BYTES:
        return np.zeros(len(windows), dtype=np.int64)
    frames = max(1, SEGMENT_BYTES * len(sequences.codes) // sequences.codes.nbytes)
    return (sequences.starts[windows.sequence] + windows.first_frame) // frames


class Rounds:
    """The windows of one epoch after another; the same `seed` and epoch give the same ones.

    About `augmented_share` of what it visits are copies, of recordings that have some. How long an epoch is depends on
    the `batch_size`, too, the windows of a step.

    A round is planned once and kept while its epochs are read. Its windows come in random order. Those of large codes
    come segment by segment, the segments in random order and the windows of each in random order: memory that the whole
    would not fit, and disks, are fast only for what lies close together.

    Attributes:
        mean_frames: what a window has on average.
    """

    def __init__(
        self, sequences: CodeSequences, context: int, seed: int, *, batch_size: int, augmented_share: float = 0.0
    ) -> None:
        self.sequences, self.context, self.seed, self.augmented_share = sequences, context, seed, augmented_share
        first = sequences.first_variants
        once = windows_once(sequences.lengths[first[:-1]].tolist(), context)
        self.mean_frames = mean_frames(sequences.lengths, context)
        copies = np.bincount(sequences.recordings, sequences.copies)
        variants = variants_heard(int((np.diff(first) - copies).max()), int(copies.max()), augmented_share)
        self.visits = visits_per_round(once, variants)
        self.epochs = epochs_per_round(once, self.visits, batch_size)
        self._planned: tuple[int, Windows] | None = None

    def epoch(self, epoch: int) -> Windows:
        """The windows of one epoch, counted from 1, in random order."""
        number, part = divmod(epoch - 1, self.epochs)
        if self._planned is None or self._planned[0] != number:
            self._planned = None  # before the next one is made: they may be large
            self._planned = number, self.round(number)
        windows = self._planned[1]
        share, more = divmod(len(windows), self.epochs)
        begin = part * share + min(part, more)
        return windows[begin : begin + share + (part < more)]

    def round(self, number: int) -> Windows:
        """The windows of one round, counted from 0, in the order in which its epochs take them."""
        rng = np.random.default_rng([self.seed, number])
        chosen = chosen_variants(self.sequences, self.visits, rng, self.augmented_share)
        windows = whole_windows(self.sequences, self.context, chosen, rng.integers(0, self.context, len(chosen)))
        order = rng.permutation(len(windows))
        segment = segments(self.sequences, windows)
        if segment.any():
            turn = rng.permutation(int(segment.max()) + 1)
            turn = turn.astype(np.min_scalar_type(len(turn)))  # which numpy sorts in no time if it is small
            order = order[np.argsort(turn[segment[order]], kind="stable")]
        return windows[order]
