"""Sound files in and out: finding recordings in a folder, reading one as mono samples, writing a WAV."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from host_stubs.errors import HostError
from host_stubs.replace import new_file_in_place_of

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
OTHER_SUFFIXES = (
    ".aac",
    ".ac3",
    ".amr",
    ".ape",
    ".au",
    ".caf",
    ".m4a",
    ".mka",
    ".opus",
    ".rf64",
    ".w64",
    ".wma",
    ".wv",
)
"""Of sound files that are not used, but not passed over in silence either."""
SAMPLE_RATES = range(1_000, 1_000_001)  # Hz; a header that claims anything else is a broken header
_BLOCK = 1 << 18  # samples read at a time, so that a header's claim about the length allocates nothing


@dataclass(frozen=True)
class Found:
    """The sound files of a folder, and what in it looks like sound but cannot be used: each with the reason."""

    recordings: list[Path]
    left_out: list[tuple[Path, str]]


@dataclass(frozen=True)
class Written:
    """What was written to a sound file: how many samples, and the largest of them without its sign."""

    samples: int
    peak: float


def find_recordings(folder: Path) -> list[Path]:
    """All sound files below `folder`, as `look_through` finds them."""
    return look_through(folder).recordings


def look_through(folder: Path) -> Found:
    """The sound files below `folder`, recursively, by suffix, in an order that is the same on every machine.

    Hidden files and folders are left out without a word: macOS writes a hidden "._name.wav" beside each file on foreign
    disks. Links to folders are not followed, for they may lead in a circle.
    Raises HostError if `folder` is not a folder.
    """
    if not folder.is_dir():
        raise HostError(f"{folder} is not a folder." if folder.exists() else f"There is no folder {folder}.")
    found = Found([], [])

    def unreadable(error: OSError) -> None:
        found.left_out.append((Path(error.filename), f"{error.filename} cannot be looked into ({error.strerror})."))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            path = Path(place, name)
            if path.is_symlink():
                found.left_out.append((path, f"{path} is a link to a folder, which is not followed."))
        for name in files:
            path = Path(place, name)
            suffix = path.suffix.lower()
            if name.startswith("."):
                continue
            if suffix in OTHER_SUFFIXES:
                found.left_out.append((path, f"{path} is of a kind that is not read; make it a WAV or FLAC file."))
            elif suffix in SUFFIXES and path.is_file():
                found.recordings.append(path)
            elif suffix in SUFFIXES:
                found.left_out.append((path, f"{path} is no file, or a link to none."))
    found.recordings.sort(key=lambda path: path.relative_to(folder).parts)
    found.left_out.sort()
    return found


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
        with soundfile.SoundFile(path) as file:
            if file.samplerate not in SAMPLE_RATES:
                claim = f"its header claims {file.samplerate} samples per second"
                raise HostError(f"{path} cannot be read as sound: {claim}.")
            yield from _resampled(_mono_blocks(file, path, most_seconds), file.samplerate, sample_rate, path)
    except (soundfile.SoundFileError, OSError) as error:
        raise HostError(f"{path} cannot be read as sound: {_reason(error)}.") from error


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


def peak_normalized(audio: np.ndarray) -> np.ndarray:
    """`audio` scaled so that its largest sample is 1 or -1; silence stays silence."""
    return scaled_to_peak(audio, float(np.abs(audio).max(initial=0.0)))


def scaled_to_peak(audio: np.ndarray, peak: float) -> np.ndarray:
    """`audio`, a part of a sound with this peak, scaled as `peak_normalized` scales that sound."""
    # A peak too small to divide by in float32 is silence too.
    return audio / np.float32(peak) if peak > np.finfo(np.float32).tiny else np.zeros_like(audio)


def write_wav(path: Path, audio: np.ndarray, sample_rate: int) -> None:
    """Write float `[samples]` in -1..1 as a 16-bit WAV, in one step; what lies outside is clipped.

    Raises HostError if the file cannot be written; an old one of that name is then as it was.
    """
    write_wav_blocks(path, [audio], sample_rate)


def write_wav_blocks(path: Path, blocks: Iterable[np.ndarray], sample_rate: int) -> Written:
    """Write sound as `write_wav` does, as it comes, block after block, so that memory does not grow with its length."""
    samples, peak = 0, 0.0
    try:
        with (
            new_file_in_place_of(path) as new,
            new.path.open("wb") as file,
            soundfile.SoundFile(file, "w", sample_rate, channels=1, subtype="PCM_16", format="WAV") as wav,
        ):
            for block in blocks:
                wav.write(np.clip(block, -1.0, 1.0))
                samples, peak = samples + len(block), max(peak, float(np.abs(block).max(initial=0.0)))
    except soundfile.SoundFileError as error:
        raise HostError(f"{path} cannot be written: {_reason(error)}.") from error
    return Written(samples, peak)


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


def _reason(error: Exception) -> str:
    """What libsndfile or the system says, without the path that they repeat."""
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(reason.split()).rstrip(".")
