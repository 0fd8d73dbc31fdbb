"""Sound as samples: its peak, and writing it to a WAV file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from host_stubs.errors import HostError
from host_stubs.reading import reason
from host_stubs.replace import new_file_in_place_of


@dataclass(frozen=True)
class Written:
    """What was written to a sound file: how many samples, and the largest of them without its sign."""

    samples: int
    peak: float


def peak_normalized(audio: np.ndarray) -> np.ndarray:
    """`audio` scaled so that its largest sample is 1 or -1; silence stays silence."""
    return scaled_to_peak(audio, float(np.abs(audio).max(initial=0.0)))


def scaled_to_peak(audio: np.ndarray, peak: float) -> np.ndarray:
    """`audio`, a part of a sound with this peak, scaled as `peak_normalized` scales that sound."""
    # A peak too small to divide by in float32 is silence too.
    return audio / np.float32(peak) if peak > np.finfo(np.float32).tiny else np.zeros_like(audio)


def between(blocks: Iterable[np.ndarray], first: int, end: int) -> Iterator[np.ndarray]:
    """The samples `first` to `end` (excluded) of sound that comes in blocks."""
    at = 0
    for block in blocks:
        yield block[max(0, first - at) : max(0, end - at)]
        at += len(block)


def write_wav(path: Path, audio: np.ndarray, sample_rate: int) -> None:
    """Write float `[samples]` in -1..1 as a 16-bit WAV, in one step; what lies outside is clipped.

    Raises HostError if the file cannot be written; an old one of that name is then as it was.
    """
    write_wav_blocks(path, [audio], sample_rate)


def write_wav_blocks(
    path: Path,
    blocks: Iterable[np.ndarray],
    sample_rate: int,
    *,
    bits: int = 16,
    title: str = "",
    comment: str = "",
) -> Written:
    """Write sound as `write_wav` does, as it comes, block after block, so that memory does not grow with its length.

    `bits` a sample may be 24, too. A title and a comment stand in the file's tags.
    """
    samples, peak = 0, 0.0
    try:
        with (
            new_file_in_place_of(path) as new,
            new.path.open("wb", buffering=0) as file,
            soundfile.SoundFile(
                sink := _Sink(file), "w", sample_rate, channels=1, subtype=f"PCM_{bits}", format="WAV"
            ) as wav,
        ):
            for tag, text in (("title", title), ("comment", comment)):
                if text:  # libsndfile takes no empty ones
                    setattr(wav, tag, text)
            for block in blocks:
                wav.write(np.clip(block, -1.0, 1.0))
                if sink.error is not None:
                    raise sink.error
                samples, peak = samples + len(block), max(peak, float(np.abs(block).max(initial=0.0)))
    except soundfile.SoundFileError as error:
        raise HostError(f"{path} cannot be written: {reason(error)}.") from error
    return Written(samples, peak)


class _Sink:
    """An unbuffered file that libsndfile writes to. What goes wrong is kept in `error`: no exception finds its way
    through C."""

    def __init__(self, file: io.FileIO) -> None:
        self.error: OSError | None = None
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def write(self, data: bytes) -> int:
        """Write all of it. What cannot be written counts as written; there is an `error` then."""
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = self.error or error
        return len(data)
