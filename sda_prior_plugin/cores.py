"""What reads a recording in the prior's network, band by band: a transformer or a GRU, and the layers that they are of.

Shapes: B sequences, T positions (bands, one after another), D hidden size, H heads, d size of a head.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sda_prior_plugin.packing import Packing


@dataclass(frozen=True)
class NetworkSettings:
    """What a network is made of.

    `context_frames` bounds how far back a transformer layer looks. `copy_kinds` are kinds that it is told apart, beside
    what is as recorded and from its start: of training copies and, the last, from another start. How far from a
    recording's start a frame is, it is told for `timed_frames`.
    """

    architecture: str
    hidden_size: int
    layers: int
    heads: int
    context_frames: int
    dropout: float = 0.0
    copy_kinds: int = 0
    timed_frames: int = 0


class Linear(nn.Linear):
    """A linear map that computes in the precision of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class Norm(nn.LayerNorm):
    """A layer norm that computes in the precision of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Dropout(nn.Module):
    """Dropout whose share is rounded to 256ths: on a processor, drawing a byte a number is several times faster."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = round(256 * share)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.dropped:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.dropped / 256)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        return x * (kept.to(x.dtype) * (256 / (256 - self.dropped)))


@dataclass(frozen=True)
class Rotation:
    """Rotary position embedding (Su et al. 2021, RoFormer, section 3.2): cosines and signed sines `[T, d]`."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, first: int, count: int, size: int, like: Tensor) -> Rotation:
        """For `count` positions from `first` on, heads of `size`."""
        # in double precision, since an hour of sound has many positions; MPS has none
        double: Any = {"dtype": torch.float64, "device": "cpu" if like.device.type == "mps" else like.device}
        rate = 10_000.0 ** (-torch.arange(size // 2, **double) / (size // 2))
        angle = torch.arange(first, first + count, **double)[:, None] * rate
        cos, sin = angle.cos(), angle.sin()
        return cls(torch.cat([cos, cos], dim=-1).to(like), torch.cat([-sin, sin], dim=-1).to(like))

    def at(self, places: Tensor) -> Rotation:
        """That of positions at some of these places, int `[P]`, for heads `x [P, …, d]` beside each other."""
        return Rotation(*(F.embedding(places, one)[:, None, None] for one in (self.cos, self.sin)))

    def __call__(self, x: Tensor) -> Tensor:
        """`x [..., T, d]`, rotated; of what `at` gives, `x [P, parts, H, d]`."""
        return x * self.cos + x.roll(x.shape[-1] // 2, dims=-1) * self.sin


@dataclass(frozen=True)
class LayerCache:
    """Keys and values `[B, H, seen, d]` of the last positions, keys already rotated."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class TransformerState:
    """What a transformer remembers between calls: a cache per layer and the number of positions seen."""

    layers: tuple[LayerCache, ...]
    position: int


def attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    """Attention; on a CPU in single precision, since its half-precision backward pass there is several times slower."""
    if query.device.type == "cpu":
        whole = (query.float(), key.float(), value.float())
        return F.scaled_dot_product_attention(*whole, attn_mask=mask, is_causal=causal).to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)


