"""Log-mel spectrogram back to sound: magnitudes that have this mel, and phases that fit the magnitudes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from host_stubs.banded import Banded
from host_stubs.mel import Mel

_FIRST_WINDOWS = (16, 16, 32, 64)  # mel frames, few, so that sound starts soon
_WINDOW = 128  # mel frames of all other windows: longer ones do less work twice, but have to be waited for
_INVERSION_ROUNDS = 4
_LEAST_WEIGHT = 0.05  # where a window's last frame ends, little is known of the sound: it is let fade out
_FLOOR = 1e-4  # mel power below which nothing is audible, nor visible in log(1 + mel)
_STEP = 1.25  # how far a round goes; bins in two bands follow their mean, so a single step falls short; 1.4 diverges
_LOUDEST = 20.0  # log-mel that no sound in -1..1 reaches; what lies above is a broken decoder's


def window_sizes() -> Iterator[int]:
    """Mel frames of one window after another, without end, multiples of 16: few at first, then always the same."""
    return itertools.chain(_FIRST_WINDOWS, itertools.repeat(_WINDOW))


@dataclass(frozen=True)
class Open:
    """What a window leaves to the next one: its last frames, and how far the settled ones before them reach in.

    Samples are counted from where the first open frame begins.
    """

    target: Tensor  # mel power [frames, n_mels]
    spectrogram: Tensor  # [frames, bins]
    settled: Tensor  # windowed frames, overlapped and added [n_fft]
    weight: Tensor  # squared windows, overlapped and added [n_fft]
    early: int  # samples that are still to come before the sound begins


class GriffinLim:
    """Finds sound whose log-mel is a given one, with the fast Griffin-Lim algorithm, from the start to the end.

    Each round goes from a spectrogram to sound and back, extrapolates what comes out by `momentum` (Perraudin, Balazs,
    Søndergaard 2013, "A fast Griffin-Lim algorithm", doi:10.1109/WASPAA.2013.6701851), and corrects the magnitudes. The
    usual correction puts back fixed magnitudes, but a mel spectrogram fixes only a sum of powers for each band: here a
    band's bins are scaled together until they have its mel power. That leaves the bins inside a band free to take
    values which belong to real sound, and the result comes several times closer to the log-mel.

    The rounds go over a window of frames at a time, with the sound before it standing still, and leave the last frames
    open for the next window (Zhu, Beauregard, Wyse 2007, "Real-time signal estimation from modified short-time Fourier
    transform magnitude spectra", doi:10.1109/TASL.2007.899236). So nothing is faded over and there are no seams.

    The first phases are seeded noise: the same log-mel in the same windows gives the same samples.

    Samples that leave -1..1 are clipped in every round, not only at the end, so that the later rounds find phases
    with smaller peaks for the same mel; only sound that is too loud with any phases ends up clipped.
    """

    def __init__(self, mel: Mel, rounds: int = 24, momentum: float = 0.9) -> None:
        self.mel = mel
        self.rounds = rounds
        self.momentum = momentum
        # What comes after a frame bears on its phases, so a window leaves its last frames open for the next one.
        self._ahead = 2 * mel.settings.n_fft // mel.settings.hop_length
        self._heights = mel.filters.sum(1).clamp(min=1e-9)  # [n_mels]
        # How much each band has to say about each bin: columns sum to 1, or to 0 outside all filters. [n_mels, bins]
        self._to_bins = Banded(mel.filters / mel.filters.sum(0).clamp(min=1e-9))

    def audio(self, log_mel: Tensor) -> Tensor:
        """`[n_mels, frames]` -> float32 `[frames * hop_length]` in -1..1."""
        ends = itertools.takewhile(lambda end: end < log_mel.shape[1], itertools.accumulate(window_sizes()))
        windows = log_mel.tensor_split([*ends], dim=1)
        return torch.cat([log_mel.new_zeros(0), *self.stream(windows)])

    def stream(self, log_mels: Iterable[Tensor]) -> Iterator[Tensor]:
        """Log-mels `[n_mels, frames]`, one after another -> float32 `[samples]` in -1..1, together all their sound.

        Each log-mel makes a window and gives sound at once, all but that of the last few frames; the end of `log_mels`
        gives the rest. Where the log-mels are cut decides about the windows, and so about the samples.
        """
        open_frames = self.nothing()
        noise = torch.Generator().manual_seed(0)
        for log_mel in log_mels:
            if log_mel.shape[1]:
                audio, open_frames = self._window(open_frames, self.power(log_mel), noise)
                yield audio
        if len(open_frames.target):
            # Frames are centred on multiples of the hop, so the last hop of samples lies before one frame more.
            yield self._window(open_frames, open_frames.target[-1:], noise, last=True)[0]

    def power(self, log_mel: Tensor) -> Tensor:
        """Log-mel `[n_mels, frames]` -> the mel power that is to be heard, `[frames, n_mels]`."""
        return log_mel.nan_to_num(nan=0.0).clamp_(0, _LOUDEST).expm1().T

    def nothing(self) -> Open:
        """What stands open before the first window."""
        filters, n_fft = self.mel.filters, self.mel.settings.n_fft
        bands, bins = filters.shape
        spectrogram, silence = filters.new_zeros(0, bins, dtype=torch.complex64), filters.new_zeros(n_fft)
        return Open(filters.new_zeros(0, bands), spectrogram, silence, silence, early=n_fft // 2)

    def _window(self, before: Open, target: Tensor, noise: torch.Generator, last: bool = False) -> tuple[Tensor, Open]:
        """The open frames and those of `target`, mel power `[frames, n_mels]` -> sound, and what is open then."""
        window = self.window(before, len(target), last)
        spectrogram = self.started(window, target, torch.randn(window.unknown, generator=noise).to(target.device))
        target = torch.cat([before.target, target])
        previous = None
        for _ in range(self.rounds):
            current = window.heard(spectrogram)
            spectrogram = self.corrected(previous, current, target)
            previous = current
        return self.settled(window, spectrogram, target)

    def window(self, before: Open, frames: int, last: bool = False) -> Window:
        """What is to be found of the open frames and so many new ones."""
        return Window(self.mel, before, len(before.target) + frames, last)

    def started(self, window: Window, target: Tensor, noise: Tensor) -> Tensor:
        """Spectrogram `[frames, bins]` of a window's open frames and of the new ones, which `target` is of.

        The new ones' phases are those of the sound that reaches into them, and of noise, `[window.unknown]`.
        """
        before = window.before
        known = len(before.spectrogram)
        sound = Window(self.mel, before, known).sound(before.spectrogram) if known else target.new_zeros(0)
        new = window.spectrogram(torch.cat([sound, 0.01 * noise]))[known:]
        phases = new / (new.abs() + 1e-9)
        return torch.cat([before.spectrogram, self._magnitudes(target) * phases])

    def corrected(self, previous: Tensor | None, current: Tensor, target: Tensor) -> Tensor:
        """What one round makes of the spectrogram that was heard, and of the one heard the round before."""
        return self._corrected(self._extrapolated(previous, current), target)

    def settled(self, window: Window, spectrogram: Tensor, target: Tensor) -> tuple[Tensor, Open]:
        """The sound of a window's frames, all but the last, and what is open then; `target` is of all of them."""
        done = len(target) if window.ends else max(0, len(target) - self._ahead)
        audio, settled, weight = window.settled(spectrogram, done)
        left = max(0, window.before.early - len(audio))
        return audio[window.before.early :], Open(target[done:], spectrogram[done:], settled, weight, left)

    def _extrapolated(self, previous: Tensor | None, current: Tensor) -> Tensor:
        """`current` `[frames, bins]`, gone further in the direction that it took from `previous`."""
        if previous is None:
            return current
        way = torch.lerp(torch.view_as_real(previous), torch.view_as_real(current), 1 + self.momentum)
        return torch.view_as_complex(way)

    def _magnitudes(self, target: Tensor) -> Tensor:
        """Non-negative magnitudes `[frames, bins]` with about the mel power `target`.

        Multiplicative updates for the Kullback-Leibler divergence (Lee and Seung 2001, "Algorithms for non-negative
        matrix factorization"): unlike the pseudo-inverse they never go below zero, where clipping would add power.
        """
        powers = self._to_bins.after(target / self._heights)  # [frames, bins]
        for _ in range(_INVERSION_ROUNDS):
            powers = powers * self._to_bins.after(target / (self.mel.in_bands(powers) + 1e-9))
        return powers ** (1 / self.mel.settings.power)

    def _corrected(self, spectrogram: Tensor, target: Tensor) -> Tensor:
        """`spectrogram` `[frames, bins]`, scaled in each band towards the mel power `target` `[frames, n_mels]`."""
        mel_power = self.mel.in_bands(self.mel.power(spectrogram))
        gain = torch.log((target + _FLOOR) / (mel_power + _FLOOR)).mul_(_STEP / self.mel.settings.power)
        return spectrogram * self._to_bins.after(gain).exp_()


class Window:
    """Sound and spectrogram of some frames that stand after settled ones, and how the one becomes the other.

    `ends` says that no frames follow. There, and where the sound begins, it goes on as its mirror image, as for the
    mel; elsewhere it fades out, for what follows is not known yet. Nothing is known of the last `unknown` samples.
    """

    def __init__(self, mel: Mel, before: Open, frames: int, ends: bool = False) -> None:
        n_fft, hop = mel.settings.n_fft, mel.settings.hop_length
        known = len(before.target)
        self.samples = (frames - 1) * hop + n_fft
        self.unknown = self.samples - ((known - 1) * hop + n_fft if known else 0)
        self.before = before
        self.ends = ends
        self._mel = mel
        self._begins = before.early == n_fft // 2 and frames > 1  # one frame is too short for a mirror image
        weight = _overlap_add(mel.window.square().expand(frames, n_fft), hop, before.weight)
        self._scale = 1 / weight[: self.samples].clamp(min=_LEAST_WEIGHT)

    def sound(self, spectrogram: Tensor) -> Tensor:
        """Complex `[frames, bins]` -> `[samples]` in -1..1: windowed frames, overlapped and added."""
        half = self._mel.settings.n_fft // 2
        added = _overlap_add(self._frames(spectrogram), self._mel.settings.hop_length, self.before.settled)
        audio = added[: self.samples].mul_(self._scale).clamp_(-1, 1)
        if self._begins:
            audio[:half] = audio[half + 1 : 2 * half + 1].flip(0)
        if self.ends:
            audio[-half:] = audio[-2 * half - 1 : -half - 1].flip(0)
        return audio

    def heard(self, spectrogram: Tensor) -> Tensor:
        """What a spectrogram `[frames, bins]` is once it has been sound."""
        return self.spectrogram(self.sound(spectrogram))

    def spectrogram(self, audio: Tensor) -> Tensor:
        """`[samples]` -> complex `[frames, bins]`, framed as the mel is."""
        return self._mel.spectrogram(audio[None])[0]

    def settled(self, spectrogram: Tensor, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """The first `frames`, as they are to stay: their sound in -1..1, and what `Open` is to have of them."""
        n_fft, hop = self._mel.settings.n_fft, self._mel.settings.hop_length
        added = _overlap_add(self._frames(spectrogram)[:frames], hop, self.before.settled)
        weight = _overlap_add(self._mel.window.square().expand(frames, n_fft), hop, self.before.weight)
        done = (frames - 1) * hop + n_fft // 2 if self.ends else frames * hop
        audio = (added[:done] / weight[:done].clamp(min=1e-6)).clamp(-1, 1)
        return audio, added[frames * hop :][:n_fft], weight[frames * hop :][:n_fft]

    def _frames(self, spectrogram: Tensor) -> Tensor:
        return torch.fft.irfft(spectrogram, n=self._mel.settings.n_fft).mul_(self._mel.window)


def _overlap_add(frames: Tensor, hop: int, before: Tensor) -> Tensor:
    """`[frames, n_fft]`, and what reaches in from before them, `[n_fft]` -> `[at least frames * hop + n_fft]`"""
    count, n_fft = frames.shape
    pieces = -(-n_fft // hop)
    total = frames.new_zeros(count + pieces, hop)
    for piece in range(pieces):
        part = frames[:, piece * hop : (piece + 1) * hop]
        total[piece : piece + count, : part.shape[1]] += part
    total = total.view(-1)
    total[:n_fft] += before
    return total
