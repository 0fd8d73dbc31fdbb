"""Weights side by side in one row of numbers, so that a step moves them by a few operations.

One by one, small tensors take longer to begin with than to compute.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Row:
    """Where in a row of numbers each of some tensors stands.

    Attributes:
        shapes: of the tensors by their names, in the order of the row.
        ends: of its stretches: how many numbers stand before the end of each.
    """

    shapes: Mapping[str, torch.Size]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], stretches: Iterable[Sequence[str]]) -> Row:
        """Of these tensors, whose names stand stretch by stretch in the order of the row."""
        names = [*stretches]
        sizes = [sum(tensors[name].numel() for name in stretch) for stretch in names]
        shapes = {name: tensors[name].shape for stretch in names for name in stretch}
        return cls(shapes, tuple(itertools.accumulate(sizes)))

    def views(self, numbers: Tensor) -> dict[str, Tensor]:
        """The tensors in a row of `numbers`, in its memory."""
        parts = numbers.split([math.prod(shape) for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    @torch.no_grad()
    def moved_in(self, network: nn.Module) -> Tensor:
        """The weights of a network as such a row; from now on the network has them in its memory."""
        weights = dict(network.named_parameters())
        numbers = torch.cat([weights[name].flatten() for name in self.shapes])
        for name, view in self.views(numbers).items():
            weights[name].data = view
        return numbers
