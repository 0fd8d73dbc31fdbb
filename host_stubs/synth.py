"""A small corpus of synthesized recordings: plucked strings, bells and drums, alone and in short phrases."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from host_stubs.audio import peak_normalized, write_wav
from host_stubs.errors import HostError

SAMPLE_RATE = 48_000
_PEAK = 0.9
_SCALE = (0, 3, 5, 7, 10)  # minor pentatonic, in semitones: any two notes go together
_ROOT = 110.0  # Hz


def write_demo_recordings(folder: Path, *, seed: int = 0, count: int = 32) -> list[Path]:
    """Write `count` 16-bit WAV files of 0.6 to 4 s into `folder`, made if needed; the same seed, the same bytes.

    The kinds take turns, so that any number of files from 6 up holds all of them. Raises HostError if the folder
    cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"{folder} cannot be made: {error.strerror}.") from error
    paths = []
    for number in range(count):
        kind, recording = list(_RECORDINGS.items())[number % len(_RECORDINGS)]
        rng = np.random.default_rng([seed, number])  # a recording of its own for each number, whatever the count
        path = folder / f"{number + 1:03d}_{kind}.wav"
        write_wav(path, _PEAK * peak_normalized(recording(rng)), SAMPLE_RATE)
        paths.append(path)
    return paths


# Single sounds: [samples] from pitches in Hz and lengths in seconds, loudest near 1.


