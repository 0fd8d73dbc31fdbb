"""How much room a training needs on the disk of its model, before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sda_prior_plugin.edge.resumable import StateFile
from sda_prior_plugin.encoding import code_shape
from sda_prior_plugin.kinds import copies_of_each
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.prior import network_settings
from sda_prior_plugin.settings import PriorSettings

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Model

STATE_COPIES = 5
"""Of the network's numbers in a state: weights, their average, the optimiser's squares, at most two checkpoints."""
HASH_BYTES = 8
"""For each frame that is trained on, and one more for each band; copies are recognized by them."""


def needed_bytes(model: Model, settings: PriorSettings, train_seconds: float, states: StateFile) -> int:
    """About how many bytes must be free: for the model with its prior, and twice for the state of the training.

    Each new file is written beside the one whose place it takes; what there is of the state already needs no more room.
    """
    frame_seconds = model.codec.frame_samples / model.codec.sample_rate
    with torch.device("meta"):
        sizes = network_settings(settings, frame_seconds)
        network = PriorNetwork(code_shape(model.codec), model.codec.codebooks, sizes)
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    copies = copies_of_each(train_seconds) if settings.augmented_share else 0
    frames = (settings.start_offsets + copies) * round(train_seconds / frame_seconds)
    heard = frames * (HASH_BYTES + model.codec.bands)
    before = 0 if model.path is None else model.path.stat().st_size
    states_there = states.path.stat().st_size if states.path.is_file() else 0
    return before + weights + heard + max(0, 2 * STATE_COPIES * weights - states_there)
