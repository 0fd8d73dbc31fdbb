"""What the measure of copying finds where it is known what there is: planted copies, chance, and what looking costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

import host_stubs
from benchmarks.corpora import (
    MADE,
    Dataset,
    demo_dataset,
    distinct,
    legacy_datasets,
    notes_dataset,
    sitar_dataset,
    textures_dataset,
)
from benchmarks.results import machine, write_section
from sda_prior_plugin import CodeCorpus, PriorSettings, train_prior
from sda_prior_plugin.copy_meter import SIGNIFICANCE, CopyMeter
from sda_prior_plugin.copy_test import by_recording, chances_of_more, joined
from sda_prior_plugin.copying import Heard, copied_windows
from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.encoding import encode_variants

SOUNDS, FRAMES = 60, 6
PLANTED_SHARES = (0.0, 0.05, 0.1, 0.15, 0.25, 0.5)
PLANTINGS = 40
TRAINED_OFFSETS, MOST_LEARNED = 8, 200
EXACT, EXACT_HALF = "seconds, exact", "half seconds, exact"
OTHER_OFFSET, FINEST_CHANGED = "seconds, from another start offset", "seconds, a tenth of the finest codes replaced"


class Seconds:
    """Recordings cut into seconds, and their codes: as they are, and from several start offsets."""

    def __init__(self, sounds: Sequence[np.ndarray], codec: host_stubs.Codec) -> None:
        second = FRAMES * codec.frame_samples
        cut = [audio[first : first + second] for audio in sounds for first in range(0, len(audio), second)]
        self.codec, self.audio = codec, [piece for piece in cut if len(piece) == second]
        self.variants = [encode_variants(codec, audio, TRAINED_OFFSETS) for audio in self.audio]


class Planting:
    """Seconds of recordings, of which some are trained on, some held out, and some stand in for a prior's sounds.

    These are `SOUNDS`, all different; of the others, a fifth is held out, as `host train` does.
    """

    def __init__(self, seconds: Seconds, seed: int) -> None:
        self.codec, self.seconds = seconds.codec, seconds
        order = np.random.default_rng(seed).permutation(len(seconds.audio)).tolist()
        natural, others = order[:SOUNDS], order[SOUNDS:]
        held_out, self.learned = others[: len(others) // 5][:SOUNDS], others[len(others) // 5 :][:MOST_LEARNED]
        self.natural = [seconds.variants[one][0] for one in natural]
        self.held_out = len(held_out)
        corpus = CodeCorpus.from_sequences(
            [grid for one in self.learned for grid in seconds.variants[one]],
            [seconds.variants[one][0] for one in held_out],
            codebooks=seconds.codec.codebooks,
            train_names=[str(one) for one in self.learned for _ in seconds.variants[one]],
        )
        self.meter = CopyMeter(corpus)

    def passage(self, how: str, rng: np.random.Generator) -> np.ndarray:
        """A second, or half of one, of what was learned."""
        which = int(rng.choice(self.learned))
        grid = self.seconds.variants[which][0]
        if how == OTHER_OFFSET:
            lead = int(rng.integers(1, self.codec.frame_samples))
            return self.codec.encode(np.pad(self.seconds.audio[which], (lead, 0)))[:FRAMES]
        if how == FINEST_CHANGED:
            wrong, new = rng.random(grid.shape[:2]) < 0.1, rng.integers(0, self.codec.codebook_size, grid.shape[:2])
            changed = grid.copy()
            changed[..., -1] = np.where(wrong, new, grid[..., -1])
            return changed
        return grid[: FRAMES // 2] if how == EXACT_HALF else grid

    def noticed(self, share: float, how: str, trial: int) -> bool:
        """Whether it is noticed that so much of sixty sounds of a second is from the recordings."""
        rng = np.random.default_rng([trial, round(100 * share)])
        grids = [self.natural[one].copy() for one in rng.permutation(len(self.natural))]
        for grid in grids[: round(share * SOUNDS * (2 if how == EXACT_HALF else 1))]:
            new = self.passage(how, rng)
            first = int(rng.integers(0, FRAMES - len(new) + 1))
            grid[first : first + len(new)] = new
        return self.meter.measured(grids).telling is not None


def planted_sounds() -> list[tuple[str, list[np.ndarray], host_stubs.Codec]]:
    """Recordings enough to hold out a minute of them: real ones where they are there, and synthesized ones."""
    made = demo_dataset()
    folder = MADE / "planted"
    if not folder.exists():
        host_stubs.write_demo_recordings(folder, count=120)
    more = Dataset("the demo's kind", host_stubs.build_manifest(folder).manifest, made.codec, 120)
    found = [(one.name, every_sound(one), one.codec) for one in (more, textures_dataset(), notes_dataset())]
    if real := sitar_dataset():
        codec = real[0].codec
        sounds = [sound for one in (*legacy_datasets(), *real) for sound in every_sound(replace(one, codec=codec))]
        found.insert(0, ("drums, tabla, sitar", distinct(sounds, codec.sample_rate), codec))
    return found


def every_sound(dataset: Dataset) -> list[np.ndarray]:
    """All recordings of a dataset."""
    rate = dataset.codec.sample_rate
    return [one.audio for part in ("train", "held_out") for one in dataset.manifest.recordings(part, rate)]


def planted_rows(name: str, seconds: Seconds) -> list[list[str]]:
    """What is noticed in some recordings, a row for each kind of copies."""
    plantings, rows = [Planting(seconds, seed) for seed in range(PLANTINGS)], []
    for how in (EXACT, EXACT_HALF, OTHER_OFFSET, FINEST_CHANGED):
        rows.append([name, f"{len(plantings[0].learned)} s", f"{plantings[0].held_out} s", how])
        for share in PLANTED_SHARES:
            found = [planting.noticed(share, how, trial) for trial, planting in enumerate(plantings)]
            rows[-1].append(f"{np.mean(found):.0%}")
        print(rows[-1], flush=True)
    return rows


def write_planted() -> None:
    """The protocol of MiRA (Batlle-Roca et al. 2024)."""
    torch.set_num_threads(1)
    rows = [row for name, sounds, codec in planted_sounds() for row in planted_rows(name, Seconds(sounds, codec))]
    write_section(
        "Memorization: planted copies",
        f"How often one look notices that so much of {SOUNDS} sounds of a second, otherwise recordings that are "
        f"neither trained on nor held out, is from those trained on, of {PLANTINGS} times with as many choices of what "
        "is trained on and held out; 0% are false alarms.",
        [
            [
                "recordings", "trained on", "held out", "what is spliced in",
                *(f"{share:.0%}" for share in PLANTED_SHARES),
            ],
            *rows,
        ],
    )  # fmt: skip


def write_null(trials: int = 2000) -> None:
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
                both = joined([(drawn, sounds)], [natural], np.ones(1))
                alarms += chances_of_more(*([one] for one in both))[0] <= SIGNIFICANCE
            table[-1].append(f"{alarms / trials:.1%}")
        table[-1].append("cannot be known")
    write_section(
        "Memorization: false alarms",
        f"Of the test at {SIGNIFICANCE:.0%}, {trials} times each: {SOUNDS} sounds that copy exactly as much as 30 "
        "held-out pieces do, which are from so many recordings.",
        table,
    )


def matching_seconds(hours: float, minutes: float, frame_seconds: float = 8192 / 48000) -> tuple[float, float]:
    """Seconds to match minutes of codes against hours, on one thread, and the bytes kept for each training frame."""
    rng = np.random.default_rng(0)
    learned, new = (int(seconds / frame_seconds) for seconds in (3600 * hours, 60 * minutes))
    sequences = CodeSequences(
        rng.integers(0, 128, (learned, 8, 3)).astype(np.int16), np.array([0, learned]), np.zeros(1, np.int64), ("all",)
    )
    grid = rng.integers(0, 128, (new, 8, 3)).astype(np.int16)
    grid[:100] = sequences.codes[5000:5100]
    copied_windows(Heard.of(sequences), [grid[:10]], [2])  # compiles
    started = time.process_time()
    heard, lengths = Heard.of(sequences), [2, 3, 6, 12, 23]
    copied, _ = copied_windows(heard, [grid], lengths)
    seconds = time.process_time() - started
    assert copied[:, 0].tolist() == [101 - frames for frames in lengths]
    return seconds, heard.hashes.nbytes / learned


def meter_seconds(hours: float, offsets: int) -> tuple[float, float]:
    """Seconds until a meter for hours at some start offsets is there, and of a look at 96 sounds, on one thread.

    The codes are a sitar's over and over, each time with some codes of their own.
    """
    rng = np.random.default_rng(0)
    (dataset,) = sitar_dataset()
    small = dataset.corpus(offsets)
    times = max(1, round(hours * 3600 * offsets / (len(small.train.codes) * small.frame_seconds)))
    codes = np.tile(small.train.codes, (times, 1, 1))
    wrong = rng.random(codes.shape) < 0.2
    codes[wrong] = rng.integers(0, small.shape.codebook_size, int(wrong.sum()))
    starts = np.concatenate([[0], (np.diff(small.train.starts)[None].repeat(times, 0).ravel()).cumsum()])
    count = small.train.recording_count
    recordings = (small.train.recordings[None] + count * np.arange(times)[:, None]).ravel()
    train = CodeSequences(codes, starts, recordings, tuple(map(str, range(count * times))))
    corpus = replace(small, train=train)
    grids = [codes[first : first + FRAMES] for first in rng.integers(0, len(codes) - FRAMES, 96)]
    CopyMeter(small).measured(grids)  # compiles
    started = time.process_time()
    meter = CopyMeter(corpus)
    begun = time.process_time()
    meter.measured(grids)
    return begun - started, time.process_time() - begun


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
    write_section("Memorization: what it costs", f"Processor seconds of one thread, {machine()}.", rows)
