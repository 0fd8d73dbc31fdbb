"""What a sound is like, in numbers: statistics of its log-mel spectrogram, its level, and which way its time goes.

The texture statistics are of the kind that listeners tell textures by (McDermott and Simoncelli 2011,
doi:10.1016/j.neuron.2011.06.032), of the simplest of these: over half a second, for each band, where its level is, how
far it goes, how fast it changes, and whether it rises faster than it falls.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch

from host_stubs.mel import Mel, MelSettings

BANDS = 32
WINDOW_SECONDS = 0.5
FRAME_SECONDS = 2048 / 48000
"""About so much sound is in a spectrogram's frame, a power of two of samples; the next one begins a quarter later."""
QUIETEST = 1e-10
LAG, CHANGE = 4, 0.1
"""Frames apart, some 40 ms, and nats of log-mel, from which on a band has fallen or risen."""


@cache
def _mel(rate: int) -> Mel:
    size = 1 << round(math.log2(FRAME_SECONDS * rate))
    return Mel(MelSettings(sample_rate=rate, n_fft=size, hop_length=size // 4, n_mels=BANDS))


def log_mel(audio: np.ndarray, rate: int) -> np.ndarray:
    """Of sound, float `[samples]`: `[frames, BANDS]`, log(1 + power), LAG + 1 frames at least."""
    mel = _mel(rate)
    least = np.pad(audio, (0, max(0, LAG * mel.settings.hop_length - len(audio))))
    return mel.log_mel(torch.from_numpy(np.ascontiguousarray(least, np.float32))[None])[0].T.numpy()


def texture(audio: np.ndarray, rate: int) -> np.ndarray:
    """Of sound, float `[samples]`: `[windows, 4 * BANDS]`, the statistics of each half second or so, one at least.

    Of each band its mean, its standard deviation, the mean size of its changes from frame to frame, and the cube root
    of the mean cube of these, which has the other sign where a sound is reversed.
    """
    spectrogram = log_mel(audio, rate)
    count = max(1, round(len(audio) / rate / WINDOW_SECONDS))
    found = []
    for frames in np.array_split(spectrogram, min(count, len(spectrogram) // 2)):
        changes = np.diff(frames, axis=0)
        found.append([frames.mean(0), frames.std(0), np.abs(changes).mean(0), np.cbrt((changes**3).mean(0))])
    return np.array(found, np.float64).reshape(len(found), -1)


def level(audio: np.ndarray) -> float:
    """dB, of the mean square, against full scale."""
    return 10 * math.log10(float(np.mean(np.square(audio, dtype=np.float64))) + QUIETEST)


def direction(audio: np.ndarray, rate: int) -> float:
    """How much more often the bands of a sound fall than rise, from -1, only rising, to 1, only falling.

    Above 0 where attacks are quicker than decays, as struck and plucked sounds have them; with the other sign in
    reverse. Counted and not weighed, so that a sound cut off at its end is not taken for one that runs backwards.
    """
    spectrogram = log_mel(audio, rate)
    changes = spectrogram[LAG:] - spectrogram[:-LAG]
    falls, rises = (int(np.count_nonzero(one)) for one in (changes < -CHANGE, changes > CHANGE))
    return (falls - rises) / max(falls + rises, 1)
