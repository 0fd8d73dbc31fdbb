"""A chart of a training as a file: PNG or SVG, the same as on the page, with the model's name above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from host_stubs.errors import printable
from host_stubs.ui.chart import LEFT, WIDE, Curves, Shape, shapes

LONGEST_NAME = 60
"""Characters of a model's name that there is room for."""
ROOM_ABOVE, DOTS_PER_INCH, TEXT_SIZE = 30, 72, 10
LOOKS: dict[str, dict[str, Any]] = {
    "": {"color": "#222222"},
    "grid": {"color": "#222222", "alpha": 0.15, "linewidth": 1},
    "axis": {"color": "#222222", "alpha": 0.5, "linewidth": 1},
    "train": {"color": "#222222", "alpha": 0.7, "linewidth": 2, "linestyle": (0, (2, 3)), "dash_capstyle": "round"},
    "held-out": {"color": "#0b5fa5", "linewidth": 2.5, "solid_capstyle": "round"},
    "best": {"color": "#0b5fa5", "linewidth": 1.5, "linestyle": (0, (1, 2))},
    "mark": {"color": "#0b5fa5", "marker": "o", "markersize": 9},
    "marked": {"color": "#d98200", "alpha": 0.3, "linewidth": 0},
}
"""As the page's stylesheet has them, on paper."""


def draw(described: Mapping[str, Any], name: str, path: Path) -> None:
    """Draw the training of `Curves`, as a plugin describes it, into `path`: an SVG if it ends so, or else a PNG."""
    curves = Curves(**described)
    title = printable(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…")
    kind = "svg" if path.suffix.lower() == ".svg" else "png"
    with rc_context({"svg.fonttype": "none"}):  # text stays text
        figure(shapes(curves, *WIDE), f"{title}: how it was trained").savefig(path, format=kind, dpi=2 * DOTS_PER_INCH)


def figure(drawn: Sequence[Shape], title: str) -> Figure:
    """Shapes as a picture, its measures those of the page."""
    width, height = WIDE[0], WIDE[1] + ROOM_ABOVE
    made = Figure(figsize=(width / DOTS_PER_INCH, height / DOTS_PER_INCH))
    axes = made.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height - ROOM_ABOVE, -ROOM_ABOVE))
    axes.set_axis_off()
    for shape in [Shape("text", "", [(LEFT, 4)], title), *drawn]:
        look, (x, y) = LOOKS[shape.look], shape.points[0]
        if shape.kind == "text":
            align = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
            axes.text(x, y, shape.text, ha=align, fontsize=TEXT_SIZE, parse_math=False, **look)
        elif shape.kind == "band":
            right, bottom = shape.points[-1]
            axes.add_patch(Rectangle((x, y), right - x, bottom - y, **look))
        else:
            axes.plot(*zip(*shape.points, strict=True), **look)
    return made
