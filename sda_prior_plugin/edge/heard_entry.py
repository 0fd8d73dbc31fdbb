"""What a prior was trained on, as a model file holds it: as far as it takes to recognize copies, in little room."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch

from sda_prior_plugin.copying import Heard
from sda_prior_plugin.errors import TRAIN_AGAIN, PriorError
from sda_prior_plugin.near_copies import Sketch

if TYPE_CHECKING:
    from torch import Tensor

    from sda_prior_plugin.edge.contract import Entry

HEARD = "heard."
"""What the names of its tensors begin with."""
HASHES, ENDS, RECORDINGS = PARTS = tuple(HEARD + part for part in ("hashes", "ends", "recordings"))
KEYS = HEARD + "keys"
"""What near copies are recognized by; absent in older files."""
MOST_NEAR_FRAMES = 100_000
WHOLE = (torch.int32, torch.int64)
"""Types of whole numbers; in older files all are of the larger one."""


def heard_tensors(heard: Heard, sketch: Sketch | None) -> dict[str, Tensor]:
    """Hashes of frames, for each sequence its recording and its end, and the keys of near copies, compressed."""
    tensors = {
        HASHES: torch.from_numpy(heard.hashes.view(np.int32)),
        ENDS: _smallest(heard.starts[1:]),
        RECORDINGS: _smallest(heard.recordings),
    }
    if sketch is not None:
        tensors[KEYS] = torch.from_numpy(np.frombuffer(bytearray(zlib.compress(sketch.keys.tobytes())), np.uint8))
    return tensors


def _smallest(numbers: np.ndarray) -> Tensor:
    """Whole numbers, none below 0, in the smaller of both types that holds them."""
    fits = numbers.max(initial=0) < 2**31
    return torch.from_numpy(numbers.astype(np.int32 if fits else np.int64))


def read_heard(entry: Entry) -> Heard | None:
    """What `heard_tensors` wrote, or None where nothing was written.

    Raises:
        PriorError: it is damaged.
    """
    names = entry.facts.get("heard")
    found = {name: tensor for name, tensor in entry.tensors.items() if name.startswith(HEARD) and name != KEYS}
    if names is None and not found:
        return None
    if (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and found.keys() == set(PARTS)
        and all(tensor.dtype in WHOLE and tensor.ndim == 1 for tensor in found.values())
    ):
        hashes, ends, recordings = (found[part].numpy() for part in PARTS)
        starts = np.concatenate([[0], ends])
        if (
            len(ends) == len(recordings)
            and starts[-1] == len(hashes)
            and (starts[1:] >= starts[:-1]).all()  # not their difference, which may be too large for a number
            and ((recordings >= 0) & (recordings < len(names))).all()
        ):
            frame_hashes = hashes.astype(np.uint32)  # of those of an older file the lower half, which is the same
            return Heard(frame_hashes, starts, recordings.astype(np.int64), tuple(names))
    raise _damaged()


def read_sketch(entry: Entry, heard: Heard, bands: int) -> Sketch | None:
    """What near copies are recognized by, or None where nothing was written.

    Raises:
        PriorError: it is damaged.
    """
    stored, frames = entry.tensors.get(KEYS), entry.facts.get("near_window")
    if stored is None and frames is None:
        return None
    if stored is not None and stored.dtype == torch.uint8 and type(frames) is int and 2 <= frames <= MOST_NEAR_FRAMES:
        keys = _inflated(stored, (len(heard.hashes), bands)) if stored.ndim == 1 else stored.numpy()
        if keys.shape == (len(heard.hashes), bands):
            return Sketch(keys, heard.starts, heard.recordings, frames)
    raise _damaged()


def _inflated(stored: Tensor, shape: tuple[int, int]) -> np.ndarray:
    """Keys of this shape from what they were compressed to. No more is made of it than that, whatever it holds.

    Raises:
        PriorError: it does not hold so many.
    """
    unpacking, size = zlib.decompressobj(), shape[0] * shape[1]
    try:
        content = unpacking.decompress(stored.numpy().tobytes(), size + 1)
    except zlib.error:
        raise _damaged() from None
    if len(content) != size or not unpacking.eof or unpacking.unused_data:
        raise _damaged()
    return np.frombuffer(bytearray(content), np.uint8).reshape(shape)


def _damaged() -> PriorError:
    return PriorError("What the prior in this file was trained on is damaged; ", TRAIN_AGAIN, ".")
