"""How training is cut into epochs, and when it ends: plain arithmetic that the defaults, batches and steps follow."""

from __future__ import annotations

import math
from collections.abc import Iterable

ROUND_WINDOWS = 256
"""About how many windows a round has at least, where recordings can be visited in several variants."""
EPOCH_WINDOWS = 512
"""About how many windows of a round an epoch has at most, so that a validation never is far away, ..."""
MOST_PARTS = 256
"""... but for rounds that would be cut into more than so many: what is judged in no time is learned in hours."""
FINISHING = 0.2
"""Share of its epochs in which a training finishes: its steps get ever smaller."""
FINAL_RATE = 0.03
"""Share of the learning rate that is left when the last epoch ends."""
WARMUP_STEPS = 50


def windows_once(lengths: Iterable[float], context: float) -> int:
    """Windows of at most `context` that recordings of these `lengths` are cut into; both in one unit."""
    return sum(max(1, math.ceil(length / context - 1e-6)) for length in lengths)


def visits_per_round(windows: int, variants: int) -> int:
    """How often a round visits each recording, each time in another of its `variants`.

    As often as makes about ROUND_WINDOWS of the `windows` that visiting all recordings once gives.
    """
    return min(variants, max(1, round(ROUND_WINDOWS / max(windows, 1))))


def epochs_per_round(windows: int) -> int:
    """Over how many epochs a round of so many windows is shared out: one, but for large corpora."""
    return min(max(1, round(windows / EPOCH_WINDOWS)), MOST_PARTS)


def last_epoch_from(epoch: int) -> int:
    """The last epoch of a training that begins to finish after this one: FINISHING of it are then yet to come."""
    return epoch + max(1, round(epoch * FINISHING / (1 - FINISHING)))


def rate_at(step: float, steps: float) -> float:
    """Share of the learning rate at a step of so many: a short warm-up, then constant, and from FINISHING on less.

    It falls along a line to FINAL_RATE (Hägele et al. 2024). So it can be decided late where the end is.
    """
    warmup = min(1.0, (step + 1) / WARMUP_STEPS)
    left = min(1.0, max(0.0, 1 - step / steps) / FINISHING)
    return warmup * (FINAL_RATE + (1 - FINAL_RATE) * left)
