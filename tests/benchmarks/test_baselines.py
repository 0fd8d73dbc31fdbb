"""What the prior is measured against must be what it says it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import reference
from benchmarks.kneser_ney import START, KneserNey, tokens
from benchmarks.reference import Reference, bands_first, mean_bits, reference_samples, train_reference

SIZE, BANDS, LEVELS = 7, 2, 2


def melodies(count: int, seed: int) -> np.ndarray:
    """Grids `[count, 6 frames, bands, levels]` that go up a step each code, but for one code in ten."""
    rng = np.random.default_rng(seed)
    codes = (rng.integers(0, SIZE, (count, 1)) + np.arange(6 * BANDS * LEVELS)) % SIZE
    wrong = rng.random(codes.shape) < 0.1
    return np.where(wrong, rng.integers(0, SIZE, codes.shape), codes).reshape(count, 6, BANDS, LEVELS)


@pytest.mark.parametrize("order", [1, 2, 3, 8])
def test_kneser_ney_probabilities_of_a_levels_codes_sum_to_one(order: int) -> None:
    model = KneserNey(melodies(20, seed=0), SIZE)
    heard = tokens(melodies(1, seed=1)[0], SIZE)
    unheard = [0, SIZE + 3, 3, SIZE + 3, 6, SIZE]
    for history in ([START], [START, *heard[:4]], heard[3:9], unheard):
        level = 0 if history[-1] == START or history[-1] >= SIZE else 1
        codes = range(level * SIZE, (level + 1) * SIZE)
        assert sum(model.probability(tuple(history), code, order) for code in codes) == pytest.approx(1)


def test_kneser_ney_agrees_with_a_count_by_hand() -> None:
    """Two codes a sequence: after 0 comes 1 twice and 2 once; discounts are 1 / (1 + 2) and that of no order is 0.5."""
    grids = [np.array(codes).reshape(2, 1, 1) for codes in ([0, 1], [0, 1], [0, 2])]
    model = KneserNey(grids, codebook_size=3, longest=2)
    # pairs: (start, 0) three times, (0, 1) twice, (0, 2) once: discount 1 / (1 + 2 * 1)
    # kinds of code before a code: 1 for each of 0, 1, 2 (before 0 only the start): all once, discount 1
    assert model.probability((START, 0), 1, 2) == pytest.approx((2 - 1 / 3) / 3 + 1 / 3 * 2 / 3 * 1 / 3)


def test_kneser_ney_learns_from_longer_contexts() -> None:
    model = KneserNey(melodies(60, seed=0), SIZE)
    unheard = melodies(20, seed=1)
    assert model.bits(unheard, 1) == pytest.approx(np.log2(SIZE), abs=0.1)
    assert model.bits(unheard, 3) < 1.3


def test_the_reference_reads_all_times_of_a_band_before_the_next_band() -> None:
    grid = np.arange(3 * 2 * 2).reshape(1, 3, 2, 2)  # [frames, bands, levels]
    assert bands_first(grid).tolist() == [[0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11]]


@torch.no_grad()
def test_the_reference_sees_no_code_before_it_has_predicted_it() -> None:
    model = Reference(SIZE, 24).eval()
    codes = bands_first(melodies(1, seed=0))
    changed = codes.clone()
    changed[0, 10] = (changed[0, 10] + 1) % SIZE
    before, after = model(codes), model(changed)
    torch.testing.assert_close(before[:, :10], after[:, :10])
    assert not torch.allclose(before[:, 10:], after[:, 10:])


def test_the_reference_has_the_size_that_is_known_of_it() -> None:
    assert sum(weights.numel() for weights in Reference(128, 144).parameters()) == pytest.approx(3.26e6, rel=2e-3)


@pytest.mark.slow
def test_the_reference_learns_and_draws_what_it_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "EPOCHS", 20)
    run = train_reference(melodies(64, seed=0), melodies(16, seed=1), SIZE, seed=0)
    assert run.bits < 2.4 < np.log2(SIZE) - 0.3
    drawn = reference_samples(run.model, (6, BANDS, LEVELS), 32, seed=0)
    assert mean_bits(run.model, bands_first(drawn)).item() < 2.6
    np.testing.assert_array_equal(drawn, reference_samples(run.model, (6, BANDS, LEVELS), 32, seed=0))
