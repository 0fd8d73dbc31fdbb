"""Compiling the hot loops with numba."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.event import Event, Listener, install_listener

COMPILING = "compiling the fast loops for this machine, once"
"""What a person is told where there is something to wait for."""

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`function` as machine code, kept on disk for the next process where numba finds a folder to write to."""
    return _kept(function, nogil=True)


def compiled_for_speed(function: Function) -> Function:
    """The same for sums of floats: they may be taken in any order, and other threads run meanwhile."""
    return _kept(function, fastmath={"contract", "reassoc", "nsz"}, nogil=True, error_model="numpy")


def compiled_in_order(function: Function) -> Function:
    """The same, but sums are taken in the order in which they are written."""
    return _kept(function, fastmath={"contract"}, nogil=True, error_model="numpy")


def _kept(function: Function, **how: Any) -> Function:
    try:
        return cast(Function, njit(cache=True, **how)(function))
    except RuntimeError:  # there is no such folder
        return cast(Function, njit(**how)(function))


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
