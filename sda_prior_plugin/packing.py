"""Windows of several lengths without their padding: which positions of padded rows are computed, one after another.

What looks at one position alone computes these only; attention and recurrence, which look along a row, get the rows
back for as long as they need them, those of about the same length together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

STEPS_PER_OCTAVE = 8


@dataclass(frozen=True)
class Part:
    """Positions `first` to `end` of a packing: those of `count` rows, of which the longest has `longest` positions.

    Attributes:
        at: int `[end - first]`, where each position stands in the rows laid end to end.
    """

    first: int
    end: int
    count: int
    longest: int
    at: Tensor


@dataclass(frozen=True)
class Packing:
    """The P positions of some rows that are computed, and some more, of which nothing counts, to make few shapes.

    Attributes:
        rows, places: int `[P]`, the row of each and where in it; 0 and 0 for those that do not count.
        counts: bool `[P]`.
        parts: rows of about the same length, the longest first.
    """

    rows: Tensor
    places: Tensor
    counts: Tensor
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, lengths: np.ndarray, most_parts: int, device: torch.device) -> Packing:
        """Of rows of so many positions, int `[B]`, in at most so many parts."""
        order = np.argsort(-lengths, kind="stable")
        longest_first = lengths[order]
        ends = np.cumsum(longest_first)
        total = int(ends[-1])
        rows, places = np.zeros((2, packed_length(total)), np.int64)
        rows[:total] = np.repeat(order, longest_first)
        places[:total] = np.arange(total) - np.repeat(ends - longest_first, longest_first)
        parts, number = [], np.repeat(np.arange(len(lengths)), longest_first)
        for begin, stop in itertools.pairwise([0, *cuts(longest_first, most_parts), len(lengths)]):
            longest = int(longest_first[begin])
            first, end = int(ends[begin]) - longest, int(ends[stop - 1])
            at = (number[first:end] - begin) * longest + places[first:end]
            parts.append(Part(first, end, stop - begin, longest, torch.as_tensor(at).to(device)))
        here = [torch.as_tensor(one).to(device) for one in (rows, places, np.arange(len(rows)) < total)]
        return cls(here[0], here[1], here[2], tuple(parts))

    @property
    def longest(self) -> int:
        """Positions of the longest row."""
        return self.parts[0].longest

    def by_rows(self, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """What a function of rows `[B, T, D]` gives, of positions `x [P, D]` and for them: `[P, D of what it gives]`.

        It may look along the rows, back only: after the end of each there are zeros.
        """
        done, end = [], self.parts[-1].end
        pieces = x.split([*(part.end - part.first for part in self.parts), len(x) - end])
        for part, rows in zip(self.parts, pieces[:-1], strict=True):
            full = part.count * part.longest
            if len(rows) < full:
                rows = rows.new_zeros(full, rows.shape[-1]).index_copy(0, part.at, rows)
            given = function(rows.view(part.count, part.longest, -1)).flatten(0, 1)
            done.append(given if len(given) == part.end - part.first else given.index_select(0, part.at))
        return torch.cat([*done, done[0].new_zeros(len(x) - end, done[0].shape[-1])])


def cuts(longest_first: np.ndarray, most_parts: int) -> list[int]:
    """Where rows of these lengths, falling, are cut into parts, for attention to compute as little as it can.

    Each cut is where it saves the most, one after another.
    """
    found = [0, len(longest_first)]
    areas = longest_first.astype(np.float64) ** 2
    for _ in range(most_parts - 1):
        saved = [
            ((stop - row) * (areas[begin] - areas[row]), row)
            for begin, stop in itertools.pairwise(found)
            for row in range(begin + 1, stop)
        ]
        most, row = max(saved, default=(0.0, 0))
        if most <= 0:
            break
        found = sorted([*found, row])
    return found[1:-1]


def packed_length(positions: int) -> int:
    """So many positions or a few more, in steps of a sixteenth of it to an eighth.

    For each new shape the libraries below torch make code, and keep it.
    """
    step = max(1, (1 << (max(positions, 1).bit_length() - 1)) // STEPS_PER_OCTAVE)
    return -(-positions // step) * step
