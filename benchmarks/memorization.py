"""Whether the warning of memorization is true: trainings that recite and trainings that do not, and who is accused.

Healthy checkpoints are those of trainings as the defaults have it, up to the best one. Reciting ones are of trainings
far past it, on the recordings as they are, without start offsets, copies, dropout or weight decay; one counts as
reciting if it predicts unheard recordings worse than at its best, and a large sample of its own, drawn with other
seeds, copies far more than recordings share with each other. Several epochs of each training are checkpoints.
Recordings whose sound is also trained on are left out of what is held out. Beside the plugin's detector: the rule of
the existing host, held-out perplexity under 2, 3 or 5 for up to 20, up to 100 and more files. Run it with
`make bench-memorization`.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import torch

from benchmarks.copies import write_costs, write_null, write_planted
from benchmarks.corpora import (
    Dataset,
    demo_dataset,
    legacy_datasets,
    loops_dataset,
    notes_dataset,
    textures_dataset,
    without_duplicates,
)
from benchmarks.results import write_section
from sda_prior_plugin import CodeBatches, CodeCorpus, EpochDone, PriorSettings, TrainingEvent
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.looking import chosen_checkpoint
from sda_prior_plugin.memorization import VERY_LIKELY
from sda_prior_plugin.run import Run
from sda_prior_plugin.sampling import Wanted, draw_grids
from sda_prior_plugin.training import end_epoch, train_epoch

HEALTHY, PAST = "up to the best", "past the best"
RECITING_STEPS, HEALTHY_STEPS = 900, 1200
NETWORKS: list[tuple[dict[str, int | str], int]] = [
    ({"architecture": "transformer", "hidden_size": 64, "layers": 1}, 0),
    ({"architecture": "gru", "hidden_size": 96, "layers": 1}, 0),
]
"""Networks, and seeds, that every corpus is tried with."""
PAST_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
HEALTHY_SHARES = (1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0)
"""Of the epochs of a training past its best, and up to the best epoch of a healthy one: the checkpoints."""
PATIENCE = 8
"""Epochs without a better one after which a healthy run is cut short."""
LARGE_SAMPLE = 200
ONSET_CORPUS, ONSET_SAMPLE = "tabla2", 100
"""Where it is measured how soon reciting is told of, and the sounds that are drawn for that after each epoch."""
FAR_TIMES, FAR_ABOVE, FAR_PAST = 3.0, 0.2, 1.1
"""A large sample that copies so many times as much as recordings share, and so much more, is reciting, where the
held-out bits are so many times those of the best epoch."""
FEW_FILES = 10
EIGHT_SECONDS = 47
"""Frames of the default context, with the codecs here."""


@dataclass(frozen=True)
class Judged:
    """One labelled checkpoint and what was said of it."""

    corpus: str
    kind: str
    epoch: int
    copies: float
    natural: float
    nearer: float
    calibrated: bool
    reciting: bool
    accused: bool
    reference_accuses: bool
    bits: float
    looking: float
    seconds: float

    @property
    def healthy(self) -> bool:
        """Whether it is of a training as the defaults have it, up to its best epoch."""
        return self.kind.endswith(HEALTHY)


def reference_rule(perplexity: float, files: int) -> bool:
    """The existing host's warning."""
    return perplexity < (2 if files <= 20 else 3 if files <= 100 else 5)


@dataclass(frozen=True)
class Material:
    """A corpus as a training has it, with start offsets and copies, and as it is; and how many files it is from."""

    name: str
    varied: CodeCorpus
    plain: CodeCorpus
    file_count: int

    @classmethod
    def of_pieces(cls, dataset: Dataset) -> Material:
        """One-second pieces, of which each counts as a recording, as the reference has it."""
        plain = dataset.corpus_of_pieces(1)
        settings = dataset.default_settings(piece_count=len(plain.train))
        varied = dataset.corpus_of_pieces(settings.start_offsets, copies=True)
        return cls(f"{dataset.name}, pieces", varied, plain, dataset.file_count)

    @classmethod
    def of_files(cls, dataset: Dataset, name: str) -> Material:
        return cls(name, dataset.corpus_for(dataset.default_settings()), dataset.corpus(1), dataset.file_count)


def learn_and_judge(run: Run, epochs: list[EpochDone]) -> None:
    """Train one epoch more, also where it diverges, and add what is told of it."""

    def tell(event: TrainingEvent) -> None:
        if isinstance(event, EpochDone):
            epochs.append(event)

    train_epoch(run, tell)
    end_epoch(run, tell)


