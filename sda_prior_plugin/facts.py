"""Facts that go to JSON and come back from it, each as the field that it is for is annotated."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from typing import Any

_PLAIN = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
_MOST = {"int": 2**53, "float": sys.float_info.max}  # a JSON number says no larger whole number exactly

Perplexities = tuple[float, ...]
"""One for each epoch, infinite where its bits per code were too many or no number; JSON has null for that."""


def plain_fields(of: Any, *, but: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The fields of a dataclass, all `but` some, as plain JSON of their names: what `read_fields` reads."""
    return {field.name: _plain(getattr(of, field.name)) for field in dataclasses.fields(of) if field.name not in but}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_fields(kind: type, facts: Mapping[str, Any], *, but: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The fields of a dataclass of this kind, all `but` some, from facts of their names.

    Raises:
        KeyError: a fact is missing.
        TypeError: it is not what the field is annotated with; `args` are the field's name and what it is.
    """
    values = {}
    for field in dataclasses.fields(kind):
        if field.name not in but:
            value = facts[field.name]
            try:
                values[field.name] = read_fact(str(field.type), value)
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                raise TypeError(field.name, value) from error
    return values


def read_fact(annotation: str, value: Any) -> Any:
    """A JSON value as what a field is annotated with; numbers are finite and not negative.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if annotation == "Perplexities":
        if not isinstance(value, list):
            raise TypeError(value)
        return tuple(math.inf if each is None else read_fact("float", each) for each in value)
    if annotation.startswith("tuple["):
        kinds = annotation.removeprefix("tuple[").removesuffix("]").rsplit(", ", 1)
        if not isinstance(value, list):
            raise TypeError(value)
        if kinds[1] == "...":
            return tuple(read_fact(kinds[0], each) for each in value)
        return tuple(read_fact(kind, each) for kind, each in zip(kinds, value, strict=True))
    if annotation.startswith("dict[str, "):
        if not isinstance(value, dict):
            raise TypeError(value)
        inner = annotation.removeprefix("dict[str, ").removesuffix("]")
        return {name: each if inner == "Any" else read_fact(inner, each) for name, each in value.items()}
    if type(value) not in _PLAIN[annotation]:  # a truth value is a number to isinstance
        raise TypeError(value)
    if annotation in _MOST and not 0 <= value <= _MOST[annotation]:
        raise ValueError(value)
    return float(value) if annotation == "float" else value
