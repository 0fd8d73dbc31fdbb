"""How training is cut into epochs: plain arithmetic that both the defaults and the batches follow."""

from __future__ import annotations

import math
from collections.abc import Iterable

EPOCH_WINDOWS = 256
"""About how many windows an epoch has at most, where recordings can be visited in several variants."""


def windows_once(lengths: Iterable[float], context: float) -> int:
    """Windows of at most `context` that recordings of these `lengths` are cut into; both in one unit."""
    return sum(max(1, math.ceil(length / context - 1e-6)) for length in lengths)


def visits_per_epoch(windows: int, variants: int) -> int:
    """How often an epoch visits each recording, each time in another of its `variants`.

    As often as makes about EPOCH_WINDOWS of the `windows` that visiting all recordings once gives.
    """
    return min(variants, max(1, round(EPOCH_WINDOWS / max(windows, 1))))
