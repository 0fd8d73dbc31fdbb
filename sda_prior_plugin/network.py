"""The prior's network: from the codes so far to the probabilities of the next.

Read from top to bottom in the order that data flows. Shapes: B sequences, T positions (codes), D hidden size,
N codes a frame, L levels, C codebook size.

A code is known to the network in two ways: by an embedding of its own, and by the codebook vector that it stands
for, through a learned projection. The output is tied to the codebooks in the same two ways. Sounds alike get alike
codes, and the network need not learn that from a few minutes of recordings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sda_prior_plugin.codes import CodeShape

KNOWN_FRAMES = 64
"""Frames from a recording's start that have an embedding of their own; later ones share the last."""


@dataclass(frozen=True)
class NetworkSettings:
    """What a network is made of. `context_frames` bounds how far back a transformer layer looks."""

    architecture: str
    hidden_size: int
    layers: int
    heads: int
    context_frames: int
    dropout: float = 0.0


def normalized(codebooks: np.ndarray) -> Tensor:
    """Codebooks `[L, C, dim]` with numbers of about size 1 at each level; later levels hold ever smaller residuals."""
    vectors = torch.as_tensor(codebooks, dtype=torch.float32)
    return vectors / vectors.std(dim=(1, 2), keepdim=True).clamp_min(1e-6)


class CodeEmbedding(nn.Module):
    """Embeds codes: a learned vector for each code of each level, plus a projection of its codebook vector."""

    def __init__(self, codebooks: Tensor, size: int) -> None:
        super().__init__()
        levels, codebook_size, dim = codebooks.shape
        self.own = nn.Parameter(torch.randn(levels, codebook_size + 1, size) * 0.02)  # the last row: no code
        self.projection = nn.Parameter(torch.randn(dim, size) * dim**-0.5)

    def forward(self, codebooks: Tensor) -> Tensor:
        """The vectors of all codes, `[L, C + 1, D]`."""
        return self.own + F.pad(codebooks @ self.projection, (0, 0, 0, 1))


class CodeLogits(nn.Module):
    """Logits of the next code: a linear map for each level, plus a scaled product with the codebook vectors."""

    def __init__(self, codebooks: Tensor, size: int) -> None:
        super().__init__()
        levels, codebook_size, dim = codebooks.shape
        self.own = nn.Parameter(torch.randn(levels, codebook_size, size) * 0.02)
        self.bias = nn.Parameter(torch.zeros(levels, codebook_size))
        self.projection = nn.Parameter(torch.randn(levels, dim, size) * size**-0.5)
        self.scale = nn.Parameter(torch.full((levels, 1, 1), dim**-0.5))

    def forward(self, codebooks: Tensor) -> Tensor:
        """The whole map as one matrix a level, `[L, C, D]`."""
        return self.own + self.scale * (codebooks @ self.projection)


def rotated(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary position embedding of `x [B, H, T, d]` at `positions [T]` (Su et al. 2021, RoFormer, section 3.2)."""
    half = x.shape[-1] // 2
    rate = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    # in double precision, since an hour of sound has half a million positions; on the CPU, since not every GPU has it
    angle = positions.cpu().to(torch.float64)[:, None] * rate
    cos, sin = angle.cos().to(x), angle.sin().to(x)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


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
        with torch.autocast("cpu", enabled=False):
            whole = (query.float(), key.float(), value.float())
            return F.scaled_dot_product_attention(*whole, attn_mask=mask, is_causal=causal)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)


class Attention(nn.Module):
    """Causal multi-head attention over the last `window` positions."""

    def __init__(self, size: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.inputs = nn.Linear(size, 3 * size, bias=False)
        self.output = nn.Linear(size, size, bias=False)

    def forward(self, x: Tensor, positions: Tensor, cache: LayerCache | None) -> tuple[Tensor, LayerCache]:
        batch, length, size = x.shape
        split = self.inputs(x).view(batch, length, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]  # each [B, H, T, d]
        query, key = rotated(query, positions), rotated(key, positions)
        if cache is not None:
            key, value = torch.cat([cache.keys, key], dim=2), torch.cat([cache.values, value], dim=2)
        seen = key.shape[2]
        mask = None
        if length > 1 and seen > min(length, self.window):  # otherwise plain causal attention says the same
            back = torch.arange(seen - length, seen, device=x.device)[:, None] - torch.arange(seen, device=x.device)
            mask = (back >= 0) & (back < self.window)
        elif length == 1:
            key, value = key[:, :, -self.window :], value[:, :, -self.window :]
        y = attended(query, key, value, mask, causal=mask is None and length > 1)
        kept = LayerCache(key[:, :, -(self.window - 1) :], value[:, :, -(self.window - 1) :])
        return self.output(y.transpose(1, 2).reshape(batch, length, size)), kept


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, size: int, heads: int, window: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(size)
        self.attention = Attention(size, heads, window)
        self.mlp_norm = nn.LayerNorm(size)
        self.mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, cache: LayerCache | None) -> tuple[Tensor, LayerCache]:
        y, kept = self.attention(self.attention_norm(x), positions, cache)
        x = x + self.dropout(y)
        return x + self.dropout(self.mlp(self.mlp_norm(x))), kept


class TransformerCore(nn.Module):
    """Layers of causal attention, each over a sliding window, so that any length can be read and made."""

    def __init__(self, settings: NetworkSettings, frame_codes: int) -> None:
        super().__init__()
        window = settings.context_frames * frame_codes
        self.blocks = nn.ModuleList(
            Block(settings.hidden_size, settings.heads, window, settings.dropout) for _ in range(settings.layers)
        )

    def forward(self, x: Tensor, state: TransformerState | None) -> tuple[Tensor, TransformerState]:
        start = state.position if state else 0
        positions = torch.arange(start, start + x.shape[1], device=x.device)
        kept = []
        for index, block in enumerate(self.blocks):
            x, cache = block(x, positions, state.layers[index] if state else None)
            kept.append(cache)
        return x, TransformerState(tuple(kept), start + x.shape[1])


class GruCore(nn.Module):
    """Gated recurrent layers with a residual path around each (Cho et al. 2014)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        size = settings.hidden_size
        self.layers = nn.ModuleList(nn.GRU(size, size, batch_first=True) for _ in range(settings.layers))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(settings.layers))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        kept = []
        for index, (norm, layer) in enumerate(zip(self.norms, self.layers, strict=True)):
            y, hidden = layer(norm(x), state[index] if state else None)
            kept.append(hidden)
            x = x + self.dropout(y)
        return x, tuple(kept)


