"""What open pages show, and what their controls do.

A section says what it wants to show and what its controls do, each from what one page has chosen and typed. The rest
is here: what each browser has, so that it is sent what is new; whose turn it is; what takes long; who is still there.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeAlias

import gradio as gr
from gradio.blocks import Block, BlockContext
from gradio.utils import get_upload_folder

from host_stubs.errors import sentence
from host_stubs.ui import kit
from host_stubs.ui.pulse import ACT, CLOSED, LOOK, NEWS, PULSE
from host_stubs.ui.sounds import SoundFiles

SECONDS_SEEN, SECONDS_UNSEEN = 1.0, 60.0
"""Between looks of a page, and of one that is behind others: the server is to know that it is there."""

Wanted: TypeAlias = Mapping[Block, Any]
Steps: TypeAlias = Generator[Callable[[], Any], Any, None]
Act: TypeAlias = Callable[..., Steps | None]


class Section:
    """A part of the page, of which every page that is opened has its own state.

    Made by `Live.section`. Everything that it gives is called while nothing else of the same page goes on.
    """

    def __init__(self, live: Live, new: Callable[[], Any], show: Callable[[Any], Wanted], look: Act | None) -> None:
        self.live, self.new, self.show, self.look = live, new, show, look

    def act(self, act: Act) -> int:
        """The number of what a button of the kit, in this section's HTML, does. It is called as in `on`."""
        return self.live._add_act(self, act, ())

    def on(self, event: Callable[..., Any], act: Act, *inputs: Block) -> None:
        """Let `act` do what the user asks for, then show what there is to show.

        It gets this page's state, and the values of `inputs` as the browser has them. An error meant for a person that
        it raises becomes the state's `problem`, which is empty again with the next act. What takes long it yields as
        a function, which is called in a thread while the page goes on, and gets its result, or its error, from there.
        """
        event(None, list(inputs), None, js=ACT % self.live._add_act(self, act, inputs), api_visibility="private")


