"""What the server keeps of a page, an open model for one, goes a little after the page has gone.

Gradio itself keeps a page's session for the life of the server.
"""

from __future__ import annotations

import asyncio
import ctypes
import datetime
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradio.state_holder import StateHolder

KEPT_SECONDS = 10.0
"""After the last request of a page that is closed: its connection may only have been broken for a moment."""


class Sessions:
    """The pages that are open, each known by the connection that it holds; `forget` is told of each that is not."""

    def __init__(self, states: StateHolder, forget: Callable[[str], None]) -> None:
        self._states, self._tell = states, forget
        self._open: Counter[str] = Counter()
        self._will_look = False

    @contextmanager
    def open(self, session: str) -> Iterator[None]:
        """A page is open for the time of the block, which runs in the server's event loop."""
        self._open[session] += 1
        try:
            yield
        finally:
            self._open[session] -= 1
            self._open = +self._open
            self._look_later()

    def _look_later(self) -> None:
        if not self._will_look:
            self._will_look = True
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget)

    def _forget(self) -> None:
        """Forget the pages that are closed and have not asked for anything lately."""
        self._will_look = False
        before = datetime.datetime.now() - datetime.timedelta(seconds=KEPT_SECONDS)
        with self._states.lock:
            closed = [session for session in self._states.session_data if session not in self._open]
            for session in closed:
                if self._states.time_last_used.get(session, before) <= before:
                    self._states.session_data.pop(session)
                    self._tell(session)
                    self._states.time_last_used.pop(session, None)
                else:
                    self._look_later()
        if not self._will_look:
            asyncio.get_running_loop().run_in_executor(None, _give_back)


def _give_back() -> None:
    """Let the system have again what is free. glibc keeps it: a third of the 25 MB that a hundred pages leave."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
