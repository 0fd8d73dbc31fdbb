"""What a step does to the weights: the loss of a batch, and how they and their average follow it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sda_prior_plugin.batches import Batch
from sda_prior_plugin.muon import DECAY, length, moments_of, orthogonalized, smoothed
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.packing import Packing
from sda_prior_plugin.row import Row
from sda_prior_plugin.settings import PriorSettings
from sda_prior_plugin.team import Team

AnyArray = TypeVar("AnyArray", np.ndarray, Tensor)
WARMUP_STEPS = 50
TOWARDS_AVERAGE = 0.75
"""How far from the weights that run ahead towards their average gradients are taken."""
SQUARES_DECAY = 0.95
LATER_COUNT = 2.0
"""By one more than the power of the step that weights count by in their average: later ones count more."""
GRADIENT_NORM = 1.0
PARTS_OF_CONTEXT = 24
"""Frames count half as much after three such parts of the context: with the host's codec, after a second."""


class ScheduleFree:
    """Muon and AdamW that need no schedule, and so no end to plan for (Defazio et al. 2024).

    One set of weights runs ahead at a constant rate, and the `average` of all that it was is what is kept. Gradients
    are taken between both, close to the average, where the `network` is meanwhile. The matrices of its layers are moved
    by Muon, and all else, tables and biases, by AdamW. Matrices and tables decay, not biases and norms (Loshchilov and
    Hutter 2019).

    Attributes:
        dtype: the precision that Muon computes in.
        team: those who take the same step.
        gradients: of the network, in one row; 0 after `look`.
        ahead: the weights that run ahead, by name.
        momentum: the running mean of the gradients of those that Muon moves, by name.
        squares: the running mean of the squares of the gradients of all others, by name.
    """

    def __init__(
        self, network: PriorNetwork, average: PriorNetwork, settings: PriorSettings, dtype: torch.dtype, team: Team
    ) -> None:
        self.network, self.average, self.settings, self.dtype, self.team = network, average, settings, dtype, team
        self._weights = dict(network.named_parameters())
        turned, others = moments_of(self._weights)
        tables = [name for name, one in others.items() if one.ndim >= 2]
        self._row = Row.of(self._weights, ([*turned], tables, [name for name in others if name not in tables]))
        self._averages = self._row.moved_in(average)
        self._ahead = self._averages.clone()
        self._network_apart = network.codebooks.device.type != "cpu"  # cuDNN wants a GRU's weights as they came
        self._here = self._averages.clone() if self._network_apart else self._row.moved_in(network)
        self._moments, self.gradients = torch.zeros_like(self._averages), torch.zeros_like(self._averages)
        for name, gradient in self._row.views(self.gradients).items():
            self._weights[name].grad = gradient  # where backward adds to it
        self.ahead, moments = self._row.views(self._ahead), self._row.views(self._moments)
        self.momentum, self.squares = ({name: moments[name] for name in names} for names in (turned, others))

    @torch.no_grad()
    def look(self) -> None:
        """Move the network to where the next gradient is taken, and forget the last one."""
        self.gradients.zero_()
        torch.lerp(self._ahead, self._averages, TOWARDS_AVERAGE, out=self._here)
        if self._network_apart:
            here = self._row.views(self._here)
            torch._foreach_copy_([*self._weights.values()], [here[name] for name in self._weights])

    @torch.no_grad()
    def step(self, gradients: Tensor, number: int) -> None:
        """Go ahead along `gradients`, in such a row, and let the average follow; `number` counts from 1.

        The gradients are used up.
        """
        rate = self.settings.learning_rate * min(1.0, number / WARMUP_STEPS)
        turned, tables, _ = self._row.ends
        self._step_by_adam(gradients[turned:], self._ahead[turned:], self._moments[turned:], rate, number)
        smoothed(gradients[:turned], self._moments[:turned])
        followed = self._row.views(gradients)
        steps = self.team.worked_out(
            [followed[name] for name in self.momentum], lambda matrices: orthogonalized(matrices, self.dtype)
        )
        for name, one in zip(self.momentum, steps, strict=True):
            self.ahead[name].sub_(one, alpha=rate * length(one))
        for part, decay in ((slice(turned), DECAY), (slice(turned, tables), 1.0)):
            self._ahead[part].sub_(self._here[part], alpha=rate * decay * self.settings.weight_decay)
        self._averages.lerp_(self._ahead, LATER_COUNT / (LATER_COUNT + number))

    def _step_by_adam(self, gradients: Tensor, ahead: Tensor, squares: Tensor, rate: float, number: int) -> None:
        """Go ahead by the sign of each gradient and how sure it is, without decay."""
        squares.mul_(SQUARES_DECAY).addcmul_(gradients, gradients, value=1 - SQUARES_DECAY)
        sizes = (squares / (1 - SQUARES_DECAY**number)).sqrt_().add_(1e-8)
        ahead.addcdiv_(gradients, sizes, value=-rate)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """All that it knows but for the average: its own tensors."""
        return {"ahead": self.ahead, "momentum": self.momentum, "squares": self.squares}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from what `state_dict` gave."""
        for part, own in self.state_dict().items():
            for name, tensor in own.items():
                tensor.copy_(state[part][name])


def batch_loss(network: PriorNetwork, batch: Batch, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Bits that the network needs for the windows of a batch and for their ends, and those for what is as recorded.

    Of the first the bits of each frame count by `frame_weights`; the second are of codes alone and count alike. On the
    CPU they share the memory of the batch until `backward` is done.
    """
    frames, first_frame, lengths, ended, kinds = (torch.as_tensor(array).to(device) for array in batch)
    bands = network.shape.bands
    packing = Packing.of(batch.lengths * bands + 1, network.core.most_parts, device)
    logits, ends, own = network.packed(frames, first_frame, packing, kinds, dtype)
    rows, places = packing.rows, packing.places
    inside = packing.counts & (places < lengths[rows] * bands)
    over = packing.counts & (places == lengths[rows] * bands) & ended[rows]
    own = own.clamp(max=logits.shape[-1] - 1)
    codes = F.cross_entropy(logits.flatten(0, 1), own.flatten(), reduction="none").view(own.shape).sum(-1)
    goes_on = -F.logsigmoid(-ends) * (places % bands == 0)
    nothing = torch.zeros((), device=device)  # not a product with zero: what does not count may be infinite
    bits = torch.where(inside, codes + goes_on, nothing) / math.log(2)
    end_bits = torch.where(over, -F.logsigmoid(ends), nothing) / math.log(2)
    weights = torch.as_tensor(frame_weights(batch, network.settings.context_frames)).to(device)[rows, places // bands]
    return ((bits + end_bits) * weights).sum(), (bits.detach() * as_recorded(kinds, network)[rows]).sum()


def as_recorded(kinds: AnyArray, network: PriorNetwork) -> AnyArray:
    """Which windows are no copies, bool `[batch]`: from the recordings' own start, kind 0, or another, the last."""
    return (kinds == 0) | (kinds == network.settings.copy_kinds)


def frame_weights(batch: Batch, context: int) -> np.ndarray:
    """What a bit of each frame counts in the loss, or of an end before it: float32 `[batch, 1 + window]`.

    The less, by a root, the farther the frame is from the start of its recording, in `PARTS_OF_CONTEXT` of the frames
    that the network reads: every recording begins, and how it goes on is the easier to say the longer it lasts. By how
    long a recording is in all it must not be, or short ones would be drawn too often.
    """
    frames = batch.first_frame[:, None] + np.arange(batch.frames.shape[1])
    return np.float32(1) / np.sqrt(
        1 + np.minimum(frames, context) * np.float32(PARTS_OF_CONTEXT / context), dtype=np.float32
    )


def weight_of(batch: Batch, context: int) -> float:
    """What all frames of a batch count together, by `frame_weights`."""
    inside = np.arange(batch.frames.shape[1]) < batch.lengths[:, None]
    return float(frame_weights(batch, context)[inside].sum())


def share_of_batch(batch: Batch, team: Team) -> Batch:
    """The windows of a batch that are this member's to learn from; where there are none, one that counts nothing."""
    if team.size == 1:
        return batch
    share = Batch(*(array[team.rank :: team.size] for array in batch))
    if len(share.lengths):
        return share
    first = Batch(*(array[:1] for array in batch))
    return first._replace(lengths=np.zeros_like(first.lengths), ends=np.zeros_like(first.ends))


def own_stream(settings: PriorSettings, step: int, team: Team) -> None:
    """Let what is left out at random in a step be this member's own choice; one alone goes on in torch's stream."""
    if team.size > 1:
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, step, team.rank]).generate_state(1, np.uint64)[0]))
