"""docs/dependencies.md, constraints.txt and both pyproject.toml name the same packages."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "dependencies.md").read_text()
ASKED_FOR, BROUGHT_ALONG = PAGE.split("## Brought along")


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins)
    assert len({canonicalize_name(name) for name, _ in pins}) == len(pins)
    return {canonicalize_name(name): version for name, version in pins}


def asked_for() -> dict[str, SpecifierSet]:
    """What the two distributions and their extras need, and what builds them."""
    found: dict[str, SpecifierSet] = {}
    for path in (ROOT / "pyproject.toml", ROOT / "host_stubs" / "pyproject.toml"):
        content = tomllib.loads(path.read_text())
        project = content["project"]
        extras = [each for extra in project.get("optional-dependencies", {}).values() for each in extra]
        for text in [*project["dependencies"], *extras, *content["build-system"]["requires"]]:
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            found[name] = found.get(name, SpecifierSet()) & requirement.specifier
    return found


def rows(part: str) -> dict[str, list[str]]:
    """The cells of a table by the package that they are about."""
    lines = re.findall(r"^\| `([^`]+)` \| (.+) \|$", part, flags=re.MULTILINE)
    assert len({name for name, _ in lines}) == len(lines)
    return {canonicalize_name(name): rest.split(" | ") for name, rest in lines}


def test_every_dependency_is_pinned_to_a_version_that_it_may_have() -> None:
    pins = pinned()
    for name, allowed in asked_for().items():
        assert name in pins, f"{name} is not pinned in constraints.txt"
        assert allowed.contains(pins[name]), f"{name} {pins[name]} is pinned, {allowed} is asked for"


def test_the_oldest_version_asked_for_is_the_one_that_everything_was_tested_with() -> None:
    """Its first two numbers: older ones may do, but nobody has tried."""
    pins = pinned()
    for name, allowed in asked_for().items():
        oldest = {Version(each.version).release for each in allowed if each.operator == ">="}
        assert oldest == {Version(pins[name]).release[:2]}, f"{name}: {allowed}, pinned is {pins[name]}"


def test_the_page_says_of_every_dependency_why_it_is_there() -> None:
    table = rows(ASKED_FOR)
    assert table.keys() == asked_for().keys()
    assert all(len(cells) == 3 and len(cells[2]) > 10 for cells in table.values())


def test_the_page_names_every_pinned_package_with_its_version() -> None:
    table = rows(ASKED_FOR) | rows(BROUGHT_ALONG)
    assert {name: cells[0] for name, cells in table.items()} == pinned()
    assert rows(ASKED_FOR).keys() & rows(BROUGHT_ALONG).keys() == set()


@pytest.mark.parametrize("name", rows(BROUGHT_ALONG))
def test_what_is_brought_along_is_brought_by_what_the_page_says(name: str) -> None:
    for parent in re.findall(r"`([^`]+)`", rows(BROUGHT_ALONG)[name][1]):
        assert parent in pinned()
        try:
            needed = importlib.metadata.requires(parent) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of an extra that is not installed here
        assert name in {canonicalize_name(Requirement(each).name) for each in needed}, parent
