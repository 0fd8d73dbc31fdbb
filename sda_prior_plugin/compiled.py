"""Compiling the hot loops with numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`function` as machine code, kept on disk for the next process where numba finds a folder to write to."""
    try:
        return njit(cache=True)(function)  # type: ignore[return-value]  # called like the function
    except RuntimeError:  # there is no such folder
        return njit(function)  # type: ignore[return-value]
