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

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.cores import (
    CoreState,
    Dropout,
    GruCore,
    Linear,
    NetworkSettings,
    Norm,
    TransformerCore,
    feed_forward,
)
from sda_prior_plugin.packing import Packing

KNOWN_FRAMES = 64
"""Frames from a recording's start that have an embedding of their own; later ones share the last, ..."""
STRETCHES_PER_OCTAVE = 8
"""... to which it is added, while time is told, how a stretch of frames, an eighth of an octave from the start,
differs from the one before, and all before it. So what no recording lasts for is told as the last moment of one that
is known, and not as something never heard of."""

LATER_WEIGHTS = {"embedding.scale": 1.0, "later": 0.0}
"""What priors of older versions lack, and where the network has it, what they do is as if it were this throughout."""


def level_spreads(codebooks: np.ndarray) -> np.ndarray:
    """How far the numbers of each level of the codebooks `[L, C, dim]` are spread, float32 `[L, 1, 1]`, never 0."""
    # in numpy: torch would load its compiler for a mere standard deviation of tensors without data, for over a second
    vectors = np.asarray(codebooks, dtype=np.float32)
    spreads = vectors.std(axis=(1, 2), ddof=1, keepdims=True, dtype=np.float64).astype(np.float32)
    return np.maximum(spreads, np.float32(1e-6))


def normalized(codebooks: np.ndarray) -> Tensor:
    """Codebooks `[L, C, dim]` with numbers of about size 1 at each level; later levels hold ever smaller residuals."""
    return torch.as_tensor(np.asarray(codebooks, dtype=np.float32) / level_spreads(codebooks))


