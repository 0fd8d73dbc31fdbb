"""Training copies as sound: a recording played faster, slower or quieter."""

from __future__ import annotations

import numpy as np

from sda_prior_plugin.kinds import Kind

SIZE, GRAIN = 2**14, 2**6
"""Lengths of sound are made multiples of these to be resampled: the spectrum is then computed in no time."""
SILENCE = 2**11
"""Samples between a sound's end and its beginning, which a spectrum puts side by side."""


def copy_of(kind: Kind, audio: np.ndarray) -> np.ndarray:
    """A copy of sound, float32 `[samples]`, of this kind."""
    copy = resampled(audio, kind.speed) if kind.semitones else audio
    return copy * np.float32(kind.level)


def resampled(audio: np.ndarray, speed: float) -> np.ndarray:
    """Sound, float32 `[samples]`, played so many times as fast: its spectrum is cut off, or filled up with nothing."""
    before = -(-(len(audio) + SILENCE) // SIZE) * SIZE
    after = round(before / speed / GRAIN) * GRAIN
    sound = np.fft.irfft(np.fft.rfft(audio.astype(np.float32), before), after) * np.float32(after / before)
    return sound[: max(1, round(len(audio) * after / before))]