@dataclass(frozen=True)
class Tables:
    """The embeddings `[L * (C + 1), D]` and the output map `[L, C, D]`, with their ties to the codebooks worked out."""

    embeddings: Tensor
    logits: Tensor


CoreState = TransformerState | tuple[Tensor, ...]


class PriorNetwork(nn.Module):
    """The whole network.

    Args:
        shape: of the codec's codes.
        codebooks: float32 `[L, C, dim]`; held as a constant, not learned.
        settings: architecture and sizes.
    """

    codebooks: Tensor

    def __init__(self, shape: CodeShape, codebooks: np.ndarray, settings: NetworkSettings) -> None:
        super().__init__()
        self.shape, self.settings = shape, settings
        size = settings.hidden_size
        self.register_buffer("codebooks", normalized(codebooks), persistent=False)
        self.embedding = CodeEmbedding(self.codebooks, size)
        self.slot = nn.Parameter(torch.randn(shape.frame_codes, size) * 0.02)  # band and level of the next code
        self.time = nn.Parameter(torch.randn(KNOWN_FRAMES, size) * 0.02)  # its frame in the recording
        self.dropout = nn.Dropout(settings.dropout)
        self.core: TransformerCore | GruCore = (
            GruCore(settings) if settings.architecture == "gru" else TransformerCore(settings, shape.frame_codes)
        )
        self.norm = nn.LayerNorm(size)
        self.logits = CodeLogits(self.codebooks, size)
        self.end = nn.Linear(size, 1)

    def tables(self) -> Tables:
        """What embeddings and logits are looked up in; the same until a weight changes."""
        return Tables(embeddings=self.embedding(self.codebooks).flatten(0, 1), logits=self.logits(self.codebooks))

    def hidden(
        self, tables: Tables, previous: Tensor, slots: Tensor, frames: Tensor, state: CoreState | None
    ) -> tuple[Tensor, CoreState]:
        """What the network knows before each of T codes, `[B, T, D]`, and the state to go on from.

        Args:
            tables: from `tables`.
            previous: int `[B, T]`, the code that stands before each position.
            slots: int `[T]`, the place of each position in its frame.
            frames: int `[B, T]`, the frame of each position, counted from the recording's start.
            state: where an earlier call on the positions just before left off.
        """
        rows = (slots - 1) % self.shape.levels * (self.shape.codebook_size + 1) + previous
        x = F.embedding(rows, tables.embeddings)  # [B, T, D]
        # lookups by F.embedding throughout: the gradient of plain indexing is summed in no fixed order
        x = x + F.embedding(slots, self.slot) + F.embedding(frames.clamp(max=KNOWN_FRAMES - 1), self.time)
        y, state = self.core(self.dropout(x), state)
        return self.norm(y), state

    def code_logits(self, tables: Tables, hidden: Tensor) -> Tensor:
        """Logits of the codes of whole bands, from `hidden [B, positions, L, D]`: `[B, positions, L, C]`."""
        return torch.einsum("bpld,lcd->bplc", hidden, tables.logits) + self.logits.bias

    def forward(
        self, frames: Tensor, first_frame: Tensor, state: CoreState | None = None, *, look_past: bool = False
    ) -> tuple[Tensor, Tensor, CoreState]:
        """Logits of every code of a window, each from all before it.

        Args:
            frames: int `[B, 1 + window, N]` as in `dataset.Batch`: the window and the frame before it.
            first_frame: int `[B]`.
            state: where an earlier call on the stretch just before left off.
            look_past: also say whether the recording ends with the window; the state is then one position too far.

        Returns:
            code logits `[B, window, bands, L, C]`; logits that the recording is over before each frame of the window
            `[B, window]`, with `look_past` also before the one after it, `[B, window + 1]`; the state.
        """
        batch, size = frames.shape[0], self.shape.frame_codes
        codes = (frames.shape[1] - 1) * size
        length = codes + look_past
        previous = frames.flatten(1)[:, size - 1 : size - 1 + length]  # of all [B, N + codes]
        place = torch.arange(length, device=frames.device)
        tables = self.tables()
        y, state = self.hidden(tables, previous, place % size, first_frame[:, None] + place // size, state)
        logits = self.code_logits(tables, y[:, :codes].reshape(batch, -1, self.shape.levels, y.shape[-1]))
        ends = self.end(y[:, ::size]).squeeze(-1)
        return logits.view(batch, -1, self.shape.bands, self.shape.levels, self.shape.codebook_size), ends, state
