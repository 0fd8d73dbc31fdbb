"""What a checkpoint is judged by."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sda_prior_plugin import CodeCorpus, train_prior
from sda_prior_plugin.judging import Checkpoint, held_out_bits

from .conftest import loops, small_settings


def test_the_perplexity_of_recordings_longer_than_the_context_is_what_the_prior_states(codebooks: np.ndarray) -> None:
    held_out = loops(5, seed=2, frames=(30, 60))
    corpus = CodeCorpus.from_sequences(loops(40, seed=1), held_out, codebooks=codebooks)
    prior = train_prior(corpus, small_settings(corpus, epochs=10)).prior
    context = prior.network.settings.context_frames
    assert context < 10
    judged = np.ones(len(corpus.held_out.codes), bool)
    bits = held_out_bits(prior.network, corpus, judged, context, 3, dtype=torch.float32)
    stated = -np.concatenate([prior.log2_probs(grid).ravel() for grid in held_out]).mean()
    assert bits.sum() / corpus.held_out.codes.size == pytest.approx(stated, abs=1e-4)


def test_a_checkpoint_that_is_not_finite_is_not_as_good_as_any() -> None:
    best = Checkpoint(1, 2.0, np.array([4.0, 6.0]), {}, 0.0)
    for bits in (math.nan, math.inf):
        assert not Checkpoint(2, bits, np.array([5.0, bits]), {}, 0.0).as_good_as(best)


def test_a_checkpoint_is_as_good_where_chance_explains_the_difference() -> None:
    """Over the recordings, the differences have to add up to more than their own scatter does."""
    best = Checkpoint(1, 2.0, np.array([4.0, 6.0, 5.0]), {}, 0.0)
    assert Checkpoint(2, 2.0, np.array([5.0, 5.5, 5.0]), {}, 0.0).as_good_as(best)
    assert not Checkpoint(2, 2.0, np.array([4.5, 6.5, 5.4]), {}, 0.0).as_good_as(best)
