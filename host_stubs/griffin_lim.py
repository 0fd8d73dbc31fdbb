"""Log-mel spectrogram back to sound: the mel filters inverted, then phases found by a fast Griffin-Lim."""

from __future__ import annotations

import torch
from torch import Tensor

from host_stubs.mel import Mel


class GriffinLim:
    """basic"""

    def __init__(self, mel: Mel, rounds: int = 32, momentum: float = 0.99) -> None:
        self.mel = mel
        self.rounds = rounds
        self.momentum = momentum
        self._pinv = torch.linalg.pinv(mel.filters)

    def audio(self, log_mel: Tensor) -> Tensor:
        s = self.mel.settings
        log_mel = torch.cat([log_mel, log_mel[:, -1:]], 1)
        magnitude = (self._pinv @ torch.expm1(log_mel)).clamp(min=0) ** (1 / s.power)
        count = magnitude.shape[1]
        n = (count - 1) * s.hop_length
        angles = torch.randn(magnitude.shape, generator=torch.Generator().manual_seed(0)).to(magnitude)
        phase = torch.polar(torch.ones_like(angles), angles * 3)
        prev = torch.zeros_like(phase)
        for _ in range(self.rounds):
            x = torch.istft(magnitude * phase, s.n_fft, s.hop_length, window=self.mel.window, length=n)
            spec = torch.stft(x, s.n_fft, s.hop_length, window=self.mel.window, return_complex=True)
            phase = spec + self.momentum * (spec - prev)
            phase = phase / phase.abs().clamp(min=1e-8)
            prev = spec
        x = torch.istft(magnitude * phase, s.n_fft, s.hop_length, window=self.mel.window, length=n)
        return x.clamp(-1, 1)
