"""Hundreds of hours of codes: mapped, looked through part by part, and judged by a sample of what is held out."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sda_prior_plugin import CodeCorpus, PriorSettings, train_prior
from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.copying import Heard
from sda_prior_plugin.dataset import HOST_FRAME_SECONDS, CodeSequences
from sda_prior_plugin.edge.corpus_cache import CorpusCache
from sda_prior_plugin.edge.corpus_traces import traces_bytes, with_traces
from sda_prior_plugin.events import EpochDone, TrainingEvent, TrainingStarted
from sda_prior_plugin.held_out_sample import MOST_JUDGED_CODES, judged_by_a_sample, stretches
from sda_prior_plugin.mapped import PART_BYTES, parts, sequence_parts
from sda_prior_plugin.near_copies import MOST_LISTED, Sketch
from sda_prior_plugin.window_hashes import frame_hashes
from sda_prior_plugin.windows import LARGE_BYTES
from tests.sda_prior_plugin.test_batches import resident_megabytes

SHAPE = CodeShape(8, 3, 128)
BOOKS = np.random.default_rng(1).normal(size=(3, 128, 8)).astype(np.float32)
HOURS, HELD_OUT_HOURS = 300, 10
KEY = "hours"


def random_sequences(hours: float, recordings: int, seed: int) -> CodeSequences:
    """So many hours of random codes, in recordings of the same length."""
    frames = round(3600 * hours / HOST_FRAME_SECONDS / recordings)
    codes = np.random.default_rng(seed).integers(0, 128, (recordings * frames, 8, 3), np.uint8)
    names = tuple(f"{seed}/{number}.wav" for number in range(recordings))
    return CodeSequences(codes, np.arange(recordings + 1) * frames, np.arange(recordings), names)


def made_corpus(hours: float, recordings: int) -> CodeCorpus:
    held_out = random_sequences(hours * HELD_OUT_HOURS / HOURS, max(6, recordings // 30), 1)
    return CodeCorpus(SHAPE, BOOKS, random_sequences(hours, recordings, 0), held_out)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> CorpusCache:
    cache = CorpusCache(tmp_path_factory.mktemp("cache"))
    cache.keep(KEY, made_corpus(HOURS, 1500))
    return cache


def opened(cache: CorpusCache) -> CodeCorpus:
    corpus = cache.read(KEY, BOOKS)
    assert corpus is not None
    return corpus


def one_epoch(corpus: CodeCorpus) -> list[TrainingEvent]:
    """What a small network's training tells that is stopped after its first epoch."""
    given = {"hidden_size": 16, "layers": 1, "heads": 2, "batch_size": 16}
    settings = PriorSettings.for_corpus(corpus, file_count=1500, **given)  # type: ignore[arg-type]
    events, stop = [], threading.Event()

    def on_event(event: TrainingEvent) -> None:
        events.append(event)
        if isinstance(event, EpochDone):
            stop.set()

    train_prior(corpus, settings, on_event=on_event, stop=stop)
    return events


@contextmanager
def most_megabytes() -> Iterator[list[float]]:
    """This process's resident memory inside the block, at most."""
    most, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], resident_megabytes())

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield most
    finally:
        over.set()
        watching.join()


@pytest.mark.slow
def test_a_training_on_hundreds_of_hours_takes_the_memory_of_a_part_of_them(cache: CorpusCache) -> None:
    """Codes, hashes and keys are 250 MB; with an index of all that, and the copies of it, it was 500 MB and more."""
    small = made_corpus(1, 20)
    one_epoch(small)  # compiles
    with most_megabytes() as usual:
        one_epoch(small)
    with most_megabytes() as most:
        started = time.thread_time()
        corpus = opened(cache)
        assert time.thread_time() - started < 0.5
        assert isinstance(corpus.train.codes, np.memmap)
        events = one_epoch(corpus)
    (begun,) = (event for event in events if isinstance(event, TrainingStarted))
    assert begun.held_out_codes <= MOST_JUDGED_CODES
    assert begun.unheard.sample_sentence.startswith(
        "10.0 hours are held out: the prior is judged by 31 minutes of them"
    )
    assert most[0] - usual[0] < 230


