"""Compiling the hot loops with numba."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numba.core.dispatcher import Dispatcher
from numba.core.event import Event, Listener, install_listener

from sda_prior_plugin.machine_code import COMPILES, KeptMachineCode

COMPILING = "compiling the fast loops for this machine, once"
"""What a person is told where there is something to wait for."""

Function = TypeVar("Function", bound=Callable[..., object])


IN_ORDER, ANY_ORDER = frozenset({"contract"}), frozenset({"contract", "reassoc", "nsz"})
"""Liberties with sums of floats."""


def literal(number: int) -> int:
    """`number` for compiled code: what is called with a plain one would be compiled for that number alone."""
    return cast(int, np.int64(number))


def compiled_for_speed(function: Function) -> Function:
    """`function` as machine code, kept for the next process, that may take sums of floats in any order.

    It works in arrays that it is given and makes none, and other threads run meanwhile.
    """
    return _kept(function, ANY_ORDER)


def compiled_in_order(function: Function) -> Function:
    """The same, but sums are taken in the order in which they are written."""
    return _kept(function, IN_ORDER)


def inlined(function: Function) -> Function:
    """`function` as a part of each compiled one that calls it, compiled as that is: for what is small or called once.

    Its sums are taken in the order that the caller's are. From Python it may be called too.
    """
    return _kept(function, ANY_ORDER, inline="always")


def _kept(function: Function, liberties: frozenset[str], **how: Any) -> Function:
    how |= {"fastmath": set(liberties), "nogil": True, "error_model": "numpy"}
    # counting references, and an entry for C, would take time to compile
    made = njit(_nrt=False, no_cfunc_wrapper=True, **how)(function)  # type: ignore[call-overload] # its hints lack some
    if isinstance(made, Dispatcher):  # and not the function itself, as NUMBA_DISABLE_JIT has it
        made._cache = KeptMachineCode(function)  # type: ignore[attr-defined] # numba's hints leave it out
    return cast(Function, made)


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
    with install_listener(COMPILES, listener):
        yield listener
