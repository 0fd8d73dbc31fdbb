"""What the server keeps of a page, an open model for one, goes with the page.

Gradio itself keeps a page's session for the life of the server. A connection held by each page would tell that it is
there, but a browser has six of them for one address: with six pages open, none could ask for anything.
"""

from __future__ import annotations

import asyncio
import ctypes
import datetime
import sys
from collections.abc import Callable

from gradio.state_holder import StateHolder

KEPT_SECONDS = 3600.0
"""After the last request of a page that has not said that it closes, as when its browser was killed: a page that nobody
looks at asks but once a minute, and none does while the machine sleeps."""
SECONDS_BETWEEN_LOOKS = 60.0
SECONDS_UNTIL_GIVEN_BACK = 10.0


class Sessions:
    """The pages that are open; `forget` is told of each that is not. All methods run in the server's event loop."""

    def __init__(self, states: StateHolder, forget: Callable[[str], None]) -> None:
        self._states, self._tell = states, forget
        self._will_look = self._will_give_back = False

    def asked(self) -> None:
        """A page has asked for something, so there is one."""
        if not self._will_look:
            self._will_look = True
            asyncio.get_running_loop().call_later(SECONDS_BETWEEN_LOOKS, self._look)

    def closed(self, session: str) -> None:
        """A page says that it closes: forget it."""
        with self._states.lock:
            self._states.session_data.pop(session, None)
            self._states.time_last_used.pop(session, None)
        self._tell(session)
        if not self._will_give_back:
            self._will_give_back = True
            asyncio.get_running_loop().call_later(SECONDS_UNTIL_GIVEN_BACK, self._give_back)

    def _look(self) -> None:
        """Forget the pages that have not asked for anything for long."""
        self._will_look = False
        before = datetime.datetime.now() - datetime.timedelta(seconds=KEPT_SECONDS)
        for session in list(self._states.session_data):
            if self._states.time_last_used.get(session, before) <= before:
                self.closed(session)
        if self._states.session_data:
            self.asked()

    def _give_back(self) -> None:
        self._will_give_back = False
        asyncio.get_running_loop().run_in_executor(None, _give_back)


def _give_back() -> None:
    """Let the system have again what is free. glibc keeps it: a third of the 25 MB that a hundred pages leave."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
