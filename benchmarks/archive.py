"""What an archive takes: a prior's training on a thousand hours of codes, mapped from the cache's files.

The codes are made: real ones of one-second pieces in random order, in every recording numbered otherwise and a tenth of
them replaced at random. Recordings last ten seconds to an hour; a twentieth of them is held out. Run it
with `make bench-archive`; it needs a gigabyte on disk.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from benchmarks.batches import resident_megabytes
from benchmarks.corpora import MADE, PieceCorpus, demo_dataset, legacy_datasets
from benchmarks.results import RESULTS, machine, write_section
from sda_prior_plugin import CodeCorpus, PriorSettings, train_prior
from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.copying import Heard, copied_windows
from sda_prior_plugin.dataset import HOST_FRAME_SECONDS, CodeSequences
from sda_prior_plugin.edge.corpus_cache import CorpusCache
from sda_prior_plugin.errors import NothingTrained
from sda_prior_plugin.events import BatchDone, EpochDone, TrainingEvent, TrainingStarted
from sda_prior_plugin.near_copies import Sketch, sequences_keys
from sda_prior_plugin.settings import KnobValue, read_tiers
from sda_prior_plugin.team import Team
from sda_prior_plugin.window_hashes import frame_hashes

HOURS = 1000.0
SHORTEST_SECONDS, LONGEST_SECONDS = 10.0, 3600.0
HELD_OUT = 0.05
REPLACED = 0.1
KEY = "archive"
SMALL: dict[str, KnobValue] = {"hidden_size": 64, "layers": 1, "heads": 4}
"""The network of the training that is measured as a whole: what it waits for is to be the corpus."""
LOOKED_AT, LENGTHS = 96, (2, 3, 6, 12, 23)
"""Sounds of a look, and frames of the windows that are looked for."""
TIMED_STEPS, UNTIMED_STEPS = 12, 4


def recording_lengths(hours: float, rng: np.random.Generator) -> np.ndarray:
    """Frames of recordings, evenly spread over the logarithms of their lengths, that last so long together."""
    mean = (LONGEST_SECONDS - SHORTEST_SECONDS) / np.log(LONGEST_SECONDS / SHORTEST_SECONDS)
    count = max(10, round(3600 * hours / mean))
    drawn = SHORTEST_SECONDS * (LONGEST_SECONDS / SHORTEST_SECONDS) ** rng.random(count)
    drawn *= 3600 * hours / drawn.sum()
    return np.maximum(1, np.round(drawn / HOST_FRAME_SECONDS)).astype(np.int64)


def made_sequences(
    pieces: np.ndarray, lengths: np.ndarray, variants: int, shape: CodeShape, label: str, rng: np.random.Generator
) -> CodeSequences:
    """Recordings of these lengths, made of `pieces` `[any, frames, bands, levels]`, each with code numbers of its own.

    A variant is the same with other codes replaced.
    """
    frames = np.repeat(lengths, variants)
    starts = np.cumsum([0, *frames])
    codes = np.empty((starts[-1], shape.bands, shape.levels), shape.dtype)
    for number, length in enumerate(lengths):
        order = rng.integers(0, len(pieces), -(-length // pieces.shape[1]))
        sound = pieces[order].reshape(-1, shape.bands, shape.levels)[:length]
        renamed = rng.permuted(np.tile(np.arange(shape.codebook_size, dtype=shape.dtype), (shape.levels, 1)), axis=1)
        sound = renamed[np.arange(shape.levels), sound]
        for variant in range(number * variants, (number + 1) * variants):
            changed = rng.random(sound.shape, np.float32) < REPLACED
            part = codes[starts[variant] : starts[variant + 1]]
            part[:] = sound
            part[changed] = rng.integers(0, shape.codebook_size, np.count_nonzero(changed), shape.dtype)
    return CodeSequences(
        codes=codes,
        starts=starts,
        recordings=np.repeat(np.arange(len(lengths)), variants),
        names=tuple(f"{label}/{number:05d}.wav" for number in range(len(lengths))),
    )


def made_corpus(pieces: np.ndarray, codebooks: np.ndarray, hours: float, variants: int = 1) -> CodeCorpus:
    """So many hours of codes, as `host train-prior` would have encoded them."""
    shape = CodeShape(pieces.shape[2], *codebooks.shape[:2])
    rng = np.random.default_rng(0)
    lengths = recording_lengths(hours, rng)
    held_out = np.arange(len(lengths)) % round(1 / HELD_OUT) == 0
    train = made_sequences(pieces, lengths[~held_out], variants, shape, "train", rng)
    return CodeCorpus(shape, codebooks, train, made_sequences(pieces, lengths[held_out], 1, shape, "held out", rng))


def source() -> PieceCorpus:
    """Where the codes come from: a corpus beside the repository or, without one, the demo's."""
    return [*legacy_datasets(), demo_dataset()][0].pieces()


