"""What copies of large codes are recognized by, kept beside them: hashes and keys of every frame.

They follow from the codes. They are computed when these are first read, and mapped from their files from then on, as
the codes are.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.mapped import give_back, parts
from sda_prior_plugin.near_copies import sequences_keys
from sda_prior_plugin.window_hashes import frame_hashes
from sda_prior_plugin.windows import LARGE_BYTES

CHECKED, CHECKED_FRAMES = 64, 256
"""So many stretches of frames, evenly spread from the first to the last, are computed again and compared."""


def traces_bytes(codes: np.ndarray) -> int:
    """Of what is kept beside codes `[frames, bands, levels]`."""
    return len(codes) * (4 + codes.shape[1]) if codes.nbytes > LARGE_BYTES else 0


def with_traces(folder: Path, part: str, sequences: CodeSequences) -> CodeSequences:
    """Large sequences, read from a folder, with their hashes and keys; others as they are.

    Where these cannot be kept, they are left out: whoever needs them computes them.
    """
    codes = sequences.codes
    if not traces_bytes(codes):
        return sequences
    try:
        hashes = _kept(folder / f"{part}-hashes.npy", codes, frame_hashes, np.uint32, ())
        keys = _kept(folder / f"{part}-keys.npy", codes, sequences_keys, np.uint8, codes.shape[1:2])
    except OSError:
        return sequences
    return dataclasses.replace(sequences, hashes=hashes, keys=keys)


def _kept(
    path: Path, codes: np.ndarray, compute: Callable[[np.ndarray], np.ndarray], dtype: type, row: tuple[int, ...]
) -> np.ndarray:
    """What is computed of codes, frame by frame, mapped from a file that is made if it is not there, or not theirs."""
    if path.exists():
        try:
            found = np.load(path, mmap_mode="c")  # torch wants arrays that could be written to
        except (ValueError, EOFError):
            found = np.zeros(0)
        if found.dtype == dtype and found.shape == (len(codes), *row) and _follows(found, codes, compute):
            return found
    handle, making = tempfile.mkstemp(prefix=".making-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:  # not mapped: on a full disk, that would end the program
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (len(codes), *row)}
            np.lib.format.write_array_header_1_0(file, header)
            for rows in parts(codes):
                file.write(compute(codes[rows]).tobytes())
        os.replace(making, path)
    finally:
        Path(making).unlink(missing_ok=True)
    return np.load(path, mmap_mode="c")


def _follows(found: np.ndarray, codes: np.ndarray, compute: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether what was found is computed of these codes, as far as is looked."""
    frames = min(CHECKED_FRAMES, len(codes))
    firsts = np.linspace(0, len(codes) - frames, CHECKED).astype(int).tolist()
    for first in firsts:
        some = slice(first, first + frames)
        if not np.array_equal(found[some], compute(codes[some])):
            return False
        give_back(found)
        give_back(codes)
    return True
