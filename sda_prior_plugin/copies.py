"""Training copies as sound: a recording played faster, slower or quieter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from sda_prior_plugin.kinds import Kind

SIZE, GRAIN = 2**14, 2**6
"""Lengths of sound are made multiples of these to be resampled: the spectrum is then computed in no time."""
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

    Its spectrum is cut off, or filled up with nothing.
    """
    before = 2 * (len(spectrum) - 1)
    after = round(before / speed / GRAIN) * GRAIN
    sound = np.fft.irfft(spectrum, after) * np.float32(after / before)
    return sound[: max(1, round(samples * after / before))]