class Attention(nn.Module):
    """Causal multi-head attention over the last `window` positions."""

    def __init__(self, size: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.inputs = Linear(size, 3 * size, bias=False)
        self.output = Linear(size, size, bias=False)

    def forward(self, x: Tensor, rotation: Rotation, cache: LayerCache | None) -> tuple[Tensor, LayerCache]:
        y, kept = self._attended(self.inputs(x), rotation, cache)
        return self.output(y), kept

    def packed(self, x: Tensor, rotation: Rotation, packing: Packing) -> Tensor:
        """The same for the positions of a packing, `x [P, D]`."""

        def attended_rows(rows: Tensor) -> Tensor:
            mask = self._mask(rows.shape[1], rows.shape[1], rows.device)
            query, key, value = self._split(rows)
            return _merged(attended(query, key, value, mask, causal=mask is None))

        inputs = self.inputs(x).view(len(x), 3, self.heads, -1)
        rotated = torch.cat([rotation(inputs[:, :2]), inputs[:, 2:]], dim=1).flatten(1)
        single = rotated.float() if x.device.type == "cpu" else rotated  # at once; see `attended`
        return self.output(packing.by_rows(single, attended_rows).to(x.dtype))

    def _mask(self, length: int, seen: int, device: torch.device) -> Tensor | None:
        """What each of the last `length` of the positions seen may look at; None where plain causal attention says it.

        One position alone may look at all of them.
        """
        if length == 1 or seen <= min(length, self.window):
            return None
        places = torch.arange(seen, device=device)
        back = places[seen - length :, None] - places
        return (back >= 0) & (back < self.window)

    def _split(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values `[B, H, T, d]` of `inputs [B, T, 3 D]`."""
        batch, length, size = inputs.shape
        return inputs.view(batch, length, 3, self.heads, size // (3 * self.heads)).permute(2, 0, 3, 1, 4).unbind()

    def _attended(self, inputs: Tensor, rotation: Rotation, cache: LayerCache | None) -> tuple[Tensor, LayerCache]:
        length = inputs.shape[1]
        query, key, value = self._split(inputs)
        query, key = rotation(query), rotation(key)
        if cache is not None:
            key, value = torch.cat([cache.keys, key], dim=2), torch.cat([cache.values, value], dim=2)
        if length == 1:
            key, value = key[:, :, -self.window :], value[:, :, -self.window :]
        mask = self._mask(length, key.shape[2], inputs.device)
        y = attended(query, key, value, mask, causal=mask is None and length > 1)
        kept = LayerCache(key[:, :, -(self.window - 1) :], value[:, :, -(self.window - 1) :])
        return _merged(y), kept


def _merged(heads: Tensor) -> Tensor:
    """`[B, H, T, d]` -> `[B, T, D]`"""
    return heads.transpose(1, 2).flatten(2)


def feed_forward(size: int) -> nn.Sequential:
    """The part of a transformer layer that looks at one position alone."""
    return nn.Sequential(Norm(size), Linear(size, 4 * size), nn.GELU(), Linear(4 * size, size))


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, size: int, heads: int, window: int, dropout: float) -> None:
        super().__init__()
        self.norm = Norm(size)
        self.attention = Attention(size, heads, window)
        self.mlp = feed_forward(size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, rotation: Rotation, cache: LayerCache | None) -> tuple[Tensor, LayerCache]:
        y, kept = self.attention(self.norm(x), rotation, cache)
        x = x + self.dropout(y)
        return x + self.dropout(self.mlp(x)), kept

    def packed(self, x: Tensor, rotation: Rotation, packing: Packing) -> Tensor:
        """The same for the positions of a packing, `x [P, D]`."""
        x = x + self.dropout(self.attention.packed(self.norm(x), rotation, packing))
        return x + self.dropout(self.mlp(x))


class TransformerCore(nn.Module):
    """Layers of causal attention, each over a sliding window, so that any length can be read and made.

    In training, attention takes the rows of a batch in `most_parts` at most, which costs nothing.
    """

    most_parts = 3

    def __init__(self, settings: NetworkSettings, bands: int) -> None:
        super().__init__()
        self.head_size = settings.hidden_size // settings.heads
        self.blocks = nn.ModuleList(
            Block(settings.hidden_size, settings.heads, settings.context_frames * bands, settings.dropout)
            for _ in range(settings.layers)
        )

    def forward(self, x: Tensor, state: TransformerState | None) -> tuple[Tensor, TransformerState]:
        start = state.position if state else 0
        rotation = Rotation.of(start, x.shape[1], self.head_size, x)
        kept = []
        for index, block in enumerate(self.blocks):
            x, cache = block(x, rotation, state.layers[index] if state else None)
            kept.append(cache)
        return x, TransformerState(tuple(kept), start + x.shape[1])

    def packed(self, x: Tensor, packing: Packing) -> Tensor:
        """What `forward` gives of rows from their start on, for the positions of a packing, `x [P, D]`."""
        rotation = Rotation.of(0, packing.longest, self.head_size, x).at(packing.places)
        for block in self.blocks:
            x = cast(Block, block).packed(x, rotation, packing)
        return x


class GruCore(nn.Module):
    """Gated recurrent layers with a residual path around each (Cho et al. 2014), in single precision.

    They take as long for few rows as for many, and so all of a batch at once.
    """

    most_parts = 1

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        size = settings.hidden_size
        self.layers = nn.ModuleList(nn.GRU(size, size, batch_first=True) for _ in range(settings.layers))
        self.norms = nn.ModuleList(Norm(size) for _ in range(settings.layers))
        self.dropout = Dropout(settings.dropout)

    def forward(self, x: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        kept = []
        for index, (norm, layer) in enumerate(zip(self.norms, self.layers, strict=True)):
            y, hidden = layer(norm(x).float(), state[index] if state else None)
            kept.append(hidden)
            x = x + self.dropout(y.to(x.dtype))
        return x, tuple(kept)

    def packed(self, x: Tensor, packing: Packing) -> Tensor:
        """What `forward` gives of rows from their start on, for the positions of a packing, `x [P, D]`."""
        for norm, layer in zip(self.norms, self.layers, strict=True):
            y = packing.by_rows(norm(x).float(), functools.partial(_read_through, layer))
            x = x + self.dropout(y.to(x.dtype))
        return x


def _read_through(layer: nn.Module, rows: Tensor) -> Tensor:
    """What a recurrent layer gives of rows from their start on."""
    return layer(rows)[0]


CoreState = TransformerState | tuple[Tensor, ...]
"""What a core remembers between calls."""