@pytest.mark.slow
def test_copies_of_mapped_codes_are_those_of_the_same_codes_in_memory(cache: CorpusCache) -> None:
    mapped = opened(cache).train
    assert mapped.hashes is not None
    assert mapped.keys is not None
    in_memory = dataclasses.replace(mapped, codes=np.array(mapped.codes), hashes=None, keys=None)
    rng = np.random.default_rng(2)
    grids = [np.array(mapped.codes[first : first + 12]) for first in rng.integers(0, len(mapped.codes) - 12, 20)]
    grids.append(rng.integers(0, 128, (12, 8, 3), np.uint8))
    found, expected = ((Heard.of(one), Sketch.of(one, 6)) for one in (mapped, in_memory))
    np.testing.assert_array_equal(found[0].hashes, expected[0].hashes)
    np.testing.assert_array_equal(found[1].keys, expected[1].keys)
    assert found[0].longest_passage(grids, 2) == expected[0].longest_passage(grids, 2)
    near, same = found[1].neighbours(grids), expected[1].neighbours(grids)
    assert len(mapped.codes) > MOST_LISTED, "not every frame is listed"
    for one, other in zip(near, same, strict=True):
        np.testing.assert_array_equal(one.places, other.places)
    assert all((one.shares == 1).all() for one in near[:-1]), "a copy is found wherever it begins"
    assert (near[-1].shares < 0.5).all()


@pytest.mark.slow
def test_what_copies_are_recognized_by_is_made_anew_where_it_is_not_that_of_the_codes(cache: CorpusCache) -> None:
    folder, right = cache.folder / KEY, opened(cache).train
    expected = np.array(right.hashes)
    for damaged in (expected[:-1], expected[::-1], expected.astype(np.int64)):
        np.save(folder / "train-hashes.npy", damaged)
        np.testing.assert_array_equal(opened(cache).train.hashes, expected)
    (folder / "train-hashes.npy").write_bytes(b"no array")
    np.testing.assert_array_equal(opened(cache).train.hashes, expected)
    assert not list(folder.glob(".making-*"))


def test_of_codes_that_are_not_large_nothing_is_kept_beside_them(tmp_path: Path) -> None:
    sequences = random_sequences(0.1, 3, 0)
    assert sequences.codes.nbytes < LARGE_BYTES
    assert traces_bytes(sequences.codes) == 0
    assert with_traces(tmp_path, "train", sequences) is sequences
    assert not list(tmp_path.iterdir())


def test_the_parts_of_a_mapped_array_are_all_of_it_and_no_sequence_is_cut(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.arange(PART_BYTES // 2, dtype=np.uint64))
    mapped = np.load(tmp_path / "array.npy", mmap_mode="r")
    starts = np.array([0, 10, PART_BYTES // 8 + 5, PART_BYTES // 4, PART_BYTES // 2])
    assert [one.tolist() for one in sequence_parts(mapped, starts)] == [
        starts[:3].tolist(), starts[2:4].tolist(), starts[3:].tolist(),
    ]  # fmt: skip
    assert [one.tolist() for one in sequence_parts(np.array(mapped), starts)] == [starts.tolist()]
    assert np.array_equal(np.concatenate([mapped[rows] for rows in parts(mapped)]), mapped)
    np.testing.assert_array_equal(
        frame_hashes(np.ones((5, 1, 1), np.uint8)), frame_hashes(np.ones((5, 1, 1), np.int64))
    )


def test_what_is_judged_by_is_all_that_is_held_out_or_a_sample_that_is_always_the_same() -> None:
    little = made_corpus(1, 10)
    assert judged_by_a_sample(little) is little
    much = made_corpus(30, 600)
    sample, again = (judged_by_a_sample(much).held_out for _ in range(2))
    np.testing.assert_array_equal(sample.codes, again.codes)
    assert 0.95 * MOST_JUDGED_CODES < sample.codes.size <= MOST_JUDGED_CODES
    assert sample.recording_count == much.held_out.recording_count, "some of each"
    assert sample.names == much.held_out.names
    assert sample.sample_of == len(much.held_out.codes)


def test_the_stretches_of_a_sample_are_of_as_many_recordings_as_can_be_and_know_where_they_begin() -> None:
    counting = np.arange(700).reshape(-1, 1, 1)
    whole = CodeSequences(counting, np.array([0, 5, 305, 700]), np.arange(3), ("a", "b", "c"))
    some = stretches(whole, 60, 20)
    assert some.names == ("a", "b", "c")
    assert 40 < len(some.codes) <= 60
    assert some.inside is not None
    for index in range(len(some)):
        first, last = int(some[index][0, 0, 0]), int(some[index][-1, 0, 0])
        assert last - first + 1 == len(some[index]), "nothing is left out"
        begin, end = whole.starts[some.recordings[index]], whole.starts[some.recordings[index] + 1]
        assert begin <= first <= last < end
        assert bool(some.inside[index]) == (first > begin)


def test_the_lead_of_a_stretch_from_within_a_recording_is_not_judged() -> None:
    corpus = judged_by_a_sample(made_corpus(30, 600))
    judged, held_out = CopyMeter(corpus).unheard.judged, corpus.held_out
    assert held_out.inside is not None
    lead = round(1 / corpus.frame_seconds)
    for index in range(len(held_out)):
        skipped = lead if held_out.inside[index] else 0
        marks = judged[held_out.starts[index] : held_out.starts[index + 1]]
        assert marks.tolist() == [False] * skipped + [True] * (len(marks) - skipped)
