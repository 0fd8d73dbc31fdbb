"""Sound to log-mel spectrogram, exactly as the existing host defines it, and how its frames are counted."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from host_stubs.banded import Banded
from host_stubs.errors import HostError, shown


@dataclasses.dataclass(frozen=True)
class MelSettings:
    """The spectrogram's settings, under the names they have in the existing host's model files."""

    sample_rate: int = 48_000  # Hz
    n_fft: int = 2048  # samples of a window
    hop_length: int = 512  # samples from one mel frame to the next
    n_mels: int = 128
    f_min: float = 0.0  # Hz
    f_max: float | None = None  # Hz; None: half the sample rate
    power: float = 2.0  # exponent of the magnitudes before the mel filters

    def __post_init__(self) -> None:
        top = self.sample_rate / 2
        highest = top if self.f_max is None else self.f_max
        sensible = (
            1_000 <= self.sample_rate <= 1_000_000
            and 64 <= self.n_fft <= 16_384
            and self.n_fft % 2 == 0
            and self.n_fft // 32 < self.hop_length <= self.n_fft // 2  # 16 hops, a code frame, fill half a window
            and 1 <= self.n_mels <= 512
            and 0 <= self.f_min <= highest - 1
            and highest <= top  # nearer ones would be one number, and filters none
            and self.power in (1.0, 2.0)
        )
        if not sensible:
            settings = ", ".join(f"{name} {shown(value)}" for name, value in dataclasses.asdict(self).items())
            raise HostError(f"The spectrogram settings make no sense: {settings}.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MelSettings:
        """Settings from a file's plain values. Raises HostError if one is missing, of another type or senseless."""
        for field in dataclasses.fields(cls):
            value = values.get(field.name)
            whole = field.type == "int"
            fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not fits and not (field.name == "f_max" and value is None):
                raise HostError(f"The spectrogram setting {field.name} is missing or not a number: {shown(value)}.")
        given: dict[str, Any] = {field.name: values.get(field.name) for field in dataclasses.fields(cls)}
        return cls(**given)


class Mel:
    """Log-mel spectrograms of sound: centred Hann frames, HTK mel filters without normalization, log(1 + x)."""

    def __init__(self, settings: MelSettings, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.window = torch.hann_window(settings.n_fft, device=device)  # [n_fft]
        self.filters = torch.from_numpy(mel_filters(settings)).to(device)  # [n_mels, bins]
        self._bands = Banded(self.filters.T)

    def frame_count(self, samples: int) -> int:
        """How many mel frames `samples` samples have."""
        return 1 + samples // self.settings.hop_length

    def log_mel(self, audio: Tensor) -> Tensor:
        """`[batch, samples]` in -1..1 -> `[batch, n_mels, frame_count(samples)]`, from 0 upwards."""
        return self.log_mel_frames(self.padded(audio), 0, self.frame_count(audio.shape[-1]))

    def padded(self, audio: Tensor) -> Tensor:
        """`audio` mirrored at both ends by half a window, so that frame i is centred on sample i * hop_length.

        A mirror image needs more sound than it is long: shorter audio gets zeros at its end first.
        """
        half = self.settings.n_fft // 2
        missing = max(0, half + 1 - audio.shape[-1])
        return F.pad(F.pad(audio, (0, missing)), (half, half), mode="reflect")

    def log_mel_frames(self, padded: Tensor, first: int, end: int) -> Tensor:
        """Only the frames `first` to `end` (excluded) of the log-mel of `padded`, at the cost of only those."""
        hop, n_fft = self.settings.hop_length, self.settings.n_fft
        spectrogram = self.spectrogram(padded[:, first * hop : (end - 1) * hop + n_fft])
        bands = self.in_bands(self.power(spectrogram).flatten(0, 1)).unflatten(0, spectrogram.shape[:2])
        return bands.log1p_().transpose(1, 2)  # [batch, n_mels, frames]

    def spectrogram(self, audio: Tensor) -> Tensor:
        """`[batch, (frames - 1) * hop_length + n_fft]` -> complex `[batch, frames, bins]`."""
        frames = audio.unfold(1, self.settings.n_fft, self.settings.hop_length)
        return torch.fft.rfft(frames * self.window)

    def power(self, spectrogram: Tensor) -> Tensor:
        """Magnitudes of a complex spectrogram, to the power that the mel filters take; of the same shape."""
        squares = torch.view_as_real(spectrogram).square()
        power = squares[..., 0] + squares[..., 1]
        return power.sqrt_() if self.settings.power == 1.0 else power

    def in_bands(self, power: Tensor) -> Tensor:
        """`power` `[frames, bins]`, added up by the filters: mel power `[frames, n_mels]`."""
        return self._bands.after(power)


def mel_filters(settings: MelSettings) -> np.ndarray:
    """Triangular filters of height 1, spaced evenly on the HTK mel scale: float32 `[n_mels, n_fft // 2 + 1]`.

    The same numbers as `librosa.filters.mel(htk=True, norm=None)`, whose import takes longer than opening a model.
    """
    highest = settings.sample_rate / 2 if settings.f_max is None else settings.f_max
    mels = np.linspace(_hertz_to_mel(settings.f_min), _hertz_to_mel(highest), settings.n_mels + 2)
    corners = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)  # Hz [n_mels + 2]
    bins = np.linspace(0, settings.sample_rate / 2, settings.n_fft // 2 + 1)  # Hz
    filters = np.empty((settings.n_mels, len(bins)), np.float32)
    for band, (left, top, right) in enumerate(zip(corners[:-2], corners[1:-1], corners[2:], strict=True)):
        rising, falling = (bins - left) / (top - left), -(bins - right) / (right - top)
        filters[band] = np.maximum(0, np.minimum(rising, falling))
    return filters


def _hertz_to_mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)
