"""The live view without a browser: what a page is told, and when; what its controls do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, TypeVar

import gradio as gr
import orjson
import pytest

from host_stubs.errors import HostError
from host_stubs.ui.live import Live, Steps
from host_stubs.ui.sessions import Asked, Sessions

Found = TypeVar("Found")


class Page:
    """A page with a few components, whose state is counted up."""

    def __init__(self) -> None:
        self.live, self.closed = Live(), list[str]()
        with gr.Blocks(analytics_enabled=False) as page:
            self.text, self.rows = self.live.html("text"), self.live.html("rows")
            self.number, self.button = gr.Number(label="Number"), gr.Button("Count")
            with gr.Row() as self.row:
                pass
            self.section = self.live.section(self.new, self.show, self.look)
            self.section.on(self.button.click, self.count, self.number)
            self.other = self.section.act(self.fail)
            self.long = self.section.act(self.wait)
            self.live.connect(page)
        self.number_of_act = 0
        self.go_on = threading.Event()

    def new(self) -> Any:
        return SimpleNamespace(count=0, looks=0, problem="", closed=lambda: self.closed.append("closed"))

    def show(self, own: Any) -> dict[Any, Any]:
        return {
            self.text: own.problem,
            self.rows: {str(number): f"<p>{number}</p>" for number in range(own.count)},
            self.number: {"value": own.count, "interactive": own.count < 5},
            self.row: own.count > 1,
        }

    def look(self, own: Any) -> None:
        own.looks += 1

    def count(self, own: Any, number: float) -> None:
        own.count += int(number)

    def fail(self, own: Any, kind: str) -> None:
        raise HostError("That was too much.") if kind == "known" else RuntimeError("a mistake")

    def wait(self, own: Any, *values: str) -> Steps:
        own.count = 10
        own.count = yield self.waited

    def waited(self) -> int:
        assert self.go_on.wait(10)
        return 3

    def ask(self, *acts: tuple[int, list[Any]], lost: bool = False, session: str = "a page") -> dict[str, Any]:
        self.number_of_act += bool(acts)
        return self.live.answer(session, self.number_of_act, acts, lost)


@pytest.fixture
def page() -> Page:
    return Page()


def test_a_page_is_told_everything_once_and_then_what_is_new(page: Page) -> None:
    number, row = str(page.number._id), str(page.row._id)
    assert page.ask() == {
        "html": {"text": [], "rows": []},
        "news": {
            number: {"__type__": "update", "value": 0, "interactive": True},
            row: {"__type__": "update", "visible": False},
        },
        "soon": False,
    }
    assert page.ask() == {"html": {}, "news": {}, "soon": False}
    changed = page.ask((0, [2]))
    assert changed["html"] == {"rows": [["0", "<p>0</p>"], ["1", "<p>1</p>"]]}
    assert changed["news"] == {row: {"__type__": "update", "visible": True}}, "the 2 is there: it was typed"
    assert page.ask(session="another")["news"][number]["value"] == 0


def test_after_an_answer_that_was_lost_everything_is_told_again_and_nothing_done_twice(page: Page) -> None:
    page.ask()
    page.ask((0, [2]))
    again = page.live.answer("a page", page.number_of_act, [(0, [2])], True)
    assert again["news"][str(page.number._id)]["value"] == 2
    assert set(again["html"]) == {"text", "rows"}


def test_an_error_is_a_sentence_until_the_next_act(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    page.ask()
    assert page.ask((page.other, ["known"]))["html"]["text"] == [["", "That was too much."]]
    unknown = page.ask((page.other, ["unknown"]))["html"]["text"]
    assert unknown == [["", "Something unexpected went wrong (RuntimeError). The details are in the log."]]
    assert "a mistake" in caplog.text
    assert page.ask((0, [1]))["html"]["text"] == []


def test_what_takes_long_holds_nothing_up(page: Page) -> None:
    page.ask()
    assert page.ask((page.long, ["x"]))["soon"]
    assert len(page.ask((0, [1]))["html"]["rows"]) == 11
    page.go_on.set()
    until = time.monotonic() + 10
    while (told := page.ask())["soon"]:
        assert time.monotonic() < until
    assert len(told["html"]["rows"]) == 3


def test_a_page_that_is_closed_is_told_so_and_forgotten(page: Page) -> None:
    page.ask((0, [2]))
    page.live.forget("a page")
    assert page.closed == ["closed"]
    assert page.ask()["news"][str(page.number._id)]["value"] == 0


def test_a_section_that_cannot_be_shown_takes_no_other_one_down(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    page.live.section(SimpleNamespace, lambda own: {page.text: own.missing})
    for _ in range(2):
        page.ask()
    assert page.ask((0, [1]))["html"] == {"rows": [["0", "<p>0</p>"]]}
    assert caplog.text.count("a section of the page cannot be shown") == 1


def test_what_is_no_text_can_be_sent_all_the_same(page: Page) -> None:
    page.live.section(
        SimpleNamespace, lambda own: {page.text: {"\udce9": "\udce9"}, page.number: {"label": ["\udce9"]}}
    )
    told = page.ask()
    assert told["html"]["text"] == [["\\udce9", "\\udce9"]]
    assert orjson.loads(orjson.dumps(told))["news"][str(page.number._id)]["label"] == ["\\udce9"]


def run(work: Coroutine[Any, Any, Found]) -> Found:
    """What it gives, in an event loop of its own: this thread may have one, with a browser in it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def asked(acts: Any = ()) -> Any:
    return {"session": "a page", "number": 1, "acts": list(acts), "lost": False}


def test_what_no_page_asks_is_told_from_what_one_does(page: Page) -> None:
    assert Asked.of(asked([[0, ["x"]]])) == ("a page", 1, [(0, ["x"])], False)
    for said in (None, [], {}, {**asked(), "number": "1"}, asked([["0", []]]), asked([[0]]), asked([0])):
        assert Asked.of(said) is None


def test_a_page_that_does_not_ask_any_more_is_forgotten_and_one_that_asks_is_not(page: Page) -> None:
    async def ask_for_a_while() -> tuple[list[str], list[str]]:
        sessions, says = Sessions(page.live, kept=0.5, between=0.05), Asked.of(asked())
        assert says is not None
        for _ in range(8):
            await sessions.answer(says)
            await asyncio.sleep(0.1)
        while_it_asks = list(page.closed)
        await asyncio.sleep(1.5)
        return while_it_asks, list(page.closed)

    assert run(ask_for_a_while()) == ([], ["closed"])


def test_a_page_that_closes_while_it_is_answered_leaves_nothing(page: Page) -> None:
    begun = threading.Event()

    def new_slowly() -> Any:
        begun.set()
        assert page.go_on.wait(10)
        return SimpleNamespace()

    async def close_meanwhile() -> None:
        sessions, says = Sessions(page.live), Asked.of(asked())
        assert says is not None
        answer = asyncio.create_task(sessions.answer(says))
        assert await asyncio.to_thread(begun.wait, 10)
        sessions.closed(says.session)
        page.go_on.set()
        await answer

    page.live.section(new_slowly, lambda own: {})
    run(close_meanwhile())
    assert page.closed == ["closed"]
