"""What a prior was trained on, in a file: in little room, with the same figures again, and not taken on trust."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from host_stubs.bundle import Entry
from sda_prior_plugin import CodeCorpus, PriorError
from sda_prior_plugin.copying import Heard, covered
from sda_prior_plugin.edge.heard_entry import ENDS, HASHES, KEYS, RECORDINGS, heard_tensors, read_heard, read_sketch
from sda_prior_plugin.near_copies import Sketch

from .conftest import BANDS

NEAR_FRAMES = 6
LARGEST = 2**63 - 1


@pytest.fixture(scope="module")
def heard(corpus: CodeCorpus) -> Heard:
    return Heard.of(corpus.train)


@pytest.fixture(scope="module")
def sketch(corpus: CodeCorpus) -> Sketch:
    return Sketch.of(corpus.train, NEAR_FRAMES)


def entry(heard: Heard, tensors: dict[str, Tensor]) -> Entry:
    return Entry({"heard": list(heard.names), "near_window": NEAR_FRAMES}, tensors)


def opened(stored: Entry) -> tuple[Heard, Sketch]:
    """What the entry holds."""
    heard = read_heard(stored)
    assert heard is not None
    sketch = read_sketch(stored, heard, BANDS)
    assert sketch is not None
    return heard, sketch


def as_it_was_written(heard: Heard, sketch: Sketch) -> dict[str, Tensor]:
    """The tensors of an older file: 64 bits of each hash, whole numbers of 64 bits, keys as they are."""
    upper = np.random.default_rng(0).integers(0, 2**32, len(heard.hashes), np.uint64) << np.uint64(32)
    return {
        HASHES: torch.from_numpy((upper | heard.hashes).view(np.int64)),
        ENDS: torch.from_numpy(heard.starts[1:].astype(np.int64)),
        RECORDINGS: torch.from_numpy(heard.recordings.astype(np.int64)),
        KEYS: torch.from_numpy(sketch.keys),
    }


@pytest.mark.parametrize("write", [heard_tensors, as_it_was_written])
def test_opened_again_it_gives_the_same_figures(
    heard: Heard, sketch: Sketch, corpus: CodeCorpus, write: Callable[[Heard, Sketch], dict[str, Tensor]]
) -> None:
    found, near = opened(entry(heard, write(heard, sketch)))
    new = np.concatenate([corpus.held_out[0], corpus.train[3], corpus.held_out[1]])
    share, passages = covered(found, new, 2)
    assert (share, passages) == covered(heard, new, 2)
    assert passages
    assert near.near_share(new) == sketch.near_share(new) > 0


def test_it_takes_four_bytes_for_each_frame_and_less_than_the_keys(heard: Heard, sketch: Sketch) -> None:
    tensors = heard_tensors(heard, sketch)
    assert tensors[HASHES].nbytes == 4 * len(heard.hashes)
    assert tensors[KEYS].nbytes < 0.7 * sketch.keys.nbytes
    assert tensors[ENDS].nbytes == tensors[RECORDINGS].nbytes == 4 * len(heard.recordings)


def test_numbers_of_frames_that_32_bits_do_not_hold_take_64() -> None:
    frames = np.array([0, 2**31 - 1, 2**31])
    heard = Heard(np.zeros(0, np.uint32), frames, np.zeros(2, np.int64), ("a.wav",))
    assert heard_tensors(heard, None)[ENDS].tolist() == frames[1:].tolist()


def _compressed(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytearray(content), np.uint8))


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        (HASHES, lambda stored: stored[:-1]),
        (HASHES, lambda stored: stored.float()),
        (ENDS, lambda stored: stored.flip(0)),
        (ENDS, lambda stored: torch.tensor([LARGEST, -2, 0])),
        (RECORDINGS, lambda stored: stored - 1),
        (KEYS, lambda stored: stored[:-1]),
        (KEYS, lambda stored: torch.cat([stored, stored])),
        (KEYS, lambda stored: _compressed(b"no such thing")),
        (KEYS, lambda stored: _compressed(zlib.compress(bytes(2**20)))),
        (KEYS, lambda stored: _compressed(zlib.compress(b""))),
        (KEYS, lambda stored: torch.zeros(3, BANDS, dtype=torch.uint8)),
        (KEYS, lambda stored: stored[None, None]),
    ],
)
def test_what_is_damaged_is_refused(
    heard: Heard, sketch: Sketch, name: str, damaged: Callable[[Tensor], Tensor]
) -> None:
    tensors = heard_tensors(heard, sketch)
    with pytest.raises(PriorError, match="What the prior in this file was trained on is damaged"):
        opened(entry(heard, tensors | {name: damaged(tensors[name])}))
