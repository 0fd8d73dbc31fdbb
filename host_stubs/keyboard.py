"""Keys that are pressed in the terminal, one by one, without Enter."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ESCAPE = b"\x1b"
_MOST = 64  # bytes that are read at once


@contextmanager
def pressed_keys() -> Iterator[Callable[[float], str] | None]:
    """Inside the block: a function that waits for so many seconds, or for keys, and gives these.

    None where standard input is no terminal, or not this program's at the moment. The terminal is as it was after it,
    however the block ends. Ctrl-C and its kind stay what they are.
    """
    number = _terminal()
    if number is None:
        yield None
        return
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield lambda seconds: _read(number, seconds)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _terminal() -> int | None:
    """The descriptor of standard input, if it is a terminal that belongs to this program: it has the foreground."""
    try:
        number = sys.stdin.fileno()
        return number if os.isatty(number) and os.tcgetpgrp(number) == os.getpgrp() else None
    except (OSError, ValueError):  # no descriptor, closed, or a terminal of others
        return None


def _read(number: int, seconds: float) -> str:
    if not select.select([number], [], [], seconds)[0]:
        return ""
    try:
        found = os.read(number, _MOST)
    except OSError:  # the terminal is gone
        found = b""
    if not found:
        time.sleep(seconds)  # nor will there be anything at the next call
    # An arrow, say, comes as an escape with letters after it that mean other keys.
    return found.partition(_ESCAPE)[0].decode("ascii", errors="replace")