def of_this_network(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights; those of older versions with what they lack of the `expected` ones, for the same to come of them."""
    later = {name: value for name, value in LATER_WEIGHTS.items() if name in expected}
    return {name: torch.full(expected[name].shape, value) for name, value in later.items()} | dict(weights)


def stretch_starts(timed_frames: int) -> list[int]:
    """The frames with which stretches begin: from the last that has an embedding of its own, below `timed_frames`."""
    octaves = math.log2(max(timed_frames / KNOWN_FRAMES, 1))
    starts = (math.ceil(KNOWN_FRAMES * 2 ** (n / STRETCHES_PER_OCTAVE)) for n in itertools.count())
    return list(itertools.islice(starts, math.ceil(STRETCHES_PER_OCTAVE * octaves)))


def random_weights(*shape: int, spread: float) -> nn.Parameter:
    """Normal numbers to start from, but for a network without data, for which torch would load its compiler."""
    weights = torch.empty(shape)
    return nn.Parameter(weights if weights.is_meta else weights.normal_(std=spread))


class CodeEmbedding(nn.Module):
    """Embeds codes: a learned vector for each code of each level, plus a scaled projection of its codebook vector.

    The scales begin as the codec's own, so that the sum over the levels of a band says how it sounds. Were all levels
    of one size, the finest, which is hardly heard, would drown the coarsest.

    Args:
        codebooks: as `normalized` has them.
        spreads: float32 `[L, 1, 1]`, as `level_spreads` has them.
        size: D.
    """

    def __init__(self, codebooks: Tensor, spreads: np.ndarray, size: int) -> None:
        super().__init__()
        levels, codebook_size, dim = codebooks.shape
        self.own = random_weights(levels, codebook_size + 1, size, spread=0.02)  # the last row: no code
        self.projection = random_weights(dim, size, spread=dim**-0.5)
        self.scale = nn.Parameter(torch.as_tensor(spreads / spreads.max()))

    def forward(self, codebooks: Tensor) -> Tensor:
        """The vectors of all codes, `[L, C + 1, D]`."""
        projected = self.scale.to(codebooks.dtype) * (codebooks @ self.projection.to(codebooks.dtype))
        return self.own + F.pad(projected, (0, 0, 0, 1))


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
        return self.own + self.scale * (codebooks @ self.projection.to(codebooks.dtype))


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
        self.embedding = CodeEmbedding(self.codebooks, level_spreads(codebooks), size)
        self.frame_back = random_weights(size, size, spread=size**-0.5)
        self.coarser = random_weights(size, size, spread=size**-0.5)
        self.same_level = random_weights(size, size, spread=size**-0.5)
        self.band = random_weights(shape.bands, size, spread=0.02)  # which band is next
        self.time = random_weights(KNOWN_FRAMES, size, spread=0.02)  # its frame in the recording
        self.stretches = stretch_starts(settings.timed_frames)
        self.later = nn.Parameter(torch.zeros(len(self.stretches), size)) if self.stretches else None
        self.level = random_weights(shape.levels, size, spread=0.02)
        self.kind = random_weights(settings.copy_kinds, size, spread=0.02) if settings.copy_kinds else None
        self.dropout = Dropout(settings.dropout)
        self.core: TransformerCore | GruCore = (
            GruCore(settings) if settings.architecture == "gru" else TransformerCore(settings, shape.bands)
        )
        self.within_band = feed_forward(size)
        self.norm = Norm(size)
        self.logits = CodeLogits(self.codebooks, size)
        self.end = Linear(size, 1)

    def tables(self, dtype: torch.dtype = torch.float32) -> Tables:
        """What the network looks up; the same until a weight changes."""
        codebooks = self.codebooks.to(dtype)
        own = self.embedding(codebooks).flatten(0, 1)
        back, coarser, same = (own @ learned.to(dtype) for learned in (self.frame_back, self.coarser, self.same_level))
        return Tables(own, back, coarser, same, self.logits(codebooks))

    def rows(self, codes: Tensor) -> Tensor:
        """Where in the tables the codes `[..., L]` stand."""
        return codes + torch.arange(self.shape.levels, device=codes.device) * (self.shape.codebook_size + 1)

    def embedded(
        self,
        tables: Tables,
        previous: Tensor,
        frame_back: Tensor,
        band: Tensor,
        frame: Tensor,
        kinds: Tensor | None = None,
    ) -> Tensor:
        """What the core reads before each of some bands, `[…, D]`.

        Args:
            tables: from `tables`.
            previous: int `[…, L]`, the codes of the band before each; the last of a frame stands before the first.
            frame_back: int `[…, L]`, the codes of the same band one frame before.
            band: int, the place of each in its frame.
            frame: int `[…]`, its frame, counted from the recording's start.
            kinds: int, which kind each is of; None for all as recorded, to which nothing is added.
        """
        # lookups by F.embedding throughout: the gradient of plain indexing is summed in no fixed order
        x = F.embedding(self.rows(previous), tables.previous).sum(-2)
        x = x + F.embedding(self.rows(frame_back), tables.frame_back).sum(-2)
        x = x + F.embedding(band, self.band) + self.told_time(frame)
        if kinds is not None and self.kind is not None:
            x = x + F.embedding(kinds, F.pad(self.kind, (0, 0, 1, 0)))
        return x

    def told_time(self, frame: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """What is added for how far from their recordings' start some frames are, `[…, D]` for int `[…]`."""
        told = F.embedding(frame.clamp(max=KNOWN_FRAMES - 1), self.time.to(dtype))
        if self.later is None:
            return told
        stretch = torch.bucketize(frame, torch.tensor(self.stretches, device=frame.device), right=True)
        # a sum by a product: the gradient of a cumulative one is summed in no fixed order on a GPU
        all_before = torch.ones(len(self.later), len(self.later), dtype=dtype, device=frame.device).tril()
        return told + F.embedding(stretch, F.pad(all_before @ self.later.to(dtype), (0, 0, 1, 0)))

    def level_logits(self, tables: Tables, y: Tensor, known: Tensor, first: int = 0) -> Tensor:
        """Logits of the levels `first`, `first + 1`, … of bands.

        Args:
            tables: from `tables`.
            y: `[…, D]`, from the core.
            known: `[…, levels, D]`, for each of those levels the sum of `tables.coarser` over the levels above it,
                and `tables.same_level`.
            first: the first of the levels.

        Returns:
            `[…, levels, C]`, in single precision.
        """
        last = first + known.shape[-2]
        z = y[..., None, :] + self.dropout((known + self.level[first:last]).to(y.dtype))
        z = self.norm(z + self.dropout(self.within_band(z)))
        return torch.einsum("...ld,lcd->...lc", z, tables.logits[first:last].to(z.dtype)) + self.logits.bias[first:last]

    def end_logits(self, y: Tensor) -> Tensor:
        """Logits `[…]` that the recording is over, from what is known before some frames, `y […, D]`."""
        return self.end(self.norm(y)).squeeze(-1).float()

    def forward(
        self,
        frames: Tensor,
        first_frame: Tensor,
        state: CoreState | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        kinds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, CoreState]:
        """Logits of every code of a window, each from all before it.

        Args:
            frames: int `[B, 1 + window, N]` as in `dataset.Batch`: the window and the frame before it.
            first_frame: int `[B]`.
            state: where an earlier call on the stretch just before left off.
            dtype: the precision to compute in; weights and results are in single precision all the same.
            kinds: int `[B]`, which kind of copy each row is of; None for all as recorded.

        Returns:
            code logits `[B, window, bands, L, C]`; logits that the recording is over before each frame of the window
            `[B, window]`; the state.
        """
        bands = self.shape.bands
        codes = frames.unflatten(2, (bands, -1)).flatten(1, 2)  # [B, bands before and in the window, L]
        count = codes.shape[1] - bands
        place = torch.arange(count, device=frames.device)
        tables = self.tables()
        x = self.embedded(
            tables,
            codes[:, bands - 1 : -1],
            codes[:, :count],
            place % bands,
            first_frame[:, None] + place // bands,
            None if kinds is None else kinds[:, None],
        )
        y, state = self.core(self.dropout(x.to(dtype)), state)
        logits = self.level_logits(tables, y, self.known(tables, codes[:, bands:], codes[:, :count]))
        return logits.unflatten(1, (-1, bands)), self.end_logits(y[:, ::bands]), state

    def known(self, tables: Tables, codes: Tensor, frame_back: Tensor) -> Tensor:
        """What `level_logits` takes, `[…, L, D]`: for int codes `[…, L]` of bands and those of one frame before."""
        same = F.embedding(self.rows(frame_back), tables.same_level)
        coarser = F.embedding(self.rows(codes)[..., :-1], tables.coarser).unbind(-2)
        # a cumulative sum takes torch several times as long, backwards even more
        return same + torch.stack([torch.zeros_like(same[..., 0, :]), *itertools.accumulate(coarser)], dim=-2)

    def packed(
        self, frames: Tensor, first_frame: Tensor, packing: Packing, kinds: Tensor, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What `forward` gives, of the positions of a packing only, as training needs it.

        Args:
            frames, first_frame, dtype: as `forward` has them.
            packing: of the bands of each row and one position more, from which it is seen whether the recording ends.
            kinds: int `[B]`, which kind of copy each row is of.

        Returns:
            code logits `[P, L, C]`, logits that the recording is over before each `[P]`, and the codes `[P, L]`; those
            that are after the end, and of what does not count, mean nothing.
        """
        bands = self.shape.bands
        codes = frames.unflatten(2, (bands, -1)).flatten(1, 2)  # [B, bands before and in the window, L]
        here = packing.rows * codes.shape[1] + packing.places
        flat = codes.flatten(0, 1)
        frame_back, previous, own = (flat[(here + ahead).clamp(max=len(flat) - 1)] for ahead in (0, bands - 1, bands))
        tables = self.tables()
        frame = first_frame[packing.rows] + packing.places // bands
        x = self.embedded(tables, previous, frame_back, packing.places % bands, frame, kinds[packing.rows])
        y = self.core.packed(self.dropout(x.to(dtype)), packing)
        return self.level_logits(tables, y, self.known(tables, own, frame_back)), self.end_logits(y), own
