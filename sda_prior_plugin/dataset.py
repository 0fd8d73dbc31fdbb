"""The corpus of code sequences that a prior learns from.

Each recording stands in the corpus as one sequence or as several *variants*: the same sound encoded from other
starting points inside a code frame, which gives other codes. All codes lie in one flat array of the smallest type that
holds them, in memory or mapped from a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.errors import PriorError

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
        hashes, keys: what copies are recognized by, `copying.frame_hashes` and `near_copies.place_keys` of `codes`,
            where it is kept beside them.
        inside: bool `[sequences]`, which of them begin inside their recording; None for none.
        sample_of: how many frames these are a sample of; 0 where they are no sample.
        kinds: int `[sequences]`, which of the corpus's kinds of copies each is, 0 for as recorded; None for all 0. Of
            each recording those as recorded come first.
    """

    codes: np.ndarray
    starts: np.ndarray
    recordings: np.ndarray
    names: tuple[str, ...]
    hashes: np.ndarray | None = None
    keys: np.ndarray | None = None
    inside: np.ndarray | None = None
    sample_of: int = 0
    kinds: np.ndarray | None = None

    @classmethod
    def from_grids(
        cls,
        grids: Sequence[np.ndarray],
        shape: CodeShape,
        names: Sequence[str] | None = None,
        kinds: Sequence[int] | None = None,
    ) -> CodeSequences:
        """Sequences from grids `[frames, bands, levels]`; empty ones are left out.

        `names` tells which recording each grid is from, those of the same name being variants of one recording;
        without it each grid is a recording of its own. `kinds` tells which kind of copy each is, if any is one.
        """
        labels = [f"sequence {index}" for index in range(len(grids))] if names is None else list(names)
        if len(labels) != len(grids):
            raise PriorError(f"{len(labels)} names were given for {len(grids)} code sequences.")
        variants: dict[str, list[tuple[int, np.ndarray]]] = {}
        for label, grid, kind in zip(labels, grids, kinds or [0] * len(grids), strict=True):
            if len(grid):
                variants.setdefault(label, []).append((kind, shape.checked(grid, label)))
        pairs = [pair for group in variants.values() for pair in sorted(group, key=lambda pair: pair[0] > 0)]
        ordered = [grid for _, grid in pairs]
        return cls(
            codes=np.concatenate(ordered) if ordered else np.zeros((0, shape.bands, shape.levels), shape.dtype),
            starts=np.cumsum([0, *(len(grid) for grid in ordered)]),
            recordings=np.repeat(np.arange(len(variants)), [len(group) for group in variants.values()]),
            names=tuple(variants),
            kinds=None if kinds is None else np.array([kind for kind, _ in pairs], np.int64),
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

    @property
    def copies(self) -> np.ndarray:
        """bool `[sequences]`: which are copies, and not as recorded."""
        return np.zeros(len(self), np.bool_) if self.kinds is None else self.kinds > 0

    def told(self, later: int) -> np.ndarray:
        """int64 `[sequences]`: the kind that a prior is told each is of; `later` for those from another start.

        Of a recording's variants the first as recorded is from its start, and its kind 0.
        """
        first = np.zeros(len(self), np.bool_)
        first[self.first_variants[:-1]] = True
        recorded = np.where(first, 0, later)
        return recorded if self.kinds is None else np.where(self.kinds > 0, self.kinds, recorded)


@dataclass(frozen=True)
class CodeCorpus:
    """Training and held-out code sequences of one codec.

    Attributes:
        shape: bands, levels and codebook size of the codec.
        codebooks: float32 `[levels, codebook_size, dim]`, the vectors that the codes stand for.
        frame_seconds: seconds that one frame stands for.
        kinds: names of the kinds of training copies, the first being as recorded; none where there are no copies.
    """

    shape: CodeShape
    codebooks: np.ndarray
    train: CodeSequences
    held_out: CodeSequences
    frame_seconds: float = HOST_FRAME_SECONDS
    kinds: tuple[str, ...] = ()

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
        train_kinds: Sequence[int] | None = None,
        kinds: Sequence[str] = (),
    ) -> CodeCorpus:
        """A corpus from lists of int `[frames, bands, levels]`.

        Args:
            train: what the prior learns from.
            held_out: what it is judged by and never trained on.
            codebooks: float `[levels, codebook_size, dim]`.
            train_names, held_out_names: the recording that each sequence is from; sequences of one name are variants of
                one recording.
            frame_seconds: seconds of one frame.
            train_kinds, kinds: which of some kinds of copies each training sequence is, and the names of these.

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
            train=CodeSequences.from_grids(train, shape, train_names, train_kinds),
            held_out=CodeSequences.from_grids(held_out, shape, held_out_names),
            frame_seconds=frame_seconds,
            kinds=tuple(kinds),
        )

    @property
    def train_frames(self) -> np.ndarray:
        """Frames of each recording to train on, as its first variant has them."""
        return self.train.lengths[self.train.first_variants[:-1]]

    @property
    def train_codes(self) -> int:
        """Codes to train on, each recording counted once however many variants it has."""
        return int(self.train_frames.sum()) * self.shape.frame_codes
