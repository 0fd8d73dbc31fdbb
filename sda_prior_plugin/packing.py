"""Windows of several lengths without their padding: which positions of padded rows are computed, one after another.

What looks at one position alone computes these only; attention and recurrence, which look along a row, get the rows
back for as long as they need them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

STEPS_PER_OCTAVE = 4


@dataclass(frozen=True)
class Packing:
    """The P positions of rows `[B, T]` that are computed, and some more, of which nothing counts, to make few shapes.

    Attributes:
        rows, places: int `[P]`, the row of each and where in it; 0 and 0 for those that do not count.
        targets: int `[P]`, where each stands in the rows laid end to end; `B * T` for those that do not count.
        counts: bool `[P]`.
        shape: B and T.
    """

    rows: Tensor
    places: Tensor
    targets: Tensor
    counts: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, lengths: np.ndarray, longest: int, device: torch.device) -> Packing:
        """Of rows `[B, longest]`, int `[B]` positions of each from its start on."""
        total = int(lengths.sum())
        rows, places = np.zeros((2, packed_length(total)), np.int64)
        rows[:total] = np.repeat(np.arange(len(lengths)), lengths)
        places[:total] = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        counts = np.arange(len(rows)) < total
        targets = np.where(counts, rows * longest + places, len(lengths) * longest)
        parts = [torch.as_tensor(one).to(device) for one in (rows, places, targets, counts)]
        return cls(parts[0], parts[1], parts[2], parts[3], (len(lengths), longest))


def in_rows(x: Tensor, packing: Packing | None) -> Tensor:
    """`x [P, D]` as rows `[B, T, D]`, with zeros where nothing is computed; without a packing it is in rows already."""
    if packing is None:
        return x
    batch, longest = packing.shape
    rows = x.new_zeros(batch * longest + 1, x.shape[-1]).index_copy(0, packing.targets, x)
    return rows[:-1].view(batch, longest, -1)


def packed(rows: Tensor, packing: Packing | None) -> Tensor:
    """Rows `[B, T, D]` as `[P, D]`, or as they are without a packing."""
    if packing is None:
        return rows
    return rows.flatten(0, 1).index_select(0, packing.rows * packing.shape[1] + packing.places)


def packed_length(positions: int) -> int:
    """So many positions or a few more, in steps of an eighth of it to a quarter.

    For each new shape the libraries below torch make code, and keep it.
    """
    step = max(1, (1 << (max(positions, 1).bit_length() - 1)) // STEPS_PER_OCTAVE)
    return -(-positions // step) * step
