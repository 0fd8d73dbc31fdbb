"""What a run draws to look for copies in."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from host_stubs.generation import Wish
from sda_prior_plugin import CodeCorpus, Prior, train_prior
from sda_prior_plugin.looking import drawn_grids
from sda_prior_plugin.run import Run
from sda_prior_plugin.sequences import default_top_p

from .conftest import small_settings


def test_what_copies_are_looked_for_in_is_drawn_as_a_sound_for_somebody_is(corpus: CodeCorpus) -> None:
    settings = small_settings(corpus, epochs=2)
    prior = train_prior(corpus, settings).prior
    run = Run(corpus, settings, torch.device("cpu"))
    run.candidate.load_state_dict(prior.network.state_dict())
    wish, frames = Wish(), run.watch.meter.sample_frames
    for_somebody = prior.samples(
        4, None, seed=settings.seed + 5, temperature=wish.temperature, top_p=wish.top_p, top_k=wish.top_k,
        max_frames=frames,
    )  # fmt: skip
    assert same(drawn_grids(run, 4, math.inf, 5), for_somebody)
    assert same(prior.samples(4, None, seed=settings.seed + 5, max_frames=frames), for_somebody)
    assert not same(drawn_grids(run, 4, math.inf, 6), for_somebody)
    assert not same(from_all_codes(prior, settings.seed + 5, frames), for_somebody), "there is something to leave out"


def test_what_somebody_hears_and_where_copies_are_looked_for_is_of_fewer_codes_where_frames_are_short(
    corpus: CodeCorpus,
) -> None:
    assert [default_top_p(seconds) for seconds in (0.17, 1 / 50, 1 / 86)] == [0.9, 0.7, 0.7]
    short = replace(corpus, frame_seconds=0.02)
    settings = small_settings(short, epochs=2)
    prior = train_prior(short, settings).prior
    run = Run(short, settings, torch.device("cpu"))
    run.candidate.load_state_dict(prior.network.state_dict())
    by_itself = prior.samples(4, None, seed=settings.seed + 5, max_frames=run.watch.meter.sample_frames)
    of_fewer, of_more = (
        prior.samples(4, None, seed=settings.seed + 5, top_p=top_p, max_frames=run.watch.meter.sample_frames)
        for top_p in (0.7, 0.9)
    )
    assert same(by_itself, of_fewer)
    assert not same(by_itself, of_more)
    assert same(drawn_grids(run, 4, math.inf, 5), of_fewer)
    assert np.array_equal(run.draw(40, 3), prior.sample(40, seed=3, top_p=0.7))
    assert not np.array_equal(run.draw(40, 3), prior.sample(40, seed=3, top_p=0.9))


def from_all_codes(prior: Prior, seed: int, frames: int) -> list[np.ndarray]:
    """Such sounds, from however improbable codes."""
    return prior.samples(4, None, seed=seed, top_p=1.0, max_frames=frames)


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    """Whether all grids are the same."""
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))
