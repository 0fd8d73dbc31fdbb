"""What the defaults are worth on datasets of different sizes: the measurement behind `tiers.toml`.

Whole recordings, trained on as `host train-prior` does. The datasets are sub-sampled to fewer files; what is held out
stays the same. For each size the defaults are measured beside other settings, and, on five files, beside an n-gram
model. Run it with `make bench-sizes`.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
import torch

from benchmarks.corpora import Dataset, demo_dataset, legacy_datasets, sitar_dataset
from benchmarks.kneser_ney import LONGEST, KneserNey
from benchmarks.results import machine, write_section
from sda_prior_plugin import CodeCorpus, PriorSettings, train_prior

SIZES = (5, 20, 46, 160)
MADE_FILES = 160


def changed(**values: float) -> Callable[[PriorSettings], PriorSettings]:
    """Settings with these values."""
    return lambda settings: replace(settings, **values)  # type: ignore[arg-type]  # each row names its kinds


def scaled(**factors: float) -> Callable[[PriorSettings], PriorSettings]:
    """Settings with these values multiplied."""

    def scale(settings: PriorSettings) -> PriorSettings:
        values = {name: getattr(settings, name) for name in factors}
        return replace(settings, **{name: type(old)(old * factors[name]) for name, old in values.items()})

    return scale


VARIATIONS: dict[str, Callable[[PriorSettings], PriorSettings]] = {
    "defaults": changed(),
    "half the rate": scaled(learning_rate=0.5),
    "twice the rate": scaled(learning_rate=2),
    "half the decay": scaled(weight_decay=0.5),
    "twice the decay": scaled(weight_decay=2),
    "width 96": changed(hidden_size=96),
    "width 128": changed(hidden_size=128),
    "width 160": changed(hidden_size=160),
    "width 192": changed(hidden_size=192),
    "width 256": changed(hidden_size=256),
    "1 layer": changed(layers=1),
    "3 layers": changed(layers=3),
    "dropout 0.1": changed(dropout=0.1),
    "twice the patience": scaled(patience=2),
}


@dataclass(frozen=True)
class Outcome:
    """Held-out bits per code, and seconds on one thread."""

    bits: float
    seconds: float


@dataclass(frozen=True)
class Trials:
    """A dataset of some size, encoded, and the defaults for it."""

    name: str
    corpus: CodeCorpus
    defaults: PriorSettings

    @classmethod
    def of(cls, dataset: Dataset) -> Trials:
        """A dataset's, which is encoded here."""
        settings = dataset.default_settings()
        return cls(dataset.name, dataset.corpus_for(settings), settings)


def measured(corpus: CodeCorpus, settings: PriorSettings) -> Outcome:
    """Train once, on one thread."""
    torch.set_num_threads(1)
    report = train_prior(corpus, settings).report
    return Outcome(math.log2(report.final_perplexity), report.seconds)


def kneser_ney(corpus: CodeCorpus) -> float:
    """The fewest bits per code of any order; from the recordings at all their start offsets, without copies."""
    recorded = [corpus.train[one] for one in np.flatnonzero(~corpus.train.copies).tolist()]
    model = KneserNey(recorded, corpus.shape.codebook_size)
    held_out = [corpus.held_out[one] for one in range(len(corpus.held_out))]
    return min(model.bits(held_out, order) for order in range(1, LONGEST + 1))


def main() -> None:
    """Measure every size and write its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), help="numbers of files")
    parser.add_argument("--only", nargs="*", default=list(VARIATIONS), help="variations, by name")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each")
    arguments = parser.parse_args()
    names = [name for name in VARIATIONS if name in arguments.only]
    datasets = [*legacy_datasets(), *sitar_dataset(), demo_dataset(MADE_FILES)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for size in arguments.sizes:
            trials = [Trials.of(one.sample(size, seed=0)) for one in datasets if size <= one.file_count]
            measure_size(size, trials, names, arguments.seeds, pool)


def measure_size(size: int, trials: Sequence[Trials], names: Sequence[str], seeds: int, pool: Executor) -> None:
    """Measure the variations on the corpora of one size, and write the table."""
    n_grams = [pool.submit(kneser_ney, one.corpus) for one in trials if size == min(SIZES)]
    jobs = {
        name: [
            [pool.submit(measured, one.corpus, replace(settings, seed=seed)) for seed in range(seeds)]
            for one in trials
            for settings in [VARIATIONS[name](one.defaults)]
        ]
        for name in names
        if name == names[0] or any(VARIATIONS[name](one.defaults) != one.defaults for one in trials)
    }
    bits: dict[str, list[float]] = {}
    seconds: dict[str, str] = {}
    for name, running in jobs.items():
        outcomes = [[job.result() for job in of_one] for of_one in running]
        print(size, name, outcomes, flush=True)
        bits[name] = [statistics.mean(one.bits for one in of_one) for of_one in outcomes]
        seconds[name] = f"{statistics.mean(one.seconds for of_one in outcomes for one in of_one):.0f}"
    best = min(statistics.geometric_mean(row) for row in bits.values())
    if n_grams:
        bits["Kneser-Ney"] = [job.result() for job in n_grams]
    write_section(
        f"Settings for {size} files",
        "Held-out bits per code of whole recordings, with the defaults and with one thing changed; trainings of each: "
        f"{seeds}. The mean of the corpora is geometric, beside it the ratio to the best row, and the seconds of a "
        f"training on one thread beside another one. {described(trials)} {machine()}.",
        [
            ["", *(one.name for one in trials), "mean", "to the best", "seconds"],
            *(
                [name, *(f"{value:.3f}" for value in row), f"{mean:.3f}", f"{mean / best:.3f}", seconds.get(name, "")]
                for name, row in bits.items()
                for mean in [statistics.geometric_mean(row)]
            ),
        ],
    )


def described(trials: Sequence[Trials]) -> str:
    """The defaults in a sentence, those of each dataset that differ."""
    every = trials[0].defaults
    own = (f"{one.name} width {one.defaults.hidden_size}, decay {one.defaults.weight_decay:g}" for one in trials)
    return (
        f"Defaults: {every.layers} layers, dropout {every.dropout:g}, rate {every.learning_rate:g}, patience "
        f"{every.patience:g}; {'; '.join(own)}."
    )


if __name__ == "__main__":
    main()
