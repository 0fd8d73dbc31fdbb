"""From logits to a code."""

from __future__ import annotations

import numpy as np
import pytest

from sda_prior_plugin.drawing import NONE_LEFT, drawn, drawn_but_for, probabilities

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
NOT_HELD = len(LOGITS)
NONE = np.zeros(4, np.bool_)


def after(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, held: int = NOT_HELD) -> np.ndarray:
    """What is drawn from, of LOGITS."""
    p = np.empty((2, 4))
    probabilities(LOGITS, temperature, top_k, top_p, held, p)
    return p[0]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_k": 2}, [0.625, 0.375, 0, 0]),
        ({"top_k": 9}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_p": 0.79}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.81}, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"temperature": 0.5}, [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
        ({"temperature": 1e-308}, [1, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.6}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.5}, [1, 0, 0, 0]),
        ({"top_p": 0.5, "held": 1}, [1, 0, 0, 0]),
        ({"top_p": 0.5, "held": 0}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.7, "held": 0}, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        ({"top_p": 0.01, "held": 0}, [0.625, 0.375, 0, 0]),
        ({"top_k": 1, "top_p": 0.5, "held": 0}, [1, 0, 0, 0]),
        ({"top_p": 1.0, "held": 0}, [0.5, 0.3, 0.15, 0.05]),
    ],
)
def test_temperature_top_k_and_top_p_keep_the_most_probable_codes(how: dict, expected: list[float]) -> None:
    np.testing.assert_allclose(after(**how), expected, atol=1e-6)


def test_codes_equally_probable_at_the_border_all_stay() -> None:
    p = np.empty((2, 4))
    probabilities(np.zeros(4, np.float32), 1.0, 2, 1.0, NOT_HELD, p)
    np.testing.assert_allclose(p[0], 0.25)


def test_codes_are_drawn_as_often_as_they_are_probable() -> None:
    p = np.array([0.5, 0.0, 0.3, 0.2])
    codes = [drawn(p, uniform) for uniform in np.random.default_rng(0).random(20_000)]
    counts = np.bincount(codes, minlength=4) / 20_000
    assert counts[1] == 0
    np.testing.assert_allclose(counts, p, atol=0.015)


def test_the_largest_random_number_never_draws_an_impossible_code() -> None:
    assert drawn(np.array([0.1] * 10 + [0.0] * 6), 1.0) == 9


def test_what_is_ruled_out_is_not_drawn_and_the_rest_as_before() -> None:
    p, ruled_out = np.empty((2, 4)), np.array([True, False, False, True])
    uniforms = np.random.default_rng(0).random(9000)
    codes = [drawn_but_for(LOGITS, 1.0, 0, 1.0, NOT_HELD, ruled_out, uniform, p) for uniform in uniforms]
    np.testing.assert_allclose(np.bincount(codes, minlength=4) / 9000, [0, 2 / 3, 1 / 3, 0], atol=0.02)


def test_where_top_k_leaves_only_what_is_ruled_out_the_others_come_back() -> None:
    p, ruled_out = np.empty((2, 4)), np.array([True, False, False, False])
    codes = {drawn_but_for(LOGITS, 1.0, 1, 1.0, NOT_HELD, ruled_out, uniform, p) for uniform in (0.1, 0.7, 0.99)}
    assert codes == {1, 2, 3}


def test_where_everything_is_ruled_out_nothing_is_drawn() -> None:
    assert drawn_but_for(LOGITS, 1.0, 0, 1.0, NOT_HELD, ~NONE, 0.5, np.empty((2, 4))) == NONE_LEFT


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.99, 0.999999])
def test_top_p_leaves_the_fewest_codes_that_together_have_it(top_p: float) -> None:
    rng = np.random.default_rng(0)
    for spread in (0.0, 0.1, 1.0, 4.0, 20.0):
        logits = (spread * rng.normal(size=200)).astype(np.float32)
        p = np.exp(logits.astype(np.float64) - logits.max())
        p /= p.sum()
        falling = np.sort(p)[::-1]
        least = falling[np.cumsum(falling) < top_p].size  # that many do not have it yet
        expected = np.where(p >= falling[least], p, 0)
        found = np.empty((2, 200))
        probabilities(logits, 1.0, 0, top_p, len(logits), found)
        np.testing.assert_allclose(found[0], expected / expected.sum(), atol=1e-9)
