"""The network between log-mel spectrograms and codes, with the parameter names of the existing host's models.

A log-mel `[n_mels, mel frames]` shrinks 16 times along both axes: to `bands` positions for each code frame. Both
axes must be multiples of 16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDE = 16  # mel bins and mel frames that one code position stands for: four convolutions of stride 2
COUNTER = "num_batches_tracked"
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


def network_shapes(dim: int) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in the state of `Encoder(dim)` and `Decoder(dim)`, known without making one.

    The names begin with "encoder." and "decoder.". Those that end with `COUNTER` are int64, all others float32.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.proj.weight": (dim, _CHANNELS[-1], 1, 1),
        "encoder.proj.bias": (dim,),
    }
    shapes |= {"decoder.proj.weight": (_CHANNELS[-1], dim, 1, 1), "decoder.proj.bias": (_CHANNELS[-1],)}
    for place, (before, after) in enumerate(zip((1, *_CHANNELS), _CHANNELS, strict=False)):
        first = len(_CHANNELS) * place
        shapes |= {f"encoder.convs.{first}.weight": (after, before, 3, 3), f"encoder.convs.{first}.bias": (after,)}
        shapes |= _normalization_shapes(f"encoder.convs.{first + 1}", after)
    for place, (before, after) in enumerate(zip(_CHANNELS[::-1], (*_CHANNELS[-2::-1], 1), strict=True)):
        first = len(_CHANNELS) * place
        shapes |= {f"decoder.deconvs.{first}.weight": (before, after, 3, 3), f"decoder.deconvs.{first}.bias": (after,)}
        if after > 1:
            shapes |= _normalization_shapes(f"decoder.deconvs.{first + 1}", after)
    return shapes


def _normalization_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    numbers = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{each}": (channels,) for each in numbers} | {f"{name}.{COUNTER}": ()}


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
