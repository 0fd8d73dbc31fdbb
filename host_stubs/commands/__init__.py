"""The host's commands, one small module each. They start fast: what is heavy is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from host_stubs.commands.display import TrainingDisplay, working_on

__all__ = ["TrainingDisplay", "working_on"]


def __getattr__(name: str) -> Any:
    """Import what draws with rich when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.display"), name)