class _Page:
    """What one browser's page has."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self.lock = threading.Lock()
        self.own = {section: section.new() for section in sections}
        shared = SimpleNamespace()
        for own in self.own.values():
            own.page = shared
        self.there: dict[Block, dict[str, Any]] = {}
        self.number = 0
        self.under_way = 0


class Live:
    """The page's sections, and the pages that are open.

    Attributes:
        kit: what sections share.
        folder: for files that pages fetch. It goes when the server ends.
    """

    def __init__(self) -> None:
        self.kit: ModuleType = kit
        self.folder = Path(get_upload_folder())
        self._files = SoundFiles(self.folder / "played")
        self._sections: list[Section] = []
        self._acts: list[tuple[Section, Act, Sequence[Block]]] = []
        self._html: list[Block] = []
        self._pages: dict[str, _Page] = {}
        self._failed: set[Section] = set()

    def section(self, new: Callable[[], Any], show: Callable[[Any], Wanted], look: Act | None = None) -> Section:
        """A section of the page.

        Args:
            new: makes the state of a page that is opened: any object that takes attributes. It gets `page`, in which
                the sections of a page leave what others may want to know, such as `model`, the path of the chosen one.
            show: what a page with this state shows: a plain value for each component that changes, as the browser has
                it. A dictionary sets other properties too; a row or column is shown or not; for `html` it is HTML, or
                a dictionary of rows of HTML, of which those are left alone that stay the same.
            look: called like an act when the page is opened, and again and again.
        """
        self._sections.append(section := Section(self, new, show, look))
        return section

    def html(self, elem_id: str = "", **how: Any) -> gr.HTML:
        """A piece of HTML for `show`, which takes no room while it is empty. Inside a Gradio context."""
        name = elem_id or f"live-{len(self._html)}"
        self._html.append(made := gr.HTML('<div class="live"></div>', elem_id=name, **how))
        return made

    def player(self, sound: Any) -> str:
        """HTML to play a new sound with, and to download it: an object with `name`, `title`, `rate` and `audio`.

        Its file is there as long as the object is, and a while more.
        """
        return kit.player(self._files.of(sound), sound.title)

    def _add_act(self, section: Section, act: Act, inputs: Sequence[Block]) -> int:
        """For sections."""
        self._acts.append((section, act, inputs))
        return len(self._acts) - 1

    def connect(self, page: gr.Blocks) -> None:
        """Once every section is there, inside the page's Gradio context."""
        milliseconds = {"seen": 1000 * SECONDS_SEEN, "unseen": 1000 * SECONDS_UNSEEN}
        js = PULSE % {**milliseconds, "look": LOOK, "closed": CLOSED}
        pulse = gr.HTML(html_template="<span hidden></span>", js_on_load=js)
        outputs = [block for block in page.blocks.values() if block not in self._html and block is not pulse]
        js = NEWS % json.dumps([block._id for block in outputs])
        pulse.news(None, None, outputs, js=js, api_visibility="private")

    def answer(self, session: str, number: int, acts: Sequence[tuple[int, list[Any]]], lost: bool) -> dict[str, Any]:
        """What a page is to show that it does not yet, after what its user has done.

        Acts whose number came before have been done: only the answer was `lost`.
        """
        page = self._pages.get(session) or self._pages.setdefault(session, _Page(self._sections))
        with page.lock:
            if lost:
                page.there.clear()
            if number > page.number:
                page.number = number
                for index, values in acts:
                    self._do(page, *self._acts[index], values)
            for section in self._sections:
                if section.look is not None:
                    self._begin(page, section, section.look)
            news = self._news(page)
            html = {str(block.elem_id): news.pop(block)["value"] for block in self._html if block in news}
            updates = {str(block._id): {"__type__": "update", **new} for block, new in news.items()}
            return {"html": html, "news": updates, "soon": page.under_way > 0}

    def forget(self, session: str) -> None:
        """A page is closed. Its states are told, if they have a method for it."""
        page = self._pages.pop(session, None)
        for own in () if page is None else page.own.values():
            getattr(own, "closed", lambda: None)()

    def _do(self, page: _Page, section: Section, act: Act, inputs: Sequence[Block], values: Sequence[Any]) -> None:
        for component, value in zip(inputs, values, strict=False):  # is there already
            page.there.setdefault(component, {})["value"] = value
        page.own[section].problem = ""
        self._begin(page, section, act, *values)

    def _begin(self, page: _Page, section: Section, act: Act, *values: Any) -> None:
        """Do an act as far as it does not take long, with the page's lock."""
        with _problems(page.own[section]):
            if isinstance(steps := act(page.own[section], *values), Generator):
                self._go_on(page, section, steps, lambda: next(steps))

    def _go_on(self, page: _Page, section: Section, steps: Steps, advance: Callable[[], Callable[[], Any]]) -> None:
        try:
            long = advance()
        except StopIteration:
            return
        page.under_way += 1
        threading.Thread(target=self._wait, args=(page, section, steps, long), daemon=True).start()

    def _wait(self, page: _Page, section: Section, steps: Steps, long: Callable[[], Any]) -> None:
        """Do what takes long, without the lock, then go on with the act that it is for."""
        advance: Callable[[], Callable[[], Any]]
        try:
            advance = functools.partial(steps.send, long())
        except Exception as error:
            advance = functools.partial(steps.throw, error)
        with page.lock, _problems(page.own[section]):
            page.under_way -= 1
            self._go_on(page, section, steps, advance)

    def _shown(self, page: _Page, section: Section) -> Wanted:
        """What a section wants to show; nothing where that fails, which takes no other section down."""
        try:
            return section.show(page.own[section])
        except Exception as error:
            if section not in self._failed:  # the log says it once
                self._failed.add(section)
                sentence(error, "a section of the page cannot be shown")
            return {}

    def _news(self, page: _Page) -> dict[Block, dict[str, Any]]:
        """What is wanted and not on the page yet; it counts as being there from now on."""
        found = {}
        for section in self._sections:
            for block, value in self._shown(page, section).items():
                there = page.there.setdefault(block, {})
                wanted = _sendable(_rows(value) if block in self._html else _properties(block, value))
                new = {name: value for name, value in wanted.items() if name not in there or there[name] != value}
                if new:
                    found[block] = new
                    there.update(new)
        return found


@contextmanager
def _problems(own: Any) -> Iterator[None]:
    """What goes wrong inside the block becomes the problem of a page's state, as a sentence."""
    try:
        yield
    except Exception as error:
        own.problem = sentence(error)


def _rows(value: str | Mapping[str, str]) -> dict[str, Any]:
    rows = value if isinstance(value, Mapping) else {"": value} if value else {}
    return {"value": [[key, html] for key, html in rows.items()]}


def _sendable(value: Any) -> Any:
    """`value` with what is no text in texts, such as bytes of files' names, escaped: else none of it could be sent."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _sendable(part) for name, part in value.items()}
    return [_sendable(part) for part in value] if isinstance(value, (list, tuple)) else value


def _properties(block: Block, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        wanted = dict(value)
        if "choices" in wanted:  # in pairs of label and value
            wanted["choices"] = [[one, one] if isinstance(one, str) else list(one) for one in wanted["choices"]]
        return wanted
    return {"visible" if isinstance(block, BlockContext) else "value": value}
