"""Muon: matrices learn in every direction alike."""

from __future__ import annotations

import pytest
import torch

from sda_prior_plugin import CodeCorpus
from sda_prior_plugin.muon import DECAY, MOMENTUM, moments_of, orthogonalized, smoothed
from sda_prior_plugin.optimizing import WARMUP_STEPS
from sda_prior_plugin.run import Run

from .conftest import small_settings


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "columns"), [(40, 40), (40, 160), (160, 40)])
def test_a_matrix_is_made_orthogonal_whatever_its_shape_and_size(rows: int, columns: int, dtype: torch.dtype) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))
    for size in (1e-6, 1.0, 1e4):
        left, values, right = torch.linalg.svd(orthogonalized([size * matrix], dtype)[0].float(), full_matrices=False)
        before_left, before, before_right = torch.linalg.svd(matrix, full_matrices=False)
        large = before > 0.1 * before[0]
        kept = (before_left.T @ (left @ torch.diag(values) @ right) @ before_right.T).diagonal()[large]
        assert ((kept > 0.15) & (kept < 2)).all(), "its singular vectors are kept, their values made alike"


def test_matrices_of_all_shapes_are_made_orthogonal_together_as_each_by_itself() -> None:
    random = torch.Generator().manual_seed(1)
    shapes = [(24, 8), (8, 8), (8, 32), (32, 8), (16, 4), (4, 4), (8, 8)]
    matrices = [torch.randn(shape, generator=random) for shape in shapes]
    for matrix, together in zip(matrices, orthogonalized(matrices), strict=True):
        torch.testing.assert_close(together, orthogonalized([matrix])[0])


def test_no_gradient_is_no_step() -> None:
    assert orthogonalized([torch.zeros(8, 16)])[0].abs().max() == 0


def test_what_is_followed_is_the_mean_of_the_gradients() -> None:
    gradient, momentum = torch.eye(16), torch.zeros(16, 16)
    once = orthogonalized([smoothed(gradient.clone(), momentum)])[0]
    assert torch.allclose(momentum, (1 - MOMENTUM) * gradient)
    assert torch.allclose(once.diagonal(), torch.ones(16), atol=0.9)
    for _ in range(20):
        smoothed(gradient.clone(), momentum)
    opposite = smoothed(-0.1 * gradient, momentum)
    assert (opposite.diagonal() > 0).all(), "one small gradient does not turn it round"


def test_matrices_of_layers_are_moved_by_it_and_all_else_is_not() -> None:
    weights = {
        "core.blocks.0.mlp.1.weight": torch.ones(8, 4),
        "core.blocks.0.mlp.1.bias": torch.ones(8),
        "within_band.1.weight": torch.ones(8, 4),
        "embedding.own": torch.ones(3, 8, 4),
        "same_level": torch.ones(4, 4),
    }
    momentum, squares = moments_of(weights)
    assert [*momentum] == ["core.blocks.0.mlp.1.weight", "within_band.1.weight"]
    assert {*momentum, *squares} == {*weights}
    assert all(float(one.abs().max()) == 0 for one in (*momentum.values(), *squares.values()))


def test_matrices_that_it_moves_decay_by_more_than_tables_and_biases_do_not(corpus: CodeCorpus) -> None:
    """Where no gradient moves them, a step leaves the decay alone."""
    settings = small_settings(corpus)
    optimizer = Run(corpus, settings, torch.device("cpu")).optimizer
    weights = dict(optimizer.network.named_parameters())
    optimizer.step(optimizer.gradients, WARMUP_STEPS)
    lost = settings.learning_rate * settings.weight_decay
    for name, one in weights.items():
        share = DECAY if name in optimizer.momentum else 1.0 if one.ndim >= 2 else 0.0
        torch.testing.assert_close(optimizer.ahead[name], (1 - share * lost) * one.detach())
