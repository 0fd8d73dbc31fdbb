"""Ctrl-C during a training: the first stops it gently, the second at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = b"\nStopping as soon as possible. Ctrl-C again stops at once.\n"


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """Inside the block the first Ctrl-C sets the event, the second one raises KeyboardInterrupt."""
    stop = threading.Event()

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        os.write(2, _STOPPING)  # unlike print, safe in the middle of another print

    if threading.current_thread() is not threading.main_thread():  # only there can a signal be taken
        yield stop
        return
    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)
