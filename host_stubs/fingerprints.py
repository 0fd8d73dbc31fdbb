"""What a recording is known by: its sound, and how loud each band of it is from moment to moment."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import soxr

from host_stubs.errors import HostError

RATE = 16_000  # Hz: noise that covers all bands drowns a hi-hat's share below 4 kHz
FRAME, HOP = 1024, 512  # samples: 64 ms, every 32 ms
BANDS = 20  # a third of an octave each; the lowest takes all below 120 Hz
_FREQUENCIES = np.fft.rfftfreq(FRAME, 1 / RATE)
FIRST_BINS = np.searchsorted(_FREQUENCIES, np.concatenate([[0], 120 * 2 ** (np.arange(BANDS - 1) / 3)]))
_WINDOW = np.hanning(FRAME).astype(np.float32)
_QUALITY = "MQ"  # of resampling, as soxr calls it
_IN_MEMORY = 128 * 2**20  # bytes of sound: an hour
MOST_SECONDS = 12 * 3600  # of sound that is listened to: more than a GB on disk
_AT_ONCE = 256  # frames of which spectra are computed at once, in room that is kept: new memory takes longer
_SILENCE = 1e-7  # of the power of a recording's loudest moment
_QUIET = 0.2  # share of a recording's moments that are its background
SECOND = RATE // HOP  # frames
_UPPER = int(sys.byteorder == "little")  # which half of a float32 has the sign


@dataclass(frozen=True)
class Fingerprint:
    """A recording as it was heard.

    Attributes:
        start: where its sound begins in what `Fingerprints.sound` reads, in samples.
        samples: how many there are, at `RATE`.
        levels: float32 `[frames, BANDS]`, power of each band around every `HOP`th sample.
        heard: (first, last) of the frames between the silence before it and the silence after it.
        background: `[BANDS]`, the power that each band hardly ever falls below between those.
        loudest: power of its loudest second, or of all of it where it is shorter.
    """

    start: int
    samples: int
    levels: np.ndarray
    heard: tuple[int, int]
    background: np.ndarray
    loudest: float


class Fingerprints:
    """Listens to recordings, and keeps what they are known by.

    The sound of the first hour is kept in memory, of more than that in a temporary file that nobody else sees and that
    goes with this object.

    Attributes:
        of: what each is known by, from its name.
        passed_on: how many recordings were not listened to.
    """

    def __init__(self) -> None:
        self.passed_on = 0
        self.of: dict[str, Fingerprint] = {}
        # a context of one `with` would end before what is kept is asked for
        self._sound = tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="sounds-")  # noqa: SIM115 - closed on exit
        self._end = 0
        self._frames = np.empty((_AT_ONCE, FRAME), np.float32)
        self._spectra = np.empty((_AT_ONCE, len(_FREQUENCIES)), np.complex64)

    def __enter__(self) -> Fingerprints:
        return self

    def __exit__(self, *_: object) -> None:
        self._sound.close()

    def listen(self, name: str, blocks: Iterable[np.ndarray], rate: int) -> None:
        """Hear a recording at `rate` Hz, block after block; then it is known. After `MOST_SECONDS` of sound recordings
        are only counted.

        Raises HostError if its sound cannot be kept.
        """
        if self._end >= MOST_SECONDS * RATE:
            self.passed_on += 1
            return
        levels, start = _Levels(self._frames, self._spectra), self._end
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
        self.of[name] = _fingerprint(start, self._end - start, levels.all())

    def sound(self, name: str, first: int, last: int) -> np.ndarray:
        """The samples from `first` to `last` of a recording, float32; where it has none there is silence."""
        known = self.of[name]
        start, end = max(first, 0), min(last, known.samples)
        sound = np.zeros(last - first, np.float32)
        if start < end:
            self._sound.seek(2 * (known.start + start))
            upper = np.frombuffer(self._sound.read(2 * (end - start)), np.uint16)
            sound.view(np.uint16)[_UPPER::2][start - first : end - first] = upper
        return sound

    def _hear(self, sound: np.ndarray, levels: _Levels, last: bool = False) -> None:
        levels.add(sound, last)
        try:
            self._sound.seek(2 * self._end)
            self._sound.write(_upper_half(sound).data)
            self._sound.flush()
        except OSError as error:
            raise HostError(
                f"So many recordings need room in {tempfile.gettempdir()} while they are compared; there it failed "
                f"({error.strerror}). Make room there, or set TMPDIR to another folder."
            ) from error
        self._end += len(sound)


def _upper_half(sound: np.ndarray) -> np.ndarray:
    """Of each float32 the 16 bits that say most (bfloat16), rounded: wrong by a 500th part at most, however faint the
    sound. To float16 numpy converts what is faint a hundred times slower."""
    return np.ascontiguousarray((sound.view(np.uint32) + np.uint32(0x8000)).view(np.uint16)[_UPPER::2])


def spectra(sound: np.ndarray) -> np.ndarray:
    """Spectra around every `HOP`th sample, complex64 `[1 + len(sound) // HOP, bins]`; beyond both ends is silence."""
    padded = np.pad(sound, FRAME // 2)
    return np.fft.rfft(_windows(padded))


def in_bands(of_bins: np.ndarray) -> np.ndarray:
    """The sums over each band, `[..., bins]` to `[..., BANDS]`."""
    return np.add.reduceat(of_bins, FIRST_BINS, axis=-1)


class _Levels:
    """The levels of a sound that comes in blocks, as `spectra` of all of it would give them.

    What they are computed in is given: complex64 `[frames, bins]` for so many spectra at once, and their frames.
    """

    def __init__(self, frames: np.ndarray, spectra: np.ndarray) -> None:
        self._frames, self._spectra = frames, spectra
        self._waiting = np.zeros(FRAME // 2, np.float32)
        self._done: list[np.ndarray] = []

    def add(self, sound: np.ndarray, last: bool = False) -> None:
        """Hear more; after the `last` comes silence."""
        silence = np.zeros(FRAME // 2 if last else 0, np.float32)
        self._waiting = np.concatenate([self._waiting, sound, silence])
        while (frames := min(1 + (len(self._waiting) - FRAME) // HOP, len(self._frames))) >= 1:
            windows = _windows(self._waiting[: (frames - 1) * HOP + FRAME], self._frames[:frames])
            parts = np.fft.rfft(windows, out=self._spectra[:frames]).view(np.float32)
            parts *= parts  # real and imaginary ones, in turn
            self._done.append(np.add.reduceat(parts, 2 * FIRST_BINS, axis=1))
            self._waiting = self._waiting[frames * HOP :]

    def all(self) -> np.ndarray:
        return np.concatenate(self._done) if self._done else np.zeros((1, BANDS), np.float32)


def _windows(sound: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The frames of a sound, every `HOP`th sample, faded in and out; of `sliding_window_view` only what is needed."""
    strides = (HOP * sound.itemsize, sound.itemsize)
    frames = np.ndarray((1 + (len(sound) - FRAME) // HOP, FRAME), sound.dtype, sound, strides=strides)
    return np.multiply(frames, _WINDOW, out=out)


def _fingerprint(start: int, samples: int, levels: np.ndarray) -> Fingerprint:
    power = levels.sum(axis=1)
    audible = np.flatnonzero(power >= _SILENCE * power.max())
    first, last = int(audible[0]), int(audible[-1]) + 1
    return Fingerprint(start, samples, levels, (first, last), _background(levels[first:last]), _loudest_second(power))


def _background(levels: np.ndarray) -> np.ndarray:
    """The quantile `_QUIET` of each band, as np.quantile gives it several times slower."""
    place = _QUIET * (len(levels) - 1)
    below, above = int(place), min(int(place) + 1, len(levels) - 1)
    sorted_there = np.partition(levels, (below, above), axis=0)
    return sorted_there[below] + (sorted_there[above] - sorted_there[below]) * np.float32(place - below)


def _loudest_second(power: np.ndarray) -> float:
    """Mean power of a frame in the loudest second, given the power of each."""
    length = min(SECOND, len(power))
    sums = np.concatenate([[0.0], np.cumsum(power, dtype=np.float64)])
    return float((sums[length:] - sums[:-length]).max() / length)
