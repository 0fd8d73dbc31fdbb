"""Compiling the hot loops with numba."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from numba import njit
from numba.core.event import Event, Listener, install_listener

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`function` as machine code, kept on disk for the next process where numba finds a folder to write to."""
    try:
        return njit(cache=True)(function)  # type: ignore[return-value]  # called like the function
    except RuntimeError:  # there is no such folder
        return njit(function)  # type: ignore[return-value]


class CompileTime(Listener):
    """How long was spent compiling.

    Attributes:
        seconds: so far; 0 where all machine code was there from an earlier run.
    """

    def __init__(self, on_first: Callable[[], object]) -> None:
        self.seconds = 0.0
        self._on_first = on_first
        self._depth = 0
        self._begun: float | None = None

    def on_start(self, event: Event) -> None:
        if self._begun is None:
            self._on_first()
        if self._depth == 0:
            self._begun = time.monotonic()
        self._depth += 1  # a loop that calls another has that one compiled meanwhile

    def on_end(self, event: Event) -> None:
        self._depth -= 1
        if self._depth == 0 and self._begun is not None:
            self.seconds += time.monotonic() - self._begun


@contextmanager
def compile_time(on_first: Callable[[], object]) -> Iterator[CompileTime]:
    """Measure the compiling inside the block; `on_first` is called when there is any, before it begins."""
    listener = CompileTime(on_first)
    with install_listener("numba:compile", listener):
        yield listener
