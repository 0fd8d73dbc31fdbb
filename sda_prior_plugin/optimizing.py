"""What a step does to the weights: the loss of a batch, AdamW, and the average that follows them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sda_prior_plugin.batches import Batch
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.prior import window_log2_probs
from sda_prior_plugin.settings import PriorSettings
from sda_prior_plugin.team import Team

AVERAGE_DECAY = 0.995
"""Of the running average of the weights that is judged and kept (Polyak and Juditsky 1992)."""
GRADIENT_NORM = 1.0


def optimizer_for(network: PriorNetwork, settings: PriorSettings) -> torch.optim.Optimizer:
    """AdamW that decays matrices and tables, not biases and norms (Loshchilov and Hutter 2019)."""
    weights = list(network.parameters())
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95), fused=True)


def batch_loss(network: PriorNetwork, batch: Batch, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Bits that the network needs for the codes of a batch, and bits for its ends.

    On the CPU they share the memory of the batch until `backward` is done.
    """
    frames = torch.as_tensor(batch.frames).to(device)
    lengths = torch.as_tensor(batch.lengths).to(device)
    first_frame = torch.as_tensor(batch.first_frame).to(device)
    logits, ends, _ = network(frames, first_frame, look_past=True, dtype=dtype)
    inside = torch.arange(frames.shape[1] - 1, device=device) < lengths[:, None]  # [B, window]
    codes = window_log2_probs(logits, ends, frames).sum(-1)
    over = F.logsigmoid(ends.gather(1, lengths[:, None]).squeeze(1).float()) / math.log(2)
    ended = torch.as_tensor(batch.ends).to(device)
    return -(codes * inside).sum(), -(over * ended).sum()


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


def sum_over_team(network: PriorNetwork, team: Team, *numbers: Tensor) -> list[Tensor]:
    """Make each gradient its sum over the team, and give that of some `numbers`; all of it is one message."""
    if team.size == 1:
        return list(numbers)
    weights = [weights for weights in network.parameters() if weights.grad is not None]
    gradients = [weights.grad for weights in weights if weights.grad is not None]
    message = torch.cat([*(gradient.flatten() for gradient in gradients), torch.stack(numbers)]).detach()
    *summed, rest = team.sum(message).split([*(gradient.numel() for gradient in gradients), len(numbers)])
    for one, gradient in zip(weights, summed, strict=True):
        one.grad = gradient.view_as(one)
    return list(rest)


@torch.no_grad()
def follow(average: PriorNetwork, network: PriorNetwork, step: int) -> None:
    """Move the running average of the weights towards what they are after a step, counted from 1."""
    weight = 1 - min(AVERAGE_DECAY, step / (10 + step))  # a young average follows faster
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), weight)


def moments(optimizer: torch.optim.Optimizer, network: PriorNetwork) -> dict[str, dict[str, Tensor]]:
    """What the optimiser knows of each weight, by its name; a weight that was of no use yet is not among them."""
    known = ((name, optimizer.state.get(weights)) for name, weights in network.named_parameters())
    return {name: dict(found) for name, found in known if found}


def set_moments(
    optimizer: torch.optim.Optimizer, network: PriorNetwork, known: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Let the optimiser know a copy of what `moments` gave."""
    moved = (weights for group in optimizer.param_groups for weights in group["params"])
    numbers = {id(weights): number for number, weights in enumerate(moved)}  # as the state_dict counts
    state = {
        numbers[id(weights)]: {part: tensor.clone() for part, tensor in known[name].items()}
        for name, weights in network.named_parameters()
        if name in known
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
