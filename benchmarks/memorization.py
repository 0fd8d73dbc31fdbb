"""Whether the warning of memorization is true: trainings that recite and trainings that do not, and who is accused.

Healthy priors are trained as the defaults have it, to the best checkpoint. Reciting ones are trained far past it, on
the recordings as they are, without start offsets, dropout or weight decay; one counts as reciting if it predicts
unheard recordings worse than at its best, and a large sample of its own, drawn with other seeds, copies far more than
they do. Beside the plugin's detector: the rule of the existing host, held-out perplexity under 2, 3 or 5 for up to 20,
up to 100 and more files. Run it with `make bench-memorization`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
import torch

from benchmarks.corpora import (
    OFFSETS,
    Dataset,
    PieceCorpus,
    demo_dataset,
    legacy_datasets,
    loops_dataset,
    piece_corpora,
)
from benchmarks.results import machine, write_section
from sda_prior_plugin import CodeBatches, CodeCorpus, EpochDone, PriorSettings, TrainingEvent, train_prior
from sda_prior_plugin.copying import Heard, copied_windows
from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.memorization import VERY_LIKELY, CopyMeter
from sda_prior_plugin.sampling import Wanted, draw_grids
from sda_prior_plugin.training import Trainer

HEALTHY = "at the best"
RECITING_STEPS = 900
SMALLER: list[dict[str, int | str]] = [
    {"architecture": "transformer", "hidden_size": 64, "layers": 1},
    {"architecture": "gru", "hidden_size": 96, "layers": 1},
]
"""Networks that every corpus is tried with; the first DEFAULT_SIZES corpora also have those of the defaults."""
DEFAULT_SIZES = 1
PATIENCE = 12
"""Epochs without a better one after which a healthy run is cut short."""
LARGE_SAMPLE = 300
ONSET_CORPUS, ONSET_SAMPLE = "tabla2", 100
"""Where it is measured how soon reciting is told of, and the sounds that are drawn for that after each epoch."""
FAR_TIMES, FAR_ABOVE, FAR_PAST = 3.0, 0.2, 1.1
"""A large sample that copies so many times as much as unheard recordings, and so much more, is reciting, where the
held-out bits are so many times those of the best epoch."""
FEW_FILES = 10
EIGHT_SECONDS = 47
"""Frames of the default context, with the codecs here."""


@dataclass(frozen=True)
class Judged:
    """One labelled checkpoint and what was said of it."""

    corpus: str
    kind: str
    copies: float
    natural: float
    reciting: bool
    accused: bool
    reference_accuses: bool
    bits: float
    looking: float
    seconds: float


def reference_rule(perplexity: float, files: int) -> bool:
    """The existing host's warning."""
    return perplexity < (2 if files <= 20 else 3 if files <= 100 else 5)


@dataclass(frozen=True)
class Material:
    """A corpus twice: from many start offsets, and as it is; and how many files it is from."""

    name: str
    varied: CodeCorpus
    plain: CodeCorpus
    file_count: int

    @classmethod
    def of_pieces(cls, corpus: PieceCorpus) -> Material:
        plain = CodeCorpus.from_sequences(list(corpus.train), list(corpus.held_out), codebooks=corpus.codebooks)
        return cls(corpus.name, corpus.codes, plain, corpus.file_count)

    @classmethod
    def of_files(cls, dataset: Dataset, name: str) -> Material:
        return cls(name, dataset.corpus(OFFSETS), dataset.corpus(1), dataset.file_count)


