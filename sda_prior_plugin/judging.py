"""How well weights predict what is held out, and the checkpoints that are kept for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sda_prior_plugin.batches import held_out_batches
from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.prior import window_log2_probs
from sda_prior_plugin.team import Team


@dataclass(frozen=True)
class Checkpoint:
    """The weights after an epoch, and how well they predict the held-out codes.

    Attributes:
        bits: per held-out code that it is judged by.
        sequence_bits: `[held-out sequences]`, of all those codes of each.
        seconds: since the start of training.
    """

    epoch: int
    bits: float
    sequence_bits: np.ndarray
    weights: dict[str, Tensor]
    seconds: float

    def as_good_as(self, best: Checkpoint) -> bool:
        """Whether it predicts as well as a better one, within noise.

        That is: by less than the standard error of the difference, over held-out sequences (the rule of Breiman et al.
        1984, section 3.4.3).
        """
        worse = self.sequence_bits - best.sequence_bits
        return len(worse) > 1 and float(worse.sum()) <= float(worse.std(ddof=1)) * len(worse) ** 0.5


@torch.no_grad()
def held_out_bits(
    network: PriorNetwork,
    corpus: CodeCorpus,
    judged: np.ndarray,
    context: int,
    batch_size: int,
    dtype: torch.dtype,
    team: Team | None = None,
) -> np.ndarray:
    """Bits of the codes of each held-out sequence, each code given all before it, as `Prior.log2_probs` has them.

    Only those of frames that are `judged`, bool `[held-out frames]`, are counted. Long recordings are read `context`
    frames at a time. The sequences are in the order of `held_out_batches`. The batches are shared out in the `team`.
    """
    device, team = network.codebooks.device, team or Team()
    found: list[np.ndarray] = []
    marks = np.split(judged, corpus.held_out.starts[1:-1])
    ordered = iter(np.argsort(-corpus.held_out.lengths, kind="stable"))  # as the batches have them
    batches = held_out_batches(corpus.held_out, corpus.shape, context=context, batch_size=batch_size)
    count = 0
    for count, batch in enumerate(batches, start=1):
        here = [marks[next(ordered)] for _ in range(len(batch.lengths))]
        if (count - 1) % team.size != team.rank:
            continue
        frames = torch.as_tensor(batch.frames).to(device)
        lengths = torch.as_tensor(batch.lengths).to(device)
        bits = torch.zeros(len(lengths), device=device)
        counted = np.zeros((len(lengths), frames.shape[1] - 1), np.bool_)
        for row, mark in zip(counted, here, strict=True):
            row[: len(mark)] = mark
        counts = torch.as_tensor(counted).to(device)
        state = None
        for first in range(0, frames.shape[1] - 1, context):
            block = frames[:, first : first + context + 1]
            inside = counts[:, first : first + block.shape[1] - 1]
            logits, ends, state = network(block, torch.full_like(lengths, first), state, dtype=dtype)
            bits -= (window_log2_probs(logits, ends, block).sum(-1) * inside).sum(-1)
        found.append(bits.cpu().double().numpy())
    return np.concatenate(team.shared_out(found, count))
