"""docs/live.md and its patches say what an export has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sda_prior_plugin.export.instrument import ATTRIBUTES, methods_of

LIVE = Path(__file__).parents[1] / "docs" / "live"
PAGE = LIVE.with_suffix(".md").read_text("utf-8")
PATCHES = sorted(LIVE.iterdir())


def test_the_page_explains_every_method_and_attribute() -> None:
    for heading, names in (("Methods", methods_of(24, 8192)), ("Attributes", ATTRIBUTES)):
        section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        explained = re.findall(r"^\| `(\w+)`(?: \(and `(\w+)`\))? \|", section, re.MULTILINE)
        assert sorted(name for row in explained for name in row if name) == sorted(names)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.name)
def test_a_patch_uses_what_there_is(patch: Path) -> None:
    text = patch.read_text("utf-8")
    methods = re.findall(r"nn~ model\.ts (\w+) 8192|NN\(\\prior, \\(\w+)\)\.ar", text)
    assert methods
    assert {name for pair in methods for name in pair if name} <= methods_of(24, 8192).keys()
    assert set(re.findall(r"\bset (\w+) ", text)) <= ATTRIBUTES.keys()
    assert f"(live/{patch.name})" in PAGE


def test_the_patch_for_max_is_whole() -> None:
    patcher = json.loads((LIVE / "play.maxpat").read_text("utf-8"))["patcher"]
    boxes = {box["box"]["id"]: box["box"] for box in patcher["boxes"]}
    assert len(boxes) == len(patcher["boxes"])
    for line in patcher["lines"]:
        (source, outlet), (target, inlet) = line["patchline"]["source"], line["patchline"]["destination"]
        assert outlet < boxes[source]["numoutlets"]
        assert inlet < boxes[target]["numinlets"]


@pytest.mark.parametrize("patch", [path for path in PATCHES if path.suffix == ".pd"], ids=lambda path: path.name)
def test_pure_data_misses_nothing_in_a_patch_but_nn(patch: Path) -> None:
    if shutil.which("pd") is None:
        pytest.skip("there is no Pure Data")
    quiet = ["-nogui", "-stderr", "-noaudio", "-nomidi", "-noprefs"]
    ran = subprocess.run(
        ["pd", *quiet, "-send", "pd quit", patch], capture_output=True, text=True, timeout=60, check=False
    )
    missed = re.sub(r"^verbose\(\d\): ", "", ran.stderr, flags=re.MULTILINE).splitlines()
    assert re.fullmatch(r"nn~ model\.ts \w+ 8192", missed[0])
    assert [line.strip() for line in missed[1:]] == ["... couldn't create"]
