"""The weights in half precision: what a model file holds, and so what is judged and drawn from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

HALF = torch.float16
"""Of the two halves the finer one: weights that are pulled towards zero need no larger numbers than it has."""


@torch.no_grad()
def round_to_half(weights: Mapping[str, Tensor], rounded: Mapping[str, Tensor]) -> None:
    """Fill `rounded` with `weights`, the matrices and tables rounded to what half precision holds.

    Biases and norms, few and added to what the others make, stay as they are. What is too large for it is not finite.
    """
    for name, tensor in weights.items():
        rounded[name].copy_(tensor.to(HALF) if tensor.ndim >= 2 else tensor)


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the same numbers in less room: those in half precision that it holds exactly, all others whole."""
    halves = ((name, tensor, tensor.to(HALF)) for name, tensor in weights.items())
    return {
        name: half if tensor.ndim >= 2 and torch.equal(half.to(tensor.dtype), tensor) else tensor.clone()
        for name, tensor, half in halves
    }


def whole(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The numbers of `halved` weights in the precision that they were in."""
    return {name: tensor.float() for name, tensor in weights.items()}
