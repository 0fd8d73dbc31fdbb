"""One endless sequence of codes, sound after sound, in TorchScript: what `sampling.draw_stream` draws."""

import math

import torch
from torch import Tensor, nn

from sda_prior_plugin.export.choosing import drawn_but_for
from sda_prior_plugin.export.counting import RandomStream
from sda_prior_plugin.export.guard import Guard
from sda_prior_plugin.export.step import Step
from sda_prior_plugin.laying_out import weights_of
from sda_prior_plugin.prior import Prior
from sda_prior_plugin.sequences import MOST_EMPTY_SOUNDS

MOST_GUARDED = 512
"""Frames of a window that the copy guard looks for, at most."""
SMOOTHING = 0.2
"""How much the bits of the latest frame count among those before."""


class Sequence(nn.Module):
    """Draws the codes of frames. Before the first one it has to `begin`."""

    no_codes: Tensor
    none_ruled_out: Tensor

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        shape = prior.shape
        self.step = Step(prior.network, weights_of(prior.network))
        self.guard = Guard(prior.heard, shape.codebook_size, MOST_GUARDED)
        self.numbers = RandomStream()
        self.bands, self.levels, self.frame_codes = shape.bands, shape.levels, shape.frame_codes
        self.most_empty, self.smoothing = MOST_EMPTY_SOUNDS, SMOOTHING
        self.register_buffer("no_codes", torch.full((shape.frame_codes,), shape.codebook_size))
        self.register_buffer("none_ruled_out", torch.zeros(0, dtype=torch.bool))
        self.temperature, self.top_p, self.top_k, self.hold = 1.0, prior.default_top_p, 0, False
        self.before = self.no_codes
        self.sound, self.frame, self.again, self.empty, self.over, self.bits = 0, 0, 0, 0, False, 0.0

    @torch.jit.export
    def begin(self, seed: int) -> None:
        """Begin anew, with the numbers of a seed."""
        self.numbers.seed(seed)
        self.step.forget()
        self.guard.forget()
        self.before = self.no_codes
        self.sound, self.frame, self.again, self.empty, self.over, self.bits = 0, 0, 0, 0, False, 0.0

    @torch.jit.export
    def draw_by(self, temperature: float, top_p: float, top_k: int, hold: bool) -> None:
        """How the next frame is drawn; with `hold` from what is remembered now, and nothing more is remembered."""
        self.temperature, self.top_p, self.top_k, self.hold = temperature, top_p, top_k, hold

    @torch.jit.export
    def look_for(self, frames: int) -> None:
        """Draw nothing that completes a window of so many frames that was heard; 0: draw anything."""
        self.guard.look_for(frames)
        self.over, self.empty = False, 0

    @torch.jit.export
    def bits_a_code(self) -> float:
        """What the codes drawn cost, a mean in which the latest frames count most."""
        return self.bits

    @torch.jit.export
    def next_frame(self) -> Tensor:
        """The codes of the next frame, int64 `[1, bands, levels]`; `[0, bands, levels]` where it is over."""
        while not self.over:
            codes = self._drawn()
            if len(codes) == self.frame_codes:
                frame = torch.tensor(codes, dtype=torch.int64)
                self.guard.saw(codes)
                self.empty = 0
                if self.hold:
                    self.again += 1
                else:
                    self._remember(frame)
                return frame.view(1, self.bands, self.levels)
            self._end_sound()
        return self.no_codes[:0].view(0, self.bands, self.levels)

    @torch.jit.export
    def hear(self, frame: Tensor) -> None:
        """Go on from a frame that was given, int64 `[bands, levels]`."""
        if self.hold:
            return
        codes: list[int] = frame.flatten().tolist()
        self.step.begin(self.before, self.frame)
        for band in range(self.bands):
            self.step.read(band)
            for level in range(self.levels):
                self.step.take(level, codes[band * self.levels + level])
        self.guard.saw(codes)
        self._remember(frame.flatten())

    def _remember(self, frame: Tensor) -> None:
        self.step.keep()
        self.before = frame
        self.frame += 1
        self.again = 0

    def _end_sound(self) -> None:
        self.empty = 0 if self.frame > 0 else self.empty + 1
        self.over = self.empty >= self.most_empty
        self.sound += 1
        self.frame = self.again = 0
        self.before = self.no_codes
        self.step.forget()

    def _drawn(self) -> list[int]:
        """The codes of a frame; fewer where the sound is over before it."""
        step = self.step
        numbers: list[float] = self.numbers.uniforms(self.sound, self.frame, self.again, self.frame_codes + 1).tolist()
        before: list[int] = self.before.tolist()
        codes: list[int] = []
        bits = 0.0
        step.begin(self.before, self.frame)
        for band in range(self.bands):
            x = step.read(band)
            if band == 0 and self.frame > 0 and not self.hold and step.end_probability(x) > numbers[-1]:
                return codes
            for level in range(self.levels):
                logits = step.code_logits(x, band, level)
                place = len(codes)
                ruled_out = self.none_ruled_out
                if place == self.frame_codes - 1:
                    ruled_out = self.guard.ruled_out(codes)
                code = drawn_but_for(
                    logits, self.temperature, self.top_k, self.top_p, before[place], ruled_out, numbers[place]
                )
                if code < 0:
                    return codes
                bits += float(logits.logsumexp(0) - logits[code])
                step.take(level, code)
                codes.append(code)
        self.bits += self.smoothing * (bits / math.log(2.0) / self.frame_codes - self.bits)
        return codes
