"""How codes are embedded: as large as the codec has each level, and in older priors all in one size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sda_prior_plugin import Prior, PriorError, PriorRun
from sda_prior_plugin.network import LATER_WEIGHT, CodeEmbedding, level_spreads, normalized

SIZES = np.array([3.0, 1.0, 0.1], np.float32)[:, None, None]


def test_the_levels_of_a_code_are_embedded_in_the_proportion_in_which_the_codec_adds_them_up() -> None:
    codebooks = np.random.default_rng(0).normal(size=(3, 64, 8)).astype(np.float32) * SIZES
    embedding = CodeEmbedding(normalized(codebooks), level_spreads(codebooks), 16)
    projected = (embedding(normalized(codebooks)) - embedding.own)[:, :-1]
    sounds = torch.as_tensor(codebooks / level_spreads(codebooks).max())
    torch.testing.assert_close(projected, sounds @ embedding.projection)


def test_a_codebook_without_differences_is_embedded_in_finite_numbers() -> None:
    codebooks = np.zeros((3, 64, 8), np.float32)
    codebooks[1] = np.random.default_rng(0).normal(size=(64, 8))
    scale = CodeEmbedding(normalized(codebooks), level_spreads(codebooks), 16).scale.detach()
    assert bool(torch.isfinite(scale).all())
    assert float(scale.max()) == 1


def again(run: PriorRun, weights: dict[str, torch.Tensor]) -> Prior:
    """The prior of a run, with other weights."""
    prior = run.prior
    return Prior.from_weights(
        weights,
        prior.settings,
        prior.report,
        shape=prior.shape,
        codebooks=prior.network.codebooks.numpy(),
        frame_seconds=prior.frame_seconds,
        kinds=prior.kinds,
    )


def test_a_prior_of_an_older_version_embeds_all_levels_in_one_size(run: PriorRun) -> None:
    weights = {name: tensor for name, tensor in run.prior.weights.items() if name != LATER_WEIGHT}
    older = again(run, weights)
    assert bool((older.weights[LATER_WEIGHT] == 1).all())
    same = again(run, {**weights, LATER_WEIGHT: torch.ones(run.prior.shape.levels, 1, 1)})
    np.testing.assert_array_equal(older.samples(4, 6, seed=1), same.samples(4, 6, seed=1))


def test_scales_of_another_shape_are_refused(run: PriorRun) -> None:
    with pytest.raises(PriorError, match=r"embedding\.scale is torch\.float32 \[5, 1, 1\]"):
        again(run, run.prior.weights | {LATER_WEIGHT: torch.ones(5, 1, 1)})
