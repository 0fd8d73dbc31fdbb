"""The network again, for drawing one code after another: the same numbers as `network.py`, without its overhead.

Reading the weights is what a step costs. So they are laid out in the order in which they are read, `[in, out]`, with
the affine parts of the norms multiplied into the maps that follow them; everything runs inside numba; and several
sequences share each weight that is read. Shapes: R rows (sequences), D hidden size, L levels, C codebook size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sda_prior_plugin.compiled import compiled_for_speed, compiled_in_order
from sda_prior_plugin.network import KNOWN_FRAMES, GruCore, PriorNetwork, TransformerCore

NORM_EPSILON = 1e-5
ROTATION_BASE = 10_000.0


class Weights(NamedTuple):
    """All that drawing reads of a network; float32, matrices `[in, out]`, and empty what the architecture lacks."""

    previous: np.ndarray  # [L * (C + 1), D], and the next three: see network.Tables
    frame_back: np.ndarray
    coarser: np.ndarray
    same_level: np.ndarray
    band: np.ndarray  # [bands, D]
    time: np.ndarray  # [known frames, D]
    level: np.ndarray  # [L, D]
    heads: int
    rates: np.ndarray  # float64 [half a head], of the rotation, in radians a position
    attention: np.ndarray  # [layers, D, 3 D], queries, keys, values
    attention_bias: np.ndarray
    attended: np.ndarray  # [layers, D, D]
    up: np.ndarray  # [layers, D, 4 D]
    up_bias: np.ndarray
    down: np.ndarray  # [layers, 4 D, D]
    down_bias: np.ndarray
    inputs: np.ndarray  # [layers, D, 3 D], a GRU's reset, update and new
    inputs_bias: np.ndarray
    hidden: np.ndarray
    hidden_bias: np.ndarray
    level_up: np.ndarray  # [D, 4 D], the network within a band
    level_up_bias: np.ndarray
    level_down: np.ndarray
    level_down_bias: np.ndarray
    logits: np.ndarray  # [L, D, C]
    logits_bias: np.ndarray
    end: np.ndarray  # [D, 1]
    end_bias: np.ndarray

    @property
    def read_for_a_frame(self) -> int:
        """Bytes of matrices that are read to draw one frame."""
        core = self.attention, self.attended, self.up, self.down, self.inputs, self.hidden
        bands, levels = len(self.band), len(self.level)
        within = levels * (self.level_up.nbytes + self.level_down.nbytes) + self.logits.nbytes
        return bands * (sum(matrix.nbytes for matrix in core) + within)


class Memory(NamedTuple):
    """What R sequences remember of what they have read.

    Attributes:
        keys, values: float32 `[layers, R, D, window]`, keys rotated; position p stands at p modulo the window.
        hidden: float32 `[layers, R, D]`, of a GRU.
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
        attends = isinstance(network.core, TransformerCore)
        return cls(
            keys=np.zeros((layers, rows, size, window) if attends else (0, 0, 0, 0), np.float32),
            values=np.zeros((layers, rows, size, window) if attends else (0, 0, 0, 0), np.float32),
            hidden=np.zeros((0, 0, 0) if attends else (layers, rows, size), np.float32),
            codes=np.full((rows, shape.frame_codes), shape.codebook_size, np.int64),
            frame=np.zeros(rows, np.int64),
        )


