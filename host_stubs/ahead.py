"""Sound that is made ahead of its being heard, by a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType

import numpy as np


class Ahead:
    """Draws blocks of sound from an iterator while `enough` samples do not wait, and hands them out in any pieces.

    A context manager: the thread begins and ends with its block. What comes of the iterator is not asked for before it
    is needed: a block is asked for when fewer than `enough` samples wait, and then all of it waits.

    Attributes:
        taken: samples that were taken so far.
        begun: when the first of them were, by `time.monotonic`; None before that.
    """

    def __init__(self, blocks: Iterable[np.ndarray], enough: int) -> None:
        self._source, self._enough = blocks, enough
        self._blocks: deque[np.ndarray] = deque()
        self.taken = 0
        self.begun: float | None = None
        self._waiting = 0
        self._complete = self._unwanted = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        # a daemon: what is drawn at the second Ctrl-C is not waited for
        self._thread = threading.Thread(target=self._make, name="sound ahead", daemon=True)

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._unwanted = True
            self._changed.notify_all()
        if kind is not KeyboardInterrupt:
            self._thread.join()

    @property
    def over(self) -> bool:
        """Whether all the sound that there will be was taken."""
        with self._changed:
            return self._complete and not self._waiting

    def check(self) -> None:
        """Raise what kept the rest of the sound from being made, if anything did."""
        if self._error is not None:
            raise self._error

    def wait(self, samples: int, seconds: float) -> bool:
        """Whether so many samples wait, or all there are, within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._complete or self._waiting >= samples, seconds)

    def take(self, out: np.ndarray) -> int:
        """Copy the next samples into `out`, float32 `[samples]`, and give how many; fewer where no more wait."""
        with self._changed:
            filled = 0
            while filled < len(out) and self._blocks:
                block = self._blocks.popleft()
                part = block[: len(out) - filled]
                out[filled : filled + len(part)] = part
                filled += len(part)
                if len(part) < len(block):
                    self._blocks.appendleft(block[len(part) :])
            self._waiting -= filled
            self.taken += filled
            if filled and self.begun is None:
                self.begun = time.monotonic()
            self._changed.notify_all()
        return filled

    def _make(self) -> None:
        try:
            for block in self._source:
                if not self._put(block):
                    break
        except Exception as error:
            self._error = error
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def _put(self, block: np.ndarray) -> bool:
        """Let a block wait, and return when more is needed; False: no more is wanted."""
        with self._changed:
            self._blocks.append(block)
            self._waiting += len(block)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._unwanted or self._waiting < self._enough)
            return not self._unwanted
