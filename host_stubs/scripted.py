# What a ModuleList holds has methods that mypy does not see.
# mypy: disable-error-code="operator"
"""The codec for programs without Python: a TorchScript module that turns codes into sound, and sound into codes.

What it computes is written once, in `codec.py` and below: it is traced from there, window by window, each for its own
fixed sizes. What stands here is only what stands between the windows, in the subset of Python that TorchScript knows.

PyTorch calls TorchScript deprecated and goes on loading it. A later format would take the place of this module.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from host_stubs.griffin_lim import GriffinLim, Open, Window, window_sizes
from host_stubs.network import STRIDE

LogMel = Callable[[Tensor], Tensor]
"""Codes int64 `[frames, bands, levels]` -> log-mel `[n_mels, 16 frames]`."""
EncodeBlock = Callable[[Tensor, int, int, int, list[int]], Tensor]
"""As `Codec._encode_block`."""


class ScriptedCodec(nn.Module):
    """Sound as codes come, and codes as sound comes; what it keeps does not grow.

    Attributes:
        lag: once it has been given so many more code frames than it is to have sounded, the sound is there.
    """

    noise: torch.Generator | None
    no_codes: Tensor
    no_sound: Tensor
    no_target: Tensor
    no_spectrogram: Tensor
    none_settled: Tensor

    def __init__(self, sound: GriffinLim, log_mel: LogMel, encode_block: EncodeBlock, shape: tuple[int, int]) -> None:
        super().__init__()
        windows = _windows(sound, log_mel, shape)
        self.rounds = sound.rounds
        self.windows = nn.ModuleList(window for window, _, _ in windows)
        self.sizes = [size for _, size, _ in windows]
        self.unknown = [unknown for _, _, unknown in windows]
        mel = sound.mel.settings
        self.ahead, self.hop, self.size = mel.n_fft // 2, mel.hop_length, STRIDE * mel.hop_length
        self.lag = -(-(2 * mel.n_fft + self.ahead) // self.size) + max(self.sizes)
        nothing = sound.nothing()
        self.register_buffer("no_codes", torch.zeros(0, *shape, dtype=torch.int64))
        self.register_buffer("no_sound", torch.zeros(0))
        self.register_buffer("no_target", nothing.target.clone())
        self.register_buffer("no_spectrogram", nothing.spectrogram.clone())
        self.register_buffer("none_settled", nothing.settled.clone())
        self.waiting, self.target, self.spectrogram = self.no_codes, self.no_target, self.no_spectrogram
        self.settled, self.place = self.none_settled, 0
        self.noise = None
        self.reach = [(frames * STRIDE - 1) * mel.hop_length + mel.n_fft for frames in (1, 2)]
        self.first, self.later = (
            _traced(_Encoder(encode_block, frames), {"forward": (torch.zeros(reach),)})
            for frames, reach in enumerate(self.reach, 1)
        )
        self.heard, self.samples, self.done = self.no_sound, 0, 0

    @torch.jit.export
    def restart(self) -> None:
        """Forget all codes and all sound."""
        self.waiting, self.target, self.spectrogram = self.no_codes, self.no_target, self.no_spectrogram
        self.settled, self.place = self.none_settled, 0
        self.noise = None
        self.heard, self.samples, self.done = self.no_sound, 0, 0

    @torch.jit.export
    def decode(self, codes: Tensor) -> Tensor:
        """Codes int64 `[some, bands, levels]` -> the samples that they make it possible to give, float32."""
        self.waiting = torch.cat([self.waiting, codes])
        found = [self.no_sound]
        while self.waiting.size(0) > self.sizes[self.place]:
            size = self.sizes[self.place]
            found.append(self._window(self.waiting[: size + 1]))
            self.waiting = self.waiting[size:].clone()
            self.place = min(self.place + 1, len(self.sizes) - 1)
        return torch.cat(found)

    @torch.jit.export
    def encode(self, sound: Tensor) -> Tensor:
        """Sound `[samples]` -> the codes of the frames that are over, int64 `[some, bands, levels]`."""
        self.heard, self.samples = torch.cat([self.heard, sound]), self.samples + sound.size(0)
        found = [self.no_codes]
        end = (self.done + 1) * self.size
        while self.samples > max(end, end - self.hop + self.ahead):
            if self.done == 0:
                mirrored = self.heard[1 : self.ahead + 1].flip(0)
                self.heard = torch.cat([mirrored, self.heard])
                found.append(self.first(self.heard[: self.reach[0]]))
            else:
                found.append(self.later(self.heard[: self.reach[1]]))
                self.heard = self.heard[self.size :].clone()
            self.done += 1
            end += self.size
        return torch.cat(found)

    def _window(self, codes: Tensor) -> Tensor:
        noise = self.noise
        if noise is None:
            noise = torch.Generator()
            noise.manual_seed(0)
            self.noise = noise
        unknown = torch.randn([self.unknown[self.place]], generator=noise)
        audio = self.no_sound
        for place, window in enumerate(self.windows):
            if place == self.place:
                spectrogram, target = window.begin(codes, self.target, self.spectrogram, self.settled, unknown)
                current = window.hear(spectrogram, self.settled)
                previous = current
                for _ in range(self.rounds - 1):
                    spectrogram = window.correct(previous, current, target)
                    previous = current
                    current = window.hear(spectrogram, self.settled)
                spectrogram = window.correct(previous, current, target)
                found = window.settle(spectrogram, target, self.settled)
                audio, self.target, self.spectrogram, self.settled = found
        return audio


def scripted_codec(
    sound: GriffinLim, log_mel: LogMel, encode_block: EncodeBlock, shape: tuple[int, int]
) -> torch.jit.ScriptModule:
    """A `ScriptedCodec` of a codec's parts and its codes' `(bands, levels)`, ready to be saved or put into another."""
    module = ScriptedCodec(sound, log_mel, encode_block, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is, see above
        return torch.jit.script(module.eval())


class _Window(nn.Module):
    """One window of `GriffinLim`, to be traced: frames of fixed sizes, those of `before` and `size` code frames."""

    def __init__(self, sound: GriffinLim, log_mel: LogMel, before: Open, size: int) -> None:
        super().__init__()
        self._sound, self._log_mel, self._before, self._size = sound, log_mel, before, size
        self.unknown = sound.window(before, size * STRIDE).unknown

    def begin(
        self, codes: Tensor, target: Tensor, spectrogram: Tensor, settled: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        new = self._sound.power(self._log_mel(codes)[:, : self._size * STRIDE])
        window = self._window(target, spectrogram, settled)
        return self._sound.started(window, new, noise), torch.cat([target, new])

    def hear(self, spectrogram: Tensor, settled: Tensor) -> Tensor:
        return self._window(self._before.target, self._before.spectrogram, settled).heard(spectrogram)

    def correct(self, previous: Tensor, current: Tensor, target: Tensor) -> Tensor:
        return self._sound.corrected(previous, current, target)

    def settle(self, spectrogram: Tensor, target: Tensor, settled: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        window = self._window(self._before.target, self._before.spectrogram, settled)
        audio, after = self._sound.settled(window, spectrogram, target)
        return audio.clone(), after.target.clone(), after.spectrogram.clone(), after.settled.clone()

    def _window(self, target: Tensor, spectrogram: Tensor, settled: Tensor) -> Window:
        before = dataclasses.replace(self._before, target=target, spectrogram=spectrogram, settled=settled)
        return self._sound.window(before, self._size * STRIDE)


class _Encoder(nn.Module):
    """One code frame from the sound of `frames` of them, the last of which it is; to be traced."""

    def __init__(self, encode_block: EncodeBlock, frames: int) -> None:
        super().__init__()
        self._encode_block, self._frames = encode_block, frames

    def forward(self, padded: Tensor) -> Tensor:
        last = self._frames - 1
        return self._encode_block(padded[None], 0, last, self._frames, [self._frames * STRIDE])[0]


def _windows(sound: GriffinLim, log_mel: LogMel, shape: tuple[int, int]) -> list[tuple[nn.Module, int, int]]:
    """Traced windows until one is as the one before, as all that follow are; with code frames and unknown samples."""
    found: list[tuple[nn.Module, int, int]] = []
    before, weight, kind = sound.nothing(), torch.zeros(0), (0, 0, 0)
    for frames in window_sizes():
        size = frames // STRIDE
        if kind == (size, len(before.target), before.early) and torch.equal(weight, before.weight):
            return found
        kind, weight = (size, len(before.target), before.early), before.weight
        codes = torch.zeros(size + 1, *shape, dtype=torch.int64)
        module = _Window(sound, log_mel, before, size)
        noise = torch.zeros(module.unknown)
        open_ = (before.target, before.spectrogram, before.settled)
        spectrogram, target = module.begin(codes, *open_, noise)
        examples = {
            "begin": (codes, *open_, noise),
            "hear": (spectrogram, before.settled),
            "correct": (spectrogram, spectrogram, target),
            "settle": (spectrogram, target, before.settled),
        }
        found.append((_traced(module, examples), size, module.unknown))
        before = sound.settled(sound.window(before, frames), spectrogram, target)[1]
    raise AssertionError("there is always a next window")


def _traced(module: nn.Module, examples: Mapping[str, tuple[Tensor, ...]]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that sizes are taken for constants, as they are; that TorchScript is deprecated
        return torch.jit.trace_module(module.eval(), examples, check_trace=False)
