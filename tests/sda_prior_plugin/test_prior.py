"""What a trained prior says of codes, and how it draws new ones."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch

from sda_prior_plugin import CodeCorpus, Prior, PriorError, PriorRun
from sda_prior_plugin import prior as prior_module

from .conftest import BANDS, LEVELS, SIZE, loops, small_settings


def test_probabilities_of_all_codes_at_a_place_sum_to_one(run: PriorRun) -> None:
    codes = loops(1, seed=5, frames=(6, 7))[0]
    frame, band, level = 4, 2, 1
    total = 0.0
    for code in range(SIZE):
        changed = codes.copy()
        changed[frame, band, level] = code
        total += 2.0 ** float(run.prior.log2_probs(changed)[frame, band, level])
    assert total == pytest.approx(1.0, abs=1e-5)


def test_a_code_changes_only_what_comes_after_it(run: PriorRun) -> None:
    codes = loops(1, seed=6, frames=(12, 13))[0]
    changed = codes.copy()
    changed[5, 1, 0] = (changed[5, 1, 0] + 3) % SIZE
    before, after = run.prior.log2_probs(codes).ravel(), run.prior.log2_probs(changed).ravel()
    place = (5 * BANDS + 1) * LEVELS
    np.testing.assert_allclose(before[:place], after[:place], atol=1e-5)
    assert abs(before[place + 1 :] - after[place + 1 :]).max() > 1e-3


def test_probabilities_do_not_depend_on_how_the_recording_is_read(
    run: PriorRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = np.concatenate(loops(6, seed=7))
    whole = run.prior.log2_probs(codes)
    monkeypatch.setattr(prior_module, "BLOCK_FRAMES", 7)
    np.testing.assert_allclose(whole, run.prior.log2_probs(codes), atol=1e-4)


@torch.no_grad()
def test_samples_are_drawn_from_the_probabilities_that_the_prior_states(run: PriorRun) -> None:
    """The mean surprise at what it draws must be the mean entropy of what it draws from."""
    surprise, entropy = [], []
    for grid in run.prior.samples(1000, seed=3, top_p=1.0, max_frames=12):
        start = np.full((1, BANDS * LEVELS), SIZE)
        frames = torch.as_tensor(np.concatenate([start, grid.reshape(len(grid), -1)])[None])
        logits, _, _ = run.prior.network(frames, torch.tensor([0]))
        log2 = torch.log_softmax(logits[0], -1) / np.log(2)  # [frames, bands, levels, codes]
        surprise.append(-log2.gather(-1, torch.as_tensor(grid)[..., None]).flatten())
        entropy.append(-(log2.exp2() * log2).sum(-1).flatten())
    assert float(torch.cat(surprise).mean()) == pytest.approx(float(torch.cat(entropy).mean()), abs=0.03)


def test_the_same_seed_gives_the_same_codes_and_another_seed_others(run: PriorRun) -> None:
    first = run.prior.sample(frames=20, seed=7)
    np.testing.assert_array_equal(first, run.prior.sample(frames=20, seed=7))
    assert (first != run.prior.sample(frames=20, seed=8)).any()
    assert first.shape == (20, BANDS, LEVELS)
    assert first.min() >= 0
    assert first.max() < SIZE


def test_the_callers_random_state_is_left_alone(run: PriorRun) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run.prior.sample(frames=3, seed=1)
    assert torch.equal(torch.rand(3), expected)


@torch.no_grad()
def test_a_sound_goes_on_far_beyond_the_context(run: PriorRun) -> None:
    endless = copy.deepcopy(run.prior)
    endless.network.end.bias.fill_(-1e9)
    length = 5 * run.prior.network.settings.context_frames
    codes = endless.sample(seed=1, max_frames=length)
    assert len(codes) == length
    assert -endless.log2_probs(codes)[-10:].mean() < 3, "it still knows what it is doing"


def test_a_sound_that_is_over_is_followed_by_another_until_the_length_is_reached(run: PriorRun) -> None:
    first = run.prior.sample(seed=2, max_frames=100)
    more = run.prior.sample(frames=len(first) + 30, seed=2)
    np.testing.assert_array_equal(more[: len(first)], first)
    assert len(more) == len(first) + 30


def test_without_a_length_the_prior_ends_its_sounds_about_as_the_recordings_end(
    run: PriorRun, corpus: CodeCorpus
) -> None:
    lengths = [len(grid) for grid in run.prior.samples(60, seed=1, max_frames=200)]
    assert len(set(lengths)) > 3
    assert 0.5 * corpus.train.lengths.mean() < np.mean(lengths) < 2 * corpus.train.lengths.mean()


def test_a_grid_does_not_depend_on_how_many_are_drawn_beside_it(run: PriorRun) -> None:
    alone = run.prior.samples(1, 40, seed=5)[0]
    np.testing.assert_array_equal(run.prior.samples(4, 40, seed=5)[0], alone)


def test_codes_may_be_a_list(run: PriorRun) -> None:
    codes = loops(1, seed=5)[0]
    np.testing.assert_array_equal(run.prior.log2_probs(codes.tolist()), run.prior.log2_probs(codes))


def test_max_frames_ends_a_sound_that_does_not_end_itself(run: PriorRun) -> None:
    assert max(len(grid) for grid in run.prior.samples(30, seed=1, max_frames=4)) == 4


def test_a_low_temperature_draws_the_most_probable_code(run: PriorRun) -> None:
    best = run.prior.sample(seed=2, top_k=1, max_frames=2)
    for temperature in (1e-4, 1e-308):
        np.testing.assert_array_equal(run.prior.sample(seed=2, temperature=temperature, max_frames=2), best)


def test_a_stream_gives_what_sample_gives(run: PriorRun) -> None:
    pieces = list(run.prior.stream(50, seed=3, top_p=0.9))
    assert len(pieces[0]) == 1, "the first frame comes as soon as it is drawn"
    np.testing.assert_array_equal(np.concatenate(pieces), run.prior.sample(50, seed=3, top_p=0.9))
    sound = np.concatenate(list(run.prior.stream(seed=4)))
    np.testing.assert_array_equal(sound, run.prior.sample(seed=4))


def test_what_goes_on_from_codes_is_what_would_have_followed_them(run: PriorRun) -> None:
    """Given the first frames of a likely sound, nearly sure codes follow as in the sound itself."""
    whole = run.prior.sample(frames=None, seed=11, top_k=1, max_frames=12)
    rest = run.prior.samples(3, frames=None, seed=5, top_k=1, max_frames=12, start=whole[:2])
    for grid in rest:
        length = min(len(grid), len(whole) - 2)
        np.testing.assert_array_equal(grid[:length], whole[2 : 2 + length])


def test_codes_to_go_on_from_that_do_not_fit_are_refused(run: PriorRun) -> None:
    with pytest.raises(PriorError, match="start: codes have the shape"):
        run.prior.sample(frames=2, start=np.zeros((2, BANDS + 1, LEVELS), int))


def test_threads_change_nothing(run: PriorRun) -> None:
    alone = run.prior.samples(9, 20, seed=5)
    torch.set_num_threads(2)
    try:
        np.testing.assert_array_equal(run.prior.samples(9, 20, seed=5), alone)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": -1},
        {"frames": 0}, {"max_frames": 0}, {"seed": -1},
    ],
)  # fmt: skip
def test_sampling_out_of_bounds_is_refused(run: PriorRun, wrong: dict) -> None:
    with pytest.raises(PriorError, match="must be"):
        run.prior.sample(**wrong)


def test_a_prior_is_rebuilt_from_its_weights(run: PriorRun, corpus: CodeCorpus) -> None:
    again = Prior.from_weights(
        run.prior.weights, run.prior.settings, run.report,
        shape=corpus.shape, codebooks=corpus.codebooks, frame_seconds=corpus.frame_seconds,
    )  # fmt: skip
    np.testing.assert_array_equal(again.sample(frames=10, seed=4), run.prior.sample(frames=10, seed=4))


def damaged(weights: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    """A copy of the weights with one fault."""
    weights = dict(weights)
    name = "logits.bias"
    if how == "missing":
        del weights[name]
    elif how == "unknown":
        weights["extra"] = torch.zeros(1)
    elif how == "shape":
        weights[name] = weights[name][:, :-1]
    elif how == "dtype":
        weights[name] = weights[name].double()
    else:
        weights[name] = weights[name] * float("nan")
    return weights


@pytest.mark.parametrize("how", ["missing", "unknown", "shape", "dtype", "not finite"])
def test_weights_that_do_not_fit_are_refused(run: PriorRun, corpus: CodeCorpus, how: str) -> None:
    with pytest.raises(PriorError, match=r"The prior"):
        Prior.from_weights(
            damaged(run.prior.weights, how), run.prior.settings, run.report,
            shape=corpus.shape, codebooks=corpus.codebooks, frame_seconds=corpus.frame_seconds,
        )  # fmt: skip


def test_a_prior_is_rebuilt_without_torchs_compiler_whose_import_takes_a_second() -> None:
    program = (
        "import sys, numpy as np, torch\n"
        "from sda_prior_plugin import CodeShape\n"
        "from sda_prior_plugin.network import NetworkSettings, PriorNetwork\n"
        "with torch.device('meta'):\n"
        "    for architecture in ('transformer', 'gru'):\n"
        "        settings = NetworkSettings(architecture, 16, 1, 2, 8)\n"
        "        PriorNetwork(CodeShape(2, 2, 8), np.random.rand(2, 8, 4), settings)\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_settings_of_a_giant_network_are_refused_before_it_is_allocated(run: PriorRun, corpus: CodeCorpus) -> None:
    giant = small_settings(corpus, hidden_size=4096, layers=64, architecture=run.prior.settings.architecture)
    with pytest.raises(PriorError, match="The prior"):
        Prior.from_weights(
            run.prior.weights, giant, run.report,
            shape=corpus.shape, codebooks=corpus.codebooks, frame_seconds=corpus.frame_seconds,
        )  # fmt: skip
