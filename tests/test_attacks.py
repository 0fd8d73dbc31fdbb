"""Attacks on a real `host ui`: what other pages can send to it is refused, at once, and it goes on answering."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from gradio.routes import App
from starlette.routing import Mount

from host_stubs.host import Host
from host_stubs.plugins import load_plugins
from host_stubs.ui import Jobs, Live, SavedModels
from host_stubs.ui.door import MOST_BYTES
from host_stubs.ui.drops import DROP, MOST_DROPPED, Drops
from host_stubs.ui.page import build_page
from host_stubs.ui.pulse import CLOSED, LOOK

pytestmark = pytest.mark.slow

AT_ONCE, TRIES = 1.0, 3
"""Seconds until an answer comes, and how often it is asked for where other work has the processors."""
ELSEWHERE = "evil.example"
PREDICT, SERVER = "/gradio_api/run/predict", "/gradio_api/component_server/"


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Target:
    """A `host ui` that runs, and the token that its page has."""

    port: int
    token: str
    models: Path

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> Answer:
        """One request, as the page itself would make it but for `headers`; answered at once."""
        for _ in range(TRIES):
            began = time.monotonic()
            answer = self._answer(method, path, headers, body)
            if time.monotonic() - began < AT_ONCE:
                return answer
        raise AssertionError(f"{method} {path} takes longer than {AT_ONCE} s")

    def _answer(self, method: str, path: str, headers: dict[str, str] | None, body: bytes | None) -> Answer:
        own = {"Host": self.name, "X-Host-Page": self.token, "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {**own, **(headers or {})})
            answer = connection.getresponse()
            stream = answer.status == 200 and "event-stream" in answer.headers.get("content-type", "")
            text = "" if stream else answer.read().decode("utf-8", "replace")
            return Answer(answer.status, text, {name.lower(): value for name, value in answer.getheaders()})
        finally:
            connection.close()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    models = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-m", "host_stubs.cli", "ui", "--port", "0", "--models", str(models), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        port = int(json.loads(process.stdout.readline())["url"].rstrip("/").rpartition(":")[2])
        try:
            page = Target(port, "", models).ask("GET", "/")
            token = re.search(r"x-host-page', '([\w-]+)'", page.text.replace("\\u0027", "'"))
            assert token, "the page carries its token"
            yield Target(port, token[1], models)
            assert process.poll() is None
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Method and path of everything that Gradio answers, and of what it would without our knowing."""
    host, folder = Host(load_plugins()), tmp_path_factory.mktemp("none")
    app = App.create_app(build_page(host, SavedModels(folder, host), folder, Jobs(), Live(), Drops(folder)))
    found = {request for route in app.routes for request in requests_of(route)}
    assert {("POST", "/gradio_api/upload"), ("GET", "/gradio_api/file=x"), ("GET", "/gradio_api/proxy=x")} <= found
    return sorted(found)


