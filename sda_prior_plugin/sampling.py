"""Drawing new codes, one after another, for several sequences at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from sda_prior_plugin.compiled import compiled_for_speed
from sda_prior_plugin.copying import CopyGuard, completing, frame_hash, frame_hashes
from sda_prior_plugin.drawing import NONE_LEFT, drawn, drawn_but_for, probabilities
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.inference import (
    Memory,
    Room,
    Weights,
    end_probability,
    follow,
    level_logits,
    read_band,
    weights_of,
)
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.random_stream import stream_keys, uniforms

MOST_EMPTY_SOUNDS = 100
"""Sounds in a row that the copy guard may end before their first frame."""
ROWS_AT_ONCE = 8
"""Sequences that share the weights that are read; with more, what they remember leaves the processor's cache."""
MEMORY_AT_ONCE = 2**28
"""Bytes that sequences drawn at once may need to remember what they have read."""
BLOCK_FRAMES = 16
"""Frames that a stream draws at a time, at most, once it has begun."""


@dataclass(frozen=True)
class Draw:
    """How a code is drawn from its probabilities; see `Prior.samples`. Raises PriorError out of bounds."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise PriorError(f"temperature is {self.temperature}; it must be above 0.")
        if not 0 < self.top_p <= 1:
            raise PriorError(f"top_p is {self.top_p}; it must be above 0 and at most 1.")
        if self.top_k < 0:
            raise PriorError(f"top_k is {self.top_k}; it must be at least 0, and 0 means all codes.")


class Progress(NamedTuple):
    """Where each of R sequences stands, beside what it remembers.

    Attributes:
        keys: uint64 `[R, 2]`, of the random streams.
        sound: int64 `[R]`, which sound of the sequence this is, counted from 0.
        empty: int64 `[R]`, sounds in a row that ended before their first frame.
        over: bool `[R]`, there is nothing more to come.
        recent: uint64 `[R, frames of the guard - 1]`, hashes of the last frames, the latest last.
        drawn: int64 `[R]`, frames of the sequence so far, and what it was given to go on from.
    """

    keys: np.ndarray
    sound: np.ndarray
    empty: np.ndarray
    over: np.ndarray
    recent: np.ndarray
    drawn: np.ndarray


@compiled_for_speed
def draw_frames(
    weights: Weights,
    memory: Memory,
    room: Room,
    progress: Progress,
    found: np.ndarray,
    counts: np.ndarray,
    endless: bool,
    draw: tuple[float, int, float],
    table: np.ndarray,
) -> None:
    """Draw the next frames of R sequences.

    Args:
        weights, memory, room, progress: of the sequences.
        found: int64 `[R, frames, frame codes]`, to be filled.
        counts: int64 `[R]`, the frames that were drawn of each; fewer than there is room for where it is over.
        endless: whether a sound that is over is followed by another one.
        draw: temperature, top-k and top-p.
        table: of a `CopyGuard`; empty without one.
    """
    temperature, top_k, top_p = draw
    frames, size = found.shape[1:]
    bands, levels = len(weights.band), len(weights.level)
    codebook_size = weights.logits.shape[2]
    p, ruled_out = np.empty(codebook_size), np.empty(codebook_size, np.bool_)
    numbers = np.empty((len(counts), size + 1))
    codes = np.empty((len(counts), size), np.int64)
    counts[:] = 0
    while True:
        rows = np.flatnonzero(~progress.over & (counts < frames))
        if not len(rows):
            break
        for row in rows:
            uniforms(progress.keys[row], progress.sound[row], memory.frame[row], numbers[row])
        read_band(weights, memory, room, rows, codes, 0)
        going_on = 0
        for index in range(len(rows)):
            row = rows[index]
            if memory.frame[row] and end_probability(weights, room, index) > numbers[row, size]:
                _end_sound(memory, progress, row, codebook_size, endless)  # another one begins at the next step
                continue
            rows[going_on] = row
            room.x[going_on] = room.x[index]
            going_on += 1
        rows = rows[:going_on]
        for band in range(bands):
            if band:
                read_band(weights, memory, room, rows, codes, band)
            for level in range(levels):
                level_logits(weights, memory, room, rows, codes, band, level)
                place = band * levels + level
                for index in range(len(rows)):
                    row = rows[index]
                    logits, uniform = room.logits[index], numbers[row, place]
                    if place == size - 1 and len(table) and progress.drawn[row] >= progress.recent.shape[1]:
                        completing(table, progress.recent[row], codes[row], ruled_out)
                        codes[row, place] = drawn_but_for(logits, temperature, top_k, top_p, ruled_out, uniform, p)
                    else:
                        probabilities(logits, temperature, top_k, top_p, p)
                        codes[row, place] = drawn(p, uniform)
        for row in rows:
            if codes[row, size - 1] == NONE_LEFT:
                _end_sound(memory, progress, row, codebook_size, endless)
                continue
            found[row, counts[row]] = codes[row]
            counts[row] += 1
            progress.drawn[row] += 1
            progress.empty[row] = 0
            memory.codes[row] = codes[row]
            memory.frame[row] += 1
            if progress.recent.shape[1]:
                progress.recent[row, :-1] = progress.recent[row, 1:]
                progress.recent[row, -1] = frame_hash(codes[row])


@compiled_for_speed
def _end_sound(memory: Memory, progress: Progress, row: np.intp, codebook_size: int, endless: bool) -> None:
    """A sound is over before its next frame: the sequence is too, or another sound begins."""
    progress.empty[row] = 0 if memory.frame[row] else progress.empty[row] + 1
    progress.sound[row] += 1
    progress.over[row] = not endless or progress.empty[row] >= MOST_EMPTY_SOUNDS
    memory.frame[row] = 0
    memory.codes[row] = codebook_size
    for layer in range(len(memory.hidden)):
        memory.hidden[layer, row] = 0


class Sequences:
    """Several sequences that are drawn side by side, each from a random stream of its own.

    Args:
        network: what they are drawn from.
        weights: its, from `weights_of`.
        keys: uint64 `[R, 2]`, of the random streams.
        most_frames: how many will be drawn of each, at most.
        endless: whether a sound that is over is followed by another one.
        draw: how codes are drawn.
        guard: what must not be copied.
        start: int `[frames, frame codes]`, what all of them go on from.
    """

    def __init__(
        self,
        network: PriorNetwork,
        weights: Weights,
        keys: np.ndarray,
        most_frames: int,
        *,
        endless: bool,
        draw: Draw,
        guard: CopyGuard | None,
        start: np.ndarray,
    ) -> None:
        rows = len(keys)
        self.weights, self.endless, self.draw = weights, endless, (draw.temperature, draw.top_k, draw.top_p)
        self.shape = network.shape
        self.table = np.zeros(0, np.uint64) if guard is None else guard.table
        self.memory = Memory.of_nothing(network, rows, len(start) + most_frames)
        self.room = Room.for_rows(network, rows, self.memory.keys.shape[3])
        follow(weights, self.memory, self.room, start, np.zeros((0, 0, 0), np.float32))
        for part in (self.memory.keys, self.memory.values, self.memory.hidden):
            part[:, 1:] = part[:, :1]
        for part in (self.memory.codes, self.memory.frame):
            part[1:] = part[:1]
        recent = np.zeros((rows, 0 if guard is None else guard.frames - 1), np.uint64)
        known = min(recent.shape[1], len(start))
        recent[:, recent.shape[1] - known :] = frame_hashes(start[len(start) - known :])
        self.progress = Progress(
            keys=keys,
            sound=np.zeros(rows, np.int64),
            empty=np.zeros(rows, np.int64),
            over=np.zeros(rows, np.bool_),
            recent=recent,
            drawn=np.full(rows, len(start), np.int64),
        )

    @property
    def over(self) -> bool:
        """Whether there is nothing more to come of any of them."""
        return bool(self.progress.over.all())

    def more(self, frames: int) -> list[np.ndarray]:
        """The next `frames` frames of each, int `[frames, bands, levels]`, or as many as there are before it is over.

        Raises:
            PriorError: the guard leaves nothing to draw.
        """
        rows, shape = len(self.progress.over), self.shape
        found, counts = np.empty((rows, frames, shape.frame_codes), np.int64), np.zeros(rows, np.int64)
        draw_frames(
            self.weights, self.memory, self.room, self.progress, found, counts, self.endless, self.draw, self.table
        )
        if self.endless and self.progress.over.any():
            raise PriorError(
                "There is nothing to draw that does not copy a recording for longer than --max-copy; allow more."
            )
        return [grid[:count].reshape(-1, shape.bands, shape.levels) for grid, count in zip(found, counts, strict=True)]


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn.

    Attributes:
        frames: of each sequence, sounds one after another; None for one sound.
        max_frames: where to end at the latest when `frames` is None.
        seed: of the random streams.
        draw, guard: how, and what not.
        start: int `[frames, bands, levels]`, what to go on from; it is not part of what is drawn.
    """

    frames: int | None
    max_frames: int
    seed: int
    draw: Draw = Draw()
    guard: CopyGuard | None = None
    start: np.ndarray | None = None

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


