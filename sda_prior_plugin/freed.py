"""Memory that was freed: given back to the system between the parts of a training."""

from __future__ import annotations

import ctypes
import sys


def give_back_freed() -> None:
    """Let the system have the memory that this process has freed and its allocator keeps for later.

    Sounds of other lengths and then batches take other pieces than those that were freed: glibc's, unlike others, keeps
    more and more of them (https://sourceware.org/glibc/wiki/MallocInternals). Where it is not, nothing is done.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
