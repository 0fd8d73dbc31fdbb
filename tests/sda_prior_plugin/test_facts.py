"""Facts from JSON are what their fields are annotated with, or refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from sda_prior_plugin.facts import read_fields

FACTS: dict[str, Any] = {
    "count": 3,
    "share": 1,
    "name": "a",
    "sure": True,
    "pairs": [[1, 2], [3, 4]],
    "texts": ["b"],
    "named": {"c": "d"},
    "any": {"e": [None]},
}


@dataclass(frozen=True)
class Kinds:
    """One field of each kind."""

    count: int
    share: float
    name: str
    sure: bool
    pairs: tuple[tuple[int, int], ...]
    texts: tuple[str, ...]
    named: dict[str, str]
    any: dict[str, Any]


def test_facts_become_what_the_fields_are_annotated_with() -> None:
    kinds = Kinds(**read_fields(Kinds, json.loads(json.dumps(FACTS))))
    assert kinds == Kinds(3, 1.0, "a", True, ((1, 2), (3, 4)), ("b",), {"c": "d"}, {"e": [None]})
    assert type(kinds.share) is float


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", True), ("count", 3.0), ("count", -1), ("count", 2**54), ("count", None),
        ("share", float("nan")), ("share", float("inf")), ("share", 10**400), ("share", "1"), ("share", -0.5),
        ("name", 1), ("sure", 1), ("pairs", [[1]]), ("pairs", [[1, 2, 3]]), ("pairs", {}), ("pairs", [["1", 2]]),
        ("texts", "b"), ("texts", [1]), ("named", {"c": 1}), ("named", []), ("any", []),
    ],
)  # fmt: skip
def test_what_is_something_else_is_refused_by_the_fields_name(name: str, value: object) -> None:
    with pytest.raises(TypeError) as refused:
        read_fields(Kinds, {**FACTS, name: value})
    assert refused.value.args[0] == name


def test_a_fact_that_is_missing_is_named() -> None:
    with pytest.raises(KeyError, match="share"):
        read_fields(Kinds, {name: fact for name, fact in FACTS.items() if name != "share"})