class Watched:
    """The most memory that a stretch of a program has beyond what it had before, in MB, looked at all the time."""

    def __enter__(self) -> Watched:
        self.before, self.grown, self._over = resident_megabytes(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.01):
            self.grown = max(self.grown, resident_megabytes() - self.before)


def one_epoch(corpus: CodeCorpus, **given: KnobValue) -> dict[str, float]:
    """A training that is stopped after its first epoch: when what was done, in seconds from its beginning."""
    settings = PriorSettings.for_corpus(corpus, file_count=len(corpus.train.names), **given)
    times: dict[str, float] = {}
    stop, begun = threading.Event(), time.perf_counter()

    def on_event(event: TrainingEvent) -> None:
        now = time.perf_counter() - begun
        if isinstance(event, TrainingStarted):
            times.update(started=now, judged=event.held_out_codes)
        elif isinstance(event, BatchDone):
            times.update(learned=now, batches=event.batch)
        elif isinstance(event, EpochDone):
            times["validated"] = now
            event.state()
            times["state"] = time.perf_counter() - begun
            stop.set()

    train_prior(corpus, settings, on_event=on_event, stop=stop)
    return {**times, "ended": time.perf_counter() - begun, "epochs": settings.epochs, "batch_size": settings.batch_size}


def mapped_hour(pieces: PieceCorpus, folder: Path) -> CodeCorpus:
    """An hour that is mapped as an archive is: what is compiled for it serves both."""
    corpus = made_corpus(pieces.train, pieces.codebooks, 1.0)
    arrays = {"codes": corpus.train.codes}
    arrays |= {"hashes": frame_hashes(arrays["codes"]), "keys": sequences_keys(arrays["codes"])}
    for name, array in arrays.items():
        np.save(folder / name, array)
        arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
    train = dataclasses.replace(corpus.train, **arrays)  # type: ignore[arg-type]  # these three fields are arrays
    return dataclasses.replace(corpus, train=train)


def opened(folder: Path, codebooks: np.ndarray) -> CodeCorpus:
    corpus = CorpusCache(folder).read(KEY, codebooks)
    assert corpus is not None
    return corpus


def measured(folder: Path) -> dict[str, float]:
    """Open the archive in this process, train on it for an epoch, and take a look."""
    pieces = source()
    with tempfile.TemporaryDirectory() as place:  # so that what every training takes is there
        one_epoch(mapped_hour(pieces, Path(place)), **SMALL, batch_size=32)
    with Watched() as watched:
        begun = time.perf_counter()
        corpus = opened(folder, pieces.codebooks)
        seconds = time.perf_counter() - begun
        assert isinstance(corpus.train.codes, np.memmap)
        times = one_epoch(corpus, **SMALL)
    heard, sketch = Heard.of(corpus.train), Sketch.of(corpus.train, LENGTHS[2])
    grids = [np.array(corpus.held_out[index % len(corpus.held_out)][: LENGTHS[2]]) for index in range(LOOKED_AT)]
    sketch.neighbours(grids)  # makes the index
    begun = time.perf_counter()
    copied_windows(heard, grids, LENGTHS)
    sketch.neighbours(grids)
    return {**times, "opened": seconds, "grown": watched.grown, "look": time.perf_counter() - begun}


