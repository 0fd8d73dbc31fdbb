"""Products with a matrix whose entries lie along its diagonal, such as mel filters: only the blocks that hold some."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCKS = 4  # 32 mel bands each: narrower ones touch fewer zeros, but cost more in calls than they save


class Banded:
    """A matrix `[rows, columns]`, cut into blocks of columns with the rows between their first and last entry."""

    def __init__(self, matrix: Tensor) -> None:
        self.columns = matrix.shape[1]
        self._blocks: list[tuple[slice, slice, Tensor]] = []  # rows, columns, what stands there
        first = 0
        for part in matrix.tensor_split(_BLOCKS, dim=1):
            used = part.any(1).nonzero()[:, 0].tolist()
            rows = slice(used[0], used[-1] + 1) if used else slice(0, 0)
            columns = slice(first, first + part.shape[1])
            self._blocks.append((rows, columns, part[rows].contiguous()))
            first = columns.stop

    def after(self, left: Tensor) -> Tensor:
        """`left` `[n, rows]` times the matrix: `[n, columns]`."""
        product = left.new_empty(len(left), self.columns)
        for rows, columns, block in self._blocks:
            torch.mm(left[:, rows], block, out=product[:, columns])
        return product
