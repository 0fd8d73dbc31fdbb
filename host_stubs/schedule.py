"""How fast the VQ-VAE learns from one batch to the next, and when that is over."""

from __future__ import annotations

import math

_WARM_BATCHES = 20  # over which the learning rate rises
_FINISHING = 0.4  # share of all epochs in which it falls
_LEAST_RATE = 0.01


class Schedule:
    """Up over the first batches, the same for as long as there is something to learn, and then down to nothing.

    The way down is as 1 - sqrt, after Hägele et al. 2024 (https://arxiv.org/abs/2405.18392, section 4).

    Args:
        epochs: of the training, at most.
        patience: epochs without a better one after which it finishes before that; None: never.

    Attributes:
        epochs: that there will be; fewer once there was nothing to gain.
        finishes_after: how many epochs come before the rate falls.
        ended_early: whether there are fewer than there could have been.
    """

    def __init__(self, epochs: int, patience: int | None) -> None:
        self.epochs = epochs
        self.finishes_after = epochs - max(1, round(_FINISHING * epochs))
        self.ended_early = False
        self._patience = patience

    def epoch_is_done(self, epoch: int, best: int) -> None:
        """Take in that an epoch, counted from 1, is over, and which one was the best so far; 0 for none."""
        if self._patience is None or epoch >= self.finishes_after or epoch - best < self._patience:
            return
        self.finishes_after = epoch
        self.epochs = min(self.epochs, epoch + max(1, round(epoch * _FINISHING / (1 - _FINISHING))))
        self.ended_early = True

    def rate(self, batch: int, batches: int) -> float:
        """The share of the learning rate for a batch, counted from 1 over all of training, of epochs of `batches`."""
        falling = (batch / batches - self.finishes_after) / (self.epochs - self.finishes_after)
        return min(1.0, batch / _WARM_BATCHES) * max(_LEAST_RATE, 1 - math.sqrt(max(0.0, falling)))
