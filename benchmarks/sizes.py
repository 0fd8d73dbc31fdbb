"""What the defaults are worth on datasets of different sizes: the measurement behind `tiers.toml`.

The datasets are sub-sampled to fewer files; what is held out stays the same. For each size the defaults are measured
beside other settings, and, on five files, beside the baselines. Run it with `make bench-sizes`.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch

from benchmarks.corpora import PieceCorpus, demo_dataset, legacy_datasets
from benchmarks.quality import best_kneser_ney, bits_per_code
from benchmarks.reference import train_reference
from benchmarks.results import machine, write_section
from sda_prior_plugin import PriorSettings, train_prior

SIZES = (5, 10, 20, 46)
SETTINGS: dict[str, dict[str, float]] = {
    "defaults": {},
    "width 64": {"hidden_size": 64},
    "width 96": {"hidden_size": 96},
    "width 128": {"hidden_size": 128},
    "width 192": {"hidden_size": 192},
    "1 layer": {"layers": 1},
    "3 layers": {"layers": 3},
    "dropout 0.1": {"dropout": 0.1},
    "dropout 0.2": {"dropout": 0.2},
    "dropout 0.3": {"dropout": 0.3},
    "decay 1": {"weight_decay": 1.0},
    "decay 4": {"weight_decay": 4.0},
    "rate 1e-3": {"learning_rate": 1e-3},
    "rate 3e-3": {"learning_rate": 3e-3},
}


@dataclass(frozen=True)
class Job:
    """One training: a corpus, what is given beside the defaults, and how much longer than them it may take."""

    corpus: PieceCorpus
    given: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """Bits per code, and seconds on one thread."""

    bits: float
    seconds: float


def measured(job: Job) -> Outcome:
    """Train once, on one thread."""
    torch.set_num_threads(1)
    codes = job.corpus.codes
    settings = PriorSettings.for_corpus(codes, file_count=job.corpus.file_count, **job.given)
    run = train_prior(codes, settings)
    return Outcome(bits_per_code(run.prior, job.corpus.held_out), run.report.seconds)


def baselines(corpus: PieceCorpus) -> tuple[float, float]:
    """Bits per code of the reference and of the n-gram model."""
    torch.set_num_threads(1)
    size = corpus.codebooks.shape[1]
    return train_reference(corpus.train, corpus.held_out, size, 0).bits, best_kneser_ney(corpus)[0]


def main() -> None:
    """Measure every size of every dataset and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2, help="sub-samples of each size")
    parser.add_argument("--only", nargs="*", default=list(SETTINGS), help="settings, by name")
    arguments = parser.parse_args()
    names = [name for name in SETTINGS if name in arguments.only]
    datasets = [*legacy_datasets(), demo_dataset()]
    corpora = {
        (dataset.name, size, draw): dataset.sample(size, draw).pieces()
        for dataset in datasets
        for size in SIZES
        for draw in range(arguments.draws)
        if size <= dataset.file_count
    }
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        jobs = {
            (key, name): pool.submit(measured, Job(corpora[key], SETTINGS[name])) for key in corpora for name in names
        }
        few = {key: pool.submit(baselines, corpus) for key, corpus in corpora.items() if key[1] == min(SIZES)}
        found = {}
        for (key, name), job in jobs.items():
            found[key, name] = job.result()
            print(*key, name, found[key, name], flush=True)
        beside = {key: job.result() for key, job in few.items()}
    write_section(
        "Defaults by the number of files",
        f"Bits per code as above, mean over {arguments.draws} sub-samples of each of {len(datasets)} datasets with "
        "so many files (geometric, so that each dataset counts alike), with the defaults for that size changed in one "
        f"thing. One thread, {machine()}.",
        [["files", *names], *(curve_row(size, names, found) for size in SIZES)],
    )
    write_section(
        "Five files",
        "Four files to train on: default prior and baselines, bits per code as above, mean over the sub-samples; the "
        f"longest training in seconds, one thread, {machine()}.",
        [
            ["dataset", "prior", "reference", "Kneser-Ney", "longest training"],
            *(few_row(dataset.name, found, beside) for dataset in datasets),
        ],
    )


Found = Mapping[tuple[tuple[str, int, int], str], Outcome]


def curve_row(size: int, names: Sequence[str], found: Found) -> list[str]:
    """The geometric mean for each setting, the best one marked."""
    means = {
        name: float(
            np.exp(
                np.mean([np.log(one.bits) for (key, other), one in found.items() if key[1] == size and other == name])
            )
        )
        for name in names
    }
    best = min(means.values())
    return [str(size), *(f"**{mean:.3f}**" if mean == best else f"{mean:.3f}" for mean in means.values())]


def few_row(dataset: str, found: Found, beside: Mapping[tuple[str, int, int], tuple[float, float]]) -> list[str]:
    """Prior and baselines on the fewest files of one dataset."""
    keys = [key for key in beside if key[0] == dataset]
    runs = [found[key, "defaults"] for key in keys]
    return [
        dataset,
        f"{statistics.mean(one.bits for one in runs):.3f}",
        f"{statistics.mean(beside[key][0] for key in keys):.3f}",
        f"{statistics.mean(beside[key][1] for key in keys):.3f}",
        f"{max(one.seconds for one in runs):.0f} s",
    ]


if __name__ == "__main__":
    main()
