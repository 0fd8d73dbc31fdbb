"""The prior's network: from the codes so far to the probabilities of the next.

Read from top to bottom in the order that data flows. Shapes: B sequences, T positions (bands, one after another),
D hidden size, L levels, C codebook size.

The core reads a recording band by band: its position stands for the L codes of one band of one frame, so that its
sequences are short. Within a band the levels follow from the core's output and the levels above them (as in the depth
transformer of Lee et al. 2022, RQ-VAE, section 3.2, though with a plain network for the few levels there are).

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
    # in numpy: torch would load its compiler for a mere standard deviation of tensors without data, for over a second
    vectors = np.asarray(codebooks, dtype=np.float32)
    spread = vectors.std(axis=(1, 2), ddof=1, keepdims=True)
    return torch.as_tensor(vectors / np.maximum(spread, np.float32(1e-6)))


def random_weights(*shape: int, spread: float) -> nn.Parameter:
    """Normal numbers to start from, but for a network without data, for which torch would load its compiler."""
    weights = torch.empty(shape)
    return nn.Parameter(weights if weights.is_meta else weights.normal_(std=spread))


class CodeEmbedding(nn.Module):
    """Embeds codes: a learned vector for each code of each level, plus a projection of its codebook vector."""

    def __init__(self, codebooks: Tensor, size: int) -> None:
        super().__init__()
        levels, codebook_size, dim = codebooks.shape
        self.own = random_weights(levels, codebook_size + 1, size, spread=0.02)  # the last row: no code
        self.projection = random_weights(dim, size, spread=dim**-0.5)

    def forward(self, codebooks: Tensor) -> Tensor:
        """The vectors of all codes, `[L, C + 1, D]`."""
        return self.own + F.pad(codebooks @ self.projection, (0, 0, 0, 1))


class CodeLogits(nn.Module):
    """Logits of the next code: a linear map for each level, plus a scaled product with the codebook vectors."""

    def __init__(self, codebooks: Tensor, size: int) -> None:
        super().__init__()
        levels, codebook_size, dim = codebooks.shape
        self.own = random_weights(levels, codebook_size, size, spread=0.02)
        self.bias = nn.Parameter(torch.zeros(levels, codebook_size))
        self.projection = random_weights(levels, dim, size, spread=size**-0.5)
        self.scale = nn.Parameter(torch.full((levels, 1, 1), dim**-0.5))

    def forward(self, codebooks: Tensor) -> Tensor:
        """The whole map as one matrix a level, `[L, C, D]`."""
        return self.own + self.scale * (codebooks @ self.projection)


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
        rate = 10_000.0 ** (-torch.arange(size // 2, dtype=torch.float64) / (size // 2))
        # in double precision, since an hour of sound has many positions; on the CPU, since not every GPU has it
        angle = torch.arange(first, first + count, dtype=torch.float64)[:, None] * rate
        cos, sin = angle.cos(), angle.sin()
        return cls(torch.cat([cos, cos], dim=-1).to(like), torch.cat([-sin, sin], dim=-1).to(like))

    def __call__(self, x: Tensor) -> Tensor:
        """`x [..., T, d]`, rotated."""
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
        batch, length, size = x.shape
        split = self.inputs(x).view(batch, length, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind()  # each [B, H, T, d]
        query, key = rotation(query), rotation(key)
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


class TransformerCore(nn.Module):
    """Layers of causal attention, each over a sliding window, so that any length can be read and made."""

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


class GruCore(nn.Module):
    """Gated recurrent layers with a residual path around each (Cho et al. 2014), in single precision."""

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


@dataclass(frozen=True)
class Tables:
    """What codes are looked up in, and the output map, with their ties to the codebooks worked out.

    Attributes:
        previous: `[L * (C + 1), D]`, the codes of the band before.
        frame_back: `[L * (C + 1), D]`, those of the same band one frame before.
        coarser: `[L * (C + 1), D]`, those above a level in the same band.
        same_level: `[L * (C + 1), D]`, the code of the same band and level one frame before.
        logits: `[L, C, D]`.
    """

    previous: Tensor
    frame_back: Tensor
    coarser: Tensor
    same_level: Tensor
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
        self.frame_back = random_weights(size, size, spread=size**-0.5)
        self.coarser = random_weights(size, size, spread=size**-0.5)
        self.same_level = random_weights(size, size, spread=size**-0.5)
        self.band = random_weights(shape.bands, size, spread=0.02)  # which band is next
        self.time = random_weights(KNOWN_FRAMES, size, spread=0.02)  # its frame in the recording
        self.level = random_weights(shape.levels, size, spread=0.02)
        self.dropout = Dropout(settings.dropout)
        self.core: TransformerCore | GruCore = (
            GruCore(settings) if settings.architecture == "gru" else TransformerCore(settings, shape.bands)
        )
        self.within_band = feed_forward(size)
        self.norm = Norm(size)
        self.logits = CodeLogits(self.codebooks, size)
        self.end = Linear(size, 1)

    def tables(self) -> Tables:
        """What the network looks up; the same until a weight changes."""
        own = self.embedding(self.codebooks).flatten(0, 1)
        return Tables(
            own, own @ self.frame_back, own @ self.coarser, own @ self.same_level, self.logits(self.codebooks)
        )

    def rows(self, codes: Tensor) -> Tensor:
        """Where in the tables the codes `[..., L]` stand."""
        return codes + torch.arange(self.shape.levels, device=codes.device) * (self.shape.codebook_size + 1)

    def read(
        self,
        tables: Tables,
        previous: Tensor,
        frame_back: Tensor,
        band: Tensor,
        frame: Tensor,
        state: CoreState | None,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, CoreState]:
        """What the network knows before each of T bands, `[B, T, D]`, and the state to go on from.

        Args:
            tables: from `tables`.
            previous: int `[B, T, L]`, the codes of the band before each; the last of a frame stands before the first.
            frame_back: int `[B, T, L]`, the codes of the same band one frame before.
            band: int `[T]`, the place of each in its frame.
            frame: int `[B, T]`, its frame, counted from the recording's start.
            state: where an earlier call on the bands just before left off.
            dtype: the precision to compute in.
        """
        # lookups by F.embedding throughout: the gradient of plain indexing is summed in no fixed order
        x = F.embedding(self.rows(previous), tables.previous).sum(2)
        x = x + F.embedding(self.rows(frame_back), tables.frame_back).sum(2)
        x = x + F.embedding(band, self.band) + F.embedding(frame.clamp(max=KNOWN_FRAMES - 1), self.time)
        return self.core(self.dropout(x.to(dtype)), state)

    def level_logits(self, tables: Tables, y: Tensor, known: Tensor, first: int = 0) -> Tensor:
        """Logits of the levels `first`, `first + 1`, … of bands.

        Args:
            tables: from `tables`.
            y: `[B, T, D]`, from `read`.
            known: `[B, T, levels, D]`, for each of those levels the sum of `tables.coarser` over the levels above it,
                and `tables.same_level`.
            first: the first of the levels.

        Returns:
            `[B, T, levels, C]`, in single precision.
        """
        last = first + known.shape[2]
        z = y[:, :, None] + self.dropout((known + self.level[first:last]).to(y.dtype))
        z = self.norm(z + self.dropout(self.within_band(z)))
        return torch.einsum("btld,lcd->btlc", z, tables.logits[first:last].to(z.dtype)) + self.logits.bias[first:last]

    def end_logits(self, y: Tensor) -> Tensor:
        """Logits `[B, T]` that the recording is over, from what is known before some frames, `y [B, T, D]`."""
        return self.end(self.norm(y)).squeeze(-1).float()

    def forward(
        self,
        frames: Tensor,
        first_frame: Tensor,
        state: CoreState | None = None,
        *,
        look_past: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor, CoreState]:
        """Logits of every code of a window, each from all before it.

        Args:
            frames: int `[B, 1 + window, N]` as in `dataset.Batch`: the window and the frame before it.
            first_frame: int `[B]`.
            state: where an earlier call on the stretch just before left off.
            look_past: also say whether the recording ends with the window; the state is then one position too far.
            dtype: the precision to compute in; weights and results are in single precision all the same.

        Returns:
            code logits `[B, window, bands, L, C]`; logits that the recording is over before each frame of the window
            `[B, window]`, with `look_past` also before the one after it, `[B, window + 1]`; the state.
        """
        bands = self.shape.bands
        codes = frames.unflatten(2, (bands, -1)).flatten(1, 2)  # [B, bands before and in the window, L]
        count = codes.shape[1] - bands
        length = count + look_past
        place = torch.arange(length, device=frames.device)
        tables = self.tables()
        y, state = self.read(
            tables,
            codes[:, bands - 1 : bands - 1 + length],
            codes[:, :length],
            place % bands,
            first_frame[:, None] + place // bands,
            state,
            dtype,
        )
        coarser = F.embedding(self.rows(codes[:, bands:])[..., :-1], tables.coarser).cumsum(2)
        known = F.pad(coarser, (0, 0, 1, 0)) + F.embedding(self.rows(codes[:, :count]), tables.same_level)
        logits = self.level_logits(tables, y[:, :count], known)
        return logits.unflatten(1, (-1, bands)), self.end_logits(y[:, ::bands]), state
