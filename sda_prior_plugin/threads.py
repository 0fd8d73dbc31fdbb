"""Work that is shared out among threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T, Done = TypeVar("T"), TypeVar("Done")


def done_in_threads(work: Callable[[T], Done], items: Sequence[T]) -> list[Done]:
    """What `work` makes of each item, in their order, by as many threads as torch has.

    It is for compiled code, which lets other threads run meanwhile.
    """
    threads = min(torch.get_num_threads(), len(items))
    if threads <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))
