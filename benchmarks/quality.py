"""How well the default prior predicts recordings that it has never heard.

For each corpus of codes in a folder: bits per code on its held-out sequences with the settings that a user gets
without touching a knob. As for the reference system, the first code of each sequence is not counted. Run it with
`make bench-quality`; the table goes to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.results import machine, write_section
from sda_prior_plugin import CodeCorpus, EpochDone, Prior, PriorSettings, TrainingEvent, train_prior

CODES = Path(__file__).parents[2] / "shared" / "codes"


@dataclass(frozen=True)
class Trial:
    """One training on one corpus; `seconds_to_reference` is None where the reference's figure was not reached."""

    bits: float
    parameters: int
    best_epoch: int
    best_seconds: float
    seconds: float
    seconds_to_reference: float | None


def bits_per_code(prior: Prior, sequences: np.ndarray) -> float:
    """Mean bits over all codes but the first of each sequence."""
    return float(np.mean([-prior.log2_probs(codes).ravel()[1:] for codes in sequences]))


def trial(path: Path, seed: int) -> Trial:
    """Train the default prior on the corpus of a file."""
    data = np.load(path)
    corpus = CodeCorpus.from_sequences(list(data["augmented"]), list(data["held_out"]), codebooks=data["codebooks"])
    settings = PriorSettings.for_corpus(corpus, file_count=int(data["file_count"]), seed=seed)
    reference = float(data["reference_bits_per_code"])
    reached: list[float] = []

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, EpochDone):
            print(f"  epoch {event.epoch}/{event.epochs}: perplexity {event.held_out_perplexity:.3f}", flush=True)
            if np.log2(event.held_out_perplexity) <= reference:
                reached.append(event.seconds)

    run = train_prior(corpus, settings, on_event=on_event)
    return Trial(
        bits=bits_per_code(run.prior, data["held_out"]),
        parameters=run.report.parameters,
        best_epoch=run.report.best_epoch,
        best_seconds=run.report.best_seconds,
        seconds=run.report.seconds,
        seconds_to_reference=min(reached, default=None),
    )


def row(path: Path, trials: list[Trial]) -> list[str]:
    """The line of the table for one corpus: means over the trials, and the spread of the main figure."""
    reference = float(np.load(path)["reference_bits_per_code"])
    bits = [one.bits for one in trials]
    reached = [one.seconds_to_reference for one in trials if one.seconds_to_reference is not None]
    return [
        path.stem,
        f"{statistics.mean(bits):.3f} ({min(bits):.3f} to {max(bits):.3f})",
        f"{reference:.3f}",
        f"{statistics.mean(bits) / reference:.3f}",
        f"{trials[0].parameters / 1e6:.2f} M",
        f"{statistics.mean(one.best_seconds for one in trials):.0f} s",
        f"{statistics.mean(one.seconds for one in trials):.0f} s",
        f"{statistics.mean(reached):.0f} s" if len(reached) == len(trials) else "not reached",
    ]


def main() -> None:
    """Measure every corpus and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codes", type=Path, default=CODES, help="folder of .npz corpora")
    parser.add_argument("--seeds", type=int, default=3, help="trainings per corpus")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    paths = sorted(arguments.codes.glob("*.npz"))
    if not paths:
        parser.exit(1, f"There are no .npz corpora in {arguments.codes}.\n")
    rows = []
    for path in paths:
        trials = []
        for seed in range(arguments.seeds):
            print(f"{path.stem}, seed {seed}", flush=True)
            trials.append(trial(path, seed))
            print(f"  {trials[-1]}", flush=True)
        rows.append(row(path, trials))
    heading = [
        "corpus",
        "bits per code",
        "reference",
        "ratio",
        "parameters",
        "to the best",
        "whole run",
        "to reference",
    ]
    write_section(
        "Quality of the default prior",
        f"Bits per code on held-out sequences, mean (least to most) of {arguments.seeds} seeds, "
        f'{arguments.threads} threads, {machine()}. "To reference" is the time to the reference\'s best figure.',
        [heading, *rows],
    )


if __name__ == "__main__":
    main()