def judged(material: Material, network: dict[str, int | str], seed: int, reciting: bool) -> Judged:
    """Train one prior, on one thread, and label and judge its last (reciting) or best (healthy) checkpoint."""
    torch.set_num_threads(1)
    codes = material.plain if reciting else material.varied
    settings = PriorSettings.for_corpus(codes, file_count=material.file_count, **network, seed=seed)
    if reciting:
        steps = len(CodeBatches(codes, context=EIGHT_SECONDS, batch_size=settings.batch_size, seed=seed))
        epochs_needed = max(60, RECITING_STEPS // steps)
        settings = replace(settings, dropout=0.0, weight_decay=0.01, epochs=epochs_needed)
    epochs: list[EpochDone] = []
    stop = threading.Event()

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, EpochDone):
            epochs.append(event)
            if not reciting and event.epoch - event.best_epoch >= PATIENCE:
                stop.set()  # what comes after the best checkpoint is not judged

    if reciting:
        torch.manual_seed(seed)
        trainer = Trainer(codes, settings, torch.device("cpu"), on_event, threading.Event())
        trainer.started = started = time.monotonic()
        for epoch in range(1, settings.epochs + 1):
            trainer.judge_epoch(epoch, trainer.train_epoch(epoch) or math.inf)
        prior, perplexity = trainer.average, epochs[-1].held_out_perplexity
        memorizing = trainer.watch.memorizing
        looking, seconds = trainer.progress.looking_seconds, time.monotonic() - started
    else:
        run = train_prior(codes, settings, on_event=on_event, stop=stop)
        prior, perplexity = run.prior.network, run.report.final_perplexity
        report = run.report.memorization
        assert report is not None
        looking, seconds = report.seconds, run.report.seconds
        memorizing = report.verdict == VERY_LIKELY or any(epoch.memorizing for epoch in epochs[: run.report.best_epoch])
    meter = CopyMeter(codes)
    grids = draw_grids(prior, LARGE_SAMPLE, Wanted(None, meter.sample_frames, seed + 1_000_003))
    rates = meter.rates(grids)
    far = [
        rate
        for rate in rates
        if rate.samples >= FAR_TIMES * rate.held_out and rate.samples >= rate.held_out + FAR_ABOVE
    ]
    shown = max(far, key=lambda rate: rate.samples - rate.held_out, default=rates[0])
    return Judged(
        corpus=material.name,
        kind=f"{settings.architecture} {settings.layers} x {settings.hidden_size}, seed {seed}, "
        f"{'past the best' if reciting else HEALTHY}",
        copies=shown.samples,
        natural=shown.held_out,
        reciting=bool(far) and epochs[-1].held_out_perplexity > epochs[-1].best_perplexity ** FAR_PAST,
        accused=memorizing,
        reference_accuses=reference_rule(perplexity, material.file_count),
        bits=float(np.log2(perplexity)),
        looking=looking,
        seconds=seconds,
    )


def repeated(name: str) -> bool:
    """Whether a corpus is the one of loops, whose unheard files share most of their windows with the others."""
    return name.startswith("loops")


def rate(rows: list[Judged], accused: str) -> str:
    """How many of some checkpoints were accused, in words."""
    count = sum(getattr(row, accused) for row in rows)
    return f"{count} of {len(rows)} ({count / max(len(rows), 1):.0%})"


@dataclass(frozen=True)
class Onset:
    """When a training went over to reciting and when that was said; None for never."""

    epochs: int
    doubled: int | None
    accused: int | None
    copies: float
    natural: float


def onset(codes: CodeCorpus, settings: PriorSettings) -> Onset:
    """Train until the detector accuses; every epoch, see in a large sample of its own how much the prior copies.

    `doubled` is the first epoch after which the shortest stretches that count are copied at least twice as often as in
    unheard recordings, then and in the epoch after.
    """
    meter, epochs = CopyMeter(codes), list[EpochDone]()
    torch.manual_seed(settings.seed)
    trainer = Trainer(
        codes, settings, torch.device("cpu"), lambda event: epochs.append(event) if isinstance(event, EpochDone) else 0,
        threading.Event(),
    )  # fmt: skip
    trainer.started = time.monotonic()
    twice: list[bool] = []
    for epoch in range(1, settings.epochs + 1):
        trainer.judge_epoch(epoch, trainer.train_epoch(epoch) or math.inf)
        grids = draw_grids(trainer.average, ONSET_SAMPLE, Wanted(None, meter.sample_frames, 1_000_003 + epoch))
        shortest = meter.rates(grids)[0]
        twice.append(shortest.samples >= 2 * shortest.held_out)
        if trainer.watch.memorizing:
            break
    pairs = (epoch for epoch, (now, later) in enumerate(itertools.pairwise(twice), start=1) if now and later)
    return Onset(
        epochs=len(epochs),
        doubled=next(pairs, None),
        accused=next((event.epoch for event in epochs if event.memorizing), None),
        copies=shortest.samples,
        natural=shortest.held_out,
    )


