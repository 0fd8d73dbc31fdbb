"""How long a training will take yet, from how long its latest parts took."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable

RECENT_EPOCHS = 5
RECENT_BATCHES = 256
TIMES_USUAL = 10
"""A batch that takes so many times as long as is usual was interrupted: the machine slept, or stood still."""


class Pace:
    """Measures batches and epochs, and says how long what is left will take at that pace.

    What a machine slept through is no part of the pace: a batch counts for no more than `TIMES_USUAL` of the median
    one, and an epoch, with its judging, is as long as the median of the latest few.

    Args:
        batches: about how many an epoch has.
        clock: gives seconds that only grow.

    Attributes:
        choosing: seconds that choosing the checkpoint takes after the last epoch; 0 as long as that is not known.
    """

    def __init__(self, batches: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.batches, self.clock = batches, clock
        self.choosing = 0.0
        self._batches: deque[float] = deque(maxlen=RECENT_BATCHES)
        self._epochs: deque[float] = deque(maxlen=RECENT_EPOCHS)
        self._epoch_batches: list[float] = []
        self._whole = False
        self._last = clock()

    def epoch_begins(self, batch: int = 0) -> None:
        """An epoch begins, or goes on after so many of its batches."""
        self._epoch_batches, self._whole = [], batch == 0
        self._last = self.clock()

    def batch_done(self) -> None:
        """A batch is done."""
        taken = self._lap()
        self._batches.append(taken)
        self._epoch_batches.append(taken)

    def epoch_done(self) -> None:
        """The batches of an epoch are done, and it has been judged."""
        judging = self._lap()
        if self._whole:
            self._epochs.append(sum(awake(self._epoch_batches)) + judging)

    def seconds_left(self, epoch: int, batch: int, last: int) -> float:
        """Seconds until the end, after the `last` epoch, after so many batches of one; epochs are counted from 1."""
        left = max(last - epoch + 1 - batch / max(self.batches, 1), 0.0)
        if self._epochs:
            return left * statistics.median(self._epochs) + self.choosing
        batches = awake(self._batches)
        return left * self.batches * sum(batches) / max(len(batches), 1) + self.choosing

    def _lap(self) -> float:
        now = self.clock()
        taken, self._last = max(now - self._last, 0.0), now
        return taken


def awake(seconds: Iterable[float]) -> list[float]:
    """How long some batches took, without what the machine slept through."""
    times = list(seconds)
    most = TIMES_USUAL * statistics.median(times) if times else 0.0
    return [min(taken, most) for taken in times]