def requests_of(route: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """What a route answers, with "x" for whatever may stand somewhere in its path."""
    inside = route.effective_route_contexts() if hasattr(route, "effective_route_contexts") else None
    if isinstance(route, Mount):
        inside, before = route.routes, before + route.path
    if inside is not None:
        for each in inside:
            yield from requests_of(each, before)
        return
    path = before + re.sub(r"{[^}]*}", "x", route.path)
    yield from ((method, path) for method in getattr(route, "methods", None) or ("GET", "POST"))


def refused(answer: Answer) -> bool:
    """Whether the door itself has refused it, and nobody else is let read that."""
    return answer.status == 403 and not any(name.startswith("access-control-") for name in answer.headers)


def test_the_page_itself_is_answered_and_so_is_a_link_to_it(target: Target) -> None:
    assert target.ask("GET", "/").status == 200
    assert target.ask("GET", "/", {"Host": f"localhost:{target.port}"}).status == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert target.ask("GET", "/", link).status == 200
    assert refused(target.ask("GET", "/", {**link, "Sec-Fetch-Dest": "iframe"}))
    assert "frame-ancestors 'none'" in target.ask("GET", "/").headers["content-security-policy"]


def test_only_what_the_page_needs_is_let_in(target: Target, requests: list[tuple[str, str]]) -> None:
    let_in = {path for method, path in requests if target.ask(method, path).status not in (403, 404)}
    api = {"app_id", "startup-events"}
    own = {"/", "/theme.css", "/favicon.ico", "/manifest.json"}
    assert let_in <= own | {f"/gradio_api/{name}" for name in api}
    assert {"/", "/gradio_api/app_id"} <= let_in
    assert [path for path in (PREDICT, SERVER) if target.ask("POST", path, body=b"{}").status != 404] == []


@pytest.mark.parametrize(
    "host", [ELSEWHERE, f"{ELSEWHERE}:PORT", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:PORT.", "0.0.0.0:PORT"]
)
def test_a_name_that_only_points_here_is_answered_on_no_route(
    target: Target, requests: list[tuple[str, str]], host: str
) -> None:
    host = host.replace("PORT", str(target.port))
    for origin in ({}, {"Origin": f"http://{host}"}):
        answered = [each for each in requests if not refused(target.ask(*each, {"Host": host, **origin}, b"{}"))]
        assert answered == []


@pytest.mark.parametrize(
    "origin", [f"http://{ELSEWHERE}", "http://127.0.0.1:1", "http://localhost:PORT", "https://127.0.0.1:PORT", "null"]
)
def test_another_origin_is_answered_on_no_route(target: Target, requests: list[tuple[str, str]], origin: str) -> None:
    foreign = {"Origin": origin.replace("PORT", str(target.port))}
    preflights = [("OPTIONS", path) for _, path in requests]
    foreign_requests = [*requests, *preflights, ("POST", LOOK), ("POST", CLOSED)]
    answered = [each for each in foreign_requests if not refused(target.ask(*each, foreign, b"{}"))]
    assert answered == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_the_browser_says_comes_from_another_site_is_answered_on_no_route(
    target: Target, requests: list[tuple[str, str]], site: str
) -> None:
    foreign = {"Sec-Fetch-Site": site}
    assert [each for each in requests if not refused(target.ask(*each, foreign, b"{}"))] == []


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", ""]
)
def test_a_post_that_any_page_may_send_is_taken_on_no_route(
    target: Target, requests: list[tuple[str, str]], kind: str
) -> None:
    body = b'{"data":[],"fn_index":0,"session_hash":"stranger"}'
    posts = [path for method, path in requests if method == "POST"] + [LOOK, CLOSED]
    answers = {path: target.ask("POST", path, {"Content-Type": kind}, body).status for path in posts}
    assert set(answers.values()) <= {404, 415}
    assert answers[LOOK] == answers[CLOSED] == 415


def test_a_post_without_the_pages_token_or_with_an_older_one_is_told_to_load_again(target: Target) -> None:
    for path in (LOOK, CLOSED, DROP):
        for token in ("", "x" * len(target.token)):
            kind = "application/octet-stream" if path == DROP else "application/json"
            answer = target.ask("POST", path, {"X-Host-Page": token, "Content-Type": kind}, b"{}")
            assert answer.status == 409
            assert answer.text == "This page is not of this start of the program. Load it again."


def test_uploads_are_off(target: Target) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nsound\r\n--b--\r\n'
    for path in ("/gradio_api/upload", "/gradio_api/upload?upload_id=1", LOOK, PREDICT):
        answer = target.ask("POST", path, {"Content-Type": "multipart/form-data; boundary=b"}, form)
        assert answer.status in (404, 415)
        assert target.ask("POST", path, body=b" " * (MOST_BYTES + 1)).status in (404, 413)
    with socket.create_connection(("127.0.0.1", target.port), timeout=20) as line:
        line.sendall(
            f"POST {LOOK} HTTP/1.1\r\nHost: {target.name}\r\nX-Host-Page: {target.token}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        assert line.recv(20).startswith(b"HTTP/1.1 413")


def test_a_sound_that_is_dropped_is_taken_from_the_page_alone_whole_and_not_too_large(target: Target) -> None:
    kind = {"Content-Type": "application/octet-stream"}
    answer = target.ask("POST", DROP, kind, b"sound")
    assert (answer.status, len(answer.text)) == (200, 32)
    assert refused(target.ask("POST", DROP, {**kind, "Origin": f"http://{ELSEWHERE}"}, b"sound"))
    assert target.ask("POST", DROP, {**kind, "X-Host-Page": "x"}, b"sound").status == 409
    assert target.ask("POST", DROP, {"Content-Type": "audio/wav"}, b"sound").status == 415
    assert target.ask("POST", DROP, {**kind, "Content-Length": str(MOST_DROPPED + 1)}, b"sound").status == 413
    assert target.ask("GET", DROP).status == 404


def test_a_page_says_that_it_closes_itself_and_for_no_other_origin(target: Target) -> None:
    assert target.ask("POST", CLOSED, body=b'"x"').status == 200
    assert refused(target.ask("POST", CLOSED, {"Origin": f"http://{ELSEWHERE}"}, b'"x"'))
    assert target.ask("POST", CLOSED, body=b'"' + b"x" * 300 + b'"').status == 413
    assert target.ask("GET", CLOSED).status == 404


def test_nothing_is_fetched_from_another_address(target: Target) -> None:
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - what the base class calls

    listener = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{listener.server_port}/secret.wav"
    try:
        for path in (f"file={address}", f"proxy={address}", f"file/{address}", f"file=%68ttp://{ELSEWHERE}/"):
            assert target.ask("GET", f"/gradio_api/{path}").status == 404
        file = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}}
        named = json.dumps({"data": [None, file], "fn_index": 4, "session_hash": "x"})
        for text in (named, named.replace('"path"', '"p\\u0061th"')):
            answer = target.ask("POST", LOOK, body=text.encode())
            assert (answer.status, answer.text) == (400, "That is not what a page says.")
    finally:
        listener.shutdown()
        listener.server_close()
    assert asked == []