def onset_row(name: str, material: Material, past_the_best: bool) -> list[str]:
    """One line of the table: the defaults, or 400 epochs without start offsets and dropout."""
    codes = material.plain if past_the_best else material.varied
    settings = PriorSettings.for_corpus(codes, file_count=material.file_count)
    if past_the_best:
        settings = replace(settings, epochs=400, dropout=0.0)
    found = onset(codes, settings)
    return [
        name,
        "400 epochs, one start offset, no dropout" if past_the_best else "defaults",
        str(found.epochs),
        "never" if found.doubled is None else f"epoch {found.doubled}",
        "never" if found.accused is None else f"epoch {found.accused}",
        f"{found.copies:.0%}",
        f"{found.natural:.0%}",
    ]


def write_onsets() -> None:
    """When trainings go over to reciting, and how soon that is said."""
    torch.set_num_threads(os.cpu_count() or 1)
    pieces = [one for one in piece_corpora() if one.name == ONSET_CORPUS]
    files = [one for one in legacy_datasets() if one.name == ONSET_CORPUS]
    materials = [(f"{one.name}, pieces", Material.of_pieces(one)) for one in pieces]
    materials += [(f"{one.name}, whole files", Material.of_files(one, one.name)) for one in files]
    rows = [onset_row(*material, past) for material in materials for past in (False, True)]
    write_section(
        "Memorization: how soon it is said",
        "Each training until it is accused. Doubled: the first of two epochs in a row after which a sample of "
        f"{ONSET_SAMPLE} sounds copies at least twice as many of the shortest stretches as unheard recordings do. "
        "Copies and natural rate are those of the last epoch.",
        [["corpus", "settings", "epochs", "doubled", "accused", "copies", "natural"], *rows],
    )


def matching_seconds(hours: float, minutes: float, frame_seconds: float = 8192 / 48000) -> tuple[float, float]:
    """Seconds to match so many minutes of codes against so many hours, and the bytes kept for each training frame."""
    rng = np.random.default_rng(0)
    learned, new = (int(seconds / frame_seconds) for seconds in (3600 * hours, 60 * minutes))
    sequences = CodeSequences(
        rng.integers(0, 128, (learned, 8, 3)).astype(np.int16), np.array([0, learned]), np.zeros(1, np.int64), ("all",)
    )
    grid = rng.integers(0, 128, (new, 8, 3))
    grid[:100] = sequences.codes[5000:5100]
    copied_windows(Heard.of(sequences), [grid[:10]], 2)  # compiles
    started = time.perf_counter()
    heard = Heard.of(sequences)
    for frames in (2, 3, 6, 12, 23):
        copied, _ = copied_windows(heard, [grid], frames)
        assert copied[0] == 101 - frames
    return time.perf_counter() - started, heard.hashes.nbytes / learned


def guard_cost(material: Material, repeats: int = 5) -> float:
    """Sampling time with the copy guard over the time without, median of pairs run in turn on one thread."""
    torch.set_num_threads(1)
    settings = PriorSettings.for_corpus(material.plain, file_count=material.file_count, epochs=1)
    prior = train_prior(material.plain, settings).prior
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


