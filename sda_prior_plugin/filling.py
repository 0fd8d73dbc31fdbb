"""Filling a batch from the flat array of codes: one compiled loop."""

from __future__ import annotations

import numpy as np

from sda_prior_plugin.compiled import compiled_in_order


@compiled_in_order
def fill(
    codes: np.ndarray,
    rows: np.ndarray,
    no_code: int,
    frames: np.ndarray,
    counts: np.ndarray,
    ends: np.ndarray,
) -> None:
    """Write one batch of a `batches.BatchPlan`.

    Args:
        codes: `[all codes]`, of any integer type.
        rows: the plan's, of this batch.
        no_code: what stands where there is no code.
        frames: int64 `[batch, (1 + window) * frame_codes]`, filled.
        counts: int64 `[3, batch]`, filled with the windows' first frames, lengths and kinds.
        ends: bool `[batch]`, filled.
    """
    for row in range(frames.shape[0]):
        begin, lead, copied = rows[row, 0], rows[row, 1], rows[row, 2]
        line = frames[row]
        for index in range(lead):
            line[index] = no_code
        source, target = codes[begin : begin + copied], line[lead : lead + copied]
        for index in range(len(target)):  # plain, so that the compiler widens many codes at once
            target[index] = source[index]
        for index in range(lead + copied, len(line)):
            line[index] = no_code
        counts[0, row], counts[1, row], counts[2, row] = rows[row, 3], rows[row, 4], rows[row, 6]
        ends[row] = rows[row, 5] != 0
