"""A package's public face whose parts are imported when they are first asked for.

Importing torch takes a second; a command line that only prints its help should not wait for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_face(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module-level `__getattr__` (PEP 562) for `package`; `homes` names the module that each public name is in."""

    def __getattr__(name: str) -> Any:  # noqa: N807 - it becomes the package's own
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return __getattr__
