"""What a recording is known by: its sound, and how loud each band of it is from moment to moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import soxr
import torch

from host_stubs.kept_sound import KeptSound

RATE = 16_000  # Hz: noise that covers all bands drowns a hi-hat's share below 4 kHz
FRAME, HOP = 1024, 512  # samples: 64 ms, every 32 ms
BANDS = 20  # a third of an octave each; the lowest takes all below 120 Hz
_FREQUENCIES = np.fft.rfftfreq(FRAME, 1 / RATE)
FIRST_BINS = np.searchsorted(_FREQUENCIES, np.concatenate([[0], 120 * 2 ** (np.arange(BANDS - 1) / 3)]))
_WINDOW = np.hanning(FRAME).astype(np.float32)
_QUALITY = "MQ"  # of resampling, as soxr calls it
MOST_SECONDS = 12 * 3600  # of sound that is listened to: more than a GB on disk
_AT_ONCE = 256  # frames of which spectra are computed at once, in room that is kept: new memory takes longer
_SILENCE = 1e-7  # of the power of a recording's loudest moment
_QUIET = 0.2  # share of a recording's moments that are its background
SECOND = RATE // HOP  # frames
LINES = FRAME // 4  # two bins each, 31 Hz: they tell notes that bands do not
LINED = SECOND // 2  # frames that share a spectrum of lines
_ONES = np.ones(LINED, np.float32)


@dataclass(frozen=True)
class Fingerprint:
    """A recording as it was heard.

    Attributes:
        start: where its sound begins in what `Fingerprints.sound` reads, in samples.
        samples: how many there are, at `RATE`.
        levels: float32 `[frames, BANDS]`, power of each band around every `HOP`th sample.
        lines: float32 `[., LINES]`, power of each line of the spectrum in every `LINED` frames; fewer than half of
            that, left at the end, count to the last ones.
    """

    start: int
    samples: int
    levels: np.ndarray
    lines: np.ndarray

    @cached_property
    def power(self) -> np.ndarray:
        """Of each frame, `[frames]`."""
        return power_of(self.levels)

    @cached_property
    def heard(self) -> tuple[int, int]:
        """(first, last) of the frames between the silence before it and the silence after it."""
        audible = np.flatnonzero(self.power >= _SILENCE * self.power.max())
        return int(audible[0]), int(audible[-1]) + 1

    @cached_property
    def background(self) -> np.ndarray:
        """`[BANDS]`, the power that each band hardly ever falls below while it is heard: the quantile `_QUIET`, as
        np.quantile gives it several times slower."""
        levels = self.levels[slice(*self.heard)]
        place = _QUIET * (len(levels) - 1)
        below, above = int(place), min(int(place) + 1, len(levels) - 1)
        sorted_there = np.partition(levels, (below, above), axis=0)
        return sorted_there[below] + (sorted_there[above] - sorted_there[below]) * np.float32(place - below)

    @cached_property
    def loudest(self) -> float:
        """Mean power of a frame in its loudest second, or in all of it where it is shorter."""
        length = min(SECOND, len(self.power))
        sums = np.zeros(len(self.power) + 1)
        np.cumsum(self.power, dtype=np.float64, out=sums[1:])
        return float((sums[length:] - sums[:-length]).max() / length)


class Fingerprints:
    """Listens to recordings, and keeps what they are known by.

    Attributes:
        of: what each is known by, from its name.
        passed_on: how many recordings were not listened to.
    """

    def __init__(self) -> None:
        self.passed_on = 0
        self.of: dict[str, Fingerprint] = {}
        self._sound = KeptSound()
        self._frames = np.empty((_AT_ONCE, FRAME), np.float32)

    def __enter__(self) -> Fingerprints:
        return self

    def __exit__(self, *_: object) -> None:
        self._sound.close()

    def listen(self, name: str, blocks: Iterable[np.ndarray], rate: int) -> None:
        """Hear a recording at `rate` Hz, block after block; then it is known. After `MOST_SECONDS` of sound recordings
        are only counted.

        Raises HostError if its sound cannot be kept.
        """
        if self._sound.samples >= MOST_SECONDS * RATE:
            self.passed_on += 1
            return
        levels, start = _Levels(self._frames), self._sound.samples
        waiting, resampler = np.zeros(0, np.float32), None
        for block in filter(len, blocks):
            if len(waiting):
                resampler = resampler or soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality=_QUALITY)
                self._hear(resampler.resample_chunk(waiting), levels)
            waiting = block
        if resampler is None:  # most recordings are one block, and done in one step
            self._hear(soxr.resample(waiting, rate, RATE, quality=_QUALITY), levels, last=True)
        else:
            self._hear(resampler.resample_chunk(waiting, last=True), levels, last=True)
        self.of[name] = Fingerprint(start, self._sound.samples - start, levels.all(), levels.lines())

    def sound(self, name: str, first: int, last: int) -> np.ndarray:
        """The samples from `first` to `last` of a recording, float32; where it has none there is silence."""
        known = self.of[name]
        start, end = max(first, 0), min(last, known.samples)
        if (start, end) == (first, last):
            return self._sound.between(known.start + start, known.start + end)
        sound = np.zeros(last - first, np.float32)
        if start < end:
            sound[start - first : end - first] = self._sound.between(known.start + start, known.start + end)
        return sound

    def _hear(self, sound: np.ndarray, levels: _Levels, last: bool = False) -> None:
        levels.add(sound, last)
        self._sound.add(sound)


def power_of(levels: np.ndarray) -> np.ndarray:
    """The power of all bands together, `[frames, BANDS]` to `[frames]`: as a product, since a sum takes longer."""
    return levels @ np.ones(BANDS, np.float32)


def spectra(sound: np.ndarray) -> np.ndarray:
    """Spectra around every `HOP`th sample, complex64 `[1 + len(sound) // HOP, bins]`; beyond both ends is silence."""
    return _spectra(_windows(np.pad(sound, FRAME // 2)))


def in_bands(products: np.ndarray) -> np.ndarray:
    """The real parts' sums over each band, complex64 `[..., bins]` to float32 `[..., BANDS]`."""
    return np.add.reduceat(products.real, FIRST_BINS, axis=-1)


