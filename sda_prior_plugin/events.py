"""What a training run tells while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sda_prior_plugin.training_state import TrainingState
from sda_prior_plugin.unheard import Unheard
from sda_prior_plugin.watch import Finding

CHOOSING = "looking for copies in what the best checkpoint draws"
"""What `ChoosingStarted` tells a person."""


@dataclass(frozen=True)
class TrainingStarted:
    """Everything is ready for the first batch; `unheard` is what of the held-out recordings it is judged by."""

    parameters: int
    epochs: int
    batches: int
    train_codes: int
    held_out_codes: int
    unheard: Unheard = field(repr=False, compare=False)
    device: str
    precision: str
    threads: int


@dataclass(frozen=True)
class TrainingResumed:
    """It goes on from a state, in which these epochs were over and judged; told after TrainingStarted.

    `best_epoch` is 0 where none of them was finite. `memorizing` is what EpochDone said after each, `memorizing_epochs`
    what is known of them now. `differences` are what is not as it was then, in words: with any of them the prior will
    not be the same bit for bit.
    """

    train_perplexities: tuple[float, ...]
    held_out_perplexities: tuple[float, ...]
    memorizing: tuple[bool, ...]
    memorizing_epochs: tuple[tuple[int, int], ...]
    best_epoch: int
    differences: tuple[str, ...]


@dataclass(frozen=True)
class BatchDone:
    """One of about `batches` batches of an epoch is done.

    The whole run takes `seconds_left` more: if it gains no more from now on, and at most.

    `state()` gives all that the training is now, as `train_prior` can go on from it later. It may be called for as long
    as the event is being handled, and its tensors are the training's own, which then change.
    """

    epoch: int
    batch: int
    batches: int
    seconds_left: tuple[float, float]
    state: Callable[[], TrainingState] = field(repr=False, compare=False)


@dataclass(frozen=True)
class EpochDone:
    """An epoch has ended and been judged on the held-out codes.

    There will be `epochs` at most, and if none gains over `gained_epoch`, the latest with a gain that counts, nor is
    better than `best_epoch`, `last_epoch` is the last.

    `train_perplexity` is the mean over the epoch while it was learning, with dropout; `held_out_perplexity` is that of
    the checkpoint at its end; either is infinite where the epoch diverged. `best_epoch` is 0, and `best_perplexity`
    infinite, as long as all have. `skipped_batches` had a loss that was not finite. `memorizing` is whether the prior
    has very likely gone over to reciting what it was trained on, and `memorizing_epochs` are the stretches of epochs,
    first and last, in which it did, this one included. `draw(frames, seed)` gives new codes, int
    `[frames, bands, levels]`, of that checkpoint, and `state()` what that of BatchDone gives; they may be called for as
    long as the event is being handled.
    """

    epoch: int
    epochs: int
    last_epoch: int
    gained_epoch: int
    train_perplexity: float
    held_out_perplexity: float
    best_epoch: int
    best_perplexity: float
    memorizing: bool
    memorizing_epochs: tuple[tuple[int, int], ...]
    skipped_batches: int
    seconds: float
    seconds_left: tuple[float, float]
    draw: Callable[[int, int], np.ndarray] = field(repr=False, compare=False)
    state: Callable[[], TrainingState] = field(repr=False, compare=False)

    @property
    def finishing(self) -> str:
        """A sentence on its ending before all `epochs`, where the latest ones have gained hardly anything; or empty."""
        return finishing(self.epoch, self.gained_epoch, self.last_epoch, self.epochs)


def finishing(epoch: int, gained: int, last: int, epochs: int) -> str:
    """A sentence on a training that has hardly gained for some epochs, and ends for it with the `last`; or empty.

    It is said from half of the way to that end on: a gain is often a few epochs away.
    """
    ago = epoch - gained
    if last >= epochs or ago < max(2, last - epoch):
        return ""
    left = f", with epoch {last} if that stays so" if epoch < last else ""
    return f"hardly better for {ago} epochs: finishing" + left


@dataclass(frozen=True)
class MemorizingFound:
    """Since this epoch the prior has very likely gone over to reciting; `sentence` says so to a person.

    Told when that is sure, after an EpochDone some epochs later, and again where a training is resumed that recites.
    Training goes on; stopping it keeps the best checkpoint.
    """

    epoch: int
    best_epoch: int
    finding: Finding

    @property
    def sentence(self) -> str:
        """What was found, in plain numbers."""
        return self.finding.sentence(self.best_epoch)


@dataclass(frozen=True)
class ChoosingStarted:
    """The last epoch is over. What the best checkpoints draw is looked at for copies, to choose one and to tell of it.

    It takes about `seconds_left`, 0 where nothing is known of that.
    """

    seconds_left: float


@dataclass(frozen=True)
class TrainingEnded:
    """Training is over, for `reason`: "finished", "no better", "stopped" or "diverged"."""

    reason: str
    epochs_trained: int
    best_epoch: int
    best_perplexity: float


TrainingEvent = (
    TrainingStarted | TrainingResumed | BatchDone | EpochDone | MemorizingFound | ChoosingStarted | TrainingEnded
)
