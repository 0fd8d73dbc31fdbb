"""Counting random numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sda_prior_plugin.random_stream import philox, stream_keys, uniforms

words = st.integers(0, 2**64 - 1)


@given(key=st.tuples(words, words), counter=st.tuples(st.integers(0, 2**64 - 2), words, words, words))
def test_philox_gives_the_numbers_that_numpy_gives(key: tuple[int, ...], counter: tuple[int, ...]) -> None:
    first, *others = counter
    found = philox(np.array(key, np.uint64), tuple(np.uint64(number) for number in (first + 1, *others)))
    theirs = np.random.Philox(key=np.array(key, np.uint64), counter=np.array(counter, np.uint64))  # counts, then gives
    np.testing.assert_array_equal(found, theirs.random_raw(4))


def test_every_frame_of_every_sound_of_every_stream_has_numbers_of_its_own() -> None:
    seen = []
    for key in stream_keys(seed=3, count=3):
        for sound in range(3):
            for frame in range(3):
                found = np.empty(25)
                uniforms(key, sound, frame, found)
                seen.append(found)
    assert len(np.unique(np.concatenate(seen))) == 27 * 25
    assert 0.4 < np.mean(seen) < 0.6
    assert np.min(seen) >= 0
    assert np.max(seen) < 1


def test_a_stream_is_known_by_its_seed_and_number() -> None:
    np.testing.assert_array_equal(stream_keys(7, 2), stream_keys(7, 5)[:2])
    assert (stream_keys(7, 1) != stream_keys(2**40 + 7, 1)).any()
