"""The chart of a training: the same on the page and in a file."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from host_stubs.ui.chart import WIDE, Curves, chart, shapes
from host_stubs.ui.picture import draw, figure


def described(trained_on: list[float], held_out: list[float], best: int, **more: Any) -> dict[str, Any]:
    return {"measure": "loss", "trained_on": trained_on, "held_out": held_out, "best": best, "planned": 100, **more}


@pytest.fixture
def curves() -> dict[str, Any]:
    held_out = [9.0, 5.0, 4.0, 4.5, 6.0, 8.0]
    return described([10.0, 5.0, 3.0, 2.0, 1.5, 1.2], held_out, best=3, marked=[(5, 6)], mark="very likely memorizing")


def wide(drawn: str) -> str:
    return drawn[: drawn.index('class="narrow"')]


def test_it_shows_both_curves_the_best_epoch_and_what_is_marked(curves: dict[str, Any]) -> None:
    drawn = chart(curves)
    for line in ("train", "held-out"):
        points = re.findall(rf'<polyline class="{line}" points="([^"]+)"', wide(drawn))
        assert [len(each.split()) for each in points] == [6, 2]  # the curve, and a sign in the legend
    assert drawn.count("best: epoch 3, 4.00</text>") == 2
    assert drawn.count('class="marked"') == 4  # a band and a sign in the legend, wide and narrow
    assert drawn.count('role="img"') == 2
    assert Curves(**curves).summary == (
        "After epoch 6 of 100: loss 1.20 on what it trains on, 8.00 on the held-out recordings. The best: epoch 3, "
        "4.00. Very likely memorizing: epochs 5 to 6."
    )


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_file_shows_what_the_page_shows(curves: dict[str, Any], tmp_path: Path, kind: str) -> None:
    drawn = shapes(Curves(**curves), *WIDE)
    (axes,) = figure(drawn, "drums").axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    assert lines == [tuple(map(list, zip(*each.points, strict=True))) for each in drawn if each.kind in ("line", "dot")]
    assert [text.get_text() for text in axes.texts] == ["drums", *(each.text for each in drawn if each.kind == "text")]
    bands = [patch.get_bbox() for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [((box.x0, box.y0), (box.x1, box.y1)) for box in bands] == [
        tuple(each.points) for each in drawn if each.kind == "band"
    ]
    draw(curves, r"a $\foo$ b", tmp_path / f"training.{kind}")
    content = (tmp_path / f"training.{kind}").read_bytes()
    assert content.startswith(b"\x89PNG" if kind == "png" else b"<?xml")


@pytest.mark.parametrize("epochs", [1, 2, 7, 1000])
def test_it_stays_inside_its_frame_and_small(epochs: int) -> None:
    values = np.geomspace(60.0, 1.5, epochs).tolist()
    drawn = chart(described(values, values, best=epochs))
    assert len(drawn) < 40_000
    for points in re.findall(r'points="([^"]+)"', wide(drawn)):
        for x, y in (point.split(",") for point in points.split()):
            assert 0 <= float(x) <= WIDE[0]
            assert 0 <= float(y) <= WIDE[1]


def test_large_and_small_values_fit_beside_it() -> None:
    for held_out, expected in (([60.0, 2e4, 9e5], {"10k", "1M"}), ([0.5, 0.08, 0.04], {"0.05", "0.5"})):
        labels = re.findall(r'text-anchor="end">([^<]+)<', chart(described(held_out, held_out, best=1)))
        assert expected <= set(labels)
        assert max(map(len, labels)) <= 4


def test_before_there_is_a_best_epoch_there_is_none() -> None:
    assert chart(described([], [], best=0)) == ""
    assert chart(described([math.inf], [math.inf], best=0)) == ""


def test_epochs_that_are_not_finite_leave_gaps() -> None:
    trained_on, held_out = [50.0, 9.0, 8.0, 7.0, 1e90, math.inf], [math.inf, 9.0, 9.5, math.inf, 9.0, math.inf]
    drawn = wide(chart(described(trained_on, held_out, best=2)))
    stretches = re.findall(r'class="held-out" points="([^"]+)"', drawn)
    assert [len(points.split()) for points in stretches] == [2, 2, 2]
    assert "inf," not in drawn
    assert "nan" not in drawn
    assert "loss not finite on what it trains on, not finite on the held-out recordings" in drawn
    assert "best: epoch 2, 9.00" in drawn
