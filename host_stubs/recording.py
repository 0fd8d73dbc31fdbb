"""A recording of a dataset: how it is read, and what its file is known by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from host_stubs.audio import peak_normalized, scaled_to_peak
from host_stubs.reading import Plan, plan_reading

PIECE_SECONDS = 120.0

Span = tuple[float, float]


@dataclass(frozen=True)
class RecordingEntry:
    """One recording. Spans are (start, end) in seconds, None for no part.

    A recording is either trained on or held out as a whole; only when it is all there is, it is cut in two.

    Attributes:
        path: relative to the dataset's folder, with "/": its name.
        note: a sentence on what of it is not used, or how it is read; empty where all of it is used as it is.
        path_hex: the bytes of the path on disk, where they are no text and `path` is only what can be shown of them.
        unknown: what a file says of it that this host does not know, as plain JSON, to be kept.
    """

    path: str
    bytes: int
    sha256: str
    seconds: float
    train: Span | None
    held_out: Span | None
    note: str = ""
    path_hex: str = ""
    unknown: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """A recording or a part of one, mono, with its peak at 1 (or silence), read when it is asked for.

    Attributes:
        name: its path relative to the dataset's folder.
        path: of the file.
        span: the part of it, in seconds.
        file_seconds: how long the file is.
        sample_rate: Hz, at which it is given.
    """

    name: str
    path: Path
    span: Span
    file_seconds: float
    sample_rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.span[1] - self.span[0]

    @property
    def audio(self) -> np.ndarray:
        """All of it, float32 `[samples]`. Raises HostError if it cannot be read."""
        return peak_normalized(np.concatenate(list(self._samples(plan_reading(self.path)))))

    def blocks(self) -> Iterator[np.ndarray]:
        """The same, block after block: it is read again and again, and memory does not grow with its length."""
        plan = plan_reading(self.path)
        peak = max((float(np.abs(block).max(initial=0.0)) for block in self._samples(plan)), default=0.0)
        for block in self._samples(plan):
            yield scaled_to_peak(block, peak)

    def pieces(self) -> Iterator[np.ndarray]:
        """The same in pieces of about two minutes; most recordings are a single one."""
        if self.seconds <= PIECE_SECONDS:
            yield self.audio
            return
        waiting: list[np.ndarray] = []
        for block in self.blocks():
            waiting.append(block)
            if sum(map(len, waiting)) >= PIECE_SECONDS * self.sample_rate:
                yield np.concatenate(waiting)
                waiting = []
        if waiting:
            yield np.concatenate(waiting)

    def _samples(self, plan: Plan) -> Iterator[np.ndarray]:
        """The samples of the span, as loud as in the file. Its end is the last one, however its length was rounded."""
        first = round(self.span[0] * self.sample_rate)
        end = None if self.span[1] >= self.file_seconds else round(self.span[1] * self.sample_rate)
        at = 0
        for block in plan.blocks(self.sample_rate):
            yield block[max(0, first - at) : None if end is None else max(0, end - at)]
            at += len(block)
            if end is not None and at >= end:
                return
