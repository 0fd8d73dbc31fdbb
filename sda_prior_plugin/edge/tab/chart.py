"""A chart of a training as SVG: train and held-out perplexity, the best epoch, and where it recites."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sda_prior_plugin.report import MOST_DRAWN, perplexity_text

MOST_POINTS = 300
MOST_TICKS = 8
TOP, BOTTOM, LEFT, RIGHT = 56, 42, 46, 14
"""Room around the curves."""
STYLE = """<style>
.prior-chart { color: var(--body-text-color, #222); --held-out: #0b5fa5; --reciting: #d98200; }
.dark .prior-chart { --held-out: #6cb6ff; --reciting: #f0a830; }
.prior-chart svg { display: block; width: 100%; max-width: 760px; height: auto; font: 13px system-ui, sans-serif; }
.prior-chart text { fill: currentColor; }
.prior-chart .grid { stroke: currentColor; opacity: 0.15; }
.prior-chart .axis { stroke: currentColor; opacity: 0.5; }
.prior-chart .train { fill: none; stroke: currentColor; opacity: 0.7; stroke-width: 2; stroke-dasharray: 6 4; }
.prior-chart .held-out { fill: none; stroke: var(--held-out); stroke-width: 2.5; }
.prior-chart .best { stroke: var(--held-out); stroke-width: 1.5; stroke-dasharray: 2 4; }
.prior-chart .mark { fill: var(--held-out); }
.prior-chart .reciting { fill: var(--reciting); opacity: 0.3; }
.prior-chart .narrow { display: none; }
@media (max-width: 600px) { .prior-chart .wide { display: none; } .prior-chart .narrow { display: block; } }
</style>"""


@dataclass(frozen=True)
class Curve:
    """What the chart shows.

    Attributes:
        epochs: that there will be.
        train, held_out: perplexity of each epoch that is over, as many of the one as of the other; infinite for one
            that diverged, which is left out.
        best: the epoch with the lowest held-out perplexity, from 1; 0 before there is a finite one.
        reciting: for each epoch, whether it was very likely memorizing.
    """

    epochs: int
    train: Sequence[float]
    held_out: Sequence[float]
    best: int
    reciting: Sequence[bool]


@dataclass(frozen=True)
class _Frame:
    """Where epochs and perplexities lie in a picture of some size; perplexities on a log scale."""

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
        return round(LEFT + (epoch - 1) / (self.last - 1) * (self.right - LEFT), 1)

    def y(self, perplexity: float) -> float:
        low, high = math.log(self.ticks[0]), math.log(self.ticks[-1])
        share = (math.log(min(max(perplexity, self.ticks[0]), self.ticks[-1])) - low) / (high - low)
        return round(self.bottom - share * (self.bottom - TOP), 1)


def chart(curve: Curve) -> str:
    """The chart as HTML, for a wide and for a narrow page, of which one is shown; nothing before a best epoch."""
    if not curve.best:
        return ""
    return (
        f'<div class="prior-chart"><div class="wide">{_svg(curve, 720, 300, "wide")}</div>'
        f'<div class="narrow">{_svg(curve, 340, 270, "narrow")}</div></div>'
    )


def summary(curve: Curve) -> str:
    """The chart in words."""
    train, held_out = perplexity_text(curve.train[-1]), perplexity_text(curve.held_out[-1])
    text = (
        f"After epoch {len(curve.held_out)} of {curve.epochs}: perplexity {train} on what it trains on, {held_out} on "
        f"the held-out recordings. The best was epoch {curve.best} with {curve.held_out[curve.best - 1]:.2f}."
    )
    if any(curve.reciting):
        text += f" It was very likely memorizing in {sum(curve.reciting)} of them."
    return text


def _svg(curve: Curve, width: int, height: int, kind: str) -> str:
    frame = _Frame(width, height, max(len(curve.held_out), 2), _perplexity_ticks([*curve.train, *curve.held_out]))
    drawn = [*_recited(curve, frame), *_axes(frame), *_curves(curve, frame), *_legend(curve, narrow=width < 500)]
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="chart-title-{kind} chart-text-{kind}">'
        f'<title id="chart-title-{kind}">Perplexity by epoch</title>'
        f'<desc id="chart-text-{kind}">{html.escape(summary(curve))}</desc>{"".join(drawn)}</svg>'
    )


def _axes(frame: _Frame) -> list[str]:
    drawn = []
    for tick in frame.ticks:
        y = frame.y(tick)
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{frame.right}" y1="{y}" y2="{y}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{_short(tick)}</text>')
    for epoch in _epoch_ticks(frame.last, 4 if frame.width < 500 else 8):
        drawn.append(f'<text x="{frame.x(epoch)}" y="{frame.bottom + 17}" text-anchor="middle">{epoch}</text>')
    drawn.append(f'<line class="axis" x1="{LEFT}" x2="{frame.right}" y1="{frame.bottom}" y2="{frame.bottom}"/>')
    middle = (LEFT + frame.right) // 2
    drawn.append(f'<text x="{middle}" y="{frame.height - 6}" text-anchor="middle">epoch</text>')
    return drawn


def _curves(curve: Curve, frame: _Frame) -> list[str]:
    drawn = []
    for name, values in (("train", curve.train), ("held-out", curve.held_out)):
        for stretch in _stretches(values):
            points = " ".join(f"{frame.x(epoch)},{frame.y(value)}" for epoch, value in stretch)
            drawn.append(f'<polyline class="{name}" points="{points}"/>')
    x, y = frame.x(curve.best), frame.y(curve.held_out[curve.best - 1])
    drawn.append(f'<line class="best" x1="{x}" x2="{x}" y1="{TOP}" y2="{frame.bottom}"/>')
    drawn.append(f'<circle class="mark" cx="{x}" cy="{y}" r="5"/>')
    return drawn


def _recited(curve: Curve, frame: _Frame) -> list[str]:
    """A band over each stretch of epochs in which it was memorizing."""
    drawn, first = [], 0
    for epoch, reciting in enumerate([*curve.reciting, False], start=1):
        if reciting and not first:
            first = epoch
        elif first and not reciting:
            left, right = frame.x(max(first - 0.5, 1)), frame.x(min(epoch - 0.5, frame.last))
            drawn.append(
                f'<rect class="reciting" x="{left}" width="{max(right - left, 2):.1f}" y="{TOP}" '
                f'height="{frame.bottom - TOP}"/>'
            )
            first = 0
    return drawn


def _legend(curve: Curve, *, narrow: bool) -> list[str]:
    """What each line and mark is, each with its own shape, so that colour is not needed to tell them apart."""
    best = f"best: epoch {curve.best}, {curve.held_out[curve.best - 1]:.2f}"
    entries = [
        ('<line class="train" x1="0" x2="26" y1="-4" y2="-4"/>', "trained on", 120),
        ('<line class="held-out" x1="0" x2="26" y1="-4" y2="-4"/>', "held out", 110),
        ('<circle class="mark" cx="13" cy="-4" r="5"/>', best, 190),
    ]
    if any(curve.reciting):
        entries.append(('<rect class="reciting" x="0" y="-10" width="26" height="12"/>', "memorizing", 130))
    drawn, x, y = ['<text x="4" y="40">perplexity</text>'], 84 if not narrow else 4, 40 if not narrow else 10
    for number, (sign, text, width) in enumerate(entries):
        if narrow and number == 2:
            x, y = 4, 25
        drawn.append(f'<g transform="translate({x} {y})">{sign}<text x="32" y="0">{html.escape(text)}</text></g>')
        x += width
    return drawn


def _stretches(values: Sequence[float]) -> list[list[tuple[int, float]]]:
    """Pairs of epoch and value, of many only some, the last among them, in stretches without one that is not finite."""
    step = math.ceil(len(values) / MOST_POINTS)
    kept = [(epoch, value) for epoch, value in enumerate(values, start=1) if not (len(values) - epoch) % step]
    stretches = [list(group) for finite, group in groupby(kept, lambda pair: math.isfinite(pair[1])) if finite]
    return [stretch if len(stretch) > 1 else stretch * 2 for stretch in stretches]  # one alone is a dot


def _perplexity_ticks(values: Sequence[float]) -> list[float]:
    """Round perplexities from below the lowest to above the highest finite value, a few of them."""
    lowest, highest = min(values), max(filter(math.isfinite, values))
    low, high = (min(max(value, 1.0), MOST_DRAWN) for value in (lowest, highest))
    for mantissas in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        steps = [mantissa * 10.0**power for power in range(8) for mantissa in mantissas]
        first = max(step for step in steps if step <= low)
        last = min(step for step in steps if step >= high and step > first)
        ticks = [step for step in steps if first <= step <= last]
        if len(ticks) <= MOST_TICKS:
            break
    return ticks


def _short(number: float) -> str:
    """A round number in at most four characters: 1.5, 200, 10k, 1M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= 10 * size or (number >= size and unit == "M"):
            return f"{number / size:g}{unit}"
    return f"{number:g}"


def _epoch_ticks(last: int, most: int) -> list[int]:
    """Round epochs, from 1 to the last one."""
    step = next(step for power in range(8) for mantissa in (1, 2, 5) if (step := mantissa * 10**power) * most >= last)
    return [1, *range(step if step > 1 else 2, last + 1, step)]
