"""What the defaults are worth on datasets of different sizes: the measurement behind `tiers.toml`.

The datasets are sub-sampled to fewer files; what is held out stays the same. For each size the defaults are measured
beside other settings, and, on five files, beside the baselines. Run it with `make bench-sizes`.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import torch

from benchmarks.corpora import PieceCorpus, demo_dataset, legacy_datasets
from benchmarks.quality import best_kneser_ney, bits_per_code
from benchmarks.reference import train_reference
from benchmarks.results import machine, write_section
from sda_prior_plugin import PriorSettings, train_prior

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
    "half the epochs": scaled(epochs=0.5),
    "twice the epochs": scaled(epochs=2),
    "width 96": changed(hidden_size=96),
    "width 128": changed(hidden_size=128),
    "width 160": changed(hidden_size=160),
    "width 192": changed(hidden_size=192),
    "1 layer": changed(layers=1),
    "3 layers": changed(layers=3),
    "dropout 0.1": changed(dropout=0.1),
    "half the decay": scaled(weight_decay=0.5),
    "twice the decay": scaled(weight_decay=2),
}


@dataclass(frozen=True)
class Outcome:
    """Bits per code, and seconds on one thread."""

    bits: float
    seconds: float


def measured(corpus: PieceCorpus, settings: PriorSettings) -> Outcome:
    """Train once, on one thread."""
    torch.set_num_threads(1)
    run = train_prior(corpus.codes, settings)
    return Outcome(bits_per_code(run.prior, corpus.held_out), run.report.seconds)


def baselines(corpus: PieceCorpus) -> dict[str, float]:
    """Bits per code of the reference and of the n-gram model."""
    torch.set_num_threads(1)
    reference = train_reference(corpus.train, corpus.held_out, corpus.codebooks.shape[1], 0)
    return {"the reference": reference.bits, "Kneser-Ney": best_kneser_ney(corpus)[0]}


def main() -> None:
    """Measure every size and write its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), help="numbers of files")
    parser.add_argument("--only", nargs="*", default=list(VARIATIONS), help="variations, by name")
    arguments = parser.parse_args()
    names = [name for name in VARIATIONS if name in arguments.only]
    datasets = [*legacy_datasets(), demo_dataset(MADE_FILES)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for size in arguments.sizes:
            corpora = [dataset.sample(size, seed=0).pieces() for dataset in datasets if size <= dataset.file_count]
            measure_size(size, corpora, names, pool)


def measure_size(size: int, corpora: Sequence[PieceCorpus], names: Sequence[str], pool: Executor) -> None:
    """Measure the variations on the corpora of one size, and write the table."""
    defaults = [PriorSettings.for_corpus(corpus.codes, file_count=size) for corpus in corpora]
    few = [pool.submit(baselines, corpus) for corpus in corpora if size == min(SIZES)]
    jobs = {
        name: [
            pool.submit(measured, corpus, VARIATIONS[name](settings))
            for corpus, settings in zip(corpora, defaults, strict=True)
        ]
        for name in names
    }
    bits: dict[str, list[float]] = {}
    seconds: list[float] = []
    for name, running in jobs.items():
        outcomes = [job.result() for job in running]
        print(size, name, outcomes, flush=True)
        bits[name] = [one.bits for one in outcomes]
        seconds = seconds or [one.seconds for one in outcomes]
    beside = [job.result() for job in few]
    for name in beside[0] if beside else ():
        bits[name] = [one[name] for one in beside]
    best = min(statistics.geometric_mean(row) for row in bits.values())
    write_section(
        f"Settings for {size} files",
        "Bits per code as above, with the defaults and with one thing changed; the mean is geometric, beside it the "
        f"ratio to the best row. {described(defaults[0])} Training took at most {max(seconds):.0f} s on one thread "
        f"with the defaults, {machine()}.",
        [
            ["", *(corpus.name for corpus in corpora), "mean", "to the best"],
            *(
                [name, *(f"{value:.3f}" for value in row), f"{mean:.3f}", f"{mean / best:.3f}"]
                for name, row in bits.items()
                for mean in [statistics.geometric_mean(row)]
            ),
        ],
    )


def described(settings: PriorSettings) -> str:
    """The defaults in a sentence."""
    return (
        f"Defaults: {settings.layers} layers of width {settings.hidden_size}, dropout {settings.dropout:g}, weight "
        f"decay {settings.weight_decay:g}."
    )


if __name__ == "__main__":
    main()
