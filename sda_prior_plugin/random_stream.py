"""Random numbers by counting: the n-th number of a stream is a function of the stream's key and n alone.

So every sequence has its own stream, and what it draws depends neither on the others beside it nor on threads.
"""

from __future__ import annotations

import numpy as np

from sda_prior_plugin.compiled import compiled_in_order, inlined

MULTIPLY = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
KEY_STEP = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))
ROUNDS = 10
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
Numbers = tuple[np.uint64, np.uint64, np.uint64, np.uint64]


def stream_keys(seed: int, count: int) -> np.ndarray:
    """Keys uint64 `[count, 2]` of as many independent streams; the same for the same `seed`, which is at least 0."""
    return np.stack([np.random.SeedSequence([seed, number]).generate_state(2, np.uint64) for number in range(count)])


@inlined
def _high(one: np.uint64, other: np.uint64) -> np.uint64:
    """The upper half of a product of 128 bits."""
    low, high = one & _LOW, one >> _HALF
    other_low, other_high = other & _LOW, other >> _HALF
    middle = high * other_low + ((low * other_low) >> _HALF)
    rest = low * other_high + (middle & _LOW)
    return high * other_high + (middle >> _HALF) + (rest >> _HALF)


@inlined
def philox(key: np.ndarray, counter: Numbers) -> Numbers:
    """Four uint64 from key `[2]` and counter `[4]`: Philox 4x64-10 (Salmon et al. 2011, sec. 5.3)."""
    key_0, key_1 = key[0], key[1]
    one, two, three, four = counter
    for _ in range(ROUNDS):
        high_0, low_0 = _high(MULTIPLY[0], one), MULTIPLY[0] * one
        high_1, low_1 = _high(MULTIPLY[1], three), MULTIPLY[1] * three
        one, two, three, four = high_1 ^ two ^ key_0, low_1, high_0 ^ four ^ key_1, low_0
        key_0 += KEY_STEP[0]
        key_1 += KEY_STEP[1]
    return one, two, three, four


@compiled_in_order
def uniforms(key: np.ndarray, sound: int, frame: int, found: np.ndarray) -> None:
    """Fill `found` float64 with numbers from 0 up to 1, those of one frame of one sound of a stream."""
    for first in range(0, len(found), 4):
        counter = np.uint64(first // 4), np.uint64(frame), np.uint64(sound), np.uint64(0)
        numbers = philox(key, counter)
        for index in range(4):
            if first + index < len(found):
                found[first + index] = (numbers[index] >> np.uint64(11)) * 2.0**-53
