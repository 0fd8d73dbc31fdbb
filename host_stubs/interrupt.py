"""What ends a training gently: Ctrl-C, SIGTERM, and the terminal that is closed. The second time it ends at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOPPING = b"\nStopping as soon as possible. Ctrl-C again stops at once.\n"
MEANT_ONCE = 1.0
"""Seconds in which a second SIGTERM is the first one: `timeout` sends it to the program and to its group.

A second SIGHUP always is: who closes a terminal sends it, and so do the shell in it and the shell's end.
"""
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # not every system has all of them


class Stop(threading.Event):
    """Set by the first signal; `exit_code` is then what a shell reports of a program that this signal has ended."""

    exit_code = 128 + signal.SIGINT

    def __init__(self, notice: bytes = STOPPING) -> None:
        super().__init__()
        self.notice, self._since = notice, 0.0

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Take a signal. The second one raises KeyboardInterrupt, but for what is sent twice when it is meant once."""
        if not self.is_set():
            self.exit_code, self._since = 128 + number, time.monotonic()
            self.set()
            with suppress(OSError):  # the terminal may be gone
                os.write(2, self.notice)  # unlike print, safe in the middle of another print
        elif number == signal.SIGINT or (number == signal.SIGTERM and time.monotonic() - self._since > MEANT_ONCE):
            raise KeyboardInterrupt


@contextmanager
def stop_on_interrupt(notice: bytes = STOPPING) -> Iterator[Stop]:
    """Inside the block the first SIGINT, SIGTERM or SIGHUP sets the event, the second one raises KeyboardInterrupt.

    Inside another such block it is that one's event. `notice` is written to stderr when it is set.
    """
    outer = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if isinstance(outer, Stop):
        yield outer
        return
    stop = Stop(notice)
    if threading.current_thread() is not threading.main_thread():  # only there can a signal be taken
        yield stop
        return
    before = {number: signal.signal(number, stop.on_signal) for number in _taken()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _taken() -> list[signal.Signals]:
    """The signals to take: not a SIGHUP or SIGTERM that whoever started this had ignored, as nohup does."""
    known = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    return [each for each in known if each == signal.SIGINT or signal.getsignal(each) != signal.SIG_IGN]
