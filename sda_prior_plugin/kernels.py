"""The loops that drawing spends its time in: products with matrices, attention, and what stands between them.

Sums of floats are what they cost. They are taken in double precision, of weights in single: whoever sums in another
order, another processor or the export, then differs in the last digits and draws the same codes, where in single
precision another one was drawn after minutes. R rows (sequences) share each weight that is read. Nothing here makes an
array or works on whole ones: what numpy does in a line takes longer to compile than all of a loop, and min and max are
functions to compile too. A function is compiled again as part of each that calls it: so small ones that one place calls
become its caller's (`inlined`), and chains are short. A large one takes longer as part of a larger one than alone.
"""

from __future__ import annotations

import math

import numpy as np

from sda_prior_plugin.compiled import compiled_for_speed, compiled_in_order, inlined

NORM_EPSILON = 1e-5


@inlined
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
def add_product(count: int, x: np.ndarray, matrix: np.ndarray, order: np.ndarray, y: np.ndarray) -> None:
    """`y [R, out] += x [R, in] @ matrix [in, out]` for the first `count` rows; `order` int64 `[R]` is 0, 1, 2, and on.

    Some rows of the matrix at a time, for all of `x`: each is read from memory once, and what is summed stays in
    registers for as long. Four rows of `x` share what is loaded. Every sum is taken in the order of `in`, so that a row
    of `y` does not depend on the rows beside it, not by a bit.
    """
    size = len(matrix)
    width = matrix.shape[1]
    if count == 1:
        _add_product_of_one(x[0], matrix, y[0])
        return
    whole = size - size % 4
    # the order is read from memory, so that the compiler checks each four rows for overlap, not all
    for first in range(0, whole, 4):
        m0, m1, m2, m3 = matrix[first], matrix[first + 1], matrix[first + 2], matrix[first + 3]
        for row in range(0, count - 3, 4):
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
        for row in range(count - count % 4, count):
            a0, a1, a2, a3 = x[row, first], x[row, first + 1], x[row, first + 2], x[row, first + 3]
            out = y[row]
            for place in range(width):
                out[place] = (((out[place] + a0 * m0[place]) + a1 * m1[place]) + a2 * m2[place]) + a3 * m3[place]
    for first in range(whole, size):
        m0 = matrix[first]
        for row in range(count):
            a0, out = x[row, first], y[row]
            for place in range(width):
                out[place] += a0 * m0[place]


@compiled_for_speed
def set_row(table: np.ndarray, index: int, y: np.ndarray, row: int) -> None:
    """`y[row] = table[index]`, of 2-dimensional arrays."""
    one, other = table[index], y[row]
    for place in range(len(one)):
        other[place] = one[place]


@compiled_for_speed
def add_row(table: np.ndarray, index: int, y: np.ndarray, row: int) -> None:
    """`y[row] += table[index]`, of 2-dimensional arrays."""
    one, other = table[index], y[row]
    for place in range(len(one)):
        other[place] += one[place]


@inlined
def product(
    count: int, x: np.ndarray, matrix: np.ndarray, biases: np.ndarray, index: int, order: np.ndarray, y: np.ndarray
) -> None:
    """`y [R, out] = x [R, in] @ matrix [in, out] + biases[index]` for the first `count` rows."""
    for row in range(count):
        set_row(biases, index, y, row)
    add_product(count, x, matrix, order, y)


@compiled_for_speed
def normalize(count: int, x: np.ndarray, y: np.ndarray) -> None:
    """`y [R, D]`: each of the first `count` rows of `x` with mean 0 and variance 1."""
    size = x.shape[1]
    for row in range(count):
        one, out = x[row], y[row]
        mean, variance = 0.0, 0.0
        for place in range(size):
            mean += one[place]
        mean /= size
        for place in range(size):
            variance += (one[place] - mean) * (one[place] - mean)
        scale = 1 / math.sqrt(variance / size + NORM_EPSILON)
        for place in range(size):
            out[place] = (one[place] - mean) * scale


_T0, _T1, _T2, _T3, _T4, _T5, _T6, _T7, _T8 = (
    1.1283791671064145, 3.4023352077353, 16.025731611823872, 24.501302944046131, 44.686707063502446, 37.68933135727211,
    32.114065955808314, 7.9266032607523247, 0.17295595840774447,
)  # fmt: skip
_B1, _B2, _B3, _B4, _B5, _B6, _B7, _B8 = (
    8.3485744120399996, 33.12816390281418, 82.197623156765943, 140.68441811011854, 171.63326139651764,
    146.28006032221805, 80.206047381443796, 7.1115117559032361,
)  # fmt: skip
"""erf(z) / z as a fraction of polynomials in z² / 16, fitted to z from 0 to 5.6: within 2e-11."""
_LIMIT = 5.6
_ROOT = math.sqrt(0.5)


