"""Who may ask the page's server, and for what. Everything else is refused before Gradio sees it.

What is open in the same browser can reach 127.0.0.1 as well: a page elsewhere, by forms, scripts and frames, or by a
name that it lets point there (DNS rebinding), and whatever else this machine serves on another port. So nothing is
answered but requests for this address, by this page, of the few kinds that the page makes.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from host_stubs.ui.drops import DROP, MOST_DROPPED, Drops
from host_stubs.ui.pulse import CLOSED, LOOK
from host_stubs.ui.sessions import Asked, Sessions

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Asgi: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 2**20
"""Of what a page sends: what is chosen and typed on it."""
MOST_SESSION = 200
"""Bytes of its session, with which it closes."""
TOKEN_HEADER = "x-host-page"
OLDER_PAGE = 409
"""The status that tells a page that it is not one of this server's."""

API = "/gradio_api"
READ = frozenset(
    ["/", "/theme.css", "/favicon.ico", "/manifest.json"] + [f"{API}/{name}" for name in ("app_id", "startup-events")]
)
READ_BELOW = ("/assets/", "/static/")
SOUND = f"{API}/file="
SENT = {
    LOOK: ("application/json", MOST_BYTES),
    CLOSED: ("application/json", MOST_SESSION),
    DROP: ("application/octet-stream", MOST_DROPPED),
}
"""What is sent where, and how many bytes of it at most."""

HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'",
    ),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Of each answer: the page takes nothing from elsewhere, and nobody shows it inside another one."""

SCRIPT = """<script>(() => {
  const fetch = window.fetch, notice = document.createElement('p');
  Object.assign(notice, {role: 'alert', className: 'notice'});
  let older = false;
  const say = text => {
    if (notice.textContent === text) return;
    notice.textContent = text;
    text ? document.body.prepend(notice) : notice.remove();
  };
  window.fetch = async (what, how = {}) => {
    if (new URL(what.url ?? what, location.href).origin !== location.origin) return fetch(what, how);
    const headers = new Headers(how.headers ?? what.headers);
    headers.set('%(header)s', '%(token)s');
    const answer = await fetch(what, {...how, headers}).catch(error => {
      say('The program does not answer. If it has ended, start it again: this page then loads again.');
      throw error;
    });
    if (answer.status !== %(status)d) say('');
    else if (!older) {
      older = true;
      say('The program was started anew since this page was opened. The page loads again.');
      setTimeout(() => location.reload(), 1500);
    }
    return answer;
  };
})();</script>"""


def page_script(token: str) -> str:
    """What a page needs in its head to be let in, to say that nobody answers, and to load again for another server."""
    return SCRIPT % {"header": TOKEN_HEADER, "token": token, "status": OLDER_PAGE}


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered, with the status that says so."""

    status: int
    why: str


