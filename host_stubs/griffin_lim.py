"""Log-mel spectrogram back to sound: magnitudes that have this mel, and phases that fit the magnitudes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from host_stubs.mel import Mel

_INVERSION_ROUNDS = 8
_FLOOR = 1e-4  # mel power below which nothing is audible, nor visible in log(1 + mel)
_STEP = 1.5  # how far a round goes; bins in two bands follow their mean, so a single step falls short
_LOUDEST = 20.0  # log-mel that no sound in -1..1 reaches; what lies above is a broken decoder's
_SEGMENT = 1024  # mel frames that are worked on at once (11 s at 48 kHz), so that memory does not grow with length
_OVERLAP = 32  # mel frames that a segment shares with the one before it


class GriffinLim:
    """Finds sound whose log-mel is a given one, with the fast Griffin-Lim algorithm.

    Each round goes from a spectrogram to sound and back, keeps the phases that come out, extrapolated by `momentum`
    (Perraudin, Balazs, Søndergaard 2013, "A fast Griffin-Lim algorithm", doi:10.1109/WASPAA.2013.6701851), and corrects
    the magnitudes. The usual correction puts back fixed magnitudes, but a mel spectrogram fixes only a sum of powers
    for each band: here a band's bins are scaled together until they have its mel power. That leaves the bins inside
    a band free to take values which belong to real sound, and the result comes several times closer to the log-mel.

    The first phases are seeded noise: the same log-mel gives the same samples.

    Samples that leave -1..1 are clipped in every round, not only at the end, so that the later rounds find phases
    with smaller peaks for the same mel; only sound that is too loud with any phases ends up clipped.
    """

    def __init__(self, mel: Mel, rounds: int = 24, momentum: float = 0.99) -> None:
        self.mel = mel
        self.rounds = rounds
        self.momentum = momentum
        # How much each band has to say about each bin: columns sum to 1, or to 0 outside all filters. [n_mels, bins]
        self._shares = mel.filters / mel.filters.sum(0).clamp(min=1e-9)

    def audio(self, log_mel: Tensor) -> Tensor:
        """`[n_mels, frames]` -> float32 `[frames * hop_length]` in -1..1."""
        hop, frames = self.mel.settings.hop_length, log_mel.shape[1]
        # Frames are centred on multiples of the hop, so the last hop of samples lies before one frame more.
        target = F.pad(log_mel.clamp(0, _LOUDEST)[None], (0, 1), mode="replicate")[0].expm1().T if frames else log_mel.T
        noise = torch.Generator().manual_seed(0)
        audio = torch.zeros(0, device=log_mel.device)
        for start in range(0, frames, _SEGMENT):
            shared = min(start, _OVERLAP)
            end = min(start + _SEGMENT, frames)
            segment = self._segment(target[start - shared : end + 1], audio[(start - shared) * hop :], noise)
            fade = torch.linspace(0, 1, shared * hop, device=audio.device)
            audio[len(audio) - len(fade) :] += fade * (segment[: len(fade)] - audio[len(audio) - len(fade) :])
            audio = torch.cat([audio, segment[len(fade) :]])
        return audio

    def _segment(self, target: Tensor, before: Tensor, noise: torch.Generator) -> Tensor:
        """Mel power `[frames + 1, n_mels]` -> `[frames * hop]`; `before` is the sound already found for its start."""
        samples = (len(target) - 1) * self.mel.settings.hop_length
        start = 0.01 * torch.randn(samples, generator=noise).to(target.device)
        start[: len(before)] = before
        previous = self._spectrogram(start)  # [frames + 1, bins]
        spectrogram = self._magnitudes(target) * _phases(previous)
        for _ in range(self.rounds):
            current = self._spectrogram(self._sound(spectrogram, samples))
            magnitudes = self._corrected(current.abs(), target)
            spectrogram = magnitudes * _phases(current + self.momentum * (current - previous))
            previous = current
        return self._sound(spectrogram, samples)

    def _magnitudes(self, target: Tensor) -> Tensor:
        """Non-negative magnitudes `[frames, bins]` with about the mel power `target`.

        Multiplicative updates for the Kullback-Leibler divergence (Lee and Seung 2001, "Algorithms for non-negative
        matrix factorization"): unlike the pseudo-inverse they never go below zero, where clipping would add power.
        """
        filters = self.mel.filters
        powers = (target / filters.sum(1).clamp(min=1e-9)) @ self._shares  # [frames, bins]
        for _ in range(_INVERSION_ROUNDS):
            powers = powers * ((target / (powers @ filters.T + 1e-9)) @ self._shares)
        return powers ** (1 / self.mel.settings.power)

    def _corrected(self, magnitudes: Tensor, target: Tensor) -> Tensor:
        """`magnitudes` `[frames, bins]`, scaled in each band towards the mel power `target` `[frames, n_mels]`."""
        power = self.mel.settings.power
        mel_power = magnitudes**power @ self.mel.filters.T
        gain = torch.log((target + _FLOOR) / (mel_power + _FLOOR)) @ self._shares  # [frames, bins], log of power
        return magnitudes * torch.exp(_STEP * gain / power)

    def _spectrogram(self, audio: Tensor) -> Tensor:
        """`[samples]` -> complex `[1 + samples // hop, bins]`, framed as the mel is."""
        frames = self.mel.padded(audio[None])[0].unfold(0, self.mel.settings.n_fft, self.mel.settings.hop_length)
        return torch.fft.rfft(frames * self.mel.window)

    def _sound(self, spectrogram: Tensor, samples: int) -> Tensor:
        """Complex `[frames, bins]` -> `[samples]` in -1..1: windowed frames, overlapped and added."""
        n_fft, hop = self.mel.settings.n_fft, self.mel.settings.hop_length
        frames = torch.fft.irfft(spectrogram, n=n_fft) * self.mel.window  # [frames, n_fft]
        squares = self.mel.window.square().expand(len(frames), n_fft)
        audio = _overlap_add(frames, hop) / _overlap_add(squares, hop).clamp(min=1e-6)
        return audio[n_fft // 2 : n_fft // 2 + samples].clamp(-1, 1)


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """`[frames, n_fft]` -> `[at least (frames - 1) * hop + n_fft]`"""
    pieces = -(-frames.shape[1] // hop)
    split = F.pad(frames, (0, pieces * hop - frames.shape[1])).view(len(frames), pieces, hop)
    total = split.new_zeros(len(frames) + pieces - 1, hop)
    for piece in range(pieces):
        total[piece : piece + len(frames)] += split[:, piece]
    return total.view(-1)


def _phases(spectrogram: Tensor) -> Tensor:
    return spectrogram / (spectrogram.abs() + 1e-9)
