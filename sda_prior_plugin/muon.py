"""How matrices learn: by steps that turn them in every direction alike (Muon, Jordan et al. 2024).

The running mean of a matrix's gradients is replaced by the nearest matrix with orthogonal rows or columns, so that what
the codes say seldom is learned as fast as what they say all the time. On a minute or two of recordings and the codec of
the host this takes about half of the steps that AdamW takes, to as many held-out bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

LAYERS = "core.", "within_band."
"""Parts of the network whose matrices lead from layer to layer; tables, and what is tied to them, do not."""
MOMENTUM = 0.9
RATE = 0.8
"""Times the learning rate and the root of a matrix's longer side; Liu et al. 2025 have 0.2, to move as far as AdamW."""
DECAY = 2.0
"""Such matrices decay by so many times as much as others."""
POLYNOMIALS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
)
"""The first three of the Polar Express (Amsel et al. 2025, algorithm 1); more are slower, and won little."""


def moments_of(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """For each of some weights that Muon moves a mean of gradients, and for each other one of their squares; all 0."""
    by_muon = {name for name, tensor in weights.items() if tensor.ndim == 2 and name.startswith(LAYERS)}
    zeros = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    return (
        {name: tensor for name, tensor in zeros.items() if name in by_muon},
        {name: tensor for name, tensor in zeros.items() if name not in by_muon},
    )


def smoothed(gradient: Tensor, momentum: Tensor) -> Tensor:
    """Turn a gradient into what is to be followed when it has come, and give that.

    `momentum`, the mean of those before, takes it in.
    """
    momentum.lerp_(gradient, 1 - MOMENTUM)
    return gradient.lerp_(momentum, MOMENTUM)


def length(matrix: Tensor) -> float:
    """How far a matrix goes at a rate of 1, in steps that are orthogonal matrices."""
    return float(RATE * max(matrix.shape) ** 0.5)


def orthogonalized(matrices: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """For each matrix one with the same singular vectors whose values, but for small ones, lie between 0.15 and 2.

    They are computed and given in the precision `dtype`; half of it is enough. Those of one shape, turned or not, are
    computed together, for one matrix is over sooner than it is begun.
    """
    wide = [matrix.T if matrix.shape[0] > matrix.shape[1] else matrix for matrix in matrices]
    found: list[Tensor] = [*matrices]
    for rows in sorted({len(one) for one in wide}):
        shapes = sorted({one.shape for one in wide if len(one) == rows})
        numbers = [[number for number, one in enumerate(wide) if one.shape == shape] for shape in shapes]
        stacks = _orthogonalized([[wide[number] for number in some] for some in numbers], dtype)
        for some, stack in zip(numbers, stacks, strict=True):
            for number, matrix in zip(some, stack, strict=True):
                found[number] = matrix if matrices[number] is wide[number] else matrix.T
    return found


def _orthogonalized(groups: Sequence[Sequence[Tensor]], dtype: torch.dtype) -> list[Tensor]:
    """The same for matrices of the same rows and at least as many columns, each group of one shape, as stacks."""
    stacks = [torch.stack([*group]) for group in groups]
    stacks = [(x / (1.01 * x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)).to(dtype) for x in stacks]
    # x is multiplied from the left by a polynomial of x xᵀ, thrice; those are smaller than a wide x is
    square = torch.cat([x @ x.mT for x in stacks])
    product = last = _factor(square, *POLYNOMIALS[0])
    for polynomial in POLYNOMIALS[1:]:
        square = last @ square @ last
        last = _factor(square, *polynomial)
        product = last @ product
    return [turn @ x for turn, x in zip(product.split([len(x) for x in stacks]), stacks, strict=True)]


def _factor(square: Tensor, a: float, b: float, c: float) -> Tensor:
    """`a + b square + c square²`, of each of some matrices."""
    factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor
