"""Memory that was freed: given back to the system before training, and after each epoch."""

from __future__ import annotations

import ctypes
import sys


def give_back_freed() -> None:
    """Let the system have the memory that this process has freed and its allocator keeps for later.

    Batches take other pieces than the sounds did that were freed, and glibc's keeps these
    (https://sourceware.org/glibc/wiki/MallocInternals). Where it is not, nothing is done. After an epoch it takes some
    5 ms; after every recording it would cost a quarter of encoding, which then has to ask for the same memory again.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
