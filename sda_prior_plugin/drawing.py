"""From the logits of one code to the code that is drawn."""

from __future__ import annotations

import math

import numpy as np

from sda_prior_plugin.compiled import compiled

NONE_LEFT = -1


@compiled
def probabilities(logits: np.ndarray, temperature: float, top_k: int, top_p: float, p: np.ndarray) -> None:
    """Fill `p` float64 `[C]` with what is drawn from: `logits [C]` after temperature, top-k and top-p.

    The most probable code always stays; of codes equally probable at a border all stay. `top_k` 0 and `top_p` 1 leave
    all codes. (Nucleus sampling: Holtzman et al. 2020, section 3.1.)
    """
    largest, total = logits.max(), 0.0
    for code in range(len(p)):
        p[code] = math.exp((np.float64(logits[code]) - np.float64(largest)) / temperature)
        total += p[code]
    for code in range(len(p)):
        p[code] /= total
    if 0 < top_k < len(p):
        least = np.sort(p)[len(p) - top_k]
        keep(p, least)
    if top_p < 1:
        ordered, reached = np.sort(p), 0.0
        least = ordered[-1]
        for place in range(len(p) - 1, -1, -1):
            if reached >= top_p:
                break
            least = ordered[place]
            reached += least
        keep(p, least)


@compiled
def keep(p: np.ndarray, least: float) -> None:
    """Leave only what has at least the probability `least`, summing to 1 again."""
    total = 0.0
    for code in range(len(p)):
        if p[code] < least:
            p[code] = 0.0
        total += p[code]
    for code in range(len(p)):
        p[code] /= total


@compiled
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


@compiled
def drawn_but_for(
    logits: np.ndarray,
    temperature: float,
    top_k: int,
    top_p: float,
    ruled_out: np.ndarray,
    uniform: float,
    p: np.ndarray,
) -> int:
    """A code that is not `ruled_out`, bool `[C]`; NONE_LEFT where all are. `p` is room to work in.

    Where top-k and top-p leave only codes that are ruled out, the others come back.
    """
    for attempt in range(2):
        if attempt == 0:
            probabilities(logits, temperature, top_k, top_p, p)
        else:
            probabilities(logits, temperature, 0, 1.0, p)
        total = 0.0
        for code in range(len(p)):
            if ruled_out[code]:
                p[code] = 0.0
            total += p[code]
        if total > 0:
            return drawn(p, uniform)
    return NONE_LEFT
