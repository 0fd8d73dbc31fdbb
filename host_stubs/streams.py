"""The three streams that a program is born with: none of them may be missing, and what is said may go unheard."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

_NAMES = ("stdin", "stdout", "stderr")


class _Unheard(io.FileIO):
    """A descriptor whose writes never fail: what cannot be said, the terminal being gone or the disk full, is not."""

    def write(self, data: Any) -> int:
        try:
            written = super().write(data)
        except OSError:
            return memoryview(data).nbytes
        return memoryview(data).nbytes if written is None else written


def keep_streams() -> None:
    """Give the program the streams that it was started without, reading and writing nothing; stderr never fails.

    Without that, a file that is opened would get the number of a stream, and be written into; and a message that cannot
    be written would end an hour of training.
    """
    own = sys.stderr is sys.__stderr__
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, _stream(number))
    if own and os.name == "posix":  # elsewhere a console is no plain descriptor
        errors = "backslashreplace"  # as Python has it for stderr
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_Unheard(2, "w", closefd=False)), sys.stderr.encoding, errors, line_buffering=True
        )


def _stream(number: int) -> io.TextIOWrapper:
    raw = io.FileIO(number, "w" if number else "r", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw) if number else io.BufferedReader(raw), "utf-8")
