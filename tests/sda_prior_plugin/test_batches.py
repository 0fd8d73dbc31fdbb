"""The batches: what stands in them, and that they come as said, however they are read."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from sda_prior_plugin import CodeBatches, CodeCorpus
from sda_prior_plugin.batches import (
    Batch,
    BatchBuffers,
    BatchPlan,
    equal_batches,
    filled_batches,
    held_out_batches,
    mixed_batches,
    padded_length,
)
from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.packing import packed_length
from sda_prior_plugin.windows import LARGE_BYTES, Rounds, Windows, whole_windows

from .conftest import counting_grids

CODEBOOKS = np.ones((2, 300, 4), np.float32)
SHAPE = CodeShape(bands=2, levels=2, codebook_size=300)


def corpus_of(lengths: list[int], names: list[str] | None = None) -> CodeCorpus:
    return CodeCorpus.from_sequences(
        counting_grids(lengths), counting_grids([3]), codebooks=CODEBOOKS, train_names=names
    )


@pytest.fixture(scope="module")
def large() -> CodeCorpus:
    """Large enough for tens of batches in several shapes, and for an epoch to be a part of a round."""
    return corpus_of([*range(1, 60)] * 9)


def batches_of(corpus: CodeCorpus, **how: int) -> CodeBatches:
    return CodeBatches(corpus, **{"context": 8, "batch_size": 4, "seed": 0, **how})


def copies(batches: Iterable[Batch]) -> list[Batch]:
    """The batches, each of which would be overwritten by the next one."""
    return [Batch(*(np.array(array) for array in batch)) for batch in batches]


def same(first: Batch, second: Batch) -> bool:
    return all(
        np.array_equal(a, b) and a.dtype == b.dtype and a.shape == b.shape for a, b in zip(first, second, strict=True)
    )


LATER = 3
"""The kind of recordings from another start, beside three others."""


def reference(sequences: CodeSequences, windows: Windows, shape: CodeShape, window: int) -> Batch:
    """A batch of rows of `window` frames made frame by frame, as the definition says it."""
    frames = np.full((len(windows), 1 + window, shape.frame_codes), shape.codebook_size, np.int64)
    ends = []
    for row, (number, first, length) in enumerate(
        zip(windows.sequence, windows.first_frame, windows.frames, strict=True)
    ):
        sequence = sequences[number]
        for step in range(-1, length):
            if first + step >= 0:
                frames[row, 1 + step] = sequence[first + step].ravel()
        ends.append(first + length == len(sequence))
    kinds = np.zeros(len(sequences), np.int64)
    for number, kind in enumerate([] if sequences.kinds is None else sequences.kinds):
        is_first = number == 0 or sequences.recordings[number - 1] != sequences.recordings[number]
        kinds[number] = kind or (0 if is_first else LATER)
    first, lengths = windows.first_frame.astype(np.int64), windows.frames.astype(np.int64)
    return Batch(frames, first, lengths, np.array(ends), kinds[windows.sequence])


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    context=st.integers(1, 8),
    bands=st.integers(1, 3),
    size=st.sampled_from([5, 255, 256, 70_000]),
    sizes=st.lists(st.integers(1, 5), min_size=3, max_size=3),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_batch_holds_each_window_the_frame_before_it_and_no_code_elsewhere(
    lengths: list[int], context: int, bands: int, size: int, sizes: list[int], padded: bool, seed: int
) -> None:
    """As a plain reference has it, for codes of each integer type, in buffers that held something else before."""
    rng = np.random.default_rng(seed)
    shape = CodeShape(bands=bands, levels=2, codebook_size=size)
    grids, kinds = [rng.integers(0, size, (n, bands, 2)) for n in lengths], rng.integers(0, 3, len(lengths)).tolist()
    names = [str(number) for number in rng.integers(0, 3, len(lengths))]
    sequences = CodeSequences.from_grids(grids, shape, names, kinds)
    windows = whole_windows(sequences, context, np.arange(len(lengths)), rng.integers(0, context, len(lengths)))
    chosen = [rng.integers(0, len(windows), size) for size in sizes]
    plan = BatchPlan.of(sequences, windows, chosen, LATER)
    if padded:
        plan = plan.padded_to_contexts(context)
    codes = sequences.codes.reshape(-1)
    made = copies(filled_batches(codes, plan, range(3), shape.codebook_size, BatchBuffers(shape.frame_codes)))
    assert len(made) == 3
    for batch, rows in zip(made, chosen, strict=True):
        longest = int(windows[rows].frames.max())
        window = padded_length(longest, context) if padded else longest
        assert same(batch, reference(sequences, windows[rows], shape, window))


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    context=st.integers(1, 50),
    epoch=st.integers(1, 3),
)
@settings(deadline=None)
def test_an_epoch_holds_each_of_its_windows_once_in_rows_no_longer_than_the_longest(
    lengths: list[int], context: int, epoch: int
) -> None:
    corpus = corpus_of(lengths)
    source = batches_of(corpus, context=context)
    source.set_epoch(epoch)
    batches = copies(source)
    windows = Rounds(corpus.train, context, seed=0, batch_size=4).epoch(epoch)
    seen = [(*frames.ravel(),) for batch in batches for frames in batch.frames[:, 1]]
    firsts = zip(windows.sequence, windows.first_frame, strict=True)
    assert sorted(seen) == sorted((*corpus.train[s][f].ravel(),) for s, f in firsts)
    assert all(batch.frames.shape[1] - 1 == batch.lengths.max() for batch in batches)
    assert len(batches) == len(source) <= -(-len(windows) // 4)


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=300),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_batches_are_of_so_many_windows_on_average_and_about_equally_many_frames(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    """None has more than a window above the mean."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(lengths))
    batches = equal_batches(np.array(lengths), rows, batch_size, rng)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    count = -(-len(lengths) // batch_size)
    assert len(batches) <= count
    largest = max(sum(lengths[row] for row in batch) for batch in batches)
    assert largest < sum(lengths) / count + max(lengths)


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=300),
    frames=st.floats(1.0, 400.0),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_mixed_batches_hold_each_window_once_and_about_as_many_frames_as_wanted(
    lengths: list[int], frames: float, seed: int
) -> None:
    batches = mixed_batches(np.array(lengths), frames, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    held = [sum(lengths[row] for row in batch) for batch in batches]
    if sum(lengths) < 16 * frames:  # which are shared out at once
        assert max(held) - min(held) <= max(lengths)
        assert len(held) == min(len(lengths), max(1, round(sum(lengths) / frames)))


def test_mixed_batches_of_many_epochs_come_in_few_shapes() -> None:
    rng = np.random.default_rng(0)
    recordings = np.clip(np.exp(rng.normal(2.4, 0.6, 46)).astype(int), 2, 90)
    source = CodeBatches(corpus_of([int(one) for one in recordings for _ in range(6)],
        [str(one) for one in range(46) for _ in range(6)]), context=47, batch_size=8, seed=0, mixed=True)  # fmt: skip
    shapes, frames, padded = Counter[int](), 0, 0
    for epoch in range(1, 25):
        source.set_epoch(epoch)
        for batch in source:
            positions = int((8 * batch.lengths + 1).sum())
            shapes[packed_length(positions)] += 1
            frames, padded = frames + positions, padded + packed_length(positions)
    assert len(shapes) <= 4
    assert padded < 1.07 * frames
    assert np.mean([len(batch.lengths) for batch in source]) == pytest.approx(8, rel=0.15)


def test_where_windows_are_mixed_each_batch_tells_of_long_and_short_ones() -> None:
    corpus = corpus_of([2] * 60 + [30] * 60)
    spans = [
        np.mean([np.ptp(batch.lengths) for batch in CodeBatches(corpus, context=32, batch_size=8, seed=0, mixed=mixed)])
        for mixed in (False, True)
    ]
    assert spans[0] < 6
    assert spans[1] > 20


def test_an_epoch_visits_every_recording_equally_often_each_time_in_another_variant() -> None:
    corpus = corpus_of([4] * 12, [name for name in "abc" for _ in range(4)])
    seen = np.concatenate([batch.frames[:, 1, 0].copy() for batch in batches_of(corpus)])
    assert sorted(seen.tolist()) == [grid[0, 0, 0] for grid in counting_grids([4] * 12)]


def test_windows_of_about_the_same_length_share_a_batch() -> None:
    source = batches_of(corpus_of(list(range(1, 65))), context=64)
    assert all(np.ptp(batch.lengths) == len(batch.lengths) - 1 for batch in source)


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    corpus = corpus_of([5] * 20)

    def frames(seed: int, epoch: int) -> list[list[int]]:
        source = batches_of(corpus, seed=seed)
        source.set_epoch(epoch)
        return [batch.frames.tolist() for batch in source]

    assert frames(3, 1) == frames(3, 1)
    assert frames(3, 1) != frames(3, 2)
    assert frames(3, 1) != frames(4, 1)


@given(start=st.integers(0, 30), epoch=st.integers(1, 9))
@settings(deadline=None)
def test_reading_goes_on_from_any_batch_of_any_epoch(large: CodeCorpus, start: int, epoch: int) -> None:
    source = batches_of(large)
    source.set_epoch(epoch)
    whole = copies(source)
    again = batches_of(large)
    again.set_epoch(epoch, start)
    rest = copies(again)
    assert len(rest) == len(again) == max(len(whole) - start, 0)
    assert all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


@given(world_size=st.integers(1, 40), epoch=st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_ranks_share_an_epoch_without_overlap(large: CodeCorpus, world_size: int, epoch: int) -> None:
    source = batches_of(large)
    source.set_epoch(epoch)
    whole = copies(source)
    for rank in range(world_size):
        share = batches_of(large, rank=rank, world_size=world_size)
        share.set_epoch(epoch)
        assert len(share) == len(whole[rank::world_size])
        assert all(same(a, b) for a, b in zip(whole[rank::world_size], share, strict=True))


def test_a_rank_that_does_not_exist_is_refused(large: CodeCorpus) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        batches_of(large, rank=2, world_size=2)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_workers_of_a_data_loader_share_the_batches_of_a_rank(large: CodeCorpus, workers: int) -> None:
    """They come in the order in which one process has them, unharmed by what the workers do meanwhile, as tensors."""
    plain = batches_of(large, rank=1, world_size=2)
    plain.set_epoch(2, 1)
    expected = copies(plain)
    loader = DataLoader(plain, batch_size=None, num_workers=workers)
    assert len(loader) == len(expected)
    found = []
    for batch in loader:
        assert isinstance(batch, Batch)
        assert all(isinstance(part, torch.Tensor) for part in batch)
        found.append(Batch(*(part.numpy().copy() for part in batch)))
    assert all(same(a, b) for a, b in zip(expected, found, strict=True))


def test_after_its_first_batch_an_epoch_allocates_nothing_for_batches(large: CodeCorpus) -> None:
    """But python's own small objects: a batch here is 90 kB, and all that is allocated at any time is below 4."""
    source = CodeBatches(large, context=47, batch_size=128, seed=0)
    batches = iter(source)
    first = next(batches).frames.nbytes
    tracemalloc.start()
    count = sum(1 for _ in batches)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count >= 3
    assert first > 80_000
    assert peak < 4_000


def test_a_batch_overwrites_the_one_before(large: CodeCorpus) -> None:
    first, second = (batch for batch, _ in zip(batches_of(large), range(2), strict=False))
    assert np.shares_memory(first.frames, second.frames)


def test_codes_mapped_from_a_file_give_the_batches_that_they_give_in_memory(large: CodeCorpus, tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", large.train.codes)
    train = large.train
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    sequences = CodeSequences(mapped, train.starts, train.recordings, train.names)
    corpus = CodeCorpus(large.shape, CODEBOOKS, sequences, sequences)
    found = [*copies(batches_of(corpus)), *copies(held_out_batches(sequences, SHAPE, context=8, batch_size=3))]
    expected = [*copies(batches_of(large)), *copies(held_out_batches(train, SHAPE, context=8, batch_size=3))]
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def resident_megabytes() -> float:
    """This process's resident memory."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("this system does not tell how much memory a process has")
    return int(status.read_text().partition("VmRSS:")[2].split()[0]) / 1024


def mapped_corpus(path: Path, recordings: int, frames: int) -> CodeCorpus:
    """A corpus of ones mapped from a file; 8 codes a frame."""
    np.save(path, np.ones((recordings * frames, 2, 4), np.uint8))
    names = tuple(map(str, range(recordings)))
    starts = np.arange(recordings + 1) * frames
    sequences = CodeSequences(np.load(path, mmap_mode="r"), starts, np.arange(recordings), names)
    return CodeCorpus(CodeShape(2, 4, 128), np.ones((4, 128, 2), np.float32), sequences, sequences)


def test_reading_all_of_large_mapped_codes_takes_the_memory_of_a_part_of_them(tmp_path: Path) -> None:
    """Of 160 MB; without giving segments back it would be all of that."""
    list(CodeBatches(mapped_corpus(tmp_path / "small.npy", 9, 500), context=200, batch_size=64, seed=0))  # compiles
    corpus = mapped_corpus(tmp_path / "large.npy", 1000, 20_000)
    assert corpus.train.codes.nbytes > LARGE_BYTES
    before, grown, read = resident_megabytes(), 0.0, 0
    source = CodeBatches(corpus, context=200, batch_size=64, seed=0)
    for epoch in range(1, source.rounds.epochs + 1):
        source.set_epoch(epoch)
        read += sum(int(batch.lengths.sum()) for batch in source)
        grown = max(grown, resident_megabytes() - before)
    assert read >= len(corpus.train.codes), "all of it was read"
    assert grown < 110


def test_held_out_batches_hold_every_sequence_once_whole_and_from_its_start() -> None:
    sequences = CodeSequences.from_grids(counting_grids([3, 17, 9]), SHAPE)
    batches = copies(held_out_batches(sequences, SHAPE, context=8, batch_size=2))
    assert [batch.lengths.tolist() for batch in batches] == [[17, 9], [3]]
    assert all(batch.ends.all() and not batch.first_frame.any() for batch in batches)
    for batch, number in ((batches[0].frames[0], 1), (batches[0].frames[1], 2), (batches[1].frames[0], 0)):
        codes = sequences[number].reshape(-1, 4)
        np.testing.assert_array_equal(batch[1 : 1 + len(codes)], codes)
        assert (batch[0] == 300).all()
        assert (batch[1 + len(codes) :] == 300).all()
