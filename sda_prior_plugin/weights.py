"""What drawing one code after another reads of a network.

Reading it is what a step costs. So it lies in the order in which it is read, matrices `[in, out]`; `laying_out.py` puts
it there. Shapes: D hidden size, L levels, C codebook size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class CodeWeights(NamedTuple):
    """What drawing reads of a network but for its layers; float32, matrices `[in, out]`."""

    previous: np.ndarray  # [L * (C + 1), D], and the next three: see network.Tables
    frame_back: np.ndarray
    coarser: np.ndarray
    same_level: np.ndarray
    band: np.ndarray  # [bands, D]
    time: np.ndarray  # [known frames, D]
    level: np.ndarray  # [L, D]
    level_up: np.ndarray  # [D, 4 D], the network within a band
    level_up_bias: np.ndarray  # [1, 4 D]
    level_down: np.ndarray
    level_down_bias: np.ndarray  # [1, D]
    logits: np.ndarray  # [L, D, C]
    logits_bias: np.ndarray
    end: np.ndarray  # [D]
    end_bias: float


class Attention(NamedTuple):
    """The layers of a transformer; float32, matrices `[layers, in, out]`."""

    heads: int
    rates: np.ndarray  # float64 [half a head], of the rotation, in radians a position
    attention: np.ndarray  # [layers, D, 3 D], queries, keys, values
    attention_bias: np.ndarray
    attended: np.ndarray  # [layers, D, D]
    up: np.ndarray  # [layers, D, 4 D]
    up_bias: np.ndarray
    down: np.ndarray  # [layers, 4 D, D]
    down_bias: np.ndarray


class Recurrence(NamedTuple):
    """The layers of a GRU; float32, `[layers, D, 3 D]` for reset, update and new."""

    inputs: np.ndarray
    inputs_bias: np.ndarray
    hidden: np.ndarray
    hidden_bias: np.ndarray


class Weights(NamedTuple):
    """All that drawing reads of a network. It has one kind of layers; code for the other is not compiled."""

    codes: CodeWeights
    attention: Attention | None
    recurrence: Recurrence | None

    @property
    def read_for_a_frame(self) -> int:
        """Bytes of matrices that are read to draw one frame."""
        layers = self.attention or self.recurrence or ()
        core = sum(part.nbytes for part in layers if isinstance(part, np.ndarray) and part.ndim == 3)
        bands, levels = len(self.codes.band), len(self.codes.level)
        within = levels * (self.codes.level_up.nbytes + self.codes.level_down.nbytes) + self.codes.logits.nbytes
        return bands * (core + within)
