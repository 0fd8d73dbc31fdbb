"""Whether some sounds copy more than recordings do by more than chance.

The unit is the recording: windows of one recording, or pieces of it, hang together, and however many there are they
say how much *that* recording shares with others. What a prior draws are independent sounds, each a unit of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PERMUTATIONS = 1999

Counts = tuple[np.ndarray, np.ndarray]
"""Windows of one kind in some units (sounds or recordings), `[units]` each: those that are copied, and all."""


def share(copied: np.ndarray, counted: np.ndarray) -> float:
    """The copy rate, from copied and counted windows of each unit."""
    return float(copied.sum() / max(counted.sum(), 1))


def by_recording(counts: np.ndarray, recordings: np.ndarray, count: int) -> np.ndarray:
    """Counts `[..., pieces]` summed up, `[..., count]`, by which of `count` recordings each piece is from."""
    summed = np.zeros((count, *counts.shape[:-1]), counts.dtype)
    np.add.at(summed, recordings, np.moveaxis(counts, -1, 0))
    return np.moveaxis(summed, 0, -1)


def chances_of_more(samples: Sequence[Counts], natural: Sequence[Counts]) -> list[float]:
    """For each kind of window, the one-sided p-value of the copy rate of `samples` being above the `natural` one.

    A permutation test over units (Good 2005, section 3.2) of the studentized difference of their mean rates, which
    holds where recordings differ among each other more, or less, than sounds do (Janssen 1997). A unit counts for
    the kinds of windows that it has. The p-values hold for all kinds together, which depend on each other, by the least
    one of each permutation (Westfall and Young 1993, section 2.3). Where there are fewer than two units of either, a
    p-value is 1.
    """
    if not samples:
        return []
    copied, counted = (
        np.concatenate([np.stack([one[part] for one in group]) for group in (samples, natural)], axis=1).astype(float)
        for part in (0, 1)
    )  # [kinds, units]
    there = counted > 0
    rates = np.where(there, copied / np.maximum(counted, 1), 0)
    first = np.arange(copied.shape[1]) < len(samples[0][0])
    drawn = np.tile(first, (1 + PERMUTATIONS, 1))
    drawn[1:] = np.random.default_rng(0).permuted(drawn[1:], axis=1)
    means, errors, enough = [], [], np.ones((len(drawn), len(samples)), bool)
    for group in (drawn.astype(float), (~drawn).astype(float)):
        units = group @ there.T.astype(float)  # [permutations, kinds]
        mean = (group @ rates.T) / np.maximum(units, 1)
        spread = np.maximum((group @ (rates**2).T) / np.maximum(units, 1) - mean**2, 0)
        means.append(mean)
        errors.append(spread / np.maximum(units - 1, 1))
        enough &= units >= 2
    scaled = (means[0] - means[1]) / np.sqrt(errors[0] + errors[1] + 1e-9)
    scaled = np.where(enough, scaled, -np.inf)
    ordered = np.sort(scaled, axis=0)
    p_values = np.stack(
        [
            1 - np.searchsorted(ordered[:, kind], scaled[:, kind] * (1 - 1e-9) - 1e-9) / len(ordered)
            if enough[0, kind]
            else np.ones(len(ordered))
            for kind in range(len(samples))
        ],
        axis=1,
    )
    least = p_values.min(axis=1)
    return [float(np.mean(least <= p_value + 1e-12)) for p_value in p_values[0]]
