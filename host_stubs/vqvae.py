"""The VQ-VAE as it is trained: encoder, residual quantizer that learns its codebooks, decoder.

Opening and using a model needs only the two ends and the codebooks (codec.py), so only training waits for the import
of the quantizer's library.
"""

from __future__ import annotations

from torch import Tensor, nn
from vector_quantize_pytorch import ResidualVQ

from host_stubs.network import Decoder, Encoder


class Quantizer(nn.Module):
    """Residual quantizer whose codebooks follow the latents as moving averages (van den Oord et al. 2017).

    The codebooks start as k-means centres of the first batch; a code whose average use falls below `dead_below`
    vectors a batch is replaced by a vector of that batch.
    """

    def __init__(
        self, dim: int, codebook_size: int, levels: int, *, decay: float, commitment: float, dead_below: float
    ) -> None:
        super().__init__()
        self.rvq = ResidualVQ(
            dim=dim,
            codebook_size=codebook_size,
            num_quantizers=levels,
            decay=decay,
            commitment_weight=commitment,
            threshold_ema_dead_code=dead_below,
            kmeans_init=True,
            kmeans_iters=10,
            rotation_trick=False,  # the gradient goes straight through: turning it takes long and gains nothing here
        )

    @property
    def codebooks(self) -> Tensor:
        """`[levels, size, dim]`"""
        return self.rvq.codebooks

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[batch, dim, bands, frames]` -> quantized, codes `[batch, bands, frames, levels]`, commitment loss."""
        batch, dim, bands, frames = latents.shape
        vectors = latents.permute(0, 2, 3, 1).reshape(batch, bands * frames, dim)
        quantized, codes, losses = self.rvq(vectors)  # [batch, positions, dim], [batch, positions, levels], [1, levels]
        grid = quantized.view(batch, bands, frames, dim).permute(0, 3, 1, 2)
        return grid, codes.view(batch, bands, frames, -1), losses.mean()


class VqvaeNetwork(nn.Module):
    """The three parts under the names they have in the existing host's models."""

    def __init__(self, encoder: Encoder, quantizer: Quantizer, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder
