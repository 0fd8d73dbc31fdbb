"""Sound for another program: bytes on standard output."""

from __future__ import annotations

import io
import os
import select
import stat
import struct
from collections.abc import Callable
from threading import Event

import numpy as np
import soundfile

from host_stubs.ahead import Ahead
from host_stubs.errors import HostError

_PIECE = 1024  # samples that are taken at once
_WAIT = 0.1  # seconds, between two looks at whether it is to end
_UNKNOWN = 0xFFFF_FFFF  # a WAV's size where nobody knows it, as FFmpeg writes it


def check_pipe(number: int, seconds: float | None) -> None:
    """Raise HostError if sound does not belong onto this descriptor: a terminal, or a file for sound without end."""
    if os.isatty(number):
        raise HostError("A terminal cannot show sound. Pipe it into a program: host play MODEL.sda -o - | aplay")
    if seconds is None and stat.S_ISREG(os.fstat(number).st_mode):
        raise HostError("Sound without end would fill the disk: --seconds says how long it is to be.")


def write_sound(
    number: int, ahead: Ahead, kind: str, rate: int, samples: int | None, stop: Event, look: Callable[[float], None]
) -> None:
    """Write sound to a descriptor until it is over, `stop` is set or nobody reads it any more.

    Args:
        number: the descriptor.
        ahead: the sound.
        kind: one of `playing.KINDS`.
        rate: Hz.
        samples: how many there will be; None for no end.
        stop: ends it.
        look: called every tenth of a second at least, with the seconds that it may take.

    Raises HostError where it cannot be written.
    """
    piece, lead = np.empty(_PIECE, np.float32), _wav_header(rate, samples) if kind == "wav" else b""
    left = b""
    while not stop.is_set():
        look(0)
        if not left:
            if not ahead.wait(1, _WAIT):
                continue
            count = ahead.take(piece)
            if not count:
                break
            lead, left = b"", lead + _encoded(piece[:count], kind, rate)  # no header where no sound comes
        if select.select([], [number], [], _WAIT)[1]:
            try:
                left = left[os.write(number, left[: select.PIPE_BUF]) :]  # so much never waits where there is room
            except BrokenPipeError:
                break
            except OSError as error:
                raise HostError(f"Standard output cannot be written: {error.strerror}.") from error


def _encoded(sound: np.ndarray, kind: str, rate: int) -> bytes:
    """float32 `[samples]` in -1..1 as bytes, those of 16 bits as `write_wav` makes them."""
    subtype = "FLOAT" if kind == "f32" else "PCM_16"
    made = io.BytesIO()
    soundfile.write(made, np.clip(sound, -1.0, 1.0), rate, subtype, "LITTLE", "RAW")
    return made.getvalue()


def _wav_header(rate: int, samples: int | None) -> bytes:
    """What stands before the samples of a mono WAV of 16 bits: how many they are, where that is known and fits."""
    size = 2 * samples if samples is not None and 2 * samples <= _UNKNOWN - 36 else _UNKNOWN
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return (
        struct.pack("<4sI4s4s", b"RIFF", min(36 + size, _UNKNOWN), b"WAVE", b"fmt ")
        + form
        + struct.pack("<4sI", b"data", size)
    )
