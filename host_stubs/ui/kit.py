"""What the sections of the page share: sentences, facts, a clock, buttons and players, as HTML; and the chart."""

from __future__ import annotations

import html
from collections.abc import Container, Iterable
from pathlib import Path
from urllib.parse import quote

from host_stubs.errors import printable
from host_stubs.ui.chart import chart

__all__ = ["as_html", "bar", "button", "chart", "clock", "facts", "muted", "player", "said"]


def as_html(text: str) -> str:
    """Text as HTML that shows it."""
    return html.escape(printable(text))


def said(sentence: str, *, problem: bool = False) -> str:
    """A sentence to the user, announced by screen readers; nothing for no sentence."""
    if not sentence:
        return ""
    kind, role = ("said problem", "alert") if problem else ("said", "status")
    return f'<p class="{kind}" role="{role}">{"Problem: " if problem else ""}{as_html(sentence)}</p>'


def facts(lines: Iterable[tuple[str, str]], main: Container[str] | None = None) -> str:
    """Lines `(label, text)`; nothing for none. If labels are given as `main`, the others are folded away."""
    lines = list(lines)
    shown = [line for line in lines if main is None or line[0] in main]
    folded = [line for line in lines if line not in shown]
    rows = "".join(f"<dt>{as_html(label)}</dt><dd>{as_html(fact)}</dd>" for label, fact in shown)
    listed = f'<dl class="facts">{rows}</dl>' if rows else ""
    more = f"<details><summary>All that is known of it</summary>{facts(folded)}</details>" if folded else ""
    return listed + more


def muted(text: str) -> str:
    """What explains something else."""
    return f'<p class="muted">{as_html(text)}</p>'


def bar(label: str, done: float = 0.0, total: float = 0.0) -> str:
    """How far something is; `label` is for screen readers. Without a total it only moves."""
    value = f' max="{total:g}" value="{done:.2f}"' if done and total else ""
    return f'<progress{value} aria-label="{as_html(label)}"></progress>'


def clock(seconds: float) -> str:
    """A time for people: 1:32."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def player(path: Path, label: str) -> str:
    """A sound to play and to download; `path` is a WAV file in the server's folder for sounds."""
    source = html.escape(f"/gradio_api/file={quote(str(path))}")
    return (
        f'<figure class="player"><figcaption>{as_html(label)}</figcaption>'
        f'<audio controls preload="metadata" src="{source}" aria-label="{as_html(label)}"></audio>'
        f'<a href="{source}" download="{as_html(path.name)}">Download</a></figure>'
    )


def button(text: str, act: int, value: object) -> str:
    """A button in HTML, which does what `Section.act` has given the number of, to `value`."""
    return (
        f'<button type="button" class="in-html" data-act="{act}" data-value="{as_html(str(value))}">'
        f"{as_html(text)}</button>"
    )
