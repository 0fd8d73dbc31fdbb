"""How fast batches are made: beside a DataLoader, beside copying the same bytes, and from a file larger than memory.

As pytest-benchmark functions (`python -m pytest benchmarks/batches.py`), and with `make bench` as tables in
benchmarks/RESULTS.md, for which everything that is compared is measured in turns in one process.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks.corpora import MADE
from benchmarks.results import machine, write_section
from sda_prior_plugin import CodeBatches, CodeCorpus
from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.edge.corpus_cache import CorpusCache
from sda_prior_plugin.windows import Rounds

SHAPE = CodeShape(bands=8, levels=3, codebook_size=128)
CODEBOOKS = np.ones((3, 128, 64), np.float32)
CONTEXT, BATCH = 47, 32
"""Eight seconds, and the windows of a batch."""
RECORDING_FRAMES = 1758
"""Five minutes."""
SMALL_CODES, LARGE_CODES = 10_000_000, 1_000_000_000
KEY = "large"
WORKERS = (0, 2)
TURNS = 15
LARGE_EPOCHS = 250


def random_corpus(codes: int) -> CodeCorpus:
    """A corpus of so many random codes, in recordings of five minutes."""
    frames = codes // SHAPE.frame_codes
    starts = np.append(np.arange(0, frames, RECORDING_FRAMES), frames)
    names = tuple(f"{number}.wav" for number in range(len(starts) - 1))
    drawn = np.random.default_rng(0).integers(0, SHAPE.codebook_size, frames * SHAPE.frame_codes, dtype=SHAPE.dtype)
    train = CodeSequences(drawn.reshape(frames, SHAPE.bands, SHAPE.levels), starts, np.arange(len(names)), names)
    held_out = CodeSequences(train.codes[:CONTEXT].copy(), np.array([0, CONTEXT]), np.array([0]), ("held out",))
    return CodeCorpus(SHAPE, CODEBOOKS, train, held_out)


class SlicedWindows(Dataset):
    """The windows of a round one by one, sliced from the same array into what a batch holds of each."""

    def __init__(self, corpus: CodeCorpus) -> None:
        self.windows = Rounds(corpus.train, CONTEXT, seed=0, batch_size=BATCH).round(0)
        self.sequences = corpus.train
        self.grid = corpus.train.codes.reshape(-1, SHAPE.frame_codes)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, int, bool]:
        sequence = self.windows.sequence[index]
        first, length = int(self.windows.first_frame[index]), int(self.windows.frames[index])
        begin = int(self.sequences.starts[sequence]) + first
        frames = np.full((1 + CONTEXT, SHAPE.frame_codes), SHAPE.codebook_size, np.int64)
        frames[1 : 1 + length] = self.grid[begin : begin + length]
        if first:
            frames[0] = self.grid[begin - 1]
        return frames, first, length, bool(begin + length == self.sequences.starts[sequence + 1])


def read_all(batches: Iterator) -> int:
    """Read batches to their end; how many there were."""
    return sum(1 for _ in batches)


def seconds_per_batch(batches: Iterator, *, first: bool = True) -> float:
    """Of all of them; without `first`, of those after the first one, when workers are up."""
    if not first:
        next(batches)
    start = time.perf_counter()
    count = read_all(batches)
    return (time.perf_counter() - start) / count


def again_and_again(source: CodeBatches, times: int) -> Iterator:
    """The batches of the epoch that is planned, so many times."""
    for _ in range(times):
        yield from source


def epoch_after_epoch(source: CodeBatches, epochs: int) -> Iterator:
    """The batches of some epochs, each planned when its turn comes."""
    for epoch in range(1, epochs + 1):
        source.set_epoch(epoch)
        yield from source


def full_batches(corpus: CodeCorpus) -> CodeBatches:
    return CodeBatches(corpus, context=CONTEXT, batch_size=BATCH, seed=0)


def copied(times: int) -> Iterator:
    """So many copies of the bytes of a batch, from one array to another."""
    target = np.empty((BATCH, 1 + CONTEXT, SHAPE.frame_codes), np.int64)
    source = np.ones_like(target)
    for _ in range(times):
        np.copyto(target, source)
        yield target


def allocated_bytes(source: CodeBatches) -> int:
    """The most bytes that making the batches of an epoch allocates at any time after the first, other than python's."""
    batches = iter(source)
    next(batches)
    tracemalloc.start()
    try:
        read_all(batches)
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    arrays = snapshot.filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
    return sum(trace.size for trace in arrays.traces)