def test_no_path_leads_to_a_file_that_is_no_sound_of_a_page(target: Target, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(b"secret")
    inside = target.ask("GET", "/").text  # where the sounds are is not said
    assert "host-ui-" not in inside
    for path in (
        "/etc/passwd",
        str(tmp_path / "secret.wav"),
        f"{os.sep}tmp",
        "../../etc/passwd",
        "%00",
        "/dev/zero",
        "//host/share/x",
    ):
        assert target.ask("GET", f"/gradio_api/file={path}").status == 404
        assert target.ask("GET", f"/assets/../../{path}").status in (403, 404)
        assert target.ask("GET", f"/static/..%2f..%2f{path}").status in (403, 404)


def test_web_sockets_and_two_names_at_once_are_refused(target: Target) -> None:
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    for more in (f"Upgrade: websocket\r\nConnection: Upgrade\r\n{key}", f"Host: {ELSEWHERE}\r\n"):
        with socket.create_connection(("127.0.0.1", target.port), timeout=20) as line:
            line.sendall(f"GET /gradio_api/queue/data HTTP/1.1\r\nHost: {target.name}\r\n{more}\r\n".encode())
            assert re.match(rb"HTTP/1.1 4\d\d ", line.recv(20))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"data": [' + b"0," * 100_000 + b"0]}"])
def test_what_is_no_json_of_a_page_is_answered_and_harms_nothing(target: Target, body: bytes) -> None:
    for path in (PREDICT, LOOK, "/gradio_api/queue/join"):
        assert target.ask("POST", path, body=body).status >= 400
    assert target.ask("GET", "/").status == 200
