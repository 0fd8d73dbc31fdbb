"""What the measure of copying finds where it is known what there is: planted copies, chance, and what looking costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from benchmarks.corpora import Dataset, demo_dataset, legacy_datasets, notes_dataset, sitar_dataset, without_duplicates
from benchmarks.results import machine, write_section
from sda_prior_plugin import CodeCorpus, PriorSettings, train_prior
from sda_prior_plugin.copy_meter import SIGNIFICANCE, CopyMeter
from sda_prior_plugin.copy_test import by_recording, chances_of_more
from sda_prior_plugin.copying import Heard, copied_windows
from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.encoding import encode_variants

SOUNDS, FRAMES = 60, 6
PLANTED_SHARES = (0.0, 0.05, 0.1, 0.15, 0.25, 0.5)
TRIALS = 40
TRAINED_OFFSETS = 8


class Planting:
    """Recordings of which a third are trained on, a third held out, and a third stands in for a prior's sounds."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        codec = self.codec = dataset.codec
        every = [
            one.audio for part in ("train", "held_out") for one in dataset.manifest.recordings(part, codec.sample_rate)
        ]
        second = FRAMES * codec.frame_samples
        pieces = [audio[first : first + 2 * second] for audio in every for first in range(0, len(audio), 2 * second)]
        pieces = [piece for piece in pieces if len(piece) >= second]
        order = np.random.default_rng(seed).permutation(len(pieces))
        third = len(pieces) // 3
        self.learned = [pieces[one] for one in order[:third]]
        held_out, self.natural = (
            [pieces[one] for one in part] for part in (order[third : 2 * third], order[2 * third :])
        )
        variants = [encode_variants(codec, audio, TRAINED_OFFSETS) for audio in self.learned]
        self.corpus = CodeCorpus.from_sequences(
            [grid for grids in variants for grid in grids],
            [codec.encode(audio[None])[0] for audio in held_out],
            codebooks=codec.codebooks,
            train_names=[str(number) for number, grids in enumerate(variants) for _ in grids],
        )
        self.exact = [grids[0] for grids in variants]
        self.meter = CopyMeter(self.corpus)
        self.sounds = [codec.encode(audio[None])[0] for audio in self.natural]

    def again(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A recording encoded from a start offset that was not trained on."""
        lead = int(rng.integers(1, self.codec.frame_samples))
        return self.codec.encode(np.pad(audio, (lead, 0))[None])[0]

    def finest_changed(self, grid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One code in ten of the finest level replaced at random."""
        wrong, new = rng.random(grid.shape[:2]) < 0.1, rng.integers(0, self.codec.codebook_size, grid.shape[:2])
        changed = grid.copy()
        changed[..., -1] = np.where(wrong, new, grid[..., -1])
        return changed

    def noticed(self, share: float, how: str, trial: int) -> bool:
        """Whether it is noticed that so many of sixty sounds of a second are from the recordings."""
        rng = np.random.default_rng([trial, round(100 * share)])
        grids = []
        for number in range(SOUNDS):
            if number < round(share * SOUNDS):
                which = int(rng.integers(len(self.learned)))
                grid = {
                    "exact": lambda which=which: self.exact[which],
                    "another offset": lambda which=which: self.again(self.learned[which], rng),
                    "finest codes changed": lambda which=which: self.finest_changed(self.exact[which], rng),
                }[how]()
            else:
                grid = self.sounds[int(rng.integers(len(self.sounds)))]
            first = int(rng.integers(0, max(len(grid) - FRAMES, 0) + 1))
            grids.append(grid[first : first + FRAMES])
        return self.meter.measured(grids).telling is not None


def write_planted() -> None:
    """The protocol of MiRA (Batlle-Roca et al. 2024)."""
    torch.set_num_threads(1)
    datasets = [
        *(without_duplicates(one) for one in legacy_datasets()),
        *sitar_dataset(),
        demo_dataset(),
        notes_dataset(),
    ]
    table = [["recordings", "what is spliced in", *(f"{share:.0%}" for share in PLANTED_SHARES)]]
    for dataset in datasets:
        plantings = [Planting(dataset, seed) for seed in range(4)]
        if not all(one.meter.calibrated for one in plantings):
            continue
        for how in ("exact", "another offset", "finest codes changed"):
            table.append([dataset.name, how])
            for share in PLANTED_SHARES:
                found = [plantings[trial % 4].noticed(share, how, trial) for trial in range(TRIALS)]
                table[-1].append(f"{np.mean(found):.0%}")
            print(table[-1], flush=True)
    write_section(
        "Memorization: planted copies",
        f"How often it is noticed by one look that so much of {SOUNDS} sounds of a second, otherwise pieces of "
        f"recordings that are neither trained on nor held out, are stretches of those trained on, of {TRIALS} times; "
        "0% are false alarms.",
        table,
    )


def write_null(trials: int = 600) -> None:
    """False alarms of the test where there is nothing to find."""
    kinds: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
        "rates of recordings from Beta(0.3, 1.2)": lambda rng, count: rng.beta(0.3, 1.2, count),
        "from Beta(2, 8)": lambda rng, count: rng.beta(2, 8, count),
        "all or nothing, three in ten": lambda rng, count: (rng.random(count) < 0.3).astype(float),
    }
    table = [["copy rates", "30 recordings", "6 recordings", "3 recordings"]]
    for name, draw in kinds.items():
        table.append([name])
        for recordings in (30, 6):
            rng, alarms = np.random.default_rng(1), 0
            whose = np.repeat(np.arange(recordings), 30 // recordings)
            for _ in range(trials):
                counted, sounds = rng.integers(3, 6, 30), rng.integers(3, 6, SOUNDS)
                copied, drawn = (
                    rng.binomial(counted, draw(rng, recordings)[whose]),
                    rng.binomial(sounds, draw(rng, SOUNDS)),
                )
                natural = by_recording(copied, whose, recordings), by_recording(counted, whose, recordings)
                alarms += chances_of_more([(drawn, sounds)], [natural])[0] <= SIGNIFICANCE
            table[-1].append(f"{alarms / trials:.1%}")
        table[-1].append("cannot be known")
    write_section(
        "Memorization: false alarms",
        f"Of the test at {SIGNIFICANCE:.0%}, {trials} times each: {SOUNDS} sounds that copy exactly as much as 30 "
        "held-out pieces do, which are from so many recordings.",
        table,
    )


def matching_seconds(hours: float, minutes: float, frame_seconds: float = 8192 / 48000) -> tuple[float, float]:
    """Seconds to match so many minutes of codes against so many hours, and the bytes kept for each training frame."""
    rng = np.random.default_rng(0)
    learned, new = (int(seconds / frame_seconds) for seconds in (3600 * hours, 60 * minutes))
    sequences = CodeSequences(
        rng.integers(0, 128, (learned, 8, 3)).astype(np.int16), np.array([0, learned]), np.zeros(1, np.int64), ("all",)
    )
    grid = rng.integers(0, 128, (new, 8, 3)).astype(np.int16)
    grid[:100] = sequences.codes[5000:5100]
    copied_windows(Heard.of(sequences), [grid[:10]], [2])  # compiles
    started = time.perf_counter()
    heard, lengths = Heard.of(sequences), [2, 3, 6, 12, 23]
    copied, _ = copied_windows(heard, [grid], lengths)
    seconds = time.perf_counter() - started
    assert copied[:, 0].tolist() == [101 - frames for frames in lengths]
    return seconds, heard.hashes.nbytes / learned


def meter_seconds(hours: float, offsets: int) -> tuple[float, float]:
    """Seconds until a meter for so many hours at so many start offsets is there, and of a look at 96 sounds.

    The codes are a sitar's over and over, each time with some codes of their own.
    """
    rng = np.random.default_rng(0)
    (dataset,) = sitar_dataset()
    small = dataset.corpus(offsets)
    times = max(1, round(hours * 3600 * offsets / (len(small.train.codes) * small.frame_seconds)))
    codes = np.tile(small.train.codes, (times, 1, 1, 1))
    wrong = rng.random(codes.shape) < 0.2
    codes[wrong] = rng.integers(0, small.shape.codebook_size, int(wrong.sum()))
    starts = np.concatenate([[0], (np.diff(small.train.starts)[None].repeat(times, 0).ravel()).cumsum()])
    count = small.train.recording_count
    recordings = (small.train.recordings[None] + count * np.arange(times)[:, None]).ravel()
    train = CodeSequences(codes, starts, recordings, tuple(map(str, range(count * times))))
    corpus = replace(small, train=train)
    grids = [codes[first : first + FRAMES] for first in rng.integers(0, len(codes) - FRAMES, 96)]
    CopyMeter(small).measured(grids)  # compiles
    started = time.perf_counter()
    meter = CopyMeter(corpus)
    begun = time.perf_counter()
    meter.measured(grids)
    return begun - started, time.perf_counter() - begun


def guard_cost(repeats: int = 5) -> float:
    """Sampling time with the copy guard over the time without, median of pairs run in turn on one thread."""
    torch.set_num_threads(1)
    corpus = demo_dataset().corpus(1)
    prior = train_prior(corpus, PriorSettings.for_corpus(corpus, file_count=32, epochs=1)).prior
    prior.samples(8, 12, max_copy=0.5)
    ratios = []
    for seed in range(repeats):
        times = []
        for max_copy in (None, 0.5):
            started = time.thread_time()
            prior.samples(8, 60, seed=seed, max_copy=max_copy)
            times.append(time.thread_time() - started)
        ratios.append(times[1] / times[0])
    return statistics.median(ratios)


def write_costs(looking: list[float]) -> None:
    """What looking, matching and guarding cost; `looking` are its shares of the time of trainings."""
    seconds, size = matching_seconds(100, 10)
    start, look = meter_seconds(6, 8)
    rows = [
        ["what", "figure"],
        ["10 minutes of codes against 100 hours, five window lengths", f"{seconds:.2f} s"],
        ["kept for each training frame", f"{size:.0f} bytes, and 8 for near copies"],
        ["the meter's start with six hours at 8 start offsets", f"{start:.2f} s"],
        ["a look of 96 sounds of a second at that", f"{look:.2f} s"],
        ["sampling with the copy guard, over sampling without it", f"{guard_cost():.3f} times"],
    ]
    if looking:
        rows.append(["looking, share of a small network's training time, median", f"{statistics.median(looking):.1%}"])
    write_section("Memorization: what it costs", f"One thread, {machine()}.", rows)