def draw_grids(network: PriorNetwork, count: int, wanted: Wanted) -> list[np.ndarray]:
    """`count` new grids, each int `[frames, bands, levels]`.

    A sound that is over before `wanted.frames` is followed by another one. Every grid has a random stream of its own,
    and a stretch of it for each sound, so that it depends neither on how many are drawn beside it nor on the number of
    threads: as many as torch has.

    Raises:
        PriorError: the guard leaves nothing to draw.
    """
    weights, keys = weights_of(network), stream_keys(wanted.seed, count)
    size, threads = rows_at_once(network, count, wanted), torch.get_num_threads()

    def drawn_rows(first: int) -> list[np.ndarray]:
        return wanted.sequences(network, weights, keys[first : first + size]).more(wanted.most_frames)

    firsts = range(0, count, size)
    if threads == 1 or len(firsts) == 1:
        return [grid for first in firsts for grid in drawn_rows(first)]
    with ThreadPoolExecutor(threads) as pool:
        return [grid for grids in pool.map(drawn_rows, firsts) for grid in grids]


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
    sequences = wanted.sequences(network, weights_of(network), stream_keys(wanted.seed, 1))
    left, block = wanted.most_frames, 1
    while left and not sequences.over:
        (grid,) = sequences.more(min(block, left))
        if len(grid):
            yield grid
        left, block = left - min(block, left), min(2 * block, BLOCK_FRAMES)
