"""Drawing the next frames of several sequences side by side, each from its own random stream: one compiled loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.compiled import compiled_for_speed, inlined, literal
from sda_prior_plugin.copying import CopyGuard
from sda_prior_plugin.drawing import NONE_LEFT, drawn_but_for
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.inference import (
    Memory,
    Room,
    attend_layers,
    end_probability,
    follow,
    level_logits,
    read_position,
    recur_layers,
)
from sda_prior_plugin.kernels import normalize, set_row
from sda_prior_plugin.random_stream import uniforms
from sda_prior_plugin.weights import Attention, CodeWeights, Recurrence, Weights
from sda_prior_plugin.window_hashes import completing, frame_hash, frame_hashes

if TYPE_CHECKING:
    from sda_prior_plugin.network import PriorNetwork

MOST_EMPTY_SOUNDS = 100
"""Sounds in a row that the copy guard may end before their first frame."""
NONE_YET = literal(0)
DEFAULT_TOP_P, TOP_P_OF_SHORT_FRAMES = 0.9, 0.7
SHORT_FRAME_SECONDS = 0.05


def default_top_p(frame_seconds: float) -> float:
    """From which share of the codes to draw where nobody says, by the length of a code frame.

    For somebody as for looking for copies, so that what is judged is what is heard. What is drawn of short frames
    differs from one to the next by what the prior does not know, and is heard as noise: there are so many of them. The
    measurements are the sections "Sound: from how many codes to draw" and "Short frames: the time told, and top-p
    again" of benchmarks/RESULTS.md: frames of 171 ms, and of 12 to 20 ms; between these nothing was measured.
    """
    return DEFAULT_TOP_P if frame_seconds >= SHORT_FRAME_SECONDS else TOP_P_OF_SHORT_FRAMES


@dataclass(frozen=True)
class Draw:
    """How a code is drawn from its probabilities; see `Prior.samples`. Raises PriorError out of bounds."""

    temperature: float = 1.0
    top_p: float = DEFAULT_TOP_P
    top_k: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise PriorError(f"temperature is {self.temperature}; it must be above 0.")
        if not 0 < self.top_p <= 1:
            raise PriorError(f"top_p is {self.top_p}; it must be above 0 and at most 1.")
        if self.top_k < 0:
            raise PriorError(f"top_k is {self.top_k}; it must be at least 0, and 0 means all codes.")


class Progress(NamedTuple):
    """Where each of R sequences stands, beside what it remembers, and room to work in.

    Attributes:
        keys: uint64 `[R, 2]`, of the random streams.
        sound: int64 `[R]`, which sound of the sequence this is, counted from 0.
        empty: int64 `[R]`, sounds in a row that ended before their first frame.
        over: bool `[R]`, there is nothing more to come.
        recent: uint64 `[R, frames of the guard - 1]`, hashes of the last frames, the latest last.
        drawn: int64 `[R]`, frames of the sequence so far, and what it was given to go on from.
        rows: int64 `[R]`, room for the sequences that a frame is drawn of.
        codes: int64 `[R, frame codes]`, room for it.
        numbers: float64 `[R, frame codes + 1]`, room for random numbers.
        p: float64 `[2, C]`, room for probabilities.
        ruled_out: bool `[C]`, room for what the guard finds.
    """

    keys: np.ndarray
    sound: np.ndarray
    empty: np.ndarray
    over: np.ndarray
    recent: np.ndarray
    drawn: np.ndarray
    rows: np.ndarray
    codes: np.ndarray
    numbers: np.ndarray
    p: np.ndarray
    ruled_out: np.ndarray

    @classmethod
    def of_sequences(cls, shape: CodeShape, keys: np.ndarray, recent: np.ndarray, given: int) -> Progress:
        """Before the first frame that is drawn, after so many that were `given`."""
        rows, size = len(keys), shape.frame_codes
        return cls(
            keys=keys, sound=np.zeros(rows, np.int64), empty=np.zeros(rows, np.int64), over=np.zeros(rows, np.bool_),
            recent=recent, drawn=np.full(rows, given, np.int64), rows=np.zeros(rows, np.int64),
            codes=np.zeros((rows, size), np.int64), numbers=np.zeros((rows, size + 1)),
            p=np.zeros((2, shape.codebook_size)), ruled_out=np.zeros(shape.codebook_size, np.bool_),
        )  # fmt: skip


@compiled_for_speed
def draw_frames(
    weights: CodeWeights,
    attention: Attention | None,
    recurrence: Recurrence | None,
    memory: Memory,
    room: Room,
    progress: Progress,
    found: np.ndarray,
    counts: np.ndarray,
    endless: bool,
    draw: tuple[float, int, float],
    table: np.ndarray | None,
) -> None:
    """Draw the next frames of R sequences.

    Args:
        weights, attention, recurrence: see `Weights`.
        memory, room, progress: of the sequences.
        found: int64 `[R, frames, frame codes]`, to be filled.
        counts: int64 `[R]`, the frames that were drawn of each, at first 0; fewer than there is room for where it is
            over.
        endless: whether a sound that is over is followed by another one.
        draw: temperature, top-k and top-p.
        table: of a `CopyGuard`; code for one is compiled only where there is one.
    """
    frames, size = found.shape[1:]
    bands, levels = len(weights.band), len(weights.level)
    codes, rows = progress.codes, progress.rows
    while True:
        count = _going_on(memory, progress, counts, frames)
        if not count:
            break
        for band in range(bands):
            read_position(weights, memory, room, rows, count, codes, band)
            if attention is not None:
                attend_layers(attention, memory, room, rows, count, bands, band)
            if recurrence is not None:
                recur_layers(recurrence, memory, room, rows, count)
            if band == 0:
                count = _without_ended(weights, memory, room, progress, count, endless)
            for level in range(levels):
                level_logits(weights, memory, room, rows, count, codes, band, level)
                for index in range(count):
                    row, place = rows[index], band * levels + level
                    _draw_code(room.logits[index], progress, row, place, memory.codes[row, place], draw, table)
        for index in range(count):
            row = rows[index]
            if table is not None and codes[row, size - 1] == NONE_LEFT:
                _end_sound(memory, progress, row, room.logits.shape[1], endless)
                continue
            set_row(codes, row, found[row], counts[row])
            counts[row] += 1
            _keep_frame(memory, progress, row, table)


@inlined
def _going_on(memory: Memory, progress: Progress, counts: np.ndarray, frames: int) -> int:
    """Fill `progress.rows` with the sequences that lack frames, and give each numbers to draw by; gives how many."""
    count = NONE_YET
    for row in range(len(counts)):
        if counts[row] < frames and not progress.over[row]:
            progress.rows[count] = row
            count += 1
            uniforms(progress.keys[row], progress.sound[row], memory.frame[row], progress.numbers[row])
    return count


@inlined
def _keep_frame(memory: Memory, progress: Progress, row: int, table: np.ndarray | None) -> None:
    """Remember the frame that was drawn of a row."""
    set_row(progress.codes, row, memory.codes, row)
    progress.drawn[row] += 1
    progress.empty[row] = 0
    memory.frame[row] += 1
    if table is not None:
        recent = progress.recent[row]
        for place in range(1, len(recent)):
            recent[place - 1] = recent[place]
        if len(recent):
            recent[-1] = frame_hash(progress.codes[row])


@inlined
def _without_ended(
    weights: CodeWeights, memory: Memory, room: Room, progress: Progress, count: int, endless: bool
) -> int:
    """End the sounds that are over, of the first `count` rows, and move the others together.

    Gives how many those are.
    """
    going_on = NONE_YET
    normalize(count, room.x, room.normal)
    for index in range(count):
        row = progress.rows[index]
        if memory.frame[row] and end_probability(weights, room.normal[index]) > progress.numbers[row, -1]:
            _end_sound(memory, progress, row, room.logits.shape[1], endless)  # another one begins at the next step
        else:
            progress.rows[going_on] = row
            set_row(room.x, index, room.x, going_on)
            going_on += 1
    return going_on


@inlined
def _draw_code(
    logits: np.ndarray,
    progress: Progress,
    row: int,
    place: int,
    held: int,
    draw: tuple[float, int, float],
    table: np.ndarray | None,
) -> None:
    """Draw one code of a row from its logits; `held` is the one in its place one frame before."""
    temperature, top_k, top_p = draw
    codes, uniform = progress.codes[row], progress.numbers[row, place]
    ruled_out = progress.ruled_out[:0]
    if table is not None and place == len(codes) - 1 and progress.drawn[row] >= progress.recent.shape[1]:
        ruled_out = progress.ruled_out
        completing(table, progress.recent[row], codes, ruled_out)
    codes[place] = drawn_but_for(logits, temperature, top_k, top_p, held, ruled_out, uniform, progress.p)


@inlined
def _end_sound(memory: Memory, progress: Progress, row: int, codebook_size: int, endless: bool) -> None:
    """A sound is over before its next frame: the sequence is too, or another sound begins."""
    progress.empty[row] = 0 if memory.frame[row] else progress.empty[row] + 1
    progress.sound[row] += 1
    progress.over[row] = not endless or progress.empty[row] >= MOST_EMPTY_SOUNDS
    memory.frame[row] = 0
    for place in range(memory.codes.shape[1]):
        memory.codes[row, place] = codebook_size
    for layer in range(len(memory.hidden)):
        for place in range(memory.hidden.shape[2]):
            memory.hidden[layer, row, place] = 0


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
        self.table = None if guard is None else guard.table
        self.memory = Memory.of_nothing(network, rows, len(start) + most_frames)
        self.room = Room.for_rows(network, rows, self.memory.keys.shape[3])
        if len(start):  # without, there is nothing to compile either
            follow(*weights, self.memory, self.room, start, None, None)
        for part in (self.memory.keys, self.memory.values, self.memory.hidden):
            part[:, 1:] = part[:, :1]
        for part in (self.memory.codes, self.memory.frame):
            part[1:] = part[:1]
        recent = np.zeros((rows, 0 if guard is None else guard.frames - 1), np.uint64)
        known = min(recent.shape[1], len(start))
        recent[:, recent.shape[1] - known :] = frame_hashes(start[len(start) - known :])
        self.progress = Progress.of_sequences(network.shape, keys, recent, len(start))

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
            *self.weights, self.memory, self.room, self.progress, found, counts, self.endless, self.draw, self.table
        )
        if self.endless and self.progress.over.any():
            raise PriorError("There is nothing to draw that copies a recording for no longer than allowed; allow more.")
        return [grid[:count].reshape(-1, shape.bands, shape.levels) for grid, count in zip(found, counts, strict=True)]
