"""The network between log-mel spectrograms and codes, with the parameter names of the existing host's models.

A log-mel `[n_mels, mel frames]` shrinks 16 times along both axes: to `bands` positions for each code frame. Both
axes must be multiples of 16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDE = 16  # mel bins and mel frames that one code position stands for: four convolutions of stride 2
_CHANNELS = (32, 64, 128, 256)


class Encoder(nn.Module):
    """Log-mel `[batch, 1, mels, mel frames]` -> latents `[batch, dim, bands, frames]`.

    With padding 1 and stride 2, output i of a convolution sees inputs 2i-1 to 2i+1; so after four, a code frame
    sees its own 16 mel frames and the 15 before them, and none after.
    """

    def __init__(self, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((1, *_CHANNELS), _CHANNELS, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), *_normalized(after, dropout)]
        self.convs = nn.Sequential(*layers)
        self.proj = nn.Conv2d(_CHANNELS[-1], dim, 1)

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.proj(self.convs(log_mel))


class Decoder(nn.Module):
    """Latents `[batch, dim, bands, frames]` -> log-mel `[batch, 1, 16 bands, 16 frames]`, from 0 upwards."""

    def __init__(self, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, _CHANNELS[-1], 1)
        layers: list[nn.Module] = []
        for before, after in zip(_CHANNELS[::-1], (*_CHANNELS[-2::-1], 1), strict=True):
            layers.append(nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1))
            layers += _normalized(after, dropout) if after > 1 else [nn.Softplus()]
        self.deconvs = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        return self.deconvs(self.proj(latents))


def nearest_codes(latents: Tensor, codebooks: Tensor) -> Tensor:
    """Residual quantization: `[positions, dim]`, `[levels, size, dim]` -> codes int `[positions, levels]`.

    Each level takes the codebook vector nearest to what the levels before it left over
    (Zeghidour et al. 2021, "SoundStream", https://arxiv.org/abs/2107.03312, algorithm 1).
    """
    codes = []
    for codebook in codebooks:
        # |residual - vector|^2 without |residual|^2, which is the same for every vector of the codebook
        distances = torch.addmm(codebook.square().sum(1), latents, codebook.T, alpha=-2)  # [positions, size]
        codes.append(distances.argmin(1))
        latents = latents - codebook[codes[-1]]
    return torch.stack(codes, dim=1)


def code_vectors(codes: Tensor, codebooks: Tensor) -> Tensor:
    """What the codes stand for: int `[..., levels]`, `[levels, size, dim]` -> `[..., dim]`."""
    return torch.stack([codebook[codes[..., level]] for level, codebook in enumerate(codebooks)]).sum(0)


def _normalized(channels: int, dropout: float) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(), nn.Dropout2d(dropout)]
