"""How matrices learn: by steps that turn them in every direction alike (Muon, Jordan et al. 2024).

The running mean of a matrix's gradients is replaced by the nearest matrix with orthogonal rows or columns, so that what
the codes say seldom is learned as fast as what they say all the time. On a minute or two of recordings and the codec of
the host this takes about half of the steps that AdamW takes, to as many held-out bits.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    """What a matrix is to follow when this gradient has come; `momentum`, the mean of those before, takes it in."""
    momentum.lerp_(gradient, 1 - MOMENTUM)
    return gradient.lerp(momentum, MOMENTUM)


def length(matrix: Tensor) -> float:
    """How far a matrix goes at a rate of 1, in steps that are orthogonal matrices."""
    return float(RATE * max(matrix.shape) ** 0.5)


def orthogonalized(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """A matrix with the same singular vectors whose values, but for small ones, lie between 0.15 and 2.

    It is computed and given in the precision `dtype`; half of it is enough.
    """
    rows, columns = matrix.shape
    if rows > columns:
        return orthogonalized(matrix.T, dtype).T
    x = (matrix / (1.01 * matrix.norm() + 1e-7)).to(dtype)
    # x is multiplied from the left by a polynomial of x xᵀ, thrice; those are smaller than a wide x is
    square = x @ x.T
    product = _factor(square, *POLYNOMIALS[0])
    last = product
    for polynomial in POLYNOMIALS[1:]:
        square = last @ square @ last
        last = _factor(square, *polynomial)
        product = last @ product
    return product @ x


def _factor(square: Tensor, a: float, b: float, c: float) -> Tensor:
    """`a + b square + c square²`."""
    factor = torch.addmm(square, square, square, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor
