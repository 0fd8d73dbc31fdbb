"""Memory that was freed: kept from step to step, given back to the system before training and after each epoch.

It is glibc's allocator that all this is about (https://sourceware.org/glibc/wiki/MallocInternals); others are left to
themselves.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""What mallopt sets, by its numbers in malloc.h."""
KEPT_BYTES, HEAP_BYTES = 2**26, 2**25
"""What may lie free at the end of the heap, and what is smaller comes from there: what glibc itself goes up to."""


def keep_freed() -> None:
    """Let the allocator keep for the next step what one has freed.

    By itself it gives back what lies free at the end, and asks for it again: of a training's 50 seconds that took 1 to
    5, depending on what happened to lie there.
    """
    if (libc := _libc()) is not None and hasattr(libc, "mallopt"):
        libc.mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(MMAP_THRESHOLD, HEAP_BYTES)


def give_back_freed() -> None:
    """Let the system have the memory that this process has freed and its allocator keeps for later.

    Batches take other pieces than the sounds did that were freed. After an epoch it takes some 5 ms; after every
    recording it would cost a quarter of encoding, which then has to ask for the same memory again.
    """
    if (libc := _libc()) is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _libc() -> Any:
    """What this process has of the C library; None where it is not Linux's."""
    return ctypes.CDLL(None) if sys.platform == "linux" else None
