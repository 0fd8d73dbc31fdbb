"""A codec of another kind than the host's own: one position in a frame, many frames a second, many levels.

Its codes are like those of EnCodec (Défossez et al. 2022, arXiv:2210.13438), 75 frames a second with 8 levels of 1024,
or of DAC (Kumar et al. 2023, arXiv:2306.06546), 86 with 9, but it is learned in seconds: a residual quantizer, k-means
level by level, of the frames of a log-mel spectrogram.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from host_stubs.griffin_lim import GriffinLim
from host_stubs.mel import Mel, MelSettings
from host_stubs.network import code_vectors, nearest_codes

RATE, N_FFT, DIM = 24_000, 1024, 64
ROUNDS = 10
MOST_FRAMES = 16_000
"""To learn from: so many are chosen where there are more."""


class ResidualCodec:
    """Turns sound into codes `[frames, 1, levels]` and back: what a prior asks of a codec."""

    sample_rate, bands = RATE, 1

    def __init__(self, mel: Mel, codebooks: Tensor) -> None:
        self._mel, self._codebooks = mel, codebooks
        self.frame_samples = mel.settings.hop_length
        self.levels, self.codebook_size, _ = codebooks.shape

    @classmethod
    def learned(
        cls, sounds: Sequence[np.ndarray], *, frames_per_second: float, levels: int, codebook_size: int, seed: int = 0
    ) -> ResidualCodec:
        """The codec of some sounds at RATE, float `[samples]` each; the same ones give the same."""
        mel = Mel(MelSettings(RATE, N_FFT, round(RATE / frames_per_second), DIM))
        chance = torch.Generator().manual_seed(seed)
        rest = torch.cat([_frames(mel, sound) for sound in sounds])
        rest = rest[torch.randperm(len(rest), generator=chance)[:MOST_FRAMES]]
        books = []
        for _ in range(levels):
            books.append(k_means(rest, codebook_size, chance))
            rest = rest - books[-1][_nearest(rest, books[-1])]
        return cls(mel, torch.stack(books))

    @property
    def codebooks(self) -> np.ndarray:
        """float32 `[levels, codebook_size, DIM]`"""
        return self._codebooks.numpy()

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """float `[samples]` -> int `[frames, 1, levels]`, so many frames as fit, rounded up."""
        return nearest_codes(_frames(self._mel, audio), self._codebooks)[:, None].numpy()

    def encode_many(self, sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Each as `encode` gives it."""
        return [self.encode(sound) for sound in sounds]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """int `[frames, 1, levels]` -> float32 `[frames * frame_samples]` in -1..1."""
        log_mel = code_vectors(torch.as_tensor(codes[:, 0].astype(np.int64)), self._codebooks)
        return GriffinLim(self._mel).audio(log_mel.T.contiguous()).numpy()


def k_means(points: Tensor, count: int, chance: torch.Generator) -> Tensor:
    """So many centres `[count, dim]` of points `[more, dim]` (Lloyd 1982), from some of these on."""
    centres = points[torch.randperm(len(points), generator=chance)[:count]].clone()
    for _ in range(ROUNDS):
        nearest = _nearest(points, centres)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        sizes = torch.bincount(nearest, minlength=len(centres))
        centres[sizes > 0] = sums[sizes > 0] / sizes[sizes > 0, None]
    return centres


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    return nearest_codes(points, centres[None])[:, 0]


def _frames(mel: Mel, audio: np.ndarray) -> Tensor:
    """Log-mel `[frames, DIM]`; a sound that fills its last frame exactly has one more, which is left out."""
    frames = -(-len(audio) // mel.settings.hop_length)
    return mel.log_mel(torch.from_numpy(np.ascontiguousarray(audio, np.float32))[None])[0].T[:frames].contiguous()
