"""The pages that are open, and what the server keeps of them, an open model for one: it goes with the page.

A connection held by each page would tell that it is there, but a browser has six of them for one address: with six
pages open, none could ask for anything. And Gradio's own sessions would last for the life of the server.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import time
from typing import Any, NamedTuple

from host_stubs.ui.live import Live

KEPT_SECONDS = 3600.0
"""After the last request of a page that has not said that it closes, as when its browser was killed: a page that nobody
looks at asks but once a minute."""
SECONDS_BETWEEN_LOOKS = 60.0
SECONDS_UNTIL_GIVEN_BACK = 10.0


class Asked(NamedTuple):
    """What a page asks: what there is to show, after its acts, of which the last one has this number.

    Attributes:
        lost: whether an answer did not arrive, so that all is to be said again.
    """

    session: str
    number: int
    acts: list[tuple[int, list[Any]]]
    lost: bool

    @classmethod
    def of(cls, said: Any) -> Asked | None:
        """What a page says that asks, from JSON; None for anything else."""
        match said:
            case {"session": str(session), "number": int(number), "acts": list(said_acts), "lost": bool(lost)}:
                acts = [(act, values) for act, values in said_acts] if all(map(_is_act, said_acts)) else None
                return None if acts is None else cls(session, number, acts, lost)
        return None


def _is_act(said: Any) -> bool:
    match said:
        case [int(), list()]:
            return True
    return False


class Sessions:
    """The pages that are open: each asks again and again, until it says that it closes.

    All methods run in the server's event loop.
    """

    def __init__(self, live: Live, kept: float = KEPT_SECONDS, between: float = SECONDS_BETWEEN_LOOKS) -> None:
        self._live, self._kept, self._between = live, kept, between
        self._asked: dict[str, float] = {}
        self._will_look = self._will_give_back = False

    async def answer(self, asked: Asked) -> dict[str, Any]:
        """What `Live.answer` gives for what a page asks."""
        self._asked[asked.session] = time.monotonic()
        self._look_later()
        answer = await asyncio.to_thread(self._live.answer, *asked)
        if asked.session not in self._asked:  # it has closed meanwhile
            self._live.forget(asked.session)
        return answer

    def closed(self, session: str) -> None:
        """A page says that it closes: forget it."""
        self._asked.pop(session, None)
        self._live.forget(session)
        if not self._will_give_back:
            self._will_give_back = True
            asyncio.get_running_loop().call_later(SECONDS_UNTIL_GIVEN_BACK, self._give_back)

    def _look_later(self) -> None:
        if not self._will_look and self._asked:
            self._will_look = True
            asyncio.get_running_loop().call_later(self._between, self._look)

    def _look(self) -> None:
        """Forget the pages that have not asked for anything for long."""
        self._will_look = False
        now = time.monotonic()
        for session in [session for session, asked in self._asked.items() if asked < now - self._kept]:
            self.closed(session)
        self._look_later()

    def _give_back(self) -> None:
        self._will_give_back = False
        asyncio.get_running_loop().run_in_executor(None, _give_back)


def _give_back() -> None:
    """Let the system have again what is free, which glibc keeps."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