def pluck(rng: np.random.Generator, pitch: float, seconds: float) -> np.ndarray:
    """A plucked string (Karplus and Strong 1983): a burst of noise that runs round a loop and is smoothed each time.

    A sample is the mean of the two that lie one loop before it, so a whole loop can be computed at once.
    """
    period = round(SAMPLE_RATE / pitch - 0.5)  # samples of a loop; the smoothing delays by half a sample more
    loop = rng.uniform(-1, 1, period)
    for _ in range(int(rng.integers(0, 6))):  # a softer plectrum
        loop = (loop + np.roll(loop, 1)) / 2
    loop -= loop.mean()
    damping = rng.uniform(0.990, 0.999)
    before = 0.0  # the last sample of the loop before
    loops = [loop]
    for _ in range(round(seconds * SAMPLE_RATE) // period):
        smoothed = damping / 2 * (loop + np.concatenate([[before], loop[:-1]]))
        before, loop = loop[-1], smoothed
        loops.append(loop)
    return _faded(peak_normalized(np.concatenate(loops)))


def bell(rng: np.random.Generator, pitch: float, seconds: float) -> np.ndarray:
    """A bell: partials at inharmonic ratios, the higher the sooner gone, each doubled so that it beats."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    ratios = np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.52, 2.67, 3.01, 4.17, 5.43]) * rng.uniform(0.995, 1.005, 10)
    levels = rng.uniform(0.2, 1.0, 10) / np.sqrt(1 + np.arange(10))
    decays = rng.uniform(2.0, 5.0) * ratios**0.7  # 1 / s
    beating = 1 + rng.uniform(-0.002, 0.002, 10)
    sound = np.zeros_like(times)
    for ratio, level, decay, beat in zip(ratios, levels, decays, beating, strict=True):
        if (frequency := pitch * ratio) < 0.4 * SAMPLE_RATE:
            pair = np.sin(2 * math.pi * frequency * times) + np.sin(2 * math.pi * frequency * beat * times)
            sound += level * np.exp(-decay * times) * pair
    return _faded(peak_normalized(sound))


def chime(rng: np.random.Generator, pitch: float, seconds: float) -> np.ndarray:
    """A struck bar by frequency modulation (Chowning 1973): its brightness, the modulation's depth, fades first."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    depth = rng.uniform(1.0, 4.0) * np.exp(-times * rng.uniform(4, 9))
    modulator = np.sin(2 * math.pi * pitch * rng.choice([1.4, 2.76, 3.5]) * times)
    return _faded(np.sin(2 * math.pi * pitch * times + depth * modulator) * np.exp(-times * rng.uniform(2, 5)))


def kick(rng: np.random.Generator, seconds: float = 0.5) -> np.ndarray:
    """A bass drum: a sine whose pitch falls, with a click at its start."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    low, drop, speed = rng.uniform(42, 60), rng.uniform(80, 220), rng.uniform(18, 40)
    phase = 2 * math.pi * (low * times + drop / speed * (1 - np.exp(-speed * times)))
    click = 0.3 * rng.standard_normal(len(times)) * np.exp(-400 * times)
    return _faded(np.sin(phase) * np.exp(-times * rng.uniform(6, 11)) + click)


def snare(rng: np.random.Generator, seconds: float = 0.4) -> np.ndarray:
    """A snare drum: two short tones of the skin under the noise of the wires."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tone = rng.uniform(160, 230)
    skin = np.sin(2 * math.pi * tone * times) + 0.6 * np.sin(2 * math.pi * 1.6 * tone * times)
    wires = np.diff(rng.standard_normal(len(times) + 1)) * np.exp(-times * rng.uniform(10, 22))
    return _faded(peak_normalized(0.5 * skin * np.exp(-25 * times) + rng.uniform(0.3, 0.6) * wires))


def hat(rng: np.random.Generator, seconds: float = 0.12) -> np.ndarray:
    """A hi-hat: bright noise and six square waves, closed or open by its length."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    metal = sum(np.sign(np.sin(2 * math.pi * rng.uniform(3_000, 9_000) * times)) for _ in range(6))
    bright = np.diff(0.2 * metal + rng.standard_normal(len(times)), n=2, append=[0.0, 0.0])
    return _faded(0.6 * peak_normalized(bright * np.exp(-times * 5 / seconds)))


# Recordings: what one file holds.


def _strings(rng: np.random.Generator) -> np.ndarray:
    return pluck(rng, _note(rng, 0, 14), rng.uniform(1.0, 3.0))


def _bells(rng: np.random.Generator) -> np.ndarray:
    instrument = bell if rng.random() < 0.5 else chime
    return instrument(rng, _note(rng, 10, 22), rng.uniform(1.5, 3.5))


def _drums(rng: np.random.Generator) -> np.ndarray:
    drum = (kick, snare, hat)[rng.integers(3)]
    return drum(rng, rng.uniform(0.6, 0.9))


def _melody(rng: np.random.Generator, instrument: Callable[..., np.ndarray], lowest: int, highest: int) -> np.ndarray:
    """Eight steps through the scale, a note on most of them, none further than two degrees from the last."""
    step = rng.uniform(0.2, 0.36)
    degree = int(rng.integers(lowest, highest))
    events = []
    for place in range(8):
        if place == 0 or rng.random() < 0.8:
            degree = int(np.clip(degree + rng.integers(-2, 3), lowest, highest))
            events.append(
                (place * step, rng.uniform(0.6, 1.0) * instrument(rng, _pitch(degree), rng.uniform(0.5, 1.2)))
            )
    return _mix(events)


def _string_phrase(rng: np.random.Generator) -> np.ndarray:
    return _melody(rng, pluck, 2, 14)


def _bell_phrase(rng: np.random.Generator) -> np.ndarray:
    return _melody(rng, chime, 9, 18)


def _drum_loop(rng: np.random.Generator) -> np.ndarray:
    """Two bars of eight: kick on 1 and 5, snare on 3 and 7, hats between, with a few left out or added."""
    step = rng.uniform(0.14, 0.21)
    low, middle, high = kick(rng), snare(rng), hat(rng)  # one drum kit for the whole loop
    events = []
    for place in range(16):
        if place % 4 == 0 or rng.random() < 0.12:
            events.append((place * step, low))
        if place % 4 == 2:
            events.append((place * step, 0.9 * middle))
        if rng.random() < 0.85:
            events.append((place * step, rng.uniform(0.3, 0.7) * high))
    return _mix(events)


_RECORDINGS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "string": _strings,
    "drum_loop": _drum_loop,
    "bell": _bells,
    "string_phrase": _string_phrase,
    "drum": _drums,
    "bell_phrase": _bell_phrase,
}


def _pitch(degree: int) -> float:
    """Hz of the scale's `degree`, counted upwards from the root."""
    octave, step = divmod(degree, len(_SCALE))
    return _ROOT * 2 ** (octave + _SCALE[step] / 12)


def _note(rng: np.random.Generator, lowest: int, highest: int) -> float:
    return _pitch(int(rng.integers(lowest, highest + 1)))


def _mix(events: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """Sounds laid over each other, each at its time in seconds."""
    starts = [round(time * SAMPLE_RATE) for time, _ in events]
    mixed = np.zeros(max(start + len(sound) for start, (_, sound) in zip(starts, events, strict=True)))
    for start, (_, sound) in zip(starts, events, strict=True):
        mixed[start : start + len(sound)] += sound
    return mixed


def _faded(sound: np.ndarray) -> np.ndarray:
    """`sound` with its last hundredth of a second faded out, so that it does not end with a click."""
    length = min(len(sound), SAMPLE_RATE // 100)
    return np.concatenate([sound[: len(sound) - length], sound[len(sound) - length :] * np.linspace(1, 0, length)])
