"""From the logits of one code to the code that is drawn."""

from __future__ import annotations

import math

import numpy as np

from sda_prior_plugin.compiled import compiled_in_order, inlined

NONE_LEFT = -1


@inlined
def probabilities(logits: np.ndarray, temperature: float, top_k: int, top_p: float, held: int, p: np.ndarray) -> None:
    """Fill `p[0]` of float64 `[2, C]` with what is drawn from: `logits [C]` after temperature, top-k and top-p.

    The most probable code always stays; of codes equally probable at a border all stay. `top_k` 0 and `top_p` 1 leave
    all codes. (Nucleus sampling: Holtzman et al. 2020, section 3.1.) `held` is the code of the same band and level one
    frame before, C where there is none: where it is the most probable one, `top_p` is the share of the others that is
    left. Otherwise a code that goes on with a probability of `top_p` would never change again, and the sound stand
    still, where by its probabilities it moves on within a few frames. `p[1]` is room to work in.
    """
    p, ordered = p[0], p[1]
    largest, total = logits[0], 0.0
    for code in range(len(p)):
        if logits[code] > largest:
            largest = logits[code]
    for code in range(len(p)):
        p[code] = math.exp((np.float64(logits[code]) - np.float64(largest)) / temperature)
        total += p[code]
    for code in range(len(p)):
        p[code] /= total
    for most, enough in ((top_k, np.inf), (len(p), top_p)):  # the second of what the first leaves
        if not 0 < most < len(p) and enough >= 1:
            continue
        if enough < 1 and held < len(p) and logits[held] == largest:
            enough = p[held] + enough * (1 - p[held])
        negligible = (1 - enough) / (2 * len(p))  # those below it add up to half of what may be left out, or less
        count = put_in_order(p, negligible, ordered)
        least, reached, total = 0.0, 0.0, 0.0
        for place in range(count - 1, max(count - most, 0) - 1, -1):
            if reached >= enough:
                break
            least = ordered[place]
            reached += least
        for code in range(len(p)):
            if p[code] < least:
                p[code] = 0.0
            total += p[code]
        for code in range(len(p)):
            p[code] /= total


@inlined
def put_in_order(p: np.ndarray, least: float, x: np.ndarray) -> int:
    """Fill `x` with the numbers of `p` that are `least` at least, in ascending order, and give how many there are.

    (Shell 1959, with gaps that grow as those of Tokuda 1992.)
    """
    count = 0
    for one in p:
        if one >= least:
            x[count] = one
            count += 1
    gap = 1
    while gap < count:
        gap = gap * 9 // 4 + 1
    while gap > 1:
        gap = gap * 4 // 9 or 1
        for last in range(gap, count):
            one, place = x[last], last
            while place >= gap and x[place - gap] > one:
                x[place] = x[place - gap]
                place -= gap
            x[place] = one
    return count


@inlined
def drawn(p: np.ndarray, uniform: float) -> int:
    """The code that `uniform` in 0..1 picks from `p` `[C]` by their running sum; never one of probability 0."""
    total = 0.0
    for code in range(len(p)):
        total += p[code]
    edge, last, wanted = 0.0, 0, uniform * total
    for code in range(len(p)):
        edge += p[code]
        if p[code] > 0:
            last = code
            if edge > wanted:
                break
    return last


@compiled_in_order
def drawn_but_for(
    logits: np.ndarray,
    temperature: float,
    top_k: int,
    top_p: float,
    held: int,
    ruled_out: np.ndarray,
    uniform: float,
    p: np.ndarray,
) -> int:
    """A code that is not `ruled_out`, bool `[C]`, or empty for none; NONE_LEFT where all are.

    Where top-k and top-p leave only codes that are ruled out, the others come back. `held` and `p` are as for
    `probabilities`.
    """
    while True:
        probabilities(logits, temperature, top_k, top_p, held, p)
        left = 0.0
        for code in range(len(ruled_out)):
            if ruled_out[code]:
                p[0, code] = 0.0
            left += p[0, code]
        if left > 0 or not len(ruled_out):
            return drawn(p[0], uniform)
        if not top_k and top_p >= 1:
            return NONE_LEFT
        top_k, top_p = 0, 1.0