@torch.no_grad()
def weights_of(network: PriorNetwork) -> Weights:
    """What drawing reads of a network, wherever it is."""
    tables = network.tables()
    learned = {name: _array(tensor) for name, tensor in network.state_dict().items()}
    layers = [f"core.layers.{layer}" for layer in range(network.settings.layers)]
    blocks = [f"core.blocks.{layer}" for layer in range(network.settings.layers)]
    recurs = isinstance(network.core, GruCore)
    half = network.settings.hidden_size // network.settings.heads // 2
    attention, up, inputs = _NONE, _NONE, _NONE
    if recurs:
        norms = [f"core.norms.{layer}" for layer in range(network.settings.layers)]
        inputs = _stacked([_after_norm(learned, *names, "_ih_l0") for names in zip(norms, layers, strict=True)])
    else:
        attention = _stacked([_after_norm(learned, f"{one}.norm", f"{one}.attention.inputs") for one in blocks])
        up = _stacked([_after_norm(learned, f"{one}.mlp.0", f"{one}.mlp.1") for one in blocks])
    level_up, level_up_bias = _after_norm(learned, "within_band.0", "within_band.1")
    end, end_bias = _after_norm(learned, "norm", "end")
    logits = _array(tables.logits)  # [L, C, D]
    found = Weights(
        previous=_array(tables.previous),
        frame_back=_array(tables.frame_back),
        coarser=_array(tables.coarser),
        same_level=_array(tables.same_level),
        band=learned["band"],
        time=learned["time"],
        level=learned["level"],
        heads=network.settings.heads,
        rates=ROTATION_BASE ** (-np.arange(half) / half),
        attention=attention[0],
        attention_bias=attention[1],
        attended=_NONE[0] if recurs else np.stack([learned[f"{one}.attention.output.weight"].T for one in blocks]),
        up=up[0],
        up_bias=up[1],
        down=_NONE[0] if recurs else np.stack([learned[f"{one}.mlp.3.weight"].T for one in blocks]),
        down_bias=_NONE[1] if recurs else np.stack([learned[f"{one}.mlp.3.bias"] for one in blocks]),
        inputs=inputs[0],
        inputs_bias=inputs[1],
        hidden=np.stack([learned[f"{one}.weight_hh_l0"].T for one in layers]) if recurs else _NONE[0],
        hidden_bias=np.stack([learned[f"{one}.bias_hh_l0"] for one in layers]) if recurs else _NONE[1],
        level_up=level_up,
        level_up_bias=level_up_bias,
        level_down=learned["within_band.3.weight"].T,
        level_down_bias=learned["within_band.3.bias"],
        logits=(logits * learned["norm.weight"]).transpose(0, 2, 1),
        logits_bias=learned["logits.bias"] + logits @ learned["norm.bias"],
        end=end,
        end_bias=end_bias,
    )
    # in the order in which they are read; transposing alone moves nothing
    return Weights._make(np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part for part in found)


_NONE = np.zeros((0, 0, 0), np.float32), np.zeros((0, 0), np.float32)
"""Matrices and biases of no layers."""


