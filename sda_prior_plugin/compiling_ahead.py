"""Compiling what a training calls before it does, beside what else is done.

Machine code is made for types, not sizes: what is called here with next to nothing is there for everything.
"""

from __future__ import annotations

import numpy as np
import torch

from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.network import NetworkSettings, PriorNetwork, normalized
from sda_prior_plugin.sampling import Wanted, draw_grids

FRAMES = 40
SMALL = CodeShape(bands=1, levels=1, codebook_size=2)
CODEBOOKS = np.array([[[0.0], [1.0]]], dtype=np.float32)


def compile_for_training(architecture: str, shape: CodeShape) -> None:
    """Have what looks for copies of codes of that shape, and what draws by a network of that kind, compiled."""
    compile_looking(shape)  # what is needed first
    compile_drawing(architecture)


def compile_looking(shape: CodeShape) -> None:
    """Have what measures copying compiled, unless it is."""
    rng = np.random.default_rng(0)
    size = (4, FRAMES, shape.bands, shape.levels)
    learned = list(rng.integers(0, shape.codebook_size, size).astype(shape.dtype))
    corpus = CodeCorpus.from_sequences(
        learned[:3], learned[2:], codebooks=np.ones((shape.levels, shape.codebook_size, 1))
    )
    meter, drawn = CopyMeter(corpus), [grid.astype(np.int64) for grid in learned]
    meter.measured(drawn)
    meter.longest_passage(drawn)


def compile_drawing(architecture: str) -> None:
    """Have what draws, and reads what it goes on from, compiled, unless it is."""
    sizes = NetworkSettings(architecture, hidden_size=8, layers=1, heads=1, context_frames=2)
    with torch.device("meta"):  # so that no random number is taken, which others need
        network = PriorNetwork(SMALL, CODEBOOKS, sizes)
    nothing = {name: torch.zeros(weights.shape) for name, weights in network.state_dict().items()}
    network.load_state_dict(nothing, assign=True)
    network.codebooks = normalized(CODEBOOKS)
    draw_grids(network, 1, Wanted(1, 1, 0, start=np.zeros((1, 1, 1), SMALL.dtype)))
