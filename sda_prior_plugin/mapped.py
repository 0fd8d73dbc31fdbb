"""Arrays that may be mapped from a file: read part by part, so that what was read need not stay in memory."""

from __future__ import annotations

import itertools
import mmap
import sys
from collections.abc import Iterator

import numpy as np

PART_BYTES = 2**25


def give_back(array: np.ndarray) -> None:
    """Let the system have the memory of an array that is mapped from a file; it is read again where it is used.

    Otherwise all of a large one would count as this process's memory once every part of it has been touched.
    """
    mapping = _mapping(array)
    if mapping is not None and sys.platform != "win32":
        mapping.madvise(mmap.MADV_DONTNEED)


def parts(array: np.ndarray) -> Iterator[slice]:
    """The rows of an array in stretches of at most PART_BYTES, each given back before the next."""
    rows = max(1, PART_BYTES // max(1, _row_bytes(array)))
    for first in range(0, len(array), rows):
        yield slice(first, first + rows)
        give_back(array)


def sequence_parts(array: np.ndarray, starts: np.ndarray) -> Iterator[np.ndarray]:
    """`starts` of the sequences in an array, and the end, in stretches: `starts` of some sequences, and their end.

    Stretches of a mapped array have about PART_BYTES, but for longer sequences, and are given back one after another.
    """
    if _mapping(array) is None:
        yield starts
        return
    part = starts[:-1] * _row_bytes(array) // PART_BYTES
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(part)]
    for first, end in itertools.pairwise(edges):
        yield starts[first : end + 1]
        give_back(array)


def _row_bytes(array: np.ndarray) -> int:
    return array.nbytes // max(1, len(array))


def _mapping(array: object) -> mmap.mmap | None:
    """What an array, or the one that it is a view of, is mapped by."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            mapping: mmap.mmap | None = array._mmap  # type: ignore[attr-defined]  # numpy does not declare it
            if mapping is not None:
                return mapping
        array = array.base
    return None
