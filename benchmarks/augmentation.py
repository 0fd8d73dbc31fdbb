"""What training copies are worth: held-out bits per code of priors that are told of copies, and of one without any.

Whole recordings, the defaults of each dataset but for the share of copies and the number of steps, which is the same
for all: so is, about, the time. Run it with `python -m benchmarks.augmentation`; the table goes to RESULTS.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
from dataclasses import dataclass

import torch

from benchmarks.corpora import Dataset, demo_dataset, legacy_datasets, sitar_dataset
from benchmarks.results import machine, write_section
from sda_prior_plugin import CodeBatches, EpochDone, TrainingEvent, train_prior

SHARES = (0.0, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Trial:
    """Fewest held-out bits per code, after what share of the steps, and the bits at the end."""

    bits: float
    best_at: float
    last: float


def trial(dataset: Dataset, share: float, steps: int, seed: int) -> Trial:
    """Train once."""
    settings = dataset.default_settings(augmented_share=share, seed=seed)
    corpus = dataset.corpus_for(settings)
    context = math.ceil(settings.context_seconds / corpus.frame_seconds)
    batches = CodeBatches(
        corpus, context=context, batch_size=settings.batch_size, seed=seed, augmented_share=settings.augmented_share
    )
    bits: list[float] = []

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, EpochDone):
            bits.append(math.log2(event.held_out_perplexity))

    train_prior(corpus, dataclasses.replace(settings, epochs=max(1, round(steps / len(batches)))), on_event=on_event)
    found = Trial(min(bits), (bits.index(min(bits)) + 1) / len(bits), bits[-1])
    print(dataset.name, share, seed, found, flush=True)
    return found


def main() -> None:
    """Measure every dataset and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for dataset in (*legacy_datasets(), *sitar_dataset(), demo_dataset()):
        for share in SHARES:
            trials = [trial(dataset, share, arguments.steps, seed) for seed in range(arguments.seeds)]
            rows.append(
                [
                    dataset.name,
                    f"{share:.0%}",
                    f"{statistics.mean(one.bits for one in trials):.3f}",
                    f"{statistics.mean(one.best_at for one in trials):.0%}",
                    f"{statistics.mean(one.last for one in trials):.3f}",
                ]
            )
    write_section(
        "What training copies are worth",
        f"Held-out bits per code of whole recordings in about {arguments.steps} steps, by the share of what is learned "
        "from that is copies, whose kind the prior is told: of the best epoch, after what share of the steps it was, "
        f"and of the last one. Means of {arguments.seeds} seeds, {arguments.threads} threads, {machine()}.",
        [["dataset", "copies", "best", "after", "last"], *rows],
    )


if __name__ == "__main__":
    main()
