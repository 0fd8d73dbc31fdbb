"""Drawing new codes, as many sequences at once as threads and memory allow, or one as it is heard."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from sda_prior_plugin.copying import CopyGuard
from sda_prior_plugin.inference import Memory
from sda_prior_plugin.laying_out import weights_of
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.random_stream import stream_keys
from sda_prior_plugin.sequences import Draw, Sequences
from sda_prior_plugin.weights import Weights

Item = TypeVar("Item")

ROWS_AT_ONCE = 8
"""Sequences that share the weights that are read; with more, what they remember leaves the processor's cache."""
MEMORY_AT_ONCE = 2**28
"""Bytes that sequences drawn at once may need to remember what they have read."""
BLOCK_FRAMES = 16
"""Frames that a stream draws at a time, at most, once it has begun."""


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn.

    Attributes:
        frames: of each sequence, sounds one after another; None for one sound.
        max_frames: where to end at the latest when `frames` is None.
        seed: of the random streams.
        draw, guard: how, and what not.
        start: int `[frames, bands, levels]`, what to go on from; it is not part of what is drawn.
        kind: of copies, of those that the network was told apart; 0 is as recorded.
    """

    frames: int | None
    max_frames: int
    seed: int
    draw: Draw = Draw()  # noqa: RUF009 - it is frozen
    guard: CopyGuard | None = None
    start: np.ndarray | None = None
    kind: int = 0

    @property
    def most_frames(self) -> int:
        """Of each sequence, at most."""
        return self.max_frames if self.frames is None else self.frames

    def sequences(self, network: PriorNetwork, weights: Weights, keys: np.ndarray) -> Sequences:
        """As many as there are `keys`, before their first frame."""
        given = np.zeros(0, np.int64) if self.start is None else self.start.astype(np.int64)
        return Sequences(
            network, weights, keys, self.most_frames, endless=self.frames is not None, draw=self.draw, guard=self.guard,
            start=given.reshape(-1, network.shape.frame_codes),
        )  # fmt: skip


def draw_grids(
    network: PriorNetwork, count: int, wanted: Wanted, numbers: Sequence[int] | None = None
) -> list[np.ndarray]:
    """`count` new grids, each int `[frames, bands, levels]`, or those of them with these `numbers`, from 0 on.

    A sound that is over before `wanted.frames` is followed by another one. Every grid has a random stream of its own,
    and a stretch of it for each sound, so that it depends neither on how many are drawn beside it nor on the number of
    threads: as many as torch has.

    Raises:
        PriorError: the guard leaves nothing to draw.
    """
    keys = stream_keys(wanted.seed, count)
    if numbers is not None:
        keys = keys[list(numbers)]
        count = len(keys)
    weights, size = weights_of(network, wanted.kind), rows_at_once(network, count, wanted)

    def drawn_rows(first: int) -> list[np.ndarray]:
        return wanted.sequences(network, weights, keys[first : first + size]).more(wanted.most_frames)

    return [grid for grids in _in_threads(drawn_rows, range(0, count, size)) for grid in grids]


def draw_for_each(network: PriorNetwork, count: int, several: Sequence[Wanted]) -> list[list[np.ndarray]]:
    """What `draw_grids` gives for each of several wishes as recorded, a few grids each, sooner than one by one."""
    weights = weights_of(network)

    def drawn_of(wanted: Wanted) -> list[np.ndarray]:
        return wanted.sequences(network, weights, stream_keys(wanted.seed, count)).more(wanted.most_frames)

    return _in_threads(drawn_of, several)


def _in_threads(draw: Callable[[Item], list[np.ndarray]], items: Sequence[Item]) -> list[list[np.ndarray]]:
    """What is drawn for each item, in their order, by as many threads as torch has."""
    threads = min(torch.get_num_threads(), len(items))
    if threads <= 1:
        return [draw(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(draw, items))


def rows_at_once(network: PriorNetwork, count: int, wanted: Wanted) -> int:
    """How many of `count` sequences are drawn side by side: few enough for all threads, and for the memory there is."""
    one = Memory.of_nothing(network, 1, wanted.most_frames + (0 if wanted.start is None else len(wanted.start)))
    room = sum(part.nbytes for part in one) + 8 * wanted.most_frames * network.shape.frame_codes
    threads = torch.get_num_threads()
    return max(1, min(ROWS_AT_ONCE, math.ceil(count / threads), MEMORY_AT_ONCE // threads // room))


def draw_stream(network: PriorNetwork, wanted: Wanted) -> Iterator[np.ndarray]:
    """The frames of one new grid as they are drawn, int `[some, bands, levels]`: the first alone, later ones in blocks.

    Together they are the first grid of `draw_grids`. What is needed in memory does not grow with their number.

    Raises:
        PriorError: the guard leaves nothing to draw.
    """
    sequences = wanted.sequences(network, weights_of(network, wanted.kind), stream_keys(wanted.seed, 1))
    left, block = wanted.most_frames, 1
    while left and not sequences.over:
        (grid,) = sequences.more(min(block, left))
        if len(grid):
            yield grid
        left, block = left - min(block, left), min(2 * block, BLOCK_FRAMES)