@pytest.fixture(scope="module")
def corpus() -> CodeCorpus:
    return random_corpus(SMALL_CODES)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.benchmark(group="an epoch of batches of 32 windows of 8 s")
def test_batches(benchmark: BenchmarkFixture, corpus: CodeCorpus) -> None:
    source = full_batches(corpus)
    read_all(iter(source))  # compiles
    assert benchmark(lambda: read_all(iter(source))) == len(source)
    assert allocated_bytes(source) == 0


@pytest.mark.usefixtures("one_thread")
@pytest.mark.benchmark(group="an epoch of batches of 32 windows of 8 s")
def test_copying_the_same_bytes(benchmark: BenchmarkFixture, corpus: CodeCorpus) -> None:
    assert benchmark(lambda: read_all(copied(len(full_batches(corpus))))) > 0


@pytest.mark.usefixtures("one_thread")
@pytest.mark.benchmark(group="an epoch of batches of 32 windows of 8 s")
@pytest.mark.parametrize("workers", WORKERS)
def test_data_loader(benchmark: BenchmarkFixture, corpus: CodeCorpus, workers: int) -> None:
    windows = Subset(SlicedWindows(corpus), range(BATCH * len(full_batches(corpus))))
    loader = DataLoader(windows, batch_size=BATCH, shuffle=True, num_workers=workers)
    assert benchmark.pedantic(lambda: read_all(iter(loader)), rounds=5) == len(loader)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.benchmark(group="an epoch of a mapped billion codes")
@pytest.mark.parametrize("where", ["in memory", "mapped"])
def test_a_billion_codes(benchmark: BenchmarkFixture, large: dict[str, CodeCorpus], where: str) -> None:
    source = full_batches(large[where])
    read_all(iter(source))  # compiles
    assert benchmark(lambda: read_all(iter(source))) == len(source)


@pytest.fixture(scope="module")
def large() -> Iterator[dict[str, CodeCorpus]]:
    with tempfile.TemporaryDirectory(dir=_made()) as folder:
        corpus = random_corpus(LARGE_CODES)
        yield {"in memory": corpus, "mapped": CorpusCache(Path(folder)).keep(KEY, corpus)}


def in_turns(measured: dict[str, Callable[[], float]], turns: int) -> dict[str, list[float]]:
    """What each function gives, turn by turn, so that what else the machine does meets all of them."""
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(turns):
        for name, function in measured.items():
            found[name].append(function())
    return found


def small_rows() -> list[list[str]]:
    """Batches, the same with the planning of each epoch, plain copying, and DataLoaders."""
    corpus = random_corpus(SMALL_CODES)
    source, dataset = full_batches(corpus), SlicedWindows(corpus)

    def loader(workers: int) -> float:
        batches = iter(DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=workers))
        return seconds_per_batch(batches, first=False)

    measured: dict[str, Callable[[], float]] = {
        "batches of an epoch": lambda: seconds_per_batch(again_and_again(source, 1500)),
        "the same, planning each epoch": lambda: seconds_per_batch(epoch_after_epoch(source, 600)),
        "numpy.copyto of the same bytes": lambda: seconds_per_batch(copied(24_000)),
        **{f"DataLoader, {workers} workers": functools.partial(loader, workers) for workers in WORKERS},
    }
    for function in measured.values():
        function()
    found = in_turns(measured, TURNS)
    ours, *_ = found.values()
    rows = []
    for name, times in found.items():
        ratio = statistics.median(other / own for own, other in zip(ours, times, strict=True))
        middle = statistics.median(times)
        rows.append([name, f"{middle * 1e6:.1f} µs", f"{BATCH / middle:,.0f}", f"{ratio:.2f}"])
    rows.append(["bytes of arrays allocated after an epoch's first batch", str(allocated_bytes(source)), "", ""])
    return rows


