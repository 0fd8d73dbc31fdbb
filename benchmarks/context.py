"""What the past is worth: held-out recordings read at full length, and cut into one-second pieces.

The default prior is trained on whole recordings. Where a piece starts in the middle of a recording, the prior knows
nothing of what came before. Cut twice: the codes, and the sound before it is encoded, each second with its peak at 1,
as the corpora of codes have it. Part of `make bench-quality`.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch

from benchmarks.corpora import PIECE_SECONDS, Dataset, demo_dataset, legacy_datasets
from benchmarks.results import machine, write_section
from sda_prior_plugin import Prior, train_prior


def mean_bits(prior: Prior, grids: list[np.ndarray]) -> float:
    """Bits per code over all codes of some grids."""
    return float(-np.concatenate([prior.log2_probs(grid).ravel() for grid in grids]).mean())


def row(dataset: Dataset, seed: int) -> list[str]:
    """Train on whole recordings; the line of the table."""
    settings = dataset.default_settings(seed=seed)
    corpus = dataset.corpus_for(settings)
    prior = train_prior(corpus, settings).prior
    grids = [corpus.held_out[index] for index in range(len(corpus.held_out))]
    frames = math.ceil(PIECE_SECONDS / corpus.frame_seconds)
    cut = [grid[first : first + frames] for grid in grids for first in range(0, len(grid), frames)]
    whole, pieces = mean_bits(prior, grids), mean_bits(prior, cut)
    encoded = mean_bits(prior, list(dataset.held_out_pieces()))
    return [
        dataset.name,
        str(len(grids)),
        f"{np.mean([len(grid) for grid in grids]) * corpus.frame_seconds:.1f} s",
        f"{whole:.3f}",
        f"{pieces:.3f}",
        f"{1 - whole / pieces:.1%}",
        f"{encoded:.3f}",
        f"{1 - whole / encoded:.1%}",
    ]


def main() -> None:
    """Measure every dataset and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [row(dataset, seed=0) for dataset in [*legacy_datasets(), demo_dataset()]]
    write_section(
        "What the past is worth",
        "Bits per code of the default prior, trained on whole recordings, over all codes of the held-out ones: read at "
        "full length; the same codes in pieces of a second, each read on its own; and the sound in such pieces, each "
        f"with its peak at 1, encoded and read on its own. One seed, {machine()}.",
        [
            [
                "dataset",
                "held out",
                "mean length",
                "whole",
                "codes in pieces",
                "lower by",
                "sound in pieces",
                "lower by",
            ],
            *rows,
        ],
    )


if __name__ == "__main__":
    main()
