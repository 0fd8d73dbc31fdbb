"""A baseline: the prior that is built into the existing host, written anew from a description of it.

Four pre-norm transformer layers of 256 over one second of codes, all times of the lowest band first, then the next
band; one table of tokens for all levels, learned positions, no start token. It learns from the plain recordings with
AdamW and a cosine over 100 epochs, in single precision.
"""

from __future__ import annotations

import math
import time
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE, LAYERS, HEADS, DROPOUT = 256, 4, 4, 0.2
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY, GRADIENT_NORM = 100, 32, 1e-3, 0.01, 1.0
PATIENCE = 12
"""Epochs without a better one after which nothing better is to be expected, and the run is cut short."""


@dataclass(frozen=True)
class ReferenceRun:
    """How the reference did: its lowest bits per code, when it had them, and what it was then, in eval mode."""

    bits: float
    best_epoch: int
    best_seconds: float
    parameters: int
    model: Reference = field(repr=False)


class Reference(nn.Module):
    """From `codes [B, T]` to the logits of each next one, `[B, T, codebook size]`."""

    def __init__(self, codebook_size: int, length: int) -> None:
        super().__init__()
        self.token = nn.Embedding(codebook_size, SIZE)
        self.position = nn.Embedding(length, SIZE)
        layer = nn.TransformerEncoderLayer(SIZE, HEADS, 4 * SIZE, DROPOUT, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(SIZE), enable_nested_tensor=False)
        self.dropout = nn.Dropout(DROPOUT)
        self.logits = nn.Linear(SIZE, codebook_size)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, codes: Tensor) -> Tensor:
        length = codes.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        x = self.dropout(self.token(codes) + self.position.weight[:length])
        return self.logits(self.layers(x, mask=mask, is_causal=True))


def bands_first(grids: np.ndarray) -> Tensor:
    """Sequences `[B, T]` of grids `[B, frames, bands, levels]`, in the reference's order."""
    return torch.as_tensor(grids.transpose(0, 2, 1, 3).reshape(len(grids), -1).astype(np.int64))


def mean_bits(model: Reference, codes: Tensor) -> Tensor:
    """Bits per code of sequences `[B, T]`, but for the first of each."""
    return F.cross_entropy(model(codes[:, :-1]).flatten(0, 1), codes[:, 1:].flatten()) / math.log(2)


def train_reference(train: np.ndarray, held_out: np.ndarray, codebook_size: int, seed: int) -> ReferenceRun:
    """Train the reference on grids `[sequences, frames, bands, levels]`, each a second of sound."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heard, unheard = bands_first(train), bands_first(held_out)
        model = Reference(codebook_size, heard.shape[1])
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
        started = time.monotonic()
        best = ReferenceRun(math.inf, 0, 0.0, sum(weights.numel() for weights in model.parameters()), model)
        for epoch in range(1, EPOCHS + 1):
            model.train()
            for rows in torch.randperm(len(heard)).split(BATCH):
                loss = mean_bits(model, heard[rows]) * math.log(2)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
                optimizer.step()
            schedule.step()
            model.eval()
            with torch.no_grad():
                bits = mean_bits(model, unheard).item()
            if bits < best.bits:
                best = ReferenceRun(bits, epoch, time.monotonic() - started, best.parameters, deepcopy(model))
            if epoch - best.best_epoch >= PATIENCE:
                break
        return best


@torch.no_grad()
def reference_samples(model: Reference, shape: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    """Grids of a shape `[frames, bands, levels]`, int `[count, *shape]`: from a random code on, as that host draws."""
    frames, bands, levels = shape
    chance = torch.Generator().manual_seed(seed)
    codes = torch.randint(model.logits.out_features, (count, 1), generator=chance)
    while codes.shape[1] < frames * bands * levels:
        following = model(codes)[:, -1].softmax(-1)
        codes = torch.cat([codes, torch.multinomial(following, 1, generator=chance)], dim=1)
    return codes.view(count, bands, frames, levels).numpy().transpose(0, 2, 1, 3)
