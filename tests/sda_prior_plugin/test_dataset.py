"""The corpus and its batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sda_prior_plugin import CodeCorpus, PriorError
from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.dataset import (
    CodeSequences,
    collate,
    epoch_batches,
    epoch_windows,
    held_out_batches,
    whole_windows,
)
from sda_prior_plugin.schedule import EPOCH_WINDOWS, epochs_per_round

SHAPE = CodeShape(bands=2, levels=2, codebook_size=300)
CODEBOOKS = np.ones((2, 300, 4), np.float32)
HOW = {"context": 8, "batch_size": 4, "seed": 0}

grid_lengths = st.lists(st.integers(0, 9), min_size=1, max_size=6)


def grids_of(lengths: list[int]) -> list[np.ndarray]:
    """Grids of these lengths in which every code differs."""
    codes = np.arange(sum(lengths) * 4).reshape(-1, 2, 2) % 300
    return np.split(codes, np.cumsum(lengths)[:-1])


@given(lengths=grid_lengths)
def test_sequences_come_back_as_they_were_and_empty_ones_are_left_out(lengths: list[int]) -> None:
    grids = grids_of(lengths)
    sequences = CodeSequences.from_grids(grids, SHAPE)
    kept = [grid for grid in grids if len(grid)]
    assert len(sequences) == len(kept)
    for index, grid in enumerate(kept):
        np.testing.assert_array_equal(sequences[index], grid)


def test_codes_are_held_in_the_smallest_type_that_also_has_room_for_no_code() -> None:
    assert CodeShape(1, 1, 255).dtype == np.uint8
    assert CodeShape(1, 1, 256).dtype == np.uint16


def test_sequences_of_one_name_are_variants_of_one_recording() -> None:
    sequences = CodeSequences.from_grids(grids_of([2, 3, 4]), SHAPE, ["a", "b", "a"])
    assert sequences.names == ("a", "b")
    assert sequences.lengths.tolist() == [2, 4, 3]
    assert sequences.recordings.tolist() == [0, 0, 1]


def test_variants_do_not_make_a_corpus_larger() -> None:
    one = grids_of([5])
    corpus = CodeCorpus.from_sequences(one * 8, one, codebooks=CODEBOOKS, train_names=["a"] * 8)
    assert corpus.train_codes == 5 * 4


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5), context=st.integers(1, 12), seed=st.integers(0, 99)
)
def test_windows_cover_every_frame_once(lengths: list[int], context: int, seed: int) -> None:
    sequences = CodeSequences.from_grids(grids_of(lengths), SHAPE)
    phase = np.random.default_rng(seed).integers(0, context, len(lengths))
    windows = whole_windows(sequences, context, np.arange(len(lengths)), phase)
    assert windows.frames.max() <= context
    seen = [np.zeros(length, int) for length in lengths]
    for index in range(len(windows)):
        first = windows.first_frame[index]
        seen[windows.sequence[index]][first : first + windows.frames[index]] += 1
    assert all((counts == 1).all() for counts in seen)


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5), context=st.integers(1, 8))
def test_a_batch_holds_each_window_the_frame_before_it_and_no_code_elsewhere(lengths: list[int], context: int) -> None:
    sequences = CodeSequences.from_grids(grids_of(lengths), SHAPE)
    windows = whole_windows(sequences, context, np.arange(len(lengths)), np.zeros(len(lengths), int))
    batch = collate(sequences, windows, SHAPE, context)
    for index, frames in enumerate(batch.frames):
        first, length = windows.first_frame[index], windows.frames[index]
        sequence = sequences[windows.sequence[index]].reshape(-1, SHAPE.frame_codes)
        np.testing.assert_array_equal(frames[1 : 1 + length], sequence[first : first + length])
        np.testing.assert_array_equal(frames[0], sequence[first - 1] if first else [300] * 4)
        assert (frames[1 + length :] == 300).all()
        assert batch.ends[index] == (first + length == len(sequence))


def test_an_epoch_visits_every_recording_equally_often_each_time_in_another_variant() -> None:
    grids = grids_of([4] * 12)
    names = [name for name in "abc" for _ in range(4)]
    corpus = CodeCorpus.from_sequences(grids, grids[:1], codebooks=CODEBOOKS, train_names=names)
    seen = np.concatenate([batch.frames[:, 1, 0] for batch in epoch_batches(corpus, **HOW, epoch=1)])
    assert sorted(seen.tolist()) == [grid[0, 0, 0] for grid in grids]


@pytest.mark.parametrize("count", [100, 700, 2000])
def test_a_round_of_a_large_corpus_is_shared_out_over_epochs(count: int) -> None:
    """So that a validation is never far away; over the epochs of a round every recording is visited once."""
    corpus = CodeCorpus.from_sequences(grids_of([2] * count), grids_of([2]), codebooks=CODEBOOKS)
    epochs = epochs_per_round(count)
    windows = [epoch_windows(corpus.train, 8, seed=0, epoch=epoch) for epoch in range(1, 2 * epochs + 1)]
    assert max(len(some) for some in windows) <= 1.5 * EPOCH_WINDOWS
    for some in (windows[:epochs], windows[epochs:]):
        assert sorted(np.concatenate([each.sequence for each in some]).tolist()) == list(range(count))
    assert windows[0].sequence.tolist() != windows[epochs].sequence.tolist()


def test_a_round_of_many_recordings_leaves_variants_for_the_next() -> None:
    grids = grids_of([2] * 1000)
    names = [str(number // 8) for number in range(1000)]
    corpus = CodeCorpus.from_sequences(grids, grids[:1], codebooks=CODEBOOKS, train_names=names)
    windows = epoch_windows(corpus.train, 8, seed=0, epoch=1)
    assert len(windows) == 250
    assert np.bincount(windows.sequence // 8).tolist() == [2] * 125
    assert len(set(windows.sequence.tolist())) == 250


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    corpus = CodeCorpus.from_sequences(grids_of([5] * 20), grids_of([5]), codebooks=CODEBOOKS)

    def frames(seed: int, epoch: int) -> list[list[int]]:
        batches = epoch_batches(corpus, context=8, batch_size=4, seed=seed, epoch=epoch)
        return [batch.frames.tolist() for batch in batches]

    assert frames(3, 1) == frames(3, 1)
    assert frames(3, 1) != frames(3, 2)
    assert frames(3, 1) != frames(4, 1)


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60), context=st.integers(1, 50))
def test_batches_come_in_few_shapes_and_leave_no_window_out(lengths: list[int], context: int) -> None:
    """Powers of two and the context; all batches of a size, some windows coming twice for it, or one smaller batch."""
    corpus = CodeCorpus.from_sequences(grids_of(lengths), grids_of([3]), codebooks=CODEBOOKS)
    batches = list(epoch_batches(corpus, context=context, batch_size=4, seed=0, epoch=1))
    frames = {batch.frames.shape[1] - 1 for batch in batches}
    assert frames <= {context, *(2**power for power in range(7) if 2**power < context)}
    windows = epoch_windows(corpus.train, context, seed=0, epoch=1)
    assert {len(batch.frames) for batch in batches} == {min(4, len(windows))}
    seen = {(*frames.ravel(),) for batch in batches for frames in batch.frames[:, 1]}
    assert {(*corpus.train[s][f].ravel(),) for s, f in zip(windows.sequence, windows.first_frame, strict=True)} <= seen


def test_held_out_batches_hold_every_code_once() -> None:
    sequences = CodeSequences.from_grids(grids_of([3, 17, 9]), SHAPE)
    batches = held_out_batches(sequences, SHAPE, context=8, batch_size=2)
    assert sum(int(batch.lengths.sum()) for batch in batches) == 29


@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        ([], grids_of([3]), "no codes to train on"),
        (grids_of([3]), [np.zeros((0, 2, 2), int)], "no codes to judge it by"),
        ([np.zeros((3, 2, 3), int)], grids_of([3]), "expected"),
        ([np.zeros((3, 4), int)], grids_of([3]), "expected"),
        ([np.full((3, 2, 2), 300)], grids_of([3]), "expected 0 to 299"),
        ([np.zeros((3, 2, 2))], grids_of([3]), "must be integers"),
    ],
)
def test_codes_that_cannot_be_a_corpus_are_refused(train: list, held_out: list, message: str) -> None:
    with pytest.raises(PriorError, match=message):
        CodeCorpus.from_sequences(train, held_out, codebooks=CODEBOOKS)
