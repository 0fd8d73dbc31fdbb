"""Codes: what a codec makes of sound, and the shape they have.

A recording is a grid of integers `[frames, bands, levels]`. Read in memory order it is the sequence that the prior
models: frames in time, inside a frame bands from low to high, inside a band levels from coarse to fine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sda_prior_plugin.errors import PriorError


@dataclass(frozen=True)
class CodeShape:
    """The part of a codec's shape that its codes show: `bands` times `levels` a frame, each below `codebook_size`."""

    bands: int
    levels: int
    codebook_size: int

    @property
    def frame_codes(self) -> int:
        """Codes in one frame."""
        return self.bands * self.levels

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned integer type that holds a code, and one value more for "no code"."""
        return np.dtype(np.min_scalar_type(self.codebook_size))

    def checked(self, codes: np.ndarray, name: str = "codes") -> np.ndarray:
        """`codes` as an array of `dtype`.

        Raises:
            PriorError: they are not integers `[frames, bands, levels]` in range.
        """
        array = np.asarray(codes)
        if array.dtype.kind not in "iu":
            raise PriorError(f"{name}: codes must be integers, not {array.dtype}.")
        if array.ndim != 3 or array.shape[1:] != (self.bands, self.levels):
            raise PriorError(
                f"{name}: codes have the shape {list(array.shape)}; expected [frames, {self.bands}, {self.levels}]."
            )
        if array.size and (array.min() < 0 or array.max() >= self.codebook_size):
            raise PriorError(
                f"{name}: codes run from {array.min()} to {array.max()}; expected 0 to {self.codebook_size - 1}."
            )
        return array.astype(self.dtype)