def powers_in_bands(spectra: np.ndarray) -> np.ndarray:
    """The sums of powers over each band, complex64 `[..., bins]` to float32 `[..., BANDS]`."""
    parts = spectra.view(np.float32)  # real and imaginary ones, in turn
    return np.add.reduceat(parts * parts, 2 * FIRST_BINS, axis=-1)


def _spectra(frames: np.ndarray) -> np.ndarray:
    """Of frames, complex64 `[frames, bins]`, by torch, which takes less than half as long as numpy."""
    return torch.fft.rfft(torch.from_numpy(frames)).numpy()


class _Levels:
    """The levels of a sound that comes in blocks, as `spectra` of all of it would give them.

    What they are computed in is given: float32 `[frames, FRAME]` for so many frames at once.
    """

    def __init__(self, frames: np.ndarray) -> None:
        self._frames = frames
        self._waiting = np.zeros(FRAME // 2, np.float32)
        self._done: list[np.ndarray] = []
        self._count = 0  # of frames so far
        self._sums: dict[int, np.ndarray] = {}  # of the squares of the spectra's parts, in every `LINED` frames

    def add(self, sound: np.ndarray, last: bool = False) -> None:
        """Hear more; after the `last` comes silence."""
        silence = np.zeros(FRAME // 2 if last else 0, np.float32)
        self._waiting = np.concatenate([self._waiting, sound, silence])
        while (frames := min(1 + (len(self._waiting) - FRAME) // HOP, len(self._frames))) >= 1:
            windows = _windows(self._waiting[: (frames - 1) * HOP + FRAME], self._frames[:frames])
            parts = _spectra(windows).view(np.float32)
            parts *= parts  # real and imaginary ones, in turn
            self._done.append(np.add.reduceat(parts, 2 * FIRST_BINS, axis=1))
            self._add_lines(parts)
            self._waiting = self._waiting[frames * HOP :]

    def _add_lines(self, parts: np.ndarray) -> None:
        begin, self._count = self._count, self._count + len(parts)
        for part in range(begin // LINED, -(-self._count // LINED)):
            some = parts[max(0, part * LINED - begin) : (part + 1) * LINED - begin]
            self._sums[part] = self._sums.get(part, 0) + _ONES[: len(some)] @ some

    def all(self) -> np.ndarray:
        return np.concatenate(self._done) if self._done else np.zeros((1, BANDS), np.float32)

    def lines(self) -> np.ndarray:
        """See `Fingerprint.lines`."""
        sums = [each[: 4 * LINES].reshape(LINES, 4) @ _ONES[:4] for each in self._sums.values()]
        if len(sums) > 1 and 0 < self._count % LINED < LINED / 2:
            sums[-2:] = [sums[-2] + sums[-1]]
        return np.stack(sums) if sums else np.zeros((1, LINES), np.float32)


def _windows(sound: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The frames of a sound, every `HOP`th sample, faded in and out; of `sliding_window_view` only what is needed."""
    strides = (HOP * sound.itemsize, sound.itemsize)
    frames = np.ndarray((1 + (len(sound) - FRAME) // HOP, FRAME), sound.dtype, sound, strides=strides)
    return np.multiply(frames, _WINDOW, out=out)
