"""Weights in half precision: what is in the file is what was judged, and older files are read as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sda_prior_plugin import CodeCorpus, Prior, PriorRun, train_prior
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.half import HALF, halved
from sda_prior_plugin.judging import held_out_bits

from .conftest import small_settings


@pytest.fixture(scope="module", params=["transformer", "gru"])
def run(request: pytest.FixtureRequest, corpus: CodeCorpus) -> PriorRun:
    return train_prior(corpus, small_settings(corpus, architecture=request.param))


def reopened(weights: dict[str, torch.Tensor], run: PriorRun, corpus: CodeCorpus) -> Prior:
    """The prior as a file with these weights gives it."""
    return Prior.from_weights(
        weights, run.prior.settings, run.report,
        shape=corpus.shape, codebooks=corpus.codebooks, frame_seconds=corpus.frame_seconds,
    )  # fmt: skip


def test_a_new_prior_fits_half_precision_to_the_last_bit(run: PriorRun, corpus: CodeCorpus) -> None:
    weights = halved(run.prior.weights)
    large = [tensor for tensor in weights.values() if tensor.ndim >= 2]
    assert large
    assert all(tensor.dtype == HALF for tensor in large)
    again, codes = reopened(weights, run, corpus), corpus.held_out[0]
    np.testing.assert_array_equal(again.log2_probs(codes), run.prior.log2_probs(codes))
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in run.prior.weights.items())


def test_the_perplexity_that_is_reported_is_that_of_the_rounded_weights(run: PriorRun, corpus: CodeCorpus) -> None:
    again, unheard = reopened(halved(run.prior.weights), run, corpus), CopyMeter(corpus).unheard
    bits = held_out_bits(
        again.network, corpus, unheard.judged, again.network.settings.context_frames, 8, dtype=torch.float32
    )
    codes = unheard.judged.sum() * corpus.shape.frame_codes
    assert 2 ** (bits.sum() / codes) == pytest.approx(run.report.final_perplexity, rel=1e-3)


def test_weights_that_half_precision_would_change_stay_as_they_are(run: PriorRun, corpus: CodeCorpus) -> None:
    """Those of an older file, opened and saved again."""
    older = {name: tensor * (1 + 2**-20) for name, tensor in run.prior.weights.items()}
    weights = halved(older)
    assert all(torch.equal(weights[name].float(), tensor) for name, tensor in older.items())
    assert any(tensor.dtype == torch.float32 and tensor.ndim >= 2 for tensor in weights.values())
    codes = corpus.held_out[0]
    np.testing.assert_array_equal(
        reopened(weights, run, corpus).log2_probs(codes), reopened(older, run, corpus).log2_probs(codes)
    )
