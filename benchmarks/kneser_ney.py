"""A baseline: an interpolated Kneser-Ney n-gram model over code sequences.

Kneser and Ney 1995, in the interpolated form of Chen and Goodman 1998, section 4.1.6, with one discount an order.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

START = -1
LONGEST = 8

Gram = tuple[int, ...]


@dataclass(frozen=True)
class Order:
    """What is counted of n-grams of one length: their counts, and for each context the sum and number of those."""

    counts: Counter[Gram]
    totals: Counter[Gram]
    followers: Counter[Gram]
    discount: float

    @classmethod
    def of(cls, counts: Counter[Gram]) -> Order:
        totals: Counter[Gram] = Counter()
        followers: Counter[Gram] = Counter()
        for gram, count in counts.items():
            totals[gram[:-1]] += count
            followers[gram[:-1]] += 1
        once, twice = (sum(count == times for count in counts.values()) for times in (1, 2))
        return cls(counts, totals, followers, once / (once + 2 * twice) if once else 0.5)


class KneserNey:
    """The models of all orders up to `longest` over grids of codes `[frames, bands, levels]`.

    A code is a token together with its level, so that the model knows which codebook comes next.
    """

    def __init__(self, grids: Iterable[np.ndarray], codebook_size: int, longest: int = LONGEST) -> None:
        self.codebook_size = codebook_size
        seen: list[Counter[Gram]] = [Counter() for _ in range(longest)]
        for grid in grids:
            for history, token in steps(tokens(grid, codebook_size)):
                for length in range(min(longest, len(history) + 1)):
                    seen[length][(*history[len(history) - length :], token)] += 1
        self.highest = [Order.of(counts) for counts in seen]
        self.lower = [Order.of(continuations(counts, longer)) for counts, longer in itertools.pairwise(seen)]

    def bits(self, grids: Iterable[np.ndarray], order: int) -> float:
        """Mean bits over all codes but the first of each grid, by n-grams of `order` codes."""
        found = [
            -math.log2(self.probability(history, token, order))
            for grid in grids
            for history, token in steps(tokens(grid, self.codebook_size))
            if len(history) > 1
        ]
        return sum(found) / len(found)

    def probability(self, history: Gram, token: int, order: int) -> float:
        """Of `token` after `history`, which starts with START."""
        longest = min(order, len(history) + 1)
        found = self.of_any_code(token, self.highest[0] if longest == 1 else self.lower[0])
        for length in range(2, longest + 1):
            table = self.highest[length - 1] if length == longest else self.lower[length - 1]
            context = history[len(history) - length + 1 :]
            if total := table.totals[context]:
                count = table.counts[(*context, token)]
                kept = max(count - table.discount, 0) / total if count else 0.0
                found = kept + table.discount * table.followers[context] / total * found
        return found

    def of_any_code(self, token: int, table: Order) -> float:
        """Without a context, but among the codes of its level."""
        first = token // self.codebook_size * self.codebook_size
        counts = [table.counts[(code,)] for code in range(first, first + self.codebook_size)]
        total, used = sum(counts), sum(count > 0 for count in counts)
        if not total:
            return 1 / self.codebook_size
        kept = max(table.counts[(token,)] - table.discount, 0)
        return (kept + table.discount * used / self.codebook_size) / total


def tokens(grid: np.ndarray, codebook_size: int) -> list[int]:
    """The codes in the order of the prior's sequences, each level with numbers of its own."""
    return (grid.astype(np.int64) + codebook_size * np.arange(grid.shape[-1])).ravel().tolist()


def steps(sequence: Sequence[int]) -> Iterable[tuple[Gram, int]]:
    """Each token with what stands before it, no more than the longest model needs."""
    whole = (START, *sequence)
    for index in range(1, len(whole)):
        yield whole[max(0, index - LONGEST) : index], whole[index]


def continuations(counts: Counter[Gram], longer: Counter[Gram]) -> Counter[Gram]:
    """How many different tokens stand before each n-gram; nothing can before one that starts a sequence."""
    found: defaultdict[Gram, int] = defaultdict(int)
    for gram in longer:
        found[gram[1:]] += 1
    return Counter({gram: count if gram[0] == START else found[gram] for gram, count in counts.items()})
