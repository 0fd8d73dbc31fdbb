"""A chart of a training: what it trains on and what is held out, the best epoch, and stretches that are marked.

What is to be seen is worked out once, as shapes; the page and files show the same.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

MOST_POINTS, MOST_TICKS = 300, 8
MOST_DRAWN = 1e6
"""What is more is drawn at the upper edge."""
TOP, BOTTOM, LEFT, RIGHT = 56, 42, 46, 14
"""Room around the curves."""
WIDE, NARROW, NARROW_BELOW = (720, 300), (340, 270), 500


@dataclass(frozen=True)
class Curves:
    """How a training went, as a plugin describes it.

    Attributes:
        measure: what it is that gets smaller; always above 0.
        trained_on, held_out: the measure after each epoch that is over, as many of the one as of the other; one that
            is not finite is left out.
        best: the epoch with the lowest one held out, from 1; 0 before there is any.
        planned: epochs that there will be.
        marked: first and last epoch of stretches that something is to be said of, and `mark`, what that is.
    """

    measure: str
    trained_on: Sequence[float]
    held_out: Sequence[float]
    best: int
    planned: int
    marked: Sequence[tuple[int, int]] = ()
    mark: str = ""

    @property
    def best_text(self) -> str:
        """The best epoch in a few words."""
        return f"best: epoch {self.best}, {_number(self.held_out[self.best - 1])}"

    @property
    def summary(self) -> str:
        """The chart in words."""
        trained_on, held_out = _number(self.trained_on[-1]), _number(self.held_out[-1])
        text = (
            f"After epoch {len(self.held_out)} of {self.planned}: {self.measure} {trained_on} on what it trains on, "
            f"{held_out} on the held-out recordings. The {self.best_text}."
        )
        stretches = ", ".join(f"{first} to {last}" for first, last in self.marked)
        return f"{text} {self.mark[:1].upper()}{self.mark[1:]}: epochs {stretches}." if stretches else text


@dataclass(frozen=True)
class Shape:
    """A "line" through points, a "band" between two corners, a "dot", or "text" that begins, ends or is centred there.

    `look` names its colour and stroke.
    """

    kind: str
    look: str
    points: Sequence[tuple[float, float]]
    text: str = ""
    anchor: str = "start"


def chart(described: Mapping[str, Any]) -> str:
    """The chart of `Curves` as HTML, for a wide and a narrow page, one of them shown; nothing before a best epoch."""
    curves = Curves(**described)
    if not curves.best:
        return ""
    drawn = (
        f'<div class="{kind}">{svg(shapes(curves, *size), *size, curves.summary)}</div>'
        for kind, size in (("wide", WIDE), ("narrow", NARROW))
    )
    return f'<div class="chart">{"".join(drawn)}</div>'


def svg(drawn: Sequence[Shape], width: int, height: int, summary: str) -> str:
    """Shapes as an SVG picture, which a screen reader reads the summary of."""
    inside = "".join(_element(shape) for shape in drawn)
    label = html.escape(summary)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{inside}</svg>'


def shapes(curves: Curves, width: int, height: int) -> list[Shape]:
    """What there is to draw in a picture of this size. There has to be a best epoch."""
    frame = _Frame(width, height, max(len(curves.held_out), 2), _ticks([*curves.trained_on, *curves.held_out]))
    return [*_marked(curves, frame), *_axes(frame), *_curves(curves, frame), *_legend(curves, width < NARROW_BELOW)]


@dataclass(frozen=True)
class _Frame:
    """Where epochs and values lie in a picture of some size; values on a log scale."""

    width: int
    height: int
    last: int
    ticks: Sequence[float]

    @property
    def right(self) -> int:
        return self.width - RIGHT

    @property
    def bottom(self) -> int:
        return self.height - BOTTOM

    def x(self, epoch: float) -> float:
        within = min(max(epoch, 1), self.last)
        return round(LEFT + (within - 1) / (self.last - 1) * (self.right - LEFT), 1)

    def y(self, value: float) -> float:
        low, high = math.log(self.ticks[0]), math.log(self.ticks[-1])
        share = (math.log(min(max(value, self.ticks[0]), self.ticks[-1])) - low) / (high - low)
        return round(self.bottom - share * (self.bottom - TOP), 1)


def _marked(curves: Curves, frame: _Frame) -> Iterator[Shape]:
    for first, last in curves.marked:
        left, right = frame.x(first - 0.5), frame.x(last + 0.5)
        yield Shape("band", "marked", [(left, TOP), (max(right, left + 2), frame.bottom)])


def _axes(frame: _Frame) -> Iterator[Shape]:
    for tick in frame.ticks:
        y = frame.y(tick)
        yield Shape("line", "grid", [(LEFT, y), (frame.right, y)])
        yield Shape("text", "", [(LEFT - 6, y + 4)], _short(tick), "end")
    for epoch in _epoch_ticks(frame.last, 4 if frame.width < NARROW_BELOW else 8):
        yield Shape("text", "", [(frame.x(epoch), frame.bottom + 17)], str(epoch), "middle")
    yield Shape("line", "axis", [(LEFT, frame.bottom), (frame.right, frame.bottom)])
    yield Shape("text", "", [((LEFT + frame.right) // 2, frame.height - 6)], "epoch", "middle")


def _curves(curves: Curves, frame: _Frame) -> Iterator[Shape]:
    for look, values in (("train", curves.trained_on), ("held-out", curves.held_out)):
        for stretch in _stretches(values):
            yield Shape("line", look, [(frame.x(epoch), frame.y(value)) for epoch, value in stretch])
    x, y = frame.x(curves.best), frame.y(curves.held_out[curves.best - 1])
    yield Shape("line", "best", [(x, TOP), (x, frame.bottom)])
    yield Shape("dot", "mark", [(x, y)])


def _legend(curves: Curves, narrow: bool) -> Iterator[Shape]:
    """What each line and mark is, each with its own shape, so that colour is not needed to tell them apart."""
    entries = [("line", "train", "trained on"), ("line", "held-out", "held out"), ("dot", "mark", curves.best_text)]
    if curves.marked:
        entries.append(("band", "marked", curves.mark))
    places = [(84, 10), (204, 10), (84, 25), (84, 40)] if narrow else [(84, 40), (204, 40), (314, 40), (504, 40)]
    yield Shape("text", "", [(4, 10 if narrow else 40)], curves.measure)
    for (kind, look, text), (x, y) in zip(entries, places, strict=False):
        signs = {
            "line": [(x, y - 4), (x + 26, y - 4)],
            "dot": [(x + 13, y - 4)],
            "band": [(x, y - 10), (x + 26, y + 2)],
        }
        yield Shape(kind, look, signs[kind])
        yield Shape("text", "", [(x + 32, y)], text)


def _element(shape: Shape) -> str:
    (x, y), (right, bottom) = shape.points[0], shape.points[-1]
    if shape.kind == "line":
        points = " ".join(f"{one},{other}" for one, other in shape.points)
        return f'<polyline class="{shape.look}" points="{points}"/>'
    if shape.kind == "band":
        size = f'width="{right - x:.1f}" height="{bottom - y:.1f}"'
        return f'<rect class="{shape.look}" x="{x}" y="{y}" {size}/>'
    if shape.kind == "dot":
        return f'<circle class="{shape.look}" cx="{x}" cy="{y}" r="5"/>'
    return f'<text x="{x}" y="{y}" text-anchor="{shape.anchor}">{html.escape(shape.text)}</text>'


def _stretches(values: Sequence[float]) -> list[list[tuple[int, float]]]:
    """Pairs of epoch and value, of many only some, the last among them, in stretches without one that is not finite."""
    step = math.ceil(len(values) / MOST_POINTS)
    kept = [(epoch, value) for epoch, value in enumerate(values, start=1) if not (len(values) - epoch) % step]
    stretches = [list(group) for finite, group in groupby(kept, lambda pair: math.isfinite(pair[1])) if finite]
    return [stretch if len(stretch) > 1 else stretch * 2 for stretch in stretches]  # one alone is a dot


def _ticks(values: Sequence[float]) -> list[float]:
    """Round values from below the lowest to above the highest finite one, a few of them."""
    finite = [min(max(value, 1 / MOST_DRAWN), MOST_DRAWN) for value in values if math.isfinite(value)]
    for mantissas in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        steps = [float(f"{mantissa}e{power}") for power in range(-6, 8) for mantissa in mantissas]
        first = max(step for step in steps if step <= min(finite))
        last = min(step for step in steps if step >= max(finite) and step > first)
        ticks = [step for step in steps if first <= step <= last]
        if len(ticks) <= MOST_TICKS:
            break
    return ticks


def _short(number: float) -> str:
    """A round number in at most four characters, if it is not below 0.01: 0.05, 1.5, 200, 10k, 1M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= 10 * size or (number >= size and unit == "M"):
            return f"{number / size:g}{unit}"
    return f"{number:g}"


def _epoch_ticks(last: int, most: int) -> list[int]:
    """Round epochs, from 1 to the last one."""
    step = next(step for power in range(8) for mantissa in (1, 2, 5) if (step := mantissa * 10**power) * most >= last)
    return [1, *range(step if step > 1 else 2, last + 1, step)]


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.2f}" if 1 <= value < MOST_DRAWN else f"{value:.3g}"
