"""How well the default prior predicts recordings that it has never heard, and how soon.

For each dataset, those beside the repository and the demo's, split as they are split now and cut into seconds: bits
per code on its held-out sequences with the settings that a user gets without touching a knob, copies to learn from
included, next to two baselines trained in the same process with the same threads: the existing host's own prior, and
an n-gram model. As that prior was judged, the first code of each sequence is not counted. Run it with
`make bench-quality`; the table goes to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.corpora import OFFSETS, PieceCorpus, demo_dataset, encodec_like_dataset, legacy_datasets, sitar_dataset
from benchmarks.kneser_ney import LONGEST, KneserNey
from benchmarks.reference import ReferenceRun, train_reference
from benchmarks.results import machine, write_section
from sda_prior_plugin import CodeCorpus, EpochDone, Prior, PriorSettings, TrainingEvent, train_prior


@dataclass(frozen=True)
class Trial:
    """One training of the default prior and one of the reference; `reached` is None where its figure was not."""

    bits: float
    parameters: int
    best_seconds: float
    seconds: float
    reached: float | None
    reference: ReferenceRun


def bits_per_code(prior: Prior, sequences: np.ndarray) -> float:
    """Mean bits over all codes but the first of each sequence."""
    return float(np.mean([-prior.log2_probs(codes).ravel()[1:] for codes in sequences]))


def trial(corpus: PieceCorpus, codes: CodeCorpus, settings: PriorSettings) -> Trial:
    """Train the reference, then the default prior, and see when the prior was first as good.

    Args:
        corpus: what the reference learns from, and both are judged by.
        codes: the same pieces as the prior learns from them, with these settings.
    """
    reference = train_reference(corpus.train, corpus.held_out, corpus.codebooks.shape[1], settings.seed)
    print(f"  {reference}", flush=True)
    curve: list[tuple[float, float]] = []

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, EpochDone):
            curve.append((event.seconds, float(np.log2(event.held_out_perplexity))))

    run = train_prior(codes, settings, on_event=on_event)
    print("  " + ", ".join(f"{bits:.3f} at {seconds:.1f} s" for seconds, bits in curve), flush=True)
    return Trial(
        bits=bits_per_code(run.prior, corpus.held_out),
        parameters=run.report.parameters,
        best_seconds=run.report.best_seconds,
        seconds=run.report.seconds,
        reached=next((seconds for seconds, bits in curve if bits <= reference.bits), None),
        reference=reference,
    )


def best_kneser_ney(corpus: PieceCorpus) -> tuple[float, int]:
    """The fewest bits per code of any order, and the order."""
    model = KneserNey(corpus.augmented, corpus.codebooks.shape[1])
    return min((model.bits(corpus.held_out, order), order) for order in range(1, LONGEST + 1))


def spread(values: Sequence[float], digits: int) -> str:
    """The mean, and the least and the most."""
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def rows(corpus: PieceCorpus, trials: list[Trial]) -> tuple[list[str], list[str]]:
    """The lines of the two tables for one corpus: what is predicted, and how soon."""
    bits = statistics.mean(one.bits for one in trials)
    reference = statistics.mean(one.reference.bits for one in trials)
    n_gram, order = best_kneser_ney(corpus)
    reached = [one.reached for one in trials if one.reached is not None]
    sooner = [one.reference.best_seconds / one.reached for one in trials if one.reached is not None]
    quality = [
        corpus.name,
        spread([one.bits for one in trials], 3),
        spread([one.reference.bits for one in trials], 3),
        f"{bits / reference:.3f}",
        f"{n_gram:.3f} (order {order})",
        f"{1 - bits / n_gram:.0%}",
    ]
    speed = [
        corpus.name,
        f"{trials[0].parameters / 1e6:.2f} M",
        f"{trials[0].reference.parameters / 1e6:.2f} M",
        f"{statistics.mean(one.best_seconds for one in trials):.0f} s",
        f"{statistics.mean(one.seconds for one in trials):.0f} s",
        f"{statistics.mean(one.reference.best_seconds for one in trials):.0f} s",
        f"{statistics.mean(reached):.1f} s" if len(reached) == len(trials) else "not reached",
        f"{spread(sooner, 1)} times" if len(reached) == len(trials) else "",
    ]
    return quality, speed


def main() -> None:
    """Measure every corpus and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="trainings per corpus")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    quality, speed = [], []
    for dataset in (*legacy_datasets(), *sitar_dataset(), *encodec_like_dataset(), demo_dataset()):
        corpus = dataset.pieces()
        settings = dataset.default_settings(piece_count=len(corpus.train))
        codes = dataset.corpus_of_pieces(settings.start_offsets, copies=settings.augmented_share > 0)
        trials = []
        for seed in range(arguments.seeds):
            print(f"{corpus.name}, seed {seed}", flush=True)
            trials.append(trial(corpus, codes, replace(settings, seed=seed)))
        found = rows(corpus, trials)
        quality.append(found[0])
        speed.append(found[1])
    write_section(
        "Quality of the default prior",
        "Bits per code on held-out one-second sequences, their first code not counted: mean (least to most) of "
        f"{arguments.seeds} seeds, {arguments.threads} threads, {machine()}. The reference is the existing host's own "
        "prior, trained anew in the same process on the same sound. Kneser-Ney: the best order up to "
        f"{LONGEST}, from the pieces at {OFFSETS} start offsets, without copies.",
        [["corpus", "prior", "reference", "ratio", "Kneser-Ney", "under it"], *quality],
    )
    write_section(
        "Speed of the default training",
        "The same runs: parameters, seconds to the best checkpoint and in all, seconds to the reference's best figure "
        "and how many times sooner that is than the reference has it.",
        [
            [
                "corpus",
                "parameters",
                "reference",
                "to the best",
                "whole run",
                "reference to its best",
                "prior to that figure",
                "sooner",
            ],
            *speed,
        ],
    )


if __name__ == "__main__":
    main()
