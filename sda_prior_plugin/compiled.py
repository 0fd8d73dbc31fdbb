"""Compiling the hot loops with numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`function` as machine code, kept on disk for the next process where numba finds a folder to write to."""
    return _kept(function)


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
