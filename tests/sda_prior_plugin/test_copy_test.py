"""Whether some sounds copy more than recordings do, where each kind of window tells too little alone."""

from __future__ import annotations

import numpy as np
import pytest

from sda_prior_plugin.copy_meter import SIGNIFICANCE
from sda_prior_plugin.copy_test import CONCENTRATED, Counts, chances_of_more, joined

SOUNDS, RECORDINGS = 60, 50


def copying(units: int, *rates: float) -> Counts:
    """So many units of ten windows each, of which the first ones copy at such rates and the others nothing."""
    copied = np.zeros(units)
    copied[: len(rates)] = 10 * np.array(rates)
    return copied, np.full(units, 10)


def test_what_is_verbatim_and_what_is_near_tell_together_what_neither_tells_alone() -> None:
    """Six of sixty sounds are from the recordings; recordings share a window here and there, each another one."""
    samples = [copying(SOUNDS, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2), copying(SOUNDS, 0.5, 0.5, 0.5, 0.6, 0.6, 0.6)]
    natural = [copying(RECORDINGS, 0.3, 0.2), copying(RECORDINGS, 0, 0, 0.4, 0.4)]
    both = joined(samples, natural, np.ones(2))
    (together,) = chances_of_more([both[0]], [both[1]])
    assert min(chances_of_more(samples, natural)) > SIGNIFICANCE
    assert together <= SIGNIFICANCE


def test_much_of_a_sound_counts_more_than_the_same_in_parts_of_several() -> None:
    (much, _), (parts, _) = joined([copying(4, 1.0)], [copying(4, 0.25, 0.25, 0.25, 0.25)], np.ones(1))
    assert much.sum() > parts.sum()


def test_windows_that_recordings_are_too_short_for_count_for_neither_side() -> None:
    """Recordings of which most are too short for one kind, and which share as much by it as the sounds do."""
    short = np.arange(RECORDINGS) >= 10
    copied, counted = copying(RECORDINGS, *[0.5] * 2)
    samples, natural = joined(
        [copying(SOUNDS, *[0.2] * 12), copying(SOUNDS, *[0.5] * 12)],
        [copying(RECORDINGS, *[0.2] * 10), (copied, np.where(short, 0, counted))],
        np.ones(2),
    )
    assert natural[0][short] == pytest.approx((14 * 0.5 / 70) ** CONCENTRATED), "as the mean of all that have it"
    assert natural[1].all()
    assert chances_of_more([samples], [natural])[0] > SIGNIFICANCE
    assert not joined([copying(2)], [(np.zeros(2), np.zeros(2))], np.ones(1))[1][1].any(), "nothing is no unit"


def test_a_few_recordings_that_share_nothing_can_tell() -> None:
    """Of all choices of six of these sixty-six units, 5.8 % hold none that copies, as the recordings do."""
    (chance,) = chances_of_more([copying(SOUNDS, *[1.0] * 24)], [copying(6)])
    assert chance == pytest.approx(0.029, abs=0.008)


@pytest.mark.slow
def test_a_few_recordings_that_share_all_or_nothing_raise_false_alarms_as_often_as_is_allowed() -> None:
    rng, alarms = np.random.default_rng(0), []
    for _ in range(400):
        both = joined(
            *([copying(units, *(rng.random(units) < 0.3).astype(float))] for units in (SOUNDS, 6)), np.ones(1)
        )
        alarms.append(chances_of_more([both[0]], [both[1]])[0] <= SIGNIFICANCE)
    assert 0.01 <= np.mean(alarms) <= 0.075
