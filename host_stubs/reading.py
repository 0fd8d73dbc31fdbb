"""Reading a sound file as mono samples, block after block."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from host_stubs.errors import HostError

SAMPLE_RATES = range(1_000, 1_000_001)  # Hz; a header that claims anything else is a broken header
_BLOCK = 1 << 18  # samples read at a time, so that a header's claim about the length allocates nothing


def read_recording(path: Path, sample_rate: int, most_seconds: float = math.inf) -> np.ndarray:
    """The recording as float32 mono `[samples]` at `sample_rate` Hz: channels are averaged, then soxr resamples.

    Raises HostError, one line that names the file, if it cannot be read to its end, is empty or is not finite, or is
    longer than `most_seconds`, of which no more is read then.
    """
    return np.concatenate(list(recording_blocks(path, sample_rate, most_seconds)))


def recording_blocks(path: Path, sample_rate: int, most_seconds: float = math.inf) -> Iterator[np.ndarray]:
    """The recording as `read_recording` gives it, block after block, so that memory does not grow with its length.

    Raises HostError as that does, where the reason for it is met.
    """
    try:
        if not path.stat().st_size:
            raise HostError(f"{path} is empty (0 bytes).")
        if missing := _missing_bytes(path):
            raise HostError(f"{path} is cut off: its header promises {missing} more bytes.")
        with soundfile.SoundFile(os.fsencode(path)) as file:  # as bytes, any name will do
            if file.samplerate not in SAMPLE_RATES:
                claim = f"its header claims {file.samplerate} samples per second"
                raise HostError(f"{path} cannot be read as sound: {claim}.")
            yield from _resampled(_mono_blocks(file, path, most_seconds), file.samplerate, sample_rate, path)
    except (soundfile.SoundFileError, OSError) as error:
        raise HostError(f"{path} cannot be read as sound: {reason(error)}.") from error


def _mono_blocks(file: soundfile.SoundFile, path: Path, most_seconds: float) -> Iterator[np.ndarray]:
    """The mean of a file's channels."""
    read = 0
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        read += len(block)
        if read > most_seconds * file.samplerate:
            raise HostError(f"{path} is longer than {most_seconds / 60:g} minutes; give a shorter one.")
        mono = block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise HostError(f"{path} holds samples that are not finite numbers.")
        yield mono


def _resampled(blocks: Iterable[np.ndarray], before: int, after: int, path: Path) -> Iterator[np.ndarray]:
    """Blocks at another rate. Raises HostError if there is no sound in them."""
    resampler = soxr.ResampleStream(before, after, 1, dtype="float32") if before != after else None
    first, given = np.zeros(0, np.float32), 0
    for block in blocks:
        first = first if len(first) else block[:1]
        out = block if resampler is None else resampler.resample_chunk(block)
        given += len(out)
        if len(out):
            yield out
    if not len(first):
        raise HostError(f"{path} is empty: it holds no sound.")
    last = first[:0] if resampler is None else resampler.resample_chunk(first[:0], last=True)
    # Resampling can leave nothing of a sound of a few samples.
    yield last if len(last) or given else first


def _missing_bytes(path: Path) -> int:
    """How many bytes a RIFF or AIFF header promises beyond the end of the file.

    libsndfile reads a file whose copying was interrupted as if its sound were only shorter.
    """
    with path.open("rb") as file:
        kind, length = file.read(4), file.read(4)
    if kind not in (b"RIFF", b"FORM"):
        return 0
    promised = int.from_bytes(length, "little" if kind == b"RIFF" else "big")
    if promised > 0x7FFF0000:  # written to a pipe: the length was not known
        return 0
    missing = promised + 8 - path.stat().st_size
    return missing if missing > 8 else 0  # many programs count the header's own 8 bytes, or a padding byte, too


def reason(error: Exception) -> str:
    """What libsndfile or the system says, without the path that they repeat."""
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(reason.split()).rstrip(".")