@compiled_for_speed
def gelu(count: int, x: np.ndarray) -> None:
    """Replace the first `count` rows of `x [R, size]` by their GELU (Hendrycks and Gimpel 2016).

    That is x / 2 * (1 + erf(x / √2)).
    """
    for row in range(count):
        one = x[row]
        for place in range(len(one)):
            z = one[place] * _ROOT
            z = z if z > -_LIMIT else -_LIMIT
            z = z if z < _LIMIT else _LIMIT
            t = z * z * 0.0625
            top = _T4 + t * (_T5 + t * (_T6 + t * (_T7 + t * _T8)))
            top = _T0 + t * (_T1 + t * (_T2 + t * (_T3 + t * top)))
            bottom = _B4 + t * (_B5 + t * (_B6 + t * (_B7 + t * _B8)))
            bottom = 1.0 + t * (_B1 + t * (_B2 + t * (_B3 + t * bottom)))
            one[place] *= 0.5 + 0.5 * z * top / bottom


_P0, _P1, _P2, _P3, _P4, _P5, _P6, _P7, _P8, _P9 = (
    0.99999999999998146, 0.69314718056364211, 0.24022650683729749, 0.055504110219330619, 0.0096181190501637842,
    0.0013333931011030246, 0.00015395144944846574, 1.5368748544454695e-05, 1.2256971703975336e-06,
    1.4433329852444299e-07,
)  # fmt: skip
"""2 to the power of 0 to 1 as a polynomial, the best of its degree: within 2e-14."""
_LOG2_E = math.log2(math.e)
_SMALLEST = -1022.0


@inlined
def exponentials(x: np.ndarray, count: int, largest: float, bits: np.ndarray, powers: np.ndarray) -> float:
    """Replace the first `count` of `x`, none above `largest`, by exp(x - largest); gives their sum.

    `bits` int64 is room to build powers of two in, and `powers` the same memory as float64: so that the loops need no
    call for a number, and run on several at once.
    """
    for place in range(count):
        power = (x[place] - largest) * _LOG2_E
        power = power if power > _SMALLEST else _SMALLEST
        whole = np.int32(power)  # rounded towards 0; one less leaves a rest from 0 to 1
        rest = power - np.float64(whole) + 1.0
        high = _P5 + rest * (_P6 + rest * (_P7 + rest * (_P8 + rest * _P9)))
        x[place] = _P0 + rest * (_P1 + rest * (_P2 + rest * (_P3 + rest * (_P4 + rest * high))))
        bits[place] = np.int64(whole + 1022) << 52
    total = 0.0
    for place in range(count):
        x[place] *= powers[place]
        total += x[place]
    return total


@inlined
def feed_forward(
    count: int,
    x: np.ndarray,
    up: np.ndarray,
    up_biases: np.ndarray,
    down: np.ndarray,
    down_biases: np.ndarray,
    index: int,
    order: np.ndarray,
    normal: np.ndarray,
    wide: np.ndarray,
) -> None:
    """Add to the first `count` rows of `x [R, D]` what a feed-forward network makes of their norm.

    Its biases are `up_biases[index]` and `down_biases[index]`; `normal [R, D]` and `wide [R, 4 D]` are room.
    """
    normalize(count, x, normal)
    product(count, normal, up, up_biases, index, order, wide)
    gelu(count, wide)
    for row in range(count):
        add_row(down_biases, index, x, row)
    add_product(count, wide, down, order, x)


@inlined
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
    """Fill `y [D]` with the attention of a query over the first `seen` of `keys` and `values [D, window]`.

    The query are the first D of `query`, which may be longer.
    Eight of `D` at a time: the scores are gone through less often, and more is read at once.
    """
    size = len(y) // heads
    for head in range(heads):
        first = head * size
        _score(query, keys, first, size, seen, scores)
        largest = scores[0]
        for place in range(seen):
            largest = scores[place] if scores[place] > largest else largest
        total = exponentials(scores, seen, largest, bits, powers)
        _blend(values, first, size, seen, scores, 1 / total, y)


@inlined
def _score(query: np.ndarray, keys: np.ndarray, first: int, size: int, seen: int, scores: np.ndarray) -> None:
    """Fill `scores` with the products of a query and the first `seen` keys of one head, over the root of its size."""
    scale = 1 / math.sqrt(size)
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


@inlined
def _blend(
    values: np.ndarray, first: int, size: int, seen: int, scores: np.ndarray, share: float, y: np.ndarray
) -> None:
    """Fill one head of `y` with the sum of the first `seen` values, each times its score, and all times `share`."""
    eights = first + size - size % 8
    for one in range(first, eights, 8):
        s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
        t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
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
        s0, v0 = 0.0, values[one]
        for place in range(seen):
            s0 += scores[place] * v0[place]
        y[one] = s0 * share


@inlined
def gated(gates: np.ndarray, recalled: np.ndarray, hidden: np.ndarray) -> None:
    """The next state of a gated recurrent unit (Cho et al. 2014), in place of `hidden [D]`.

    `gates [3 D]` are the input's share of reset, update and new, `recalled [3 D]` the state's.
    """
    size = len(hidden)
    for place in range(size):
        reset = 1.0 / (1.0 + math.exp(-(gates[place] + recalled[place])))
        update = 1.0 / (1.0 + math.exp(-(gates[size + place] + recalled[size + place])))
        new = math.tanh(gates[2 * size + place] + reset * recalled[2 * size + place])
        hidden[place] = new + update * (hidden[place] - new)