class Door:
    """Stands before the page's application, and lets in what the page itself asks. To be the outermost.

    Args:
        app: the application.
        names: the hosts, each with its port, that the server is reached by.
        token: what a page of this server has in its script.
        sounds: the folder with the files that pages may fetch.
        sessions: the pages that are open; they answer what these ask for.
        drops: for sounds that are dropped on pages.
    """

    def __init__(
        self, app: Asgi, names: Iterable[str], token: str, sounds: Path, sessions: Sessions, drops: Drops
    ) -> None:
        self._app, self._names, self._token = app, frozenset(names), token
        self._sounds, self._sessions, self._drops = os.path.realpath(sounds), sessions, drops

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:  # the page has no web sockets
            await send({"type": "websocket.close", "code": 1008, "reason": "The page has no web sockets."})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path, headers = str(scope["method"]), str(scope["path"]), _headers(scope)
        refused = self.refusal(method, path, headers)
        if refused is not None:
            await _refuse(refused, send)
        elif method != "POST":
            await self._app(scope, receive, _hardened(send))
        elif path == DROP:
            await self._take(receive, send, int(headers["content-length"][0]))
        else:
            await self._hear(path, b"".join([chunk async for chunk in _chunks(receive, MOST_BYTES)]), send)

    async def _hear(self, path: str, body: bytes, send: Send) -> None:
        """Answer what a page asks for, or says."""
        said = _json(body)
        if path == LOOK and (asked := Asked.of(said)) is not None:
            answer = orjson.dumps(await self._sessions.answer(asked), option=orjson.OPT_SERIALIZE_NUMPY)
            await _respond(200, answer, send, "application/json")
        elif path == CLOSED and isinstance(said, str):
            self._sessions.closed(said)
            await _respond(200, b"", send)
        else:
            await _refuse(Refusal(400, "That is not what a page says."), send)

    async def _take(self, receive: Receive, send: Send, length: int) -> None:
        """Write what is dropped into a file, as it comes, and answer with its name."""
        drop, path = self._drops.new()
        with path.open("wb") as file:
            async for chunk in _chunks(receive, length):
                await asyncio.to_thread(file.write, chunk)
            whole = file.tell() == length
        if whole:
            await _respond(200, drop.encode(), send)
        else:
            await _refuse(Refusal(400, "That is not all of it."), send)

    def refusal(self, method: str, path: str, headers: dict[str, list[str]]) -> Refusal | None:
        """Why a request is refused by what stands before its body; None if it is not.

        Names of headers are in small letters.
        """
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._names:
            return Refusal(403, "This server is not reached by that name.")
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
            return Refusal(403, "Only this server's own page is answered.")
        sites = headers.get("sec-fetch-site", [])
        if any(site not in ("same-origin", "none") for site in sites) and not _opens_the_page(method, path, headers):
            return Refusal(403, "Only this server's own page is answered.")
        if method in ("GET", "HEAD"):
            return None if self._may_read(path) else Refusal(404, "The page has nothing like that.")
        if method != "POST" or path not in SENT:
            return Refusal(404, "The page does nothing like that.")
        kind, most = SENT[path]
        if headers.get("content-type", [""])[0].partition(";")[0].strip().lower() != kind:
            return Refusal(415, f"Only {kind} is taken.")
        if headers.get(TOKEN_HEADER) != [self._token]:
            return Refusal(OLDER_PAGE, "This page is not of this start of the program. Load it again.")
        length = headers.get("content-length", [""])[0]
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > most:
            return Refusal(413, f"At most {most:,} bytes are taken, and their number has to be said.")
        return None

    def _may_read(self, path: str) -> bool:
        if path.startswith(SOUND):
            try:
                return os.path.realpath(path.removeprefix(SOUND)).startswith(f"{self._sounds}{os.sep}")
            except ValueError:  # a zero in it
                return False
        return path in READ or path.startswith(READ_BELOW)


def _json(body: bytes) -> Any:
    """What is said as JSON; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _opens_the_page(method: str, path: str, headers: dict[str, list[str]]) -> bool:
    """Whether somebody follows a link to the page: the page that the link is on learns nothing of it."""
    how = [headers.get(f"sec-fetch-{name}") for name in ("mode", "dest")]
    return (method, path) == ("GET", "/") and how == [["navigate"], ["document"]]


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


async def _chunks(receive: Receive, length: int) -> AsyncIterator[bytes]:
    """What was sent, piece by piece, at most the bytes that there were said to be."""
    left, more = length, True
    while more and left > 0:
        message = await receive()
        chunk = message.get("body", b"")[:left]
        more = message["type"] == "http.request" and message.get("more_body", False)
        left -= len(chunk)
        yield chunk


def _hardened(send: Send) -> Send:
    """A `send` whose answers carry `HEADERS`, and let no page elsewhere read them."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message.get("headers", []) if not pair[0].lower().startswith(b"access-control-")]
            message = {**message, "headers": [*kept, *HEADERS]}
        await send(message)

    return sent


async def _refuse(refused: Refusal, send: Send) -> None:
    await _respond(refused.status, refused.why.encode(), send)


async def _respond(status: int, body: bytes, send: Send, kind: str = "text/plain; charset=utf-8") -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await _hardened(send)({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
