"""A page in a real browser is safe to leave open: what it may do, what it is told, and what is left of it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import host_stubs
from host_stubs.plugins import Plugins

pytestmark = pytest.mark.slow

RELOADS, PAGES = 8, 9
"""More pages than a browser has connections for one address."""
SECONDS_UNTIL_FORGOTTEN = 30


def descriptors(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))


def test_a_strangers_model_is_looked_at_only_where_the_user_says_so(
    server: Any, trained_codec: Path, recordings: Path, open_page: Callable[..., Any],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = host_stubs.open_model(trained_codec)
    assert model.manifest is not None
    model.manifest = model.manifest.moved_to(recordings.parent / "nowhere")
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_STATE_HOME", str(tmp_path))
        host_stubs.save_model(model, server.models / "stranger.sda", Plugins())
    page = open_page(server.url)
    page.wait_for_selector("#prior-card dl")
    page.locator("#prior-dataset", has_text="this file is not from this machine").wait_for()
    assert page.is_disabled("#prior-train")
    assert page.input_value("#prior-folder input, #prior-folder textarea") == str(recordings.parent / "nowhere")
    page.fill("#prior-folder input, #prior-folder textarea", "~nobody-of-that-name")
    page.click("#prior-look")
    page.locator("#prior-message", has_text="There is no folder ~nobody-of-that-name.").wait_for()
    page.fill("#prior-folder input, #prior-folder textarea", str(recordings))
    page.click("#prior-look")
    page.wait_for_selector("#prior-train:enabled")
    page.locator("#prior-dataset", has_text=f"6 recordings in {recordings}").wait_for()
    (server.models / "stranger.sda").unlink()


@pytest.mark.parametrize(
    ("folder", "name", "says"),
    [
        ("~nobody-of-that-name", "", "There is no folder ~nobody-of-that-name."),
        ("/dev/zero", "", "There is no folder /dev/zero."),
        ("demo", "a/b", "A model cannot be called 'a/b'"),
    ],
)
def test_what_is_typed_for_a_folder_or_a_name_is_answered_in_a_sentence(
    server: Any, recordings: Path, open_page: Callable[..., Any], folder: str, name: str, says: str
) -> None:
    page = open_page(server.url)
    page.fill("#vqvae-folder input", str(recordings) if folder == "demo" else folder)
    page.press("#vqvae-folder input", "Enter")
    page.fill("#vqvae-name input, #vqvae-name textarea", name)
    page.click("#vqvae-train")
    page.locator("#vqvae-message", has_text=says).wait_for()


def test_a_page_of_an_older_server_says_so_and_loads_again(server: Any, chromium: Any) -> None:
    page = chromium.new_page()
    loads: list[str] = []

    def older(route: Any) -> None:
        """The first time with the token of another server."""
        answer = route.fetch()
        text = answer.text()
        token = re.search(r"x-host-page(?:'|\\u0027), (?:'|\\u0027)([\w-]+)", text)
        assert token
        loads.append(token[1])
        route.fulfill(response=answer, body=text.replace(token[1], "of-an-older-server") if len(loads) == 1 else text)

    page.route(server.url, older)
    page.goto(server.url)
    page.locator(".notice", has_text="The page loads again.").wait_for()
    page.wait_for_selector(".notice", state="detached")
    page.wait_for_selector("#vqvae-train")
    page.wait_for_timeout(2000)  # its token is right now: it does not load once more
    assert len(loads) == 2
    assert page.locator(".notice").count() == 0
    page.close()


def test_a_page_whose_server_has_ended_says_so_and_loads_again_once_it_was_started(
    start_server: Any, chromium: Any
) -> None:
    server = start_server()
    page = chromium.new_page()
    errors: list[str] = []
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.wait_for_selector("#vqvae-train")
    server.end()
    page.locator(".notice", has_text="The program does not answer.").wait_for()
    server.start(port=re.findall(r":(\d+)/", server.url)[0])
    page.locator(".notice", has_text="The page loads again.").wait_for()
    page.wait_for_selector(".notice", state="detached")
    page.fill("#vqvae-name input, #vqvae-name textarea", "a/b")
    page.fill("#vqvae-folder input", str(server.datasets))
    page.press("#vqvae-folder input", "Enter")
    page.click("#vqvae-train")
    page.locator("#vqvae-message", has_text="cannot be called 'a/b'").wait_for()
    page.close()
    assert {error for error in errors if not re.search("ERR_CONNECTION_REFUSED|409", error)} == set()


def test_what_the_server_has_open_for_a_page_goes_with_the_page(
    server: Any, trained_codec: Path, open_page: Callable[..., Any], chromium: Any
) -> None:
    (server.models / "open.sda").write_bytes(trained_codec.read_bytes())
    page = open_page(server.url)
    page.wait_for_selector("#prior-train:enabled")
    before = descriptors(server.process.pid)
    for _ in range(RELOADS):
        page.reload()
        page.wait_for_selector("#prior-card dl")
    until = time.monotonic() + SECONDS_UNTIL_FORGOTTEN
    while descriptors(server.process.pid) > before:
        assert time.monotonic() < until, descriptors(server.process.pid)
        page.wait_for_timeout(500)
    assert page.is_visible("#prior-card dl")


def test_more_pages_than_a_browser_has_connections_are_all_alive_and_gone_once_closed(
    server: Any, trained_codec: Path, chromium: Any
) -> None:
    (server.models / "open.sda").write_bytes(trained_codec.read_bytes())
    context = chromium.new_context()
    first = context.new_page()
    first.goto(server.url)
    first.wait_for_selector("#prior-card dl")
    before = descriptors(server.process.pid)
    pages = [context.new_page() for _ in range(PAGES)]
    for page in pages:
        page.goto(server.url)
    for page in pages:
        page.wait_for_selector("#prior-card dl")
        page.fill("#vqvae-name input, #vqvae-name textarea", "a/b")
        page.fill("#vqvae-folder input", str(server.datasets))
        page.press("#vqvae-folder input", "Enter")
        page.click("#vqvae-train")
        page.locator("#vqvae-message", has_text="cannot be called 'a/b'").wait_for()
    for page in pages:
        page.close()
    until = time.monotonic() + SECONDS_UNTIL_FORGOTTEN
    while descriptors(server.process.pid) > before:
        assert time.monotonic() < until, descriptors(server.process.pid)
        first.wait_for_timeout(500)
    context.close()
