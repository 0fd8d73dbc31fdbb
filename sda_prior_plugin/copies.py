"""Training copies as sound: a recording played faster or slower, louder or quieter."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Iterable, Iterator

import numpy as np

from sda_prior_plugin.kinds import Kind

SIZE = 2**14
"""Lengths of sound are made multiples of this to be resampled: the spectrum is then computed in no time."""
FACTORS = 2, 3, 5, 7, 11
"""Lengths that have no other prime factors come from a spectrum in no time."""
SILENCE = 2**11
"""Samples between a sound's end and its beginning, which a spectrum puts side by side."""


def copies_of(kinds: Iterable[Kind], audio: np.ndarray) -> Iterator[np.ndarray]:
    """A copy of sound, float32 `[samples]`, of each of these kinds, made as it is asked for."""
    spectrum: np.ndarray | None = None
    for kind in kinds:
        played = audio
        if kind.semitones:
            spectrum = spectrum_of(audio) if spectrum is None else spectrum
            played = resampled(spectrum, len(audio), kind.speed)
        yield played * np.float32(kind.level)


def spectrum_of(audio: np.ndarray) -> np.ndarray:
    """The spectrum, complex64, of sound, float32 `[samples]`, and the silence after it."""
    return np.fft.rfft(audio.astype(np.float32), -(-(len(audio) + SILENCE) // SIZE) * SIZE)


def resampled(spectrum: np.ndarray, samples: int, speed: float) -> np.ndarray:
    """The sound of so many samples that a spectrum is of, played so many times as fast, float32 `[samples]`.

    Its spectrum is cut off, or filled up with nothing. The speed is that of the nearest length which is soon computed.
    """
    before = 2 * (len(spectrum) - 1)
    after = nearest_smooth(before / speed)
    sound = np.fft.irfft(spectrum, after) * np.float32(after / before)
    return sound[: max(1, round(samples * after / before))]


def nearest_smooth(length: float) -> int:
    """The even number nearest to a length that has no prime factors but `FACTORS`."""
    halves = smooth_numbers(2 ** math.ceil(math.log2(max(length, 1))))
    place = bisect.bisect(halves, length / 2)
    return 2 * min(halves[max(place - 1, 0) : place + 1], key=lambda half: abs(2 * half - length))


@functools.cache
def smooth_numbers(most: int) -> list[int]:
    """All whole numbers from 1 to `most` that have no prime factors but `FACTORS`, in order."""
    found = [1]
    for factor in FACTORS:
        powers = [factor**power for power in range(int(math.log(most, factor)) + 1)]
        found = [number * power for number in found for power in powers if number * power <= most]
    return sorted(found)
