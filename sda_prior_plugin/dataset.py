"""The corpus of code sequences that a prior learns from, and the batches that training reads.

Each recording stands in the corpus as one sequence or as several *variants*: the same sound encoded from other
starting points inside a code frame, which gives other codes. A batch takes one window of one variant of each of
several recordings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.schedule import epochs_per_round, visits_per_round, windows_once

HOST_FRAME_SECONDS = 8192 / 48000
"""Seconds that a code frame stands for in the host's own codec; a codec may differ."""


@dataclass(frozen=True)
class CodeSequences:
    """Many code sequences in one flat array.

    Attributes:
        codes: `[all frames, bands, levels]`, the sequences one after another.
        starts: `[sequences + 1]`, where in `codes` each sequence starts, and the end.
        recordings: `[sequences]`, ascending: which recording each sequence is a variant of, counted from 0.
        names: one for each recording.
    """

    codes: np.ndarray
    starts: np.ndarray
    recordings: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def from_grids(
        cls, grids: Sequence[np.ndarray], shape: CodeShape, names: Sequence[str] | None = None
    ) -> CodeSequences:
        """Sequences from grids `[frames, bands, levels]`; empty ones are left out.

        `names` tells which recording each grid is from, those of the same name being variants of one recording;
        without it each grid is a recording of its own.
        """
        labels = [f"sequence {index}" for index in range(len(grids))] if names is None else list(names)
        if len(labels) != len(grids):
            raise PriorError(f"{len(labels)} names were given for {len(grids)} code sequences.")
        variants: dict[str, list[np.ndarray]] = {}
        for label, grid in zip(labels, grids, strict=True):
            if len(grid):
                variants.setdefault(label, []).append(shape.checked(grid, label))
        ordered = [grid for group in variants.values() for grid in group]
        return cls(
            codes=np.concatenate(ordered) if ordered else np.zeros((0, shape.bands, shape.levels), shape.dtype),
            starts=np.cumsum([0, *(len(grid) for grid in ordered)]),
            recordings=np.repeat(np.arange(len(variants)), [len(group) for group in variants.values()]),
            names=tuple(variants),
        )

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.codes[self.starts[index] : self.starts[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each sequence."""
        return np.diff(self.starts)

    @property
    def recording_count(self) -> int:
        return len(self.names)

    @property
    def first_variants(self) -> np.ndarray:
        """The index of each recording's first variant, and the number of sequences at the end."""
        return np.searchsorted(self.recordings, np.arange(self.recording_count + 1))


@dataclass(frozen=True)
class CodeCorpus:
    """Training and held-out code sequences of one codec.

    Attributes:
        shape: bands, levels and codebook size of the codec.
        codebooks: float32 `[levels, codebook_size, dim]`, the vectors that the codes stand for.
        frame_seconds: seconds that one frame stands for.
    """

    shape: CodeShape
    codebooks: np.ndarray
    train: CodeSequences
    held_out: CodeSequences
    frame_seconds: float = HOST_FRAME_SECONDS

    @classmethod
    def from_sequences(
        cls,
        train: Sequence[np.ndarray],
        held_out: Sequence[np.ndarray],
        *,
        codebooks: np.ndarray,
        train_names: Sequence[str] | None = None,
        held_out_names: Sequence[str] | None = None,
        frame_seconds: float = HOST_FRAME_SECONDS,
    ) -> CodeCorpus:
        """A corpus from lists of int `[frames, bands, levels]`.

        Args:
            train: what the prior learns from.
            held_out: what it is judged by and never trained on.
            codebooks: float `[levels, codebook_size, dim]`.
            train_names, held_out_names: the recording that each sequence is from; sequences of one name are variants of
                one recording.
            frame_seconds: seconds of one frame.

        Raises:
            PriorError: either list has no codes, or codes and codebooks do not agree.
        """
        vectors = np.ascontiguousarray(codebooks, dtype=np.float32)
        if vectors.ndim != 3 or not np.isfinite(vectors).all():
            raise PriorError("The codebooks must be finite numbers [levels, codebook_size, dim].")
        for name, grids in (("train on", train), ("judge it by", held_out)):
            if not any(len(grid) for grid in grids):
                raise PriorError(f"There are no codes to {name}: a prior needs at least one frame of sound for that.")
        first = np.asarray(next(grid for grid in train if len(grid)))
        if first.ndim != 3:
            raise PriorError(f"Codes have the shape {list(first.shape)}; expected [frames, bands, levels].")
        shape = CodeShape(bands=first.shape[1], levels=vectors.shape[0], codebook_size=vectors.shape[1])
        return cls(
            shape=shape,
            codebooks=vectors,
            train=CodeSequences.from_grids(train, shape, train_names),
            held_out=CodeSequences.from_grids(held_out, shape, held_out_names),
            frame_seconds=frame_seconds,
        )

    @property
    def train_frames(self) -> np.ndarray:
        """Frames of each recording to train on, as its first variant has them."""
        return self.train.lengths[self.train.first_variants[:-1]]

    @property
    def train_codes(self) -> int:
        """Codes to train on, each recording counted once however many variants it has."""
        return int(self.train_frames.sum()) * self.shape.frame_codes


@dataclass(frozen=True)
class Batch:
    """Windows of several recordings, padded to one length.

    Attributes:
        frames: int64 `[batch, 1 + window, frame_codes]`; the first frame is the one before the window, and holds
            `codebook_size` everywhere ("no code") where the recording starts with the window; padding likewise.
        first_frame: int64 `[batch]`, where in its recording each window starts.
        lengths: int64 `[batch]`, frames of each window that are not padding.
        ends: bool `[batch]`, whether the recording ends with the window.
    """

    frames: np.ndarray
    first_frame: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Windows:
    """Stretches of sequences, `[windows]` each: which sequence, the first frame, and the number of frames."""

    sequence: np.ndarray
    first_frame: np.ndarray
    frames: np.ndarray

    def __len__(self) -> int:
        return len(self.sequence)

    def __getitem__(self, index: np.ndarray) -> Windows:
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


def collate(sequences: CodeSequences, windows: Windows, shape: CodeShape, context: int) -> Batch:
    """The batch of these windows, of at most `context` frames or of whole sequences."""
    starts = sequences.starts[windows.sequence]
    steps = np.arange(-1, padded_length(int(windows.frames.max()), context))
    inside = (steps < windows.frames[:, None]) & (steps + windows.first_frame[:, None] >= 0)
    rows = np.where(inside, starts[:, None] + windows.first_frame[:, None] + steps, 0)
    codes = sequences.codes[rows].reshape(len(windows), len(steps), shape.frame_codes).astype(np.int64)
    codes[~inside] = shape.codebook_size
    return Batch(
        frames=codes,
        first_frame=windows.first_frame.astype(np.int64),
        lengths=windows.frames.astype(np.int64),
        ends=windows.first_frame + windows.frames == sequences.lengths[windows.sequence],
    )


def padded_length(frames: int, context: int) -> int:
    """`frames` or more: a power of two up to the `context`, or some contexts, so that batches come in few shapes.

    For each new shape the libraries below torch keep code and buffers: a third of a training's memory on recordings of
    many lengths.
    """
    if frames > context:
        return -(-frames // context) * context
    return int(min(1 << (frames - 1).bit_length(), context))


def round_windows(sequences: CodeSequences, context: int, rng: np.random.Generator) -> Windows:
    """The windows of one round, in random order: every recording equally often, each time in another variant."""
    first = sequences.first_variants
    variants = np.diff(first)
    visits = visits_per_round(windows_once(sequences.lengths[first[:-1]], context), int(variants.max()))
    chosen = np.concatenate(
        [begin + rng.permutation(count)[:visits] for begin, count in zip(first[:-1], variants, strict=True)]
    )
    windows = whole_windows(sequences, context, chosen, rng.integers(0, context, len(chosen)))
    return windows[rng.permutation(len(windows))]


def epoch_windows(sequences: CodeSequences, context: int, *, seed: int, epoch: int) -> Windows:
    """The windows of one epoch, counted from 1, in random order: a round's, or its share of those of a large corpus."""
    first = sequences.first_variants
    once = windows_once(sequences.lengths[first[:-1]], context)
    epochs = epochs_per_round(once * visits_per_round(once, int(np.diff(first).max())))
    number, part = divmod(epoch - 1, epochs)
    windows = round_windows(sequences, context, np.random.default_rng([seed, number]))
    return windows[np.array_split(np.arange(len(windows)), epochs)[part]]


def epoch_batches(corpus: CodeCorpus, *, context: int, batch_size: int, seed: int, epoch: int) -> Iterator[Batch]:
    """The training batches of one epoch; the same `seed` and `epoch` give the same ones.

    Windows of about the same length share a batch, so that little of it is padding.
    """
    windows = epoch_windows(corpus.train, context, seed=seed, epoch=epoch)
    for rows in similar_length_batches(windows.frames, batch_size, np.random.default_rng([seed, epoch, 1])):
        yield collate(corpus.train, windows[rows], corpus.shape, context)


def epoch_batch_count(corpus: CodeCorpus, *, context: int, batch_size: int) -> int:
    """How many batches an epoch has; a few more or less where long recordings are cut at random."""
    return -(-len(epoch_windows(corpus.train, context, seed=0, epoch=1)) // batch_size)


def held_out_batches(sequences: CodeSequences, shape: CodeShape, *, context: int, batch_size: int) -> Iterator[Batch]:
    """Every held-out sequence once and whole, those of about the same length together."""
    by_length = np.argsort(-sequences.lengths, kind="stable")
    whole = Windows(by_length, np.zeros(len(sequences), dtype=np.int64), sequences.lengths[by_length])
    for first in range(0, len(whole), batch_size):
        yield collate(sequences, whole[np.arange(first, min(first + batch_size, len(whole)))], shape, context)


def similar_length_batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of each batch, in random order: neighbours of a random permutation, sorted by length in stretches.

    A last batch that would be smaller than the others is filled up with rows of the one before, for a new size is a new
    shape.
    """
    stretch = 16 * batch_size
    rows = np.concatenate(
        [
            begin + np.argsort(-lengths[begin : begin + stretch], kind="stable")
            for begin in range(0, len(lengths), stretch)
        ]
    )
    begins = [min(begin, max(0, len(rows) - batch_size)) for begin in range(0, len(rows), batch_size)]
    batches = [rows[begin : begin + batch_size] for begin in begins]
    return [batches[index] for index in rng.permutation(len(batches))]
