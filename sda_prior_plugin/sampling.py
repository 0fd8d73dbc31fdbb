"""Drawing new codes, one after another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sda_prior_plugin.copying import CopyGuard
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.network import PriorNetwork

MOST_EMPTY_SOUNDS = 100
"""Sounds in a row that the copy guard may end before their first frame."""


@dataclass(frozen=True)
class Draw:
    """How a code is drawn from its probabilities; see `Prior.samples`. Raises PriorError out of bounds."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise PriorError(f"temperature is {self.temperature}; it must be above 0.")
        if not 0 < self.top_p <= 1:
            raise PriorError(f"top_p is {self.top_p}; it must be above 0 and at most 1.")
        if self.top_k < 0:
            raise PriorError(f"top_k is {self.top_k}; it must be at least 0, and 0 means all codes.")


def probabilities(logits: Tensor, draw: Draw) -> Tensor:
    """What is drawn from: `[..., C]` float64, from logits `[..., C]` after temperature, top-k and top-p.

    The most probable code always stays; of codes equally probable at a border all stay.
    """
    logits = logits.double()
    p = torch.softmax((logits - logits.amax(-1, keepdim=True)) / draw.temperature, dim=-1)
    if 0 < draw.top_k < p.shape[-1]:
        p = p.where(p >= p.topk(draw.top_k, dim=-1).values[..., -1:], 0.0)
        p = p / p.sum(-1, keepdim=True)
    if draw.top_p < 1:
        ordered = p.sort(dim=-1, descending=True).values
        needed = (ordered.cumsum(-1) - ordered < draw.top_p).sum(-1, keepdim=True)  # the fewest that reach top_p
        p = p.where(p >= ordered.gather(-1, needed - 1), 0.0)
    return p / p.sum(-1, keepdim=True)


def drawn(p: Tensor, uniform: Tensor) -> Tensor:
    """The code that each `uniform [...]` in 0..1 picks from probabilities `[..., C]` by their running sum."""
    edges = p.cumsum(-1)
    below = torch.searchsorted(edges, (uniform[..., None] * edges[..., -1:]), right=True).squeeze(-1)
    last = p.shape[-1] - 1 - (p.flip(-1) > 0).int().argmax(-1)  # rounding must not pick a code of probability 0
    return torch.minimum(below, last)


def guarded(p: Tensor, logits: Tensor, ruled_out: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Probabilities `[..., C]` without the codes that are `ruled_out`, and where none is left, bool `[...]`.

    Where top-k and top-p had left only codes that are ruled out, the others come back; where there are no others, `p`
    stays as it is.
    """
    allowed = p.where(~ruled_out, 0.0)
    every = probabilities(logits, Draw(draw.temperature)).where(~ruled_out, 0.0)
    allowed = allowed.where(allowed.sum(-1, keepdim=True) > 0, every)
    none_left = allowed.sum(-1) <= 0
    return p.where(none_left[..., None], allowed), none_left


def draw_grids(
    network: PriorNetwork,
    count: int,
    frames: int | None,
    max_frames: int,
    draw: Draw,
    seed: int,
    guard: CopyGuard | None = None,
) -> list[np.ndarray]:
    """`count` new grids, each int `[frames, bands, levels]`, or one sound of its own length where `frames` is None.

    A sound that is over before `frames` is followed by another one. Every sound of every grid has a random stream of
    its own, from `seed` and its numbers, so that it does not depend on how many grids are drawn beside it. With a
    `guard`, no grid holds a window that it rules out, also not where two sounds meet.

    Raises:
        PriorError: the guard leaves nothing to draw.
    """
    none_yet = np.zeros((0, network.shape.bands, network.shape.levels), np.int64)
    if frames is None:
        streams = [np.random.default_rng([seed, number, 0]) for number in range(count)]
        return draw_sounds(network, streams, max_frames, draw, guard, [none_yet] * count)
    grids, empty = [none_yet] * count, 0
    for sound_number in itertools.count():
        short = [number for number, grid in enumerate(grids) if len(grid) < frames]
        if not short:
            break
        longest = frames - min(len(grids[number]) for number in short)
        streams = [np.random.default_rng([seed, number, sound_number]) for number in short]
        sounds = draw_sounds(network, streams, longest, draw, guard, [grids[number] for number in short])
        for number, sound in zip(short, sounds, strict=True):
            grids[number] = np.concatenate([grids[number], sound])[:frames]
        empty = 0 if any(len(sound) for sound in sounds) else empty + 1
        if empty >= MOST_EMPTY_SOUNDS:
            raise PriorError(
                "There is nothing to draw that does not copy a recording for longer than --max-copy; allow more."
            )
    return grids


@torch.no_grad()
def draw_sounds(
    network: PriorNetwork,
    streams: Sequence[np.random.Generator],
    max_frames: int,
    draw: Draw,
    guard: CopyGuard | None,
    before: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """A sound from each random stream, from its start to where the prior says it is over or to `max_frames`.

    `before` are the frames that each will stand behind. A sound is also over where the `guard` leaves no code to draw.
    """
    shape = network.shape
    count, size = len(streams), shape.frame_codes
    tables = network.tables()
    codes = torch.full((count, 1 + max_frames, shape.bands, shape.levels), shape.codebook_size)  # first "no code"
    lengths = torch.full((count,), max_frames)
    state = None
    for frame in range(max_frames):
        uniform = torch.as_tensor(np.stack([stream.random(size + 1) for stream in streams]))
        for band in range(shape.bands):
            previous = codes[:, 1 + frame, band - 1] if band else codes[:, frame, -1]
            y, state = network.read(
                tables,
                previous[:, None],
                codes[:, frame, band][:, None],
                torch.tensor([band]),
                torch.full((count, 1), frame),
                state,
            )
            if band == 0 and frame > 0:
                over = torch.sigmoid(network.end_logits(y)[:, 0].double()) > uniform[:, size]
                lengths = lengths.where(~over, lengths.clamp(max=frame))
                if bool((lengths <= frame).all()):
                    break
            same_level = F.embedding(network.rows(codes[:, frame, band]), tables.same_level)
            coarser = torch.zeros(count, y.shape[-1])
            for level in range(shape.levels):
                known = (coarser + same_level[:, level])[:, None, None]
                logits = network.level_logits(tables, y, known, level)[:, 0, 0]
                p = probabilities(logits, draw)
                if guard is not None and (band, level) == (shape.bands - 1, shape.levels - 1):
                    ruled_out = torch.as_tensor(
                        np.stack(
                            [
                                guard.ruled_out(earlier, sound[:frame], sound[frame].ravel()[:-1], shape.codebook_size)
                                for earlier, sound in zip(before, codes[:, 1:].numpy(), strict=True)
                            ]
                        )
                    )
                    p, over = guarded(p, logits, ruled_out, draw)
                    lengths = lengths.where(~over, lengths.clamp(max=frame))
                code = drawn(p, uniform[:, band * shape.levels + level])
                codes[:, 1 + frame, band, level] = code
                coarser = coarser + tables.coarser[level * (shape.codebook_size + 1) + code]
        else:
            continue
        break
    grids = codes[:, 1:].numpy()
    return [grid[:length].copy() for grid, length in zip(grids, lengths.tolist(), strict=True)]
