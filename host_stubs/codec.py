"""The codec of a model: sound to a grid of codes and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from host_stubs.errors import HostError, shown
from host_stubs.griffin_lim import GriffinLim, window_sizes
from host_stubs.mel import Mel, MelSettings
from host_stubs.network import COUNTER, STRIDE, Decoder, Encoder, code_vectors, nearest_codes, network_shapes
from host_stubs.scripted import scripted_codec
from host_stubs.stored import Kind, kind_of

MOST = {"dim": 4096, "levels": 32, "codebook_size": 65_536}
"""The bounds of a codec's settings; they go from 1."""
_BLOCK = 64  # code frames that go through the encoder at once: what the processor's cache holds is fastest


class Codec:
    """Turns sound into codes `[frames, bands, levels]` and back; the members are those of the host's contract.

    Frames are in time order, bands go from low to high pitch, levels from coarse to fine.
    """

    def __init__(self, mel_settings: MelSettings, encoder: Encoder, decoder: Decoder, codebooks: Tensor) -> None:
        self.mel_settings = mel_settings
        self.levels, self.codebook_size, self.dim = codebooks.shape
        self.sample_rate = mel_settings.sample_rate  # Hz
        self.frame_samples = STRIDE * mel_settings.hop_length
        self.bands = -(-mel_settings.n_mels // STRIDE)
        # the order in memory in which processors take convolutions
        self._encoder = encoder.eval().requires_grad_(False)
        self._encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        self._decoder = decoder.eval().requires_grad_(False)
        self._codebooks = codebooks  # [levels, size, dim]
        self._griffin_lim: GriffinLim | None = None  # made when there is sound to make: opening a model need not wait

    @property
    def codebooks(self) -> np.ndarray:
        """float32 `[levels, codebook_size, dim]`"""
        return self._codebooks.cpu().numpy()

    @property
    def device(self) -> torch.device:
        return self._codebooks.device

    def to(self, device: torch.device | str) -> Codec:
        """The same codec, moved to `device`."""
        self._encoder.to(device)
        self._decoder.to(device)
        self._codebooks = self._codebooks.to(device)
        self._griffin_lim = None
        return self

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """float `[samples]` in -1..1 -> int64 `[frames, bands, levels]`.

        `frames` is `samples / frame_samples`, rounded up. The sound goes through the network in blocks that see as
        much of the sound before them as the network does, so the codes are those of a single pass, in bounded memory.

        Raises HostError if there is no sound or if samples are not finite.
        """
        return self.encode_many([audio])[0]

    @torch.inference_mode()
    def encode_many(self, sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Sounds, each float `[samples]` -> the codes that `encode` gives for each, sooner than one after another.

        Short ones go through the network together; that is of use where they are of about the same length. Rounding may
        tip a code that is as near to two vectors. Raises HostError as `encode` does.
        """
        rows = [self._checked_sound(sound) for sound in sounds]
        if not all(map(len, rows)):
            raise HostError("There is no sound to encode.")
        codes: list[np.ndarray] = []
        at_once = max(1, _BLOCK // max(map(self._frames, rows), default=1))
        for first in range(0, len(rows), at_once):
            some = rows[first : first + at_once]
            grids = self._encode_some(some).cpu().numpy()
            codes += [grid[: self._frames(row)] for grid, row in zip(grids, some, strict=True)]
        return codes

    @torch.inference_mode()
    def encode_stream(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Sound float `[samples]`, block after block -> codes int64 `[frames, bands, levels]`, as soon as they can be.

        Together these are the very codes that `encode` gives for all the sound as one, however it is cut; what is kept
        does not grow with the length. Raises HostError as `encode` does, where the reason for it is met.
        """
        half, hop, size = self.mel_settings.n_fft // 2, self.mel_settings.hop_length, self.frame_samples
        sound = torch.zeros(0, device=self.device)  # once codes were given, it begins a code frame before the next one
        samples = done = 0
        for block in blocks:
            more = self._checked_sound(block)
            sound, samples = torch.cat([sound, more]), samples + len(more)
            # A block is not the last one, and its last window does not reach what is not there yet.
            while samples > max(end := (done + _BLOCK) * size, end - hop + half):
                if not done:
                    sound = torch.cat([sound[1 : half + 1].flip(0), sound])  # mirrored, as Mel.padded does
                begin = max(0, done - 1)
                following = done + _BLOCK
                yield self._encode_block(sound[None], begin, done, following, [following * STRIDE])[0].cpu().numpy()
                done = following
                sound = sound[(done - 1 - begin) * size :]
        if not done:
            yield self.encode(sound.cpu().numpy())
            return
        frames = -(-samples // size)
        padded, begin = F.pad(sound[None], (0, half), mode="reflect"), done - 1
        for start in range(done, frames, _BLOCK):
            end = min(start + _BLOCK, frames)
            yield self._encode_block(padded, begin, start, end, [self._mel_frames(samples)])[0].cpu().numpy()

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """int `[frames, bands, levels]` -> float32 `[frames * frame_samples]` in -1..1; the same codes, same samples.

        How the phases are found, and what happens above full scale, stands with GriffinLim.
        Raises HostError if the codes do not fit this codec.
        """
        return np.concatenate([np.zeros(0, np.float32), *self.decode_stream([codes])])

    @torch.inference_mode()
    def decode_stream(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Codes int `[frames, bands, levels]`, block after block -> float32 `[samples]` in -1..1, as soon as it can be.

        Together these are the very samples that `decode` gives for all the blocks as one, however the codes are cut.
        The first come with the second frame; later ones lag behind the codes by less than 10 frames, and what is kept
        does not grow with the length. The end of `blocks` gives the rest.

        Raises HostError at the first block that does not fit this codec.
        """
        log_mels = (self._log_mel(codes)[:, : size * STRIDE] for codes, size in self._windows(blocks))
        for audio in self._sound().stream(log_mels):
            if len(audio):
                yield audio.cpu().numpy()

    @torch.inference_mode()
    def decoded_log_mel(self, codes: np.ndarray) -> np.ndarray:
        """int `[frames, bands, levels]` -> float32 `[n_mels, frames * 16]`: what `decode` makes audible."""
        return self._log_mel(self._checked(codes)).cpu().numpy()

    @torch.no_grad()
    def scripted(self) -> torch.jit.ScriptModule:
        """The codec for programs without Python, see `ScriptedCodec`."""
        return scripted_codec(self._sound(), self._log_mel, self._encode_block, (self.bands, self.levels))

    def settings(self) -> dict[str, Any]:
        """What `from_parts` needs beside the tensors, as plain JSON values."""
        return {
            "mel": dataclasses.asdict(self.mel_settings),
            "dim": self.dim,
            "levels": self.levels,
            "codebook_size": self.codebook_size,
        }

    def tensors(self) -> dict[str, Tensor]:
        """The network's tensors under the names of the existing host's models, on the CPU."""
        tensors = {f"encoder.{name}": tensor for name, tensor in self._encoder.state_dict().items()}
        tensors |= {f"decoder.{name}": tensor for name, tensor in self._decoder.state_dict().items()}
        tensors |= {_codebook_name(level): book[None] for level, book in enumerate(self._codebooks)}  # [1, size, dim]
        return {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
        }

    @classmethod
    def from_parts(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Codec:
        """The codec whose `settings()` and `tensors()` these are; the tensors become its own.

        Nothing is made, of whatever size, before the tensors are known to be what the settings ask for.

        Raises HostError if a setting or tensor is missing, unknown, of another type or shape, or not finite.
        """
        mel_settings, dim, levels = checked_parts(settings, {name: kind_of(tensor) for name, tensor in tensors.items()})
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not all(each.isfinite() for each in tensor.aminmax()):
                raise HostError(f"The codec's tensor {name} holds numbers that are not finite.")
        with torch.device("meta"):
            encoder, decoder = Encoder(dim), Decoder(dim)
        encoder.load_state_dict(_inside(tensors, "encoder."), assign=True)
        decoder.load_state_dict(_inside(tensors, "decoder."), assign=True)
        codebooks = torch.cat([tensors[_codebook_name(level)] for level in range(levels)])
        return cls(mel_settings, encoder, decoder, codebooks)

    def _sound(self) -> GriffinLim:
        """What turns sound into spectrograms and back."""
        if self._griffin_lim is None:
            self._griffin_lim = GriffinLim(Mel(self.mel_settings, self.device))
        return self._griffin_lim

    def _checked_sound(self, audio: np.ndarray) -> Tensor:
        """The sound on the codec's device, float32 `[samples]`. Raises HostError where it is none."""
        sound = torch.as_tensor(audio, dtype=torch.float32, device=self.device)
        if sound.ndim != 1:
            raise HostError(f"Sound to encode is [samples], not {list(sound.shape)}.")
        if not sound.isfinite().all():
            raise HostError("The sound to encode holds samples that are not finite numbers.")
        return sound

    def _frames(self, sound: Tensor) -> int:
        """Code frames of a sound."""
        return -(-len(sound) // self.frame_samples)

    def _mel_frames(self, samples: int) -> int:
        """Mel frames of so many samples that its code frames stand for.

        Sound that fills its last code frame exactly has one more, centred on its end: it is left out.
        """
        return min(self._sound().mel.frame_count(samples), -(-samples // self.frame_samples) * STRIDE)

    def _encode_some(self, sounds: Sequence[Tensor]) -> Tensor:
        """Sounds `[samples]` -> `[sounds, frames of the longest, bands, levels]`; each one's own frames come first."""
        mirrored = [self._sound().mel.padded(sound[None])[0] for sound in sounds]
        padded = pad_sequence(mirrored, batch_first=True)
        mel_frames = [self._mel_frames(len(sound)) for sound in sounds]
        codes, frames = [], max(map(self._frames, sounds))
        for start in range(0, frames, _BLOCK):
            codes.append(self._encode_block(padded, 0, start, min(start + _BLOCK, frames), mel_frames))
        return torch.cat(codes, dim=1)

    def _encode_block(self, padded: Tensor, begin: int, start: int, end: int, mel_frames: Sequence[int]) -> Tensor:
        """Codes of the code frames `start` to `end`, `[some, end - start, bands, levels]`.

        `padded` are sounds, mirrored at their ends, from the code frame `begin` on; each has so many `mel_frames`.
        """
        before = min(start, 1)  # a code frame sees the 15 mel frames before its own: one code frame
        first, last = (start - before) * STRIDE, min(end * STRIDE, max(mel_frames))
        log_mel = self._sound().mel.log_mel_frames(padded, first - begin * STRIDE, last - begin * STRIDE)
        for row, own in zip(log_mel, mel_frames, strict=True):
            row[:, max(0, own - first) :] = 0  # as after the end of the longest
        full = F.pad(
            log_mel,
            (0, (end - start + before) * STRIDE - log_mel.shape[2], 0, self.bands * STRIDE - log_mel.shape[1]),
        )  # [some, 16 bands, 16 frames]
        latents = self._encoder(full[:, None])[..., before:].permute(0, 3, 2, 1)  # [some, frames, bands, dim]
        block = nearest_codes(latents.reshape(-1, self.dim), self._codebooks)  # [some * frames * bands, levels]
        return block.view(*latents.shape[:3], self.levels)

    def _windows(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
        """The codes of each window of the decoder, with the frame after it where there is one, and its frames.

        A decoded frame sees its own code frame and the one after it, so nothing is lost by decoding in windows.
        """
        sizes = (size // STRIDE for size in window_sizes())
        size = next(sizes)
        waiting = np.zeros((0, self.bands, self.levels), np.int64)
        for block in blocks:
            waiting = np.concatenate([waiting, self._checked(block)])
            while len(waiting) > size:
                yield waiting[: size + 1], size
                waiting = waiting[size:]
                size = next(sizes)
        if len(waiting):
            yield waiting, len(waiting)

    def _checked(self, codes: np.ndarray) -> np.ndarray:
        """The codes as int64. Raises HostError if they do not fit this codec."""
        grid = np.asarray(codes)
        if grid.ndim != 3 or grid.shape[1:] != (self.bands, self.levels) or grid.dtype.kind not in "iu":
            raise HostError(
                f"Codes of this model are whole numbers [frames, {self.bands} bands, {self.levels} levels], "
                f"not {grid.dtype} {list(grid.shape)}."
            )
        if grid.size and (grid.min() < 0 or grid.max() >= self.codebook_size):
            raise HostError(f"Codes of this model go from 0 to {self.codebook_size - 1}.")
        return grid.astype(np.int64)

    def _log_mel(self, codes: np.ndarray | Tensor) -> Tensor:
        """`[frames, bands, levels]` -> `[n_mels, 16 frames]`"""
        if not len(codes):
            return torch.zeros(self.mel_settings.n_mels, 0, device=self.device)
        indices = torch.as_tensor(codes, device=self.device)
        latents = code_vectors(indices, self._codebooks).permute(2, 1, 0)  # [dim, bands, frames]
        return self._decoder(latents[None])[0, 0, : self.mel_settings.n_mels]


def _codebook_name(level: int) -> str:
    return f"quantizer.rvq.layers.{level}._codebook.embed"


def _inside(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those below `prefix`, under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _whole(settings: Mapping[str, Any], name: str, most: int) -> int:
    value = settings.get(name)
    if type(value) is not int or not 1 <= value <= most:
        raise HostError(f"The codec's setting {name} must be a whole number from 1 to {most}, not {shown(value)}.")
    return value


def checked_parts(settings: Mapping[str, Any], kinds: Mapping[str, Kind]) -> tuple[MelSettings, int, int]:
    """The spectrogram's settings, `dim` and `levels` of a codec with these settings and tensors of these kinds.

    Raises HostError if a setting or tensor is missing, unknown, or of another type or shape. Nothing is read or made.
    """
    mel = settings.get("mel")
    if not isinstance(mel, dict):
        raise HostError("The codec's settings hold no spectrogram settings.")
    mel_settings = MelSettings.from_dict(mel)
    dim, levels, size = (_whole(settings, name, most) for name, most in MOST.items())
    shapes = network_shapes(dim) | {_codebook_name(level): (1, size, dim) for level in range(levels)}
    expected = {name: (torch.int64 if name.endswith(COUNTER) else torch.float32, shapes[name]) for name in shapes}
    if missing := sorted(expected.keys() - kinds.keys()):
        raise HostError(f"The codec's tensor {missing[0]} is missing.")
    if unknown := sorted(kinds.keys() - expected.keys()):
        raise HostError(f"The codec holds a tensor that its network does not know: {shown(unknown[0])}.")
    for name, (dtype, shape) in expected.items():
        if kinds[name] != (dtype, shape):
            given = kinds[name]
            raise HostError(
                f"The codec's tensor {name} is {given[0]} {list(given[1])}; its settings ask for {dtype} {list(shape)}."
            )
    return mel_settings, dim, levels
