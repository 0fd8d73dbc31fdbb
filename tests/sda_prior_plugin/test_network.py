"""What the network is told: codes, as large as the codec has each level, and the time; and what older ones were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sda_prior_plugin import CodeCorpus, Prior, PriorError, PriorRun, train_prior
from sda_prior_plugin.network import (
    KNOWN_FRAMES,
    CodeEmbedding,
    PriorNetwork,
    level_spreads,
    normalized,
    stretch_starts,
)

from .conftest import LEVELS, SIZE, small_settings

SCALE, LATER = "embedding.scale", "later"
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


def test_time_is_told_to_eleven_seconds_of_the_hosts_codec_and_of_one_with_short_frames() -> None:
    """Frame by frame as far as there are embeddings, and then in stretches, each of an eighth of an octave."""
    assert stretch_starts(timed_frames=64) == []
    starts = stretch_starts(timed_frames=818)  # 10.9 s at 75 frames a second
    assert starts[0] == KNOWN_FRAMES
    assert 700 < starts[-1] < 818
    ratios = np.divide(starts[1:], starts[:-1])
    assert (np.abs(ratios - 2 ** (1 / 8)) < 1 / KNOWN_FRAMES).all()


FRAMES = torch.tensor([0, 63, 64, 65, 100, 200, 217, 218, 5000])


def test_a_short_frame_far_from_the_start_is_told_from_one_that_is_farther(corpus: CodeCorpus) -> None:
    network = run_of_short_frames(corpus).prior.network
    network.later += torch.randn_like(network.later)
    assert alike(network) == [1, 1, 2, 2, 1, 1, 3, 3, 3]


def test_what_no_recording_lasts_for_is_told_as_the_last_moment_that_is_known(corpus: CodeCorpus) -> None:
    """Recordings of less than 64 frames, and then of such as last for one stretch more."""
    network = run_of_short_frames(corpus).prior.network
    assert alike(network) == [1, 8, 8, 8, 8, 8, 8, 8, 8]
    network.later[0] += 1
    assert alike(network) == [1, 1, 7, 7, 7, 7, 7, 7, 7]


def run_of_short_frames(corpus: CodeCorpus) -> PriorRun:
    """A trained prior for frames of 50 ms, of which it is told 218 apart."""
    frames = replace(corpus, frame_seconds=0.05)
    return train_prior(frames, small_settings(frames))


def alike(network: PriorNetwork) -> list[int]:
    """As how many of FRAMES each of them is told."""
    code = torch.zeros(len(FRAMES), LEVELS, dtype=torch.int64)
    told = network.embedded(network.tables(), code, code, torch.zeros_like(FRAMES), FRAMES)
    return [int(same) for same in (told[:, None] == told).all(-1).sum(1)]


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
    weights = {name: tensor for name, tensor in run.prior.weights.items() if name != SCALE}
    older = again(run, weights)
    assert bool((older.weights[SCALE] == 1).all())
    same = again(run, {**weights, SCALE: torch.ones(run.prior.shape.levels, 1, 1)})
    np.testing.assert_array_equal(older.samples(4, 6, seed=1), same.samples(4, 6, seed=1))


def test_a_prior_of_an_older_version_is_told_no_time_after_its_last_known_frame(corpus: CodeCorpus) -> None:
    run = run_of_short_frames(corpus)
    later = run.prior.weights[LATER]
    weights = {name: tensor for name, tensor in run.prior.weights.items() if name != LATER}
    codes = np.random.default_rng(0).integers(0, SIZE, (100, corpus.shape.bands, LEVELS))
    older, untold, told = (
        again(run, weights | more).log2_probs(codes)
        for more in ({}, {LATER: torch.zeros_like(later)}, {LATER: torch.ones_like(later)})
    )
    np.testing.assert_array_equal(older, untold)
    np.testing.assert_array_equal(older[:64], told[:64])
    assert not np.array_equal(older[64:], told[64:])


def test_scales_of_another_shape_are_refused(run: PriorRun) -> None:
    with pytest.raises(PriorError, match=r"embedding\.scale is torch\.float32 \[5, 1, 1\]"):
        again(run, run.prior.weights | {SCALE: torch.ones(5, 1, 1)})