def write_verdicts(rows: list[Judged], corpora: int, seeds: int) -> None:
    """Who is accused, in two tables."""
    healthy = [row for row in rows if row.kind.endswith(HEALTHY)]
    reciting = [row for row in rows if row.reciting and row not in healthy]
    unclear = [row for row in rows if row not in healthy and not row.reciting]
    parts = {
        "reciting": reciting,
        "healthy": healthy,
        "healthy, of loops": [row for row in healthy if repeated(row.corpus)],
        "trained as long, but neither": unclear,
    }
    write_section(
        "Memorization: who is accused",
        f"{len(rows)} checkpoints of {corpora} corpora: the default networks of {DEFAULT_SIZES} of them, and "
        f"for all of them smaller ones of two architectures with {seeds} seeds. Reciting: a sample of "
        f"{LARGE_SAMPLE} sounds copies at least {FAR_TIMES:g} times as much as unheard recordings and {FAR_ABOVE:.0%} "
        f"more, by windows of some length, and the held-out bits are at least {FAR_PAST:g} times those of the best "
        "epoch. The reference's rule is a held-out perplexity under 2, 3 or 5, by the number "
        "of files.",
        [
            ["checkpoints", "accused by this detector", "by the reference's rule"],
            *([name, rate(part, "accused"), rate(part, "reference_accuses")] for name, part in parts.items()),
        ],
    )
    write_section(
        "Memorization: every checkpoint",
        "Copy rates of the large sample and of unheard recordings, at the window length where they differ most or the "
        "shortest.",
        [
            ["corpus", "prior", "copies", "natural", "bits", "reciting", "accused", "by the reference"],
            *(
                [
                    row.corpus,
                    row.kind,
                    f"{row.copies:.0%}",
                    f"{row.natural:.0%}",
                    f"{row.bits:.2f}",
                    *("yes" if flag else "" for flag in (row.reciting, row.accused, row.reference_accuses)),
                ]
                for row in rows
            ),
        ],
    )


def write_costs(rows: list[Judged], material: Material) -> None:
    """What looking, matching and guarding cost."""
    seconds, size = matching_seconds(100, 10)
    write_section(
        "Memorization: what it costs",
        f"One thread, {machine()}.",
        [
            ["what", "figure"],
            ["10 minutes of codes against 100 hours, five window lengths", f"{seconds:.2f} s"],
            ["kept for each training frame", f"{size:.0f} bytes"],
            [
                "looking, share of training time with the defaults, median",
                f"{statistics.median(row.looking / row.seconds for row in rows if row.kind.endswith(HEALTHY)):.1%}",
            ],
            [
                "sampling with the copy guard, over sampling without it",
                f"{guard_cost(material):.3f} times",
            ],
        ],
    )


def main() -> None:
    """Train, label and judge them all, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--onsets", action="store_true", help="measure only how soon reciting is told of")
    arguments = parser.parse_args()
    if arguments.onsets:
        write_onsets()
        return
    datasets = [*legacy_datasets(), demo_dataset(), loops_dataset()]
    materials = [
        *map(Material.of_pieces, piece_corpora()),
        *(Material.of_files(one, f"{one.name}, whole files") for one in (demo_dataset(), loops_dataset())),
        *(Material.of_files(one.sample(FEW_FILES, 0), f"{one.name}, {FEW_FILES} whole files") for one in datasets),
    ]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(judged, *case)
            for case in [
                *itertools.product(materials[:DEFAULT_SIZES], [{}], [0], (True, False)),
                *itertools.product(materials, SMALLER, range(arguments.seeds), (True, False)),
            ]
        ]
        rows = []
        for job in jobs:
            rows.append(job.result())
            print(rows[-1], flush=True)
    write_verdicts(rows, len(materials), arguments.seeds)
    write_costs(rows, materials[0])
    write_onsets()


if __name__ == "__main__":
    main()
