"""Sound files read with libsndfile."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import soundfile

from host_stubs.chunks import Rewritten, find_samples, has_bad_packets
from host_stubs.errors import HostError
from host_stubs.sound import Fault

_BLOCK = 1 << 18  # samples read at a time, so that a header's claim about the length allocates nothing
_STEPS = {"PCM_U8": 1 / 128, "PCM_S8": 1 / 128, "ALAW": 16 / 32_768, "ULAW": 8 / 32_768}
_UNKNOWN_FRAMES = 1 << 62  # what libsndfile says of a FLAC that was written to a pipe is beyond
_MPEG_CODECS = (0x50, 0x55)  # WAV's numbers of MPEG audio: libsndfile hands it to a library that writes to the terminal


class StoredSound:
    """An open sound file.

    Attributes:
        rate: Hz.
        step: the smallest step of its samples, of full scale; 0 where that is finer than can be heard.
        fault: what is wrong with it, as far as it is known so far.
    """

    def __init__(self, path: Path, good: int | None = None) -> None:
        """Open it, or as many bytes of it as are good. Raises HostError if libsndfile cannot read it, OSError if nobody
        can."""
        self.fault = Fault.NONE
        with ExitStack() as opened:
            file = opened.enter_context(path.open("rb"))
            self._samples = find_samples(file) if good is None else None
            if self._samples is not None and self._samples.codec in _MPEG_CODECS:
                raise HostError(f"{path} holds MPEG audio.")
            if has_bad_packets(file):
                raise HostError(f"{path} is damaged.")
            try:
                self._sound = opened.enter_context(soundfile.SoundFile(Rewritten(file, self._samples, good)))
            except soundfile.SoundFileError as error:
                raise HostError(f"{path} cannot be read as sound: {reason(error)}.") from error
            self._opened = opened.pop_all()
        self.rate = self._sound.samplerate
        self.step = _STEPS.get(self._sound.subtype, 0.0)
        self._read = 0

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    @property
    def promised(self) -> float | None:
        """How many seconds of sound the header says that there are; None where it does not say."""
        return self._sound.frames / self.rate if self._sound.frames < _UNKNOWN_FRAMES else None

    def blocks(self) -> Generator[np.ndarray, None, None]:
        """Its samples, float32 `[samples, channels]`, up to its end or to where it is damaged. To be asked for once."""
        while True:
            try:
                block = self._sound.read(_BLOCK, dtype="float32", always_2d=True)
            except soundfile.SoundFileError:
                self.fault = Fault.DAMAGED
                return
            if not len(block):
                break
            self._read += len(block)
            yield block
        if self._samples is not None and self._samples.forgotten:
            self.fault = Fault.UNFINISHED
        elif self._read < self._sound.frames:
            self.fault = Fault.DAMAGED


def reason(error: Exception) -> str:
    """What libsndfile or the system says, without the path that they repeat."""
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(reason.split()).rstrip(".")
