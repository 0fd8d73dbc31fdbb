"""The network again, for drawing one code after another: the same numbers as `network.py`, without its overhead.

Everything runs inside numba, and several sequences share each weight that is read. What is done with numbers stands in
`kernels.py`, what is read in `weights.py`. Shapes: R rows (sequences), D hidden size, L levels, C codebook size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sda_prior_plugin.compiled import compiled_for_speed, inlined, literal
from sda_prior_plugin.kernels import (
    add_product,
    add_row,
    attend,
    feed_forward,
    gated,
    normalize,
    product,
    rotate,
    set_row,
)
from sda_prior_plugin.weights import Attention, CodeWeights, Recurrence

if TYPE_CHECKING:
    from sda_prior_plugin.network import PriorNetwork

FIRST, ONE = literal(0), literal(1)


class Memory(NamedTuple):
    """What R sequences remember of what they have read.

    Attributes:
        keys, values: float32 `[layers, R, D, window]`, keys rotated; position p stands at p modulo the window.
        hidden: float64 `[layers, R, D]`, of a GRU.
        codes: int64 `[R, frame codes]`, those of the frame before; the codebook size everywhere before the first.
        frame: int64 `[R]`, frames of the sound so far.
    """

    keys: np.ndarray
    values: np.ndarray
    hidden: np.ndarray
    codes: np.ndarray
    frame: np.ndarray

    @classmethod
    def of_nothing(cls, network: PriorNetwork, rows: int, most_frames: int) -> Memory:
        """For `rows` sequences that have not begun, and that will read at most so many frames each."""
        shape, settings = network.shape, network.settings
        layers, size = settings.layers, settings.hidden_size
        window = min(settings.context_frames, most_frames) * shape.bands
        attends = settings.architecture == "transformer"
        return cls(
            keys=np.zeros((layers, rows, size, window) if attends else (0, 0, 0, 0), np.float32),
            values=np.zeros((layers, rows, size, window) if attends else (0, 0, 0, 0), np.float32),
            hidden=np.zeros((0, 0, 0) if attends else (layers, rows, size)),
            codes=np.full((rows, shape.frame_codes), shape.codebook_size, np.int64),
            frame=np.zeros(rows, np.int64),
        )


class Room(NamedTuple):
    """Room to work in for R sequences, made once; float64 but where it says so."""

    order: np.ndarray  # int64 [R]: 0, 1, 2 and so on
    x: np.ndarray  # [R, D]
    normal: np.ndarray  # [R, D]
    wide: np.ndarray  # [R, 4 D]
    three: np.ndarray  # [R, 3 D]
    recalled: np.ndarray  # [R, 3 D]
    z: np.ndarray  # [R, D]
    logits: np.ndarray  # [R, C]
    above: np.ndarray  # [R, D], the sum of what is known of the levels above
    scores: np.ndarray  # [window]
    bits: np.ndarray  # int64 [window]
    powers: np.ndarray  # the same memory
    cosines: np.ndarray  # [R, half a head]
    sines: np.ndarray

    @classmethod
    def for_rows(cls, network: PriorNetwork, rows: int, window: int) -> Room:
        size, codes = network.settings.hidden_size, network.shape.codebook_size
        bits = np.zeros(max(window, 1), np.int64)
        half = size // network.settings.heads // 2
        return cls(
            order=np.arange(rows), x=np.zeros((rows, size)), normal=np.zeros((rows, size)),
            wide=np.zeros((rows, 4 * size)), three=np.zeros((rows, 3 * size)), recalled=np.zeros((rows, 3 * size)),
            z=np.zeros((rows, size)), logits=np.zeros((rows, codes)), above=np.zeros((rows, size)),
            scores=np.zeros(len(bits)), bits=bits, powers=bits.view(np.float64),
            cosines=np.zeros((rows, half)), sines=np.zeros((rows, half)),
        )  # fmt: skip


@inlined
def read_position(
    weights: CodeWeights, memory: Memory, room: Room, rows: np.ndarray, count: int, codes: np.ndarray, band: int
) -> None:
    """Fill `room.x` with what the network is told before a band: the codes before it, and where it stands."""
    bands, levels = len(weights.band), len(weights.level)
    stride, known = len(weights.previous) // levels, len(weights.time)
    for index in range(count):
        row = rows[index]
        set_row(weights.band, band, room.x, index)
        frame = memory.frame[row]
        add_row(weights.time, frame if frame < known else known - 1, room.x, index)
        for level in range(levels):
            last = (band - 1) % bands * levels + level
            before = codes[row, last] if band else memory.codes[row, last]
            add_row(weights.previous, level * stride + before, room.x, index)
            add_row(weights.frame_back, level * stride + memory.codes[row, band * levels + level], room.x, index)


@inlined
def attend_layers(
    attention: Attention, memory: Memory, room: Room, rows: np.ndarray, count: int, bands: int, band: int
) -> None:
    """Run `room.x` through the layers of a transformer."""
    size, window = room.x.shape[1], memory.keys.shape[3]
    x, normal, three = room.x, room.normal, room.three
    for index in range(count):
        position = memory.frame[rows[index]] * bands + band
        for place in range(len(attention.rates)):
            angle = position * attention.rates[place]
            room.cosines[index, place], room.sines[index, place] = math.cos(angle), math.sin(angle)
    for layer in range(len(attention.attention)):
        normalize(count, x, normal)
        product(count, normal, attention.attention[layer], attention.attention_bias, layer, room.order, three)
        for index in range(count):
            row = rows[index]
            position = memory.frame[row] * bands + band
            one, keys, values = three[index], memory.keys[layer, row], memory.values[layer, row]
            rotate(one, 2 * attention.heads, room.cosines[index], room.sines[index])  # queries and keys
            slot = position % window
            for place in range(size):
                keys[place, slot] = one[size + place]
                values[place, slot] = one[2 * size + place]
            attend(
                one, keys, values, position + 1 if position < window else window, attention.heads,
                room.scores, room.bits, room.powers, normal[index],
            )  # fmt: skip
        add_product(count, normal, attention.attended[layer], room.order, x)
        feed_forward(
            count, x, attention.up[layer], attention.up_bias, attention.down[layer], attention.down_bias, layer,
            room.order, normal, room.wide,
        )  # fmt: skip


@inlined
def recur_layers(recurrence: Recurrence, memory: Memory, room: Room, rows: np.ndarray, count: int) -> None:
    """Run `room.x` through the layers of a GRU."""
    for layer in range(len(recurrence.inputs)):
        hidden = memory.hidden[layer]
        normalize(count, room.x, room.normal)
        product(count, room.normal, recurrence.inputs[layer], recurrence.inputs_bias, layer, room.order, room.three)
        for index in range(count):
            set_row(hidden, rows[index], room.normal, index)
        product(count, room.normal, recurrence.hidden[layer], recurrence.hidden_bias, layer, room.order, room.recalled)
        for index in range(count):
            gated(room.three[index], room.recalled[index], hidden[rows[index]])
            add_row(hidden, rows[index], room.x, index)


@inlined
def level_logits(
    weights: CodeWeights,
    memory: Memory,
    room: Room,
    rows: np.ndarray,
    count: int,
    codes: np.ndarray,
    band: int,
    level: int,
) -> None:
    """Fill `room.logits` for one level of a band, after its layers: `network.PriorNetwork.level_logits`."""
    levels = len(weights.level)
    stride = len(weights.previous) // levels
    place = band * levels + level
    for index in range(count):
        row = rows[index]
        if level:
            add_row(weights.coarser, (level - 1) * stride + codes[row, place - 1], room.above, index)
        else:
            for column in range(room.above.shape[1]):
                room.above[index, column] = 0
        set_row(room.x, index, room.z, index)
        add_row(room.above, index, room.z, index)
        add_row(weights.same_level, level * stride + memory.codes[row, place], room.z, index)
        add_row(weights.level, level, room.z, index)
    feed_forward(
        count, room.z, weights.level_up, weights.level_up_bias, weights.level_down, weights.level_down_bias, FIRST,
        room.order, room.normal, room.wide,
    )  # fmt: skip
    normalize(count, room.z, room.normal)
    product(count, room.normal, weights.logits[level], weights.logits_bias, level, room.order, room.logits)


@inlined
def end_probability(weights: CodeWeights, normal: np.ndarray) -> float:
    """How probable it is that the sound is over, from the norm `[D]` of what the layers give for the first band."""
    logit = weights.end_bias
    for place in range(len(normal)):
        logit += np.float64(normal[place]) * np.float64(weights.end[place])
    return 1.0 / (1.0 + math.exp(-logit))


@compiled_for_speed
def follow(
    weights: CodeWeights,
    attention: Attention | None,
    recurrence: Recurrence | None,
    memory: Memory,
    room: Room,
    codes: np.ndarray,
    logits: np.ndarray | None,
    ends: np.ndarray | None,
) -> None:
    """Read the frames `codes [frames, frame codes]` into the first sequence of `memory`.

    Fills `logits [frames, frame codes, C]` and `ends [frames]`, if any, with those of each code, and how probable each
    end is, from all before it.
    """
    rows = room.order
    bands, levels = len(weights.band), len(weights.level)
    for frame in range(len(codes)):
        current = codes[frame : frame + 1]
        for band in range(bands):
            read_position(weights, memory, room, rows, ONE, current, band)
            if attention is not None:
                attend_layers(attention, memory, room, rows, ONE, bands, band)
            if recurrence is not None:
                recur_layers(recurrence, memory, room, rows, ONE)
            if ends is not None and band == 0:
                normalize(ONE, room.x, room.normal)
                ends[frame] = end_probability(weights, room.normal[0])
            if logits is not None:
                for level in range(levels):
                    level_logits(weights, memory, room, rows, ONE, current, band, level)
                    set_row(room.logits, FIRST, logits[frame], band * levels + level)
        set_row(codes, frame, memory.codes, FIRST)
        memory.frame[0] += 1
