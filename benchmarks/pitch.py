"""A pitch tracker: YIN (de Cheveigné and Kawahara 2002, doi:10.1121/1.1458024), its steps 1 to 5."""

from __future__ import annotations

import numpy as np

LOWEST, HIGHEST = 60.0, 1500.0  # Hz
HOP_SECONDS = 0.02
THRESHOLD = 0.15
"""Of the normalized difference: a frame that has none below it has no pitch."""
QUIET = 1e-6
"""Mean square of a frame below which it is silence."""
FRAMES_AT_ONCE = 256


def pitches(audio: np.ndarray, rate: int) -> np.ndarray:
    """Hz of each frame of sound, float `[samples]`, that has a pitch; a frame every HOP_SECONDS."""
    longest, hop = round(rate / LOWEST), round(rate * HOP_SECONDS)
    frames = (
        np.lib.stride_tricks.sliding_window_view(audio.astype(np.float64), 2 * longest)[::hop]
        if (len(audio) >= 2 * longest)
        else np.zeros((0, 2 * longest))
    )
    found = [
        _of_frames(frames[first : first + FRAMES_AT_ONCE], rate) for first in range(0, len(frames), FRAMES_AT_ONCE)
    ]
    return np.concatenate([np.zeros(0), *found])


def _of_frames(frames: np.ndarray, rate: int) -> np.ndarray:
    """Hz of those of some frames `[frames, 2 * longest lag]` that have a pitch."""
    loud = frames[(frames**2).mean(axis=1) > QUIET]
    normalized = _normalized_differences(loud)
    first, last = round(rate / HIGHEST), normalized.shape[1] - 1
    found = []
    for row in normalized:
        below = np.flatnonzero(row[first:last] < THRESHOLD)
        if not len(below):
            continue
        lag = first + below[0]
        while lag + 1 < last and row[lag + 1] < row[lag]:
            lag += 1
        before, here, after = row[lag - 1 : lag + 2]
        bend = before - 2 * here + after
        found.append(rate / (lag + ((before - after) / (2 * bend) if bend > 0 else 0.0)))
    return np.array(found)


def _normalized_differences(frames: np.ndarray) -> np.ndarray:
    """`[frames, lags]`: how much the first half of each frame differs from itself so many samples later.

    Over the mean of this for all shorter lags.
    """
    longest = frames.shape[1] // 2
    size = 1 << (frames.shape[1] + longest - 1).bit_length()
    spectrum = np.fft.rfft(frames[:, :longest], size)
    products = np.fft.irfft(np.conj(spectrum) * np.fft.rfft(frames, size), size)[:, :longest]
    energy = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames**2, axis=1)], axis=1)
    later = energy[:, longest : 2 * longest] - energy[:, :longest]
    differences = np.maximum(later[:, :1] + later - 2 * products, 0)
    means = np.cumsum(differences[:, 1:], axis=1) / np.arange(1, longest)
    return np.concatenate([np.ones((len(frames), 1)), differences[:, 1:] / np.maximum(means, 1e-12)], axis=1)