def judged(material: Material, network: dict[str, int | str], seed: int, past: bool) -> list[Judged]:
    """Train one prior, on one thread, and label and judge some of its checkpoints."""
    torch.set_num_threads(1)
    codes = material.plain if past else material.varied
    settings = PriorSettings.for_corpus(codes, file_count=material.file_count, **network, seed=seed)
    steps = len(CodeBatches(codes, context=EIGHT_SECONDS, batch_size=settings.batch_size, seed=seed))
    if past:
        settings = replace(settings, dropout=0.0, weight_decay=0.01, epochs=max(100, RECITING_STEPS // steps))
    else:
        settings = replace(settings, epochs=max(4, min(settings.epochs, HEALTHY_STEPS // steps)))
    epochs: list[EpochDone] = []
    torch.manual_seed(seed)
    run = Run(codes, settings, torch.device("cpu"))
    run.started = started = time.monotonic()
    kept = []
    for epoch in range(1, settings.epochs + 1):
        learn_and_judge(run, epochs)
        kept.append(copy.deepcopy(run.average.state_dict()))
        if not past and epoch - epochs[-1].best_epoch >= PATIENCE:
            break
    looking, seconds = run.progress.looking_seconds, time.monotonic() - started
    meter, best = run.watch.meter, epochs[-1].best_epoch
    until, shares = (len(epochs), PAST_SHARES) if past else (best, HEALTHY_SHARES)
    verdict = "" if past else chosen_checkpoint(run)[1].verdict
    rows = []
    for epoch in sorted({max(1, round(share * until)) for share in shares}):
        run.average.load_state_dict(kept[epoch - 1])
        grids = draw_grids(run.average, LARGE_SAMPLE, Wanted(None, meter.sample_frames, seed + 1_000_003 + epoch))
        measured = meter.measured(grids)
        rates, nearness = measured.exact, meter.nearness(measured)
        far = [
            rate
            for rate in rates
            if rate.samples >= FAR_TIMES * rate.natural and rate.samples >= rate.natural + FAR_ABOVE
        ]
        shown = max(far, key=lambda rate: rate.samples - rate.natural, default=rates[0])
        event = epochs[epoch - 1]
        rows.append(
            Judged(
                corpus=material.name,
                kind=f"{settings.architecture} {settings.layers} x {settings.hidden_size}, seed {seed}, "
                f"{PAST if past else HEALTHY}",
                epoch=epoch,
                copies=shown.samples,
                natural=shown.natural,
                nearer=math.nan if nearness is None else nearness.nearer,
                calibrated=meter.calibrated,
                reciting=past and bool(far) and event.held_out_perplexity > event.best_perplexity**FAR_PAST,
                accused=event.memorizing or (epoch == best and verdict == VERY_LIKELY),
                reference_accuses=reference_rule(event.held_out_perplexity, material.file_count),
                bits=math.log2(event.held_out_perplexity),
                looking=looking,
                seconds=seconds,
            )
        )
    return rows


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
    recordings and the others, then and in the epoch after.
    """
    meter, epochs = CopyMeter(codes), list[EpochDone]()
    torch.manual_seed(settings.seed)
    run = Run(codes, settings, torch.device("cpu"))
    run.started = time.monotonic()
    twice: list[bool] = []
    for epoch in range(1, settings.epochs + 1):
        learn_and_judge(run, epochs)
        grids = draw_grids(run.average, ONSET_SAMPLE, Wanted(None, meter.sample_frames, 1_000_003 + epoch))
        shortest = meter.measured(grids).exact[0]
        twice.append(shortest.samples >= 2 * shortest.natural)
        if run.watch.memorizing:
            break
    pairs = (epoch for epoch, (now, later) in enumerate(itertools.pairwise(twice), start=1) if now and later)
    return Onset(
        epochs=len(epochs),
        doubled=next(pairs, None),
        accused=next((event.epoch for event in epochs if event.memorizing), None),
        copies=shortest.samples,
        natural=shortest.natural,
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
    files = [without_duplicates(one) for one in legacy_datasets() if one.name == ONSET_CORPUS]
    materials = [(f"{one.name}, pieces", Material.of_pieces(one)) for one in files]
    materials += [(f"{one.name}, whole files", Material.of_files(one, one.name)) for one in files]
    rows = [onset_row(*material, past) for material in materials for past in (False, True)]
    write_section(
        "Memorization: how soon it is said",
        "Each training until it is accused. Doubled: the first of two epochs in a row after which a sample of "
        f"{ONSET_SAMPLE} sounds copies at least twice as many of the shortest stretches as recordings share. "
        "Copies and natural rate are those of the last epoch.",
        [["corpus", "settings", "epochs", "doubled", "accused", "copies", "natural"], *rows],
    )


def write_verdicts(rows: list[Judged], corpora: int) -> None:
    """Who is accused, in two tables."""
    healthy = [row for row in rows if row.healthy]
    reciting = [row for row in rows if row.reciting]
    parts = {
        "reciting": reciting,
        "reciting, natural rate known": [row for row in reciting if row.calibrated],
        "healthy": healthy,
        "healthy, of loops": [row for row in healthy if repeated(row.corpus)],
        "trained past the best, but not reciting yet": [row for row in rows if not row.healthy and not row.reciting],
    }
    write_section(
        "Memorization: who is accused",
        f"{len(rows)} checkpoints of {len({(row.corpus, row.kind) for row in rows})} trainings on {corpora} corpora, "
        f"small networks of two architectures. Reciting: a sample of {LARGE_SAMPLE} sounds copies at least "
        f"{FAR_TIMES:g} times as much as recordings share with each other and {FAR_ABOVE:.0%} more, by windows of some "
        f"length, and the held-out bits are at least {FAR_PAST:g} times those of the best epoch. The reference's rule: "
        "a held-out perplexity under 2, 3 or 5, by the number of files.",
        [
            ["checkpoints", "accused by this detector", "by the reference's rule"],
            *([name, rate(part, "accused"), rate(part, "reference_accuses")] for name, part in parts.items()),
        ],
    )
    write_section(
        "Memorization: every checkpoint",
        "Verbatim copy rates of the large sample and of recordings among each other, at the length where they differ "
        "most or the shortest; nearer: the share of pairs in which a sound lies nearer to the recordings than one "
        "of them to the others.",
        [
            ["corpus", "prior", "epoch", "copies", "natural", "nearer", "bits", "reciting", "accused", "reference"],
            *(
                [
                    row.corpus,
                    row.kind,
                    str(row.epoch),
                    f"{row.copies:.0%}",
                    f"{row.natural:.0%}" if row.calibrated else f"{row.natural:.0%}, too little to know",
                    "" if math.isnan(row.nearer) else f"{row.nearer:.0%}",
                    f"{row.bits:.2f}",
                    *("yes" if flag else "" for flag in (row.reciting, row.accused, row.reference_accuses)),
                ]
                for row in rows
            ),
        ],
    )


def all_materials() -> list[Material]:
    """Ten corpora where the recordings beside the repository are there."""
    legacy = [without_duplicates(one) for one in legacy_datasets()]
    made = [demo_dataset(), loops_dataset()]
    return [
        *map(Material.of_pieces, legacy),
        *(Material.of_files(one, f"{one.name}, whole files") for one in made),
        *(Material.of_files(one, f"{one.name}, few long files") for one in (textures_dataset(), notes_dataset())),
        *(Material.of_files(one.sample(FEW_FILES, 0), f"{one.name}, {FEW_FILES} whole files") for one in legacy + made),
    ]


def main() -> None:
    """Train, label and judge them all, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=len(NETWORKS), help="of those that each corpus is tried with")
    parser.add_argument("--onsets", action="store_true", help="measure only how soon reciting is told of")
    parser.add_argument("--planted", action="store_true", help="measure only planted copies, chance and costs")
    arguments = parser.parse_args()
    if arguments.onsets:
        write_onsets()
        return
    rows: list[Judged] = []
    if not arguments.planted:
        materials = all_materials()
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            jobs = [
                pool.submit(judged, material, *network, past)
                for material, network, past in itertools.product(
                    materials, NETWORKS[: arguments.networks], (True, False)
                )
            ]
            for job in jobs:
                rows += job.result()
                print(*rows[-len(PAST_SHARES) :], sep="\n", flush=True)
        write_verdicts(rows, len(materials))
        write_onsets()
    write_planted()
    write_null()
    write_costs([row.looking / row.seconds for row in rows if row.healthy])


if __name__ == "__main__":
    main()