def resident_megabytes() -> float:
    """This process's VmRSS."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def read_mapped(folder: Path) -> dict[str, float]:
    """Open the large corpus in this process, read thousands of batches, and see how its memory grows."""
    read_all(iter(full_batches(random_corpus(100_000))))  # so that what every process needs once is there
    start = time.perf_counter()
    corpus = CorpusCache(folder).read(KEY, CODEBOOKS)
    opened = time.perf_counter() - start
    assert corpus is not None
    assert isinstance(corpus.train.codes, np.memmap)
    before = most = resident_megabytes()
    start = time.perf_counter()
    source = full_batches(corpus)
    planned = time.perf_counter() - start
    count = 0
    for epoch in range(1, LARGE_EPOCHS + 1):
        source.set_epoch(epoch)
        for _ in source:
            count += 1
        most = max(most, resident_megabytes())
    return {"opened": opened, "planned": planned, "grown": most - before, "batches": count}


def large_rows() -> list[list[str]]:
    """The billion codes, mapped and in memory."""
    with tempfile.TemporaryDirectory(dir=_made()) as folder:
        corpus = random_corpus(LARGE_CODES)
        mapped = CorpusCache(Path(folder)).keep(KEY, corpus)
        assert isinstance(mapped.train.codes, np.memmap)
        sources = {"in memory": full_batches(corpus), "mapped": full_batches(mapped)}
        for source in sources.values():
            read_all(iter(source))  # compiles for what it reads
        times: dict[str, list[float]] = {name: [] for name in sources}
        for epoch in range(1, LARGE_EPOCHS + 1):
            for name, source in sources.items():
                source.set_epoch(epoch)
                times[name].append(seconds_per_batch(iter(source)))
        program = [sys.executable, "-m", "benchmarks.batches", "--read-mapped", folder]
        alone = json.loads(subprocess.run(program, check=True, capture_output=True, text=True).stdout)
    ratio = sum(times["in memory"]) / sum(times["mapped"])
    return [
        ["opening the file, checksums and all", f"{alone['opened'] * 1e3:.0f} ms"],
        ["planning a round", f"{alone['planned'] * 1e3:.0f} ms"],
        ["a batch, in memory (mean)", f"{statistics.mean(times['in memory']) * 1e6:.1f} µs"],
        ["a batch, mapped (mean)", f"{statistics.mean(times['mapped']) * 1e6:.1f} µs"],
        ["speed of mapped to in memory", f"{ratio:.0%}"],
        [f"growth of VmRSS over {alone['batches']} batches, at most", f"{alone['grown']:.0f} MB"],
    ]


def _made() -> Path:
    MADE.mkdir(parents=True, exist_ok=True)
    return MADE


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--read-mapped", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.read_mapped:
        print(json.dumps(read_mapped(arguments.read_mapped)))
        return
    write_section(
        "Making batches",
        f"Batches of {BATCH} windows of 8 s ({CONTEXT} frames of 24 codes), one thread, {machine()}: the median of "
        f"{TURNS} turns in one process, and the ratio to the first row, turn by turn. The DataLoaders' dataset slices "
        "the same array into the same batches; their first batch, for which workers start, is not counted.",
        [["what", "a batch", "windows per second", "ratio"], *small_rows()],
    )
    write_section(
        "Batches from a billion codes",
        f"1,000,000,000 codes in a file as the cache has it, in the system's page cache; batches as above, over "
        f"{LARGE_EPOCHS} epochs, in turns with the same codes in memory. One thread, {machine()}. Opening, planning "
        "and memory are those of a process that does nothing else.",
        [["what", "figure"], *large_rows()],
    )


if __name__ == "__main__":
    main()
