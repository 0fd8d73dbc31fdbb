"""How near what a prior draws lies to the recordings, against how near recordings lie to each other.

The data-copying test of Meehan et al. (2020): distances from samples to their nearest training examples are compared
with those from examples that are held out, or left out one by one, by their ranks. It moves before copying begins, and
informs; it accuses nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sda_prior_plugin.near_copies import Neighbours


@dataclass(frozen=True)
class Nearness:
    """How near some sounds lie to the recordings.

    Attributes:
        samples: share of a sound's seconds that agrees with the nearest one of the recordings, the median of sounds.
        natural: the same for a recording and the others.
        nearer: the share of pairs of a sound and a recording in which the sound lies nearer; 0.5 is as near.
        p_value: how probable it is that sounds lie so much nearer by chance.
    """

    samples: float
    natural: float
    nearer: float
    p_value: float


def unit_shares(found: Sequence[Neighbours], units: Sequence[int] | None = None) -> np.ndarray:
    """The mean share that agrees with what is nearest, for each unit that has windows: `[units]`.

    Args:
        found: of each piece.
        units: which unit each piece belongs to; without it each is its own.
    """
    of = range(len(found)) if units is None else units
    groups: dict[int, list[np.ndarray]] = {}
    for unit, one in zip(of, found, strict=True):
        if len(one.shares):
            groups.setdefault(int(unit), []).append(one.shares)
    return np.array([np.concatenate(group).mean() for group in groups.values()])


def nearness(samples: np.ndarray, natural: np.ndarray) -> Nearness | None:
    """From the mean shares of sounds and of recordings, by the rank test of Mann and Whitney (1947).

    Its p-value is the normal one, with ties accounted for. None where there are fewer than two of either.
    """
    few, many = len(natural), len(samples)
    if min(few, many) < 2:
        return None
    both = np.concatenate([samples, natural])
    _, place, ties = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]
    above = float(ranks[:many].sum()) - many * (many + 1) / 2
    count = many + few
    variance = many * few / 12 * (count + 1 - float((ties**3 - ties).sum()) / (count * (count - 1)))
    z = (above - many * few / 2) / math.sqrt(variance) if variance > 0 else 0.0
    return Nearness(
        samples=float(np.median(samples)),
        natural=float(np.median(natural)),
        nearer=above / (many * few),
        p_value=0.5 * math.erfc(z / math.sqrt(2)),
    )