def _after_norm(
    learned: dict[str, np.ndarray], norm: str, linear: str, ending: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Matrix `[in, out]` and bias of a linear map that holds the affine part of the norm before it."""
    weight = learned[f"{linear}.weight{ending}"]
    bias = learned.get(f"{linear}.bias{ending}", np.float32(0))
    return (weight * learned[f"{norm}.weight"]).T, weight @ learned[f"{norm}.bias"] + bias


def _stacked(layers: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([matrix for matrix, _ in layers]), np.stack([bias for _, bias in layers])


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.float().cpu().numpy())


@compiled_in_order
def _add_product_of_one(x: np.ndarray, matrix: np.ndarray, y: np.ndarray) -> None:
    """`y [out] += x [in] @ matrix [in, out]`: sixteen rows at a time, so that `y` is read and written less often."""
    size, width = matrix.shape
    whole = size - size % 16
    for first in range(0, whole, 16):
        m0, m1, m2, m3 = matrix[first], matrix[first + 1], matrix[first + 2], matrix[first + 3]
        m4, m5, m6, m7 = matrix[first + 4], matrix[first + 5], matrix[first + 6], matrix[first + 7]
        n0, n1, n2, n3 = matrix[first + 8], matrix[first + 9], matrix[first + 10], matrix[first + 11]
        n4, n5, n6, n7 = matrix[first + 12], matrix[first + 13], matrix[first + 14], matrix[first + 15]
        a0, a1, a2, a3 = x[first], x[first + 1], x[first + 2], x[first + 3]
        a4, a5, a6, a7 = x[first + 4], x[first + 5], x[first + 6], x[first + 7]
        b0, b1, b2, b3 = x[first + 8], x[first + 9], x[first + 10], x[first + 11]
        b4, b5, b6, b7 = x[first + 12], x[first + 13], x[first + 14], x[first + 15]
        for place in range(width):
            sums = (((y[place] + a0 * m0[place]) + a1 * m1[place]) + a2 * m2[place]) + a3 * m3[place]
            sums = (((sums + a4 * m4[place]) + a5 * m5[place]) + a6 * m6[place]) + a7 * m7[place]
            sums = (((sums + b0 * n0[place]) + b1 * n1[place]) + b2 * n2[place]) + b3 * n3[place]
            y[place] = (((sums + b4 * n4[place]) + b5 * n5[place]) + b6 * n6[place]) + b7 * n7[place]
    for first in range(whole, size):
        a0, m0 = x[first], matrix[first]
        for place in range(width):
            y[place] += a0 * m0[place]


@compiled_in_order
def add_product(x: np.ndarray, matrix: np.ndarray, y: np.ndarray) -> None:
    """`y [R, out] += x [R, in] @ matrix [in, out]`.

    Some rows of the matrix at a time, for all of `x`: each is read from memory once, and what is summed stays in
    registers for as long. Four rows of `x` share what is loaded. Every sum is taken in the order of `in`, so that a row
    of `y` does not depend on the rows beside it, not by a bit.
    """
    rows, size = x.shape
    width = matrix.shape[1]
    if rows == 1:
        _add_product_of_one(x[0], matrix, y[0])
        return
    whole = size - size % 4
    order = np.arange(rows)  # read from memory, so that the compiler checks each four rows for overlap, not all
    for first in range(0, whole, 4):
        m0, m1, m2, m3 = matrix[first], matrix[first + 1], matrix[first + 2], matrix[first + 3]
        for row in range(0, rows - 3, 4):
            one, two, three, four = order[row], order[row + 1], order[row + 2], order[row + 3]
            a0, a1, a2, a3 = x[one, first], x[one, first + 1], x[one, first + 2], x[one, first + 3]
            b0, b1, b2, b3 = x[two, first], x[two, first + 1], x[two, first + 2], x[two, first + 3]
            c0, c1, c2, c3 = x[three, first], x[three, first + 1], x[three, first + 2], x[three, first + 3]
            d0, d1, d2, d3 = x[four, first], x[four, first + 1], x[four, first + 2], x[four, first + 3]
            ya, yb, yc, yd = y[one], y[two], y[three], y[four]
            for place in range(width):
                n0, n1, n2, n3 = m0[place], m1[place], m2[place], m3[place]
                ya[place] = (((ya[place] + a0 * n0) + a1 * n1) + a2 * n2) + a3 * n3
                yb[place] = (((yb[place] + b0 * n0) + b1 * n1) + b2 * n2) + b3 * n3
                yc[place] = (((yc[place] + c0 * n0) + c1 * n1) + c2 * n2) + c3 * n3
                yd[place] = (((yd[place] + d0 * n0) + d1 * n1) + d2 * n2) + d3 * n3
        for row in range(rows - rows % 4, rows):
            a0, a1, a2, a3 = x[row, first], x[row, first + 1], x[row, first + 2], x[row, first + 3]
            out = y[row]
            for place in range(width):
                out[place] = (((out[place] + a0 * m0[place]) + a1 * m1[place]) + a2 * m2[place]) + a3 * m3[place]
    for first in range(whole, size):
        m0 = matrix[first]
        for row in range(rows):
            a0, out = x[row, first], y[row]
            for place in range(width):
                out[place] += a0 * m0[place]


@compiled_for_speed
def product(x: np.ndarray, matrix: np.ndarray, bias: np.ndarray, y: np.ndarray) -> None:
    """`y [R, out] = x [R, in] @ matrix [in, out] + bias [out]`."""
    for row in range(len(x)):
        y[row] = bias
    add_product(x, matrix, y)


@compiled_for_speed
def normalize(x: np.ndarray, y: np.ndarray) -> None:
    """`y [R, D]`: each row of `x` with mean 0 and variance 1."""
    size = x.shape[1]
    for row in range(len(x)):
        one, out = x[row], y[row]
        mean = np.float32(0)
        for place in range(size):
            mean += one[place]
        mean /= np.float32(size)
        variance = np.float32(0)
        for place in range(size):
            variance += (one[place] - mean) * (one[place] - mean)
        scale = np.float32(1) / np.sqrt(variance / np.float32(size) + np.float32(NORM_EPSILON))
        for place in range(size):
            out[place] = (one[place] - mean) * scale


_ERF_TOP = (1.12837901, 3.10456542, 13.6209929, 16.04526294, 18.84813874, 2.10946049)
_ERF_BOTTOM = (1.0, 8.08465328, 29.59119311, 62.54865303, 78.52496208, 39.67772089)
"""erf(z) / z as a fraction of polynomials in z² / 16, fitted to z from 0 to 3.95: within 4e-7 in single precision."""
_ERF_LIMIT = 3.95
_T0, _T1, _T2, _T3, _T4, _T5 = (np.float32(number) for number in _ERF_TOP)
_B0, _B1, _B2, _B3, _B4, _B5 = (np.float32(number) for number in _ERF_BOTTOM)
_LIMIT, _ROOT, _HALF, _SIXTEENTH = (np.float32(number) for number in (_ERF_LIMIT, math.sqrt(0.5), 0.5, 1 / 16))


@compiled_for_speed
def gelu(x: np.ndarray) -> None:
    """Replace each of `x [R, size]` by its GELU, x / 2 * (1 + erf(x / √2)) (Hendrycks and Gimpel 2016)."""
    for row in range(len(x)):
        one = x[row]
        for place in range(len(one)):
            z = min(max(one[place] * _ROOT, -_LIMIT), _LIMIT)
            t = z * z * _SIXTEENTH
            top = _T0 + t * (_T1 + t * (_T2 + t * (_T3 + t * (_T4 + t * _T5))))
            bottom = _B0 + t * (_B1 + t * (_B2 + t * (_B3 + t * (_B4 + t * _B5))))
            one[place] *= _HALF + _HALF * z * top / bottom


_P0, _P1, _P2, _P3, _P4, _P5, _P6 = (
    np.float32(number)
    for number in (1.0, 0.693146933, 0.240230454, 0.0554806302, 0.00968418631, 0.00123913318, 0.000218657848)
)
"""2 to the power of 0 to 1 as a polynomial, interpolated at Chebyshev points: within 3e-9."""
_LOG2_E = np.float32(math.log2(math.e))
_SMALLEST = np.float32(-126)
_NOUGHT, _ONE = np.float32(0), np.float32(1)


@compiled_for_speed
def exponentials(x: np.ndarray, count: int, largest: np.float32, bits: np.ndarray, powers: np.ndarray) -> np.float32:
    """Replace the first `count` of `x`, none above `largest`, by exp(x - largest); gives their sum.

    `bits` int32 is room to build powers of two in, and `powers` the same memory as float32: so that the loops need no
    call for a number, and run on several at once.
    """
    for place in range(count):
        power = max((x[place] - largest) * _LOG2_E, _SMALLEST)
        whole = np.int32(power)  # rounded towards 0; one less leaves a rest from 0 to 1
        rest = power - np.float32(whole) + _ONE
        x[place] = _P0 + rest * (_P1 + rest * (_P2 + rest * (_P3 + rest * (_P4 + rest * (_P5 + rest * _P6)))))
        bits[place] = (whole + 126) << 23
    total = np.float32(0)
    for place in range(count):
        x[place] *= powers[place]
        total += x[place]
    return total


@compiled_for_speed
def feed_forward(
    x: np.ndarray,
    up: np.ndarray,
    up_bias: np.ndarray,
    down: np.ndarray,
    down_bias: np.ndarray,
    normal: np.ndarray,
    wide: np.ndarray,
) -> None:
    """Add to `x [R, D]` what a feed-forward network makes of its norm; `normal [R, D]`, `wide [R, 4 D]` are room."""
    normalize(x, normal)
    product(normal, up, up_bias, wide)
    gelu(wide)
    for row in range(len(x)):
        x[row] += down_bias
    add_product(wide, down, x)


@compiled_for_speed
def rotate(x: np.ndarray, heads: int, cosines: np.ndarray, sines: np.ndarray) -> None:
    """Rotate `x [D]` of all heads to a position (Su et al. 2021, RoFormer, section 3.2)."""
    half = len(cosines)
    for head in range(heads):
        first = 2 * half * head
        for place in range(half):
            one, other = x[first + place], x[first + half + place]
            x[first + place] = one * cosines[place] - other * sines[place]
            x[first + half + place] = other * cosines[place] + one * sines[place]


@compiled_for_speed
def attend(
    query: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    seen: int,
    heads: int,
    scores: np.ndarray,
    bits: np.ndarray,
    powers: np.ndarray,
    y: np.ndarray,
) -> None:
    """Fill `y [D]` with the attention of `query [D]` over the first `seen` of `keys` and `values [D, window]`.

    Eight of `D` at a time: the scores are gone through less often, and more is read at once.
    """
    size = len(query) // heads
    scale = np.float32(1 / math.sqrt(size))
    for head in range(heads):
        first = head * size
        for place in range(seen):
            scores[place] = 0
        eights = first + size - size % 8
        for one in range(first, eights, 8):
            a0, a1, a2, a3 = query[one] * scale, query[one + 1] * scale, query[one + 2] * scale, query[one + 3] * scale
            b0, b1 = query[one + 4] * scale, query[one + 5] * scale
            b2, b3 = query[one + 6] * scale, query[one + 7] * scale
            k0, k1, k2, k3 = keys[one], keys[one + 1], keys[one + 2], keys[one + 3]
            l0, l1, l2, l3 = keys[one + 4], keys[one + 5], keys[one + 6], keys[one + 7]
            for place in range(seen):
                part = a0 * k0[place] + a1 * k1[place] + a2 * k2[place] + a3 * k3[place]
                scores[place] += part + b0 * l0[place] + b1 * l1[place] + b2 * l2[place] + b3 * l3[place]
        for one in range(eights, first + size):
            a0, k0 = query[one] * scale, keys[one]
            for place in range(seen):
                scores[place] += a0 * k0[place]
        largest = scores[0]
        for place in range(seen):
            largest = max(largest, scores[place])
        total = exponentials(scores, seen, largest, bits, powers)
        share = _ONE / total
        for one in range(first, eights, 8):
            s0, s1, s2, s3 = _NOUGHT, _NOUGHT, _NOUGHT, _NOUGHT
            t0, t1, t2, t3 = _NOUGHT, _NOUGHT, _NOUGHT, _NOUGHT
            v0, v1, v2, v3 = values[one], values[one + 1], values[one + 2], values[one + 3]
            w0, w1, w2, w3 = values[one + 4], values[one + 5], values[one + 6], values[one + 7]
            for place in range(seen):
                weight = scores[place]
                s0 += weight * v0[place]
                s1 += weight * v1[place]
                s2 += weight * v2[place]
                s3 += weight * v3[place]
                t0 += weight * w0[place]
                t1 += weight * w1[place]
                t2 += weight * w2[place]
                t3 += weight * w3[place]
            y[one], y[one + 1], y[one + 2], y[one + 3] = s0 * share, s1 * share, s2 * share, s3 * share
            y[one + 4], y[one + 5], y[one + 6], y[one + 7] = t0 * share, t1 * share, t2 * share, t3 * share
        for one in range(eights, first + size):
            s0, v0 = _NOUGHT, values[one]
            for place in range(seen):
                s0 += scores[place] * v0[place]
            y[one] = s0 * share


@compiled_for_speed
def gated(gates: np.ndarray, recalled: np.ndarray, hidden: np.ndarray) -> None:
    """The next state of a gated recurrent unit (Cho et al. 2014), in place of `hidden [D]`.

    `gates [3 D]` are the input's share of reset, update and new, `recalled [3 D]` the state's.
    """
    size = len(hidden)
    for place in range(size):
        reset = _ONE / (_ONE + math.exp(-(gates[place] + recalled[place])))
        update = _ONE / (_ONE + math.exp(-(gates[size + place] + recalled[size + place])))
        new = math.tanh(gates[2 * size + place] + reset * recalled[2 * size + place])
        hidden[place] = new + update * (hidden[place] - new)


class Room(NamedTuple):
    """Room to work in for R sequences, made once."""

    x: np.ndarray  # [R, D]
    normal: np.ndarray  # [R, D]
    wide: np.ndarray  # [R, 4 D]
    three: np.ndarray  # [R, 3 D]
    recalled: np.ndarray  # [R, 3 D]
    z: np.ndarray  # [R, D]
    logits: np.ndarray  # [R, C]
    above: np.ndarray  # [R, D], the sum of what is known of the levels above
    scores: np.ndarray  # [window]
    bits: np.ndarray  # int32 [window]
    powers: np.ndarray  # the same memory as float32
    cosines: np.ndarray  # [R, half a head]
    sines: np.ndarray

    @classmethod
    def for_rows(cls, network: PriorNetwork, rows: int, window: int) -> Room:
        size, codes = network.settings.hidden_size, network.shape.codebook_size
        bits = np.zeros(max(window, 1), np.int32)
        half = size // network.settings.heads // 2

        def floats(*shape: int) -> np.ndarray:
            return np.zeros(shape, np.float32)

        return cls(
            x=floats(rows, size), normal=floats(rows, size), wide=floats(rows, 4 * size), three=floats(rows, 3 * size),
            recalled=floats(rows, 3 * size), z=floats(rows, size), logits=floats(rows, codes), above=floats(rows, size),
            scores=floats(len(bits)), bits=bits, powers=bits.view(np.float32),
            cosines=floats(rows, half), sines=floats(rows, half),
        )  # fmt: skip


@compiled_for_speed
def read_band(weights: Weights, memory: Memory, room: Room, rows: np.ndarray, codes: np.ndarray, band: int) -> None:
    """Fill `room.x` with what the network knows before a band: `network.PriorNetwork.read` for one position.

    For the sequences `rows [R]` of `memory`, each at its own frame, of which the `codes [all, frame codes]` before the
    band are known. Sequence `rows[i]` gets row i.
    """
    bands, levels = len(weights.band), len(weights.level)
    stride = len(weights.previous) // levels
    count = len(rows)
    x = room.x[:count]
    for index in range(count):
        row = rows[index]
        frame = memory.frame[row]
        one = x[index]
        one[:] = weights.band[band]
        one += weights.time[min(frame, KNOWN_FRAMES - 1)]
        for level in range(levels):
            back = memory.codes[row, band * levels + level]
            if band:
                before = codes[row, (band - 1) * levels + level]
            else:
                before = memory.codes[row, (bands - 1) * levels + level]
            one += weights.previous[level * stride + before]
            one += weights.frame_back[level * stride + back]
    if len(weights.inputs):
        _recur(weights, memory, room, rows)
    else:
        _attend_layers(weights, memory, room, rows, band)


@compiled_for_speed
def _attend_layers(weights: Weights, memory: Memory, room: Room, rows: np.ndarray, band: int) -> None:
    count, size = len(rows), room.x.shape[1]
    window = memory.keys.shape[3]
    x, normal, wide, three = room.x[:count], room.normal[:count], room.wide[:count], room.three[:count]
    for index in range(count):
        position = memory.frame[rows[index]] * len(weights.band) + band
        for place in range(len(weights.rates)):
            angle = position * weights.rates[place]
            room.cosines[index, place], room.sines[index, place] = math.cos(angle), math.sin(angle)
    for layer in range(len(weights.attention)):
        normalize(x, normal)
        product(normal, weights.attention[layer], weights.attention_bias[layer], three)
        for index in range(count):
            row = rows[index]
            position = memory.frame[row] * len(weights.band) + band
            query, key = three[index, :size], three[index, size : 2 * size]
            rotate(query, weights.heads, room.cosines[index], room.sines[index])
            rotate(key, weights.heads, room.cosines[index], room.sines[index])
            slot = position % window
            memory.keys[layer, row, :, slot] = key
            memory.values[layer, row, :, slot] = three[index, 2 * size :]
            attend(
                query, memory.keys[layer, row], memory.values[layer, row], min(position + 1, window), weights.heads,
                room.scores, room.bits, room.powers, normal[index],
            )  # fmt: skip
        add_product(normal, weights.attended[layer], x)
        feed_forward(
            x, weights.up[layer], weights.up_bias[layer], weights.down[layer], weights.down_bias[layer], normal, wide
        )


@compiled_for_speed
def _recur(weights: Weights, memory: Memory, room: Room, rows: np.ndarray) -> None:
    count = len(rows)
    x, normal, gates, recalled = room.x[:count], room.normal[:count], room.three[:count], room.recalled[:count]
    for layer in range(len(weights.inputs)):
        normalize(x, normal)
        product(normal, weights.inputs[layer], weights.inputs_bias[layer], gates)
        for index in range(count):
            normal[index] = memory.hidden[layer, rows[index]]
        product(normal, weights.hidden[layer], weights.hidden_bias[layer], recalled)
        for index in range(count):
            gated(gates[index], recalled[index], memory.hidden[layer, rows[index]])
            x[index] += memory.hidden[layer, rows[index]]


@compiled_for_speed
def level_logits(
    weights: Weights, memory: Memory, room: Room, rows: np.ndarray, codes: np.ndarray, band: int, level: int
) -> None:
    """Fill `room.logits` for one level of a band, after `read_band`: `network.PriorNetwork.level_logits`."""
    levels = len(weights.level)
    stride = len(weights.previous) // levels
    count = len(rows)
    z, normal = room.z[:count], room.normal[:count]
    for index in range(count):
        row = rows[index]
        above = room.above[index]
        if level:
            above += weights.coarser[(level - 1) * stride + codes[row, band * levels + level - 1]]
        else:
            above[:] = 0
        z[index] = room.x[index] + above
        z[index] += weights.same_level[level * stride + memory.codes[row, band * levels + level]]
        z[index] += weights.level[level]
    feed_forward(
        z, weights.level_up, weights.level_up_bias, weights.level_down, weights.level_down_bias,
        normal, room.wide[:count],
    )  # fmt: skip
    normalize(z, normal)
    product(normal, weights.logits[level], weights.logits_bias[level], room.logits[:count])


@compiled_for_speed
def end_probability(weights: Weights, room: Room, index: int) -> float:
    """How probable it is that the sound is over, from what `read_band` of the first band found for row `index`."""
    normalize(room.x[index : index + 1], room.normal[index : index + 1])
    logit = np.float64(weights.end_bias[0])
    for place in range(room.x.shape[1]):
        logit += np.float64(room.normal[index, place]) * np.float64(weights.end[place, 0])
    return 1.0 / (1.0 + math.exp(-logit))


@compiled_for_speed
def follow(weights: Weights, memory: Memory, room: Room, codes: np.ndarray, logits: np.ndarray) -> None:
    """Read the frames `codes [frames, frame codes]` into the first sequence of `memory`.

    Fills `logits [frames, frame codes, C]` with those of each code from all before it, unless it is empty.
    """
    rows = np.zeros(1, np.int64)
    bands, levels = len(weights.band), len(weights.level)
    for frame in range(len(codes)):
        current = codes[frame : frame + 1]
        for band in range(bands):
            read_band(weights, memory, room, rows, current, band)
            for level in range(levels if len(logits) else 0):
                level_logits(weights, memory, room, rows, current, band, level)
                logits[frame, band * levels + level] = room.logits[0]
        memory.codes[0] = codes[frame]
        memory.frame[0] += 1
