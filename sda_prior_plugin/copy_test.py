"""Whether some sounds copy more than recordings do by more than chance.

The unit is the recording: windows of one recording, or pieces of it, hang together, and however many there are they
say how much *that* recording shares with others. What a prior draws are independent sounds, each a unit of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PERMUTATIONS = 1999
CONCENTRATED = 1.5
"""The power to which the evidence of a unit counts, for what is recited is much of some sounds, what recordings share
anyway a little of many. With 2, half of a sound counts for too little."""

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


def _unit_rates(samples: Sequence[Counts], natural: Sequence[Counts]) -> tuple[np.ndarray, np.ndarray]:
    """The copy rate of each unit, first of `samples`, then of `natural` ones, and where there is one: `[kinds, units]`.

    It is 0 where there is none.
    """
    copied, counted = (
        np.concatenate([np.stack([one[part] for one in group]) for group in (samples, natural)], axis=1).astype(float)
        for part in (0, 1)
    )
    there = counted > 0
    return np.where(there, copied / np.maximum(counted, 1), 0), there


def joined(samples: Sequence[Counts], natural: Sequence[Counts], weights: np.ndarray) -> tuple[Counts, Counts]:
    """Several kinds of windows as one: what each unit copies by all of them, for it may take all to tell.

    That is the sum of its rates with `weights` `[kinds]`, to the power CONCENTRATED. A kind that a unit has no windows
    of counts as it does in the mean of all units that have it, sounds and recordings alike, and so for neither side.
    """
    rates, there = _unit_rates(samples, natural)
    usual = rates.sum(axis=1, keepdims=True) / np.maximum(there.sum(axis=1, keepdims=True), 1)
    any_there = there.sum(axis=0) > 0
    copied = np.where(any_there, weights @ np.where(there, rates, usual), 0) ** CONCENTRATED
    count = len(samples[0][0])
    return (copied[:count], any_there[:count]), (copied[count:], any_there[count:])


def chances_of_more(samples: Sequence[Counts], natural: Sequence[Counts]) -> list[float]:
    """For each kind of window, the one-sided p-value of the copy rate of `samples` being above the `natural` one.

    A permutation test over units (Good 2005, section 3.2) of the studentized difference of their mean rates, which
    holds where recordings differ among each other more, or less, than sounds do (Janssen 1997). A unit counts for
    the kinds of windows that it has. The p-values hold for all kinds together, which depend on each other, by the least
    one of each permutation (Westfall and Young 1993, section 2.3). Permutations that tell as much as what is there
    count half (Lancaster 1961): of a few recordings most permutations may be such. Where there are fewer than two units
    of either, a p-value is 1.
    """
    if not samples:
        return []
    rates, there = _unit_rates(samples, natural)
    first = np.arange(rates.shape[1]) < len(samples[0][0])
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
    scaled = np.where(enough, scaled, -1e12)  # below all that can be
    p_values = np.stack(
        [_shares_beyond(-scaled[:, kind]) if enough[0, kind] else np.ones(len(scaled)) for kind in range(len(samples))],
        axis=1,
    )
    least = p_values.min(axis=1)
    return [
        float(_shares_beyond(np.concatenate([[p_value], least[1:]]))[0]) if can_tell else 1.0
        for p_value, can_tell in zip(p_values[0], enough[0].tolist(), strict=True)
    ]


def _shares_beyond(values: np.ndarray) -> np.ndarray:
    """For each value, the share of all that are less, and half of those that are the same but for rounding."""
    ordered, slack = np.sort(values), 1e-9 * (1 + np.abs(values))
    less, no_more = np.searchsorted(ordered, values - slack), np.searchsorted(ordered, values + slack)
    return (less + no_more) / (2 * len(values))