def steps_per_second(
    corpus: CodeCorpus, tier: str, batch_size: int, team: Team | None = None, steps: int = TIMED_STEPS
) -> tuple[float, float]:
    """Of a tier's network: steps a second, the first few not counted, and parameters; no numbers but for a leader."""
    (found,) = (one for one in read_tiers() if one.name == tier)
    settings = PriorSettings.for_size(
        file_count=1, train_seconds=[3600.0], given={**found.knobs, "batch_size": batch_size}, tiers=(found,)
    )
    times: list[float] = []
    parameters, stop = [0.0], threading.Event()

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, TrainingStarted):
            parameters[0] = event.parameters
        elif isinstance(event, BatchDone):
            times.append(time.perf_counter())
            if len(times) >= steps:
                stop.set()

    with suppress(NothingTrained):
        train_prior(corpus, settings, on_event=on_event, stop=stop, team=team)
    return 1 / float(np.median(np.diff(times[UNTIMED_STEPS - 1 :]))) if times else np.nan, parameters[0]


def network_rows() -> list[list[str]]:
    """Each tier's network at its own batch and at that of an archive."""
    pieces = source()
    corpus = made_corpus(pieces.train, pieces.codebooks, 5.0)
    rows = []
    for tier, batch in (("small", 2), ("medium", 2), ("large", 2), ("large", 32), ("archive", 32)):
        speed, parameters = steps_per_second(corpus, tier, batch)
        rows.append([tier, f"{parameters / 1e6:.2f} M", str(batch), f"{speed:.2f}", f"{speed * batch * 8:.0f}"])
    return rows


def archive_rows(hours: float) -> list[list[str]]:
    """What the archive takes."""
    pieces = source()
    MADE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=MADE) as place:
        folder = Path(place)
        begun = time.perf_counter()
        corpus = CorpusCache(folder).keep(KEY, made_corpus(pieces.train, pieces.codebooks, hours))
        made = time.perf_counter() - begun
        size = sum(path.stat().st_size for path in folder.rglob("*"))
        files, codes, held_out = len(corpus.train.names), corpus.train_codes, corpus.held_out.codes.size
        settings = PriorSettings.for_corpus(corpus, file_count=files)
        del corpus
        program = [sys.executable, "-m", "benchmarks.archive", "--measure", place]
        found = json.loads(subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True).stdout)
    chosen = dataclasses.asdict(settings)
    return [
        ["recordings to train on, and their codes", f"{files}, {codes:,}"],
        ["codes held out, and judged by", f"{held_out:,}, {found['judged']:,.0f}"],
        ["in the cache, with what copies are recognized by", f"{size / 1e6:.0f} MB"],
        ["making it up and keeping it", f"{made:.0f} s"],
        ["opening it, checks and all", f"{found['opened']:.2f} s"],
        ["until the first batch: looking for what is held out in what is trained on", f"{found['started']:.0f} s"],
        [f"a part of an epoch, {found['batches']:.0f} steps of {found['batch_size']:.0f} windows",
         f"{found['learned'] - found['started']:.0f} s"],
        ["a validation", f"{found['validated'] - found['learned']:.1f} s"],
        ["the first state, with the digest of all codes", f"{found['state'] - found['validated']:.1f} s"],
        [f"looking at {LOOKED_AT} sounds of a second for copies", f"{found['look']:.1f} s"],
        ["the report at the end", f"{found['ended'] - found['state']:.0f} s"],
        ["growth of VmRSS at most, over the same training on one hour", f"{found['grown']:.0f} MB"],
        ["its defaults", ", ".join(f"{name} {chosen[name]}" for name in
                                   ("epochs", "hidden_size", "layers", "batch_size", "start_offsets"))],
    ]  # fmt: skip


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=HOURS)
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md as it is")
    parser.add_argument("--measure", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measured(arguments.measure)))
        return
    to = None if arguments.print_only else RESULTS
    threads = torch.get_num_threads()
    write_section(
        f"An archive of {arguments.hours:g} hours",
        f"Made-up codes, mapped from the cache's files, which are in the system's page cache; a network of one layer "
        f"of {SMALL['hidden_size']}, so that what is waited for is the corpus. {threads} threads, {machine()}.",
        [["what", "figure"], *archive_rows(arguments.hours)],
        to,
    )
    write_section(
        "Steps of the default networks",
        f"One process of {threads} threads, windows of 8 s, {machine()}.",
        [
            ["tier", "parameters", "windows in a batch", "steps per second", "seconds of sound per second"],
            *network_rows(),
        ],
        to,
    )


if __name__ == "__main__":
    main()
