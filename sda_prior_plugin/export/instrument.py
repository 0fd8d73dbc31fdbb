# An interface of TorchScript has methods without a body.
# mypy: disable-error-code="empty-body"
"""Prior and codec as what nn~ and nn.ar load: methods that turn a block of signals into another, and attributes.

A block is `[batch, channels, samples or frames]`; all of a batch get what its first makes. Setters only leave numbers
behind, which the next block takes up: they may come while one is being computed.
"""

import warnings
from typing import cast

import torch
from torch import Tensor, nn

from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.export.sequence import MOST_GUARDED, Sequence
from sda_prior_plugin.prior import Prior

BOOL, INT, FLOAT = 0, 1, 2  # how the programs know an attribute's type
DRAWN_AT_ONCE = 2
"""Frames that are drawn for each that sounds, at most, but for the first and where there is no sound otherwise."""
LARGEST_SEED = 2**32 - 1
MOST_FRAME_SAMPLES = 65_536
"""Samples of a code frame, at most: programs compute no larger blocks."""


@torch.jit.interface
class Drawing(nn.Module):
    """What `Sequence` is called for. What is called by an interface is compiled once, whoever calls it."""

    def begin(self, seed: int) -> None:
        pass

    def draw_by(self, temperature: float, top_p: float, top_k: int, hold: bool) -> None:
        pass

    def look_for(self, frames: int) -> None:
        pass

    def next_frame(self) -> Tensor:
        pass

    def hear(self, frame: Tensor) -> None:
        pass

    def bits_a_code(self) -> float:
        pass


@torch.jit.interface
class Sounding(nn.Module):
    """What the codec is called for."""

    def restart(self) -> None:
        pass

    def decode(self, codes: Tensor) -> Tensor:
        pass

    def encode(self, sound: Tensor) -> Tensor:
        pass


class Instrument(nn.Module):
    """What is exported.

    Args:
        prior: what draws.
        codec: the codec's TorchScript module, as docs/hooks.md has it.
        frame_samples: samples of a code frame.
    """

    sequence: Drawing
    codec: Sounding
    silence: Tensor

    def __init__(self, prior: Prior, codec: torch.jit.ScriptModule, frame_samples: int) -> None:
        super().__init__()
        self.sequence, self.codec = cast(Drawing, torch.jit.script(Sequence(prior).eval())), cast(Sounding, codec)
        self.size, self.lag = frame_samples, int(codec.lag)
        self.bands, self.levels, self.codebook_size = prior.shape.bands, prior.shape.levels, prior.shape.codebook_size
        self.frame_seconds, self.at_once, self.largest_seed = prior.frame_seconds, DRAWN_AT_ONCE, LARGEST_SEED
        self.knows = prior.heard is not None
        self.longest_copy = (MOST_GUARDED - 1) * prior.frame_seconds
        self.temperature, self.top_p, self.top_k, self.max_copy = 1.0, prior.default_top_p, 0, -1.0
        self.seed, self.hold, self.reset, self.gain = 0, False, True, 1.0
        self.guarded, self.seeded, self.latest, self.said = -1.0, 0, "", 0
        self.given, self.sounded, self.answering, self.made_ready = 0, 0, False, False
        self.register_buffer("silence", torch.zeros(0))
        self.ready = self.silence
        self.methods = list(methods_of(prior.shape.frame_codes, frame_samples))
        for name, (params, inputs, outputs) in methods_of(prior.shape.frame_codes, frame_samples).items():
            self.register_buffer(f"{name}_params", torch.tensor(params))
            setattr(self, f"{name}_input_labels", inputs)
            setattr(self, f"{name}_output_labels", outputs)
        self.attributes = list(ATTRIBUTES)
        for name, kind in ATTRIBUTES.items():
            self.register_buffer(f"{name}_params", torch.tensor([kind]))

    def forward(self, x: Tensor) -> Tensor:
        return self.play(x)

    @torch.jit.export
    def play(self, x: Tensor) -> Tensor:
        """New sound, for ever. `x [batch, 1, samples]` adds to the temperature."""
        if not self._begin("play", x.size(2)):
            return torch.zeros(x.size(0), 1, x.size(2))
        found = self._sounding(x[0, 0]) * self.gain
        return found.view(1, 1, -1).repeat(x.size(0), 1, 1)

    @torch.jit.export
    def codes(self, x: Tensor) -> Tensor:
        """New codes, a value for each of a frame, and the bits that a code costs, `[batch, codes + 1, frames]`."""
        frames = x.size(2) // self.size
        found = torch.zeros(self.bands * self.levels + 1, frames)
        if self._begin("codes", x.size(2)):
            for frame in range(frames):
                codes = self._next_frame(x[0, 0, frame * self.size : (frame + 1) * self.size])
                if codes.size(0) > 0:
                    found[:-1, frame] = codes.flatten().float()
                found[-1, frame] = self.sequence.bits_a_code()
        return found.unsqueeze(0).repeat(x.size(0), 1, 1)

    @torch.jit.export
    def sound(self, x: Tensor) -> Tensor:
        """Sound of codes `x [batch, codes, frames]`, rounded to the nearest that there are."""
        frames = x.size(2)
        if not self._begin("sound", frames * self.size):
            return torch.zeros(x.size(0), 1, frames * self.size)
        codes = x[0].nan_to_num().round().clamp(0, self.codebook_size - 1).long()
        found = self._after_a_while(codes.t().reshape(frames, self.bands, self.levels), frames * self.size)
        return found.view(1, 1, -1).repeat(x.size(0), 1, 1)

    @torch.jit.export
    def through(self, x: Tensor) -> Tensor:
        """Sound `x [batch, 1, samples]` as the codec hears it."""
        if not self._begin("through", x.size(2)):
            return torch.zeros(x.size(0), 1, x.size(2))
        found = self._after_a_while(self.codec.encode(x[0, 0].nan_to_num()), x.size(2))
        return found.view(1, 1, -1).repeat(x.size(0), 1, 1)

    @torch.jit.export
    def listen(self, x: Tensor) -> Tensor:
        """Hears the first of two channels, `x [batch, 2, samples]`; where the second is above 0.5, goes on from it."""
        samples = x.size(2)
        found = torch.zeros(samples)
        if self._begin("listen", samples):
            for first in range(0, samples, self.size):
                block = x[0, :, first : first + self.size].nan_to_num()
                answering = float(block[1].mean()) > 0.5
                if answering != self.answering:
                    self._fall_silent(0)
                    self.answering = answering
                if answering:
                    found[first : first + self.size] = self._sounding(torch.zeros(self.size)) * self.gain
                else:
                    for frame in self.codec.encode(block[0]):
                        self.sequence.hear(frame)
        return found.view(1, 1, -1).repeat(x.size(0), 1, 1)

    def _begin(self, what: str, samples: int) -> bool:
        """Take up what was set, and say whether there is something to compute."""
        if samples < self.size or samples % self.size != 0:
            self._say(0, "a block has to be a power of two of samples, " + str(self.size) + " at least")
            return False
        sequence = self.sequence
        if self.max_copy != self.guarded:
            self.guarded = self.max_copy
            frames = int(self.guarded / self.frame_seconds + 1e-6) + 1 if self.guarded >= 0 else 0
            sequence.look_for(frames)
        sequence.draw_by(self.temperature, self.top_p, self.top_k, self.hold)
        if self.reset or self.seed != self.seeded:
            self.reset = False
            self.seeded = self.seed
            sequence.begin(self.seeded)
            self.latest = ""
        if what != self.latest:
            self.latest = what
            self.answering = False
            self._fall_silent(self.lag if what == "sound" else self.lag + 1 if what == "through" else 0)
        return True

    def _fall_silent(self, frames: int) -> None:
        """Forget what was to sound, and begin with the silence of so many frames."""
        self.codec.restart()
        self.given = self.sounded = 0
        self.ready = torch.zeros(frames * self.size)

    def _next_frame(self, warmer: Tensor) -> Tensor:
        temperature = max(0.01, self.temperature + float(warmer.mean().nan_to_num()))
        self.sequence.draw_by(temperature, self.top_p, self.top_k, self.hold)
        codes = self.sequence.next_frame()
        if codes.size(0) == 0:
            self._say(1, "there is nothing to draw that does not copy a recording for longer than max_copy; allow more")
        return codes

    def _draw(self, warmer: Tensor) -> bool:
        """Draw a frame and decode what can be; whether there was one."""
        codes = self._next_frame(warmer)
        sound = self.codec.decode(codes)
        if sound.size(0) > 0:
            self.ready = torch.cat([self.ready, sound])
        self.given += codes.size(0)
        return codes.size(0) > 0

    def _sounding(self, warmer: Tensor) -> Tensor:
        """New sound, as long as `warmer`. Frames are drawn ahead, evenly, so that no block has to wait for many."""
        samples, going_on = warmer.size(0), True
        for first in range(0, samples, self.size):
            part = warmer[first : first + self.size]
            drawn = 0
            while going_on and drawn < self.at_once and self.sounded + self.lag >= self.given:
                going_on = self._draw(part)
                drawn += 1
            while going_on and self.ready.size(0) < first + self.size:
                going_on = self._draw(part)
            if self.ready.size(0) >= first + self.size:  # silence for want of codes is not to be made up for
                self.sounded += 1
        return self._taken(samples)

    def _after_a_while(self, codes: Tensor, samples: int) -> Tensor:
        self.ready = torch.cat([self.ready, self.codec.decode(codes)])
        return self._taken(samples) * self.gain

    def _taken(self, samples: int) -> Tensor:
        """The next samples, or silence after the last."""
        found = self.ready[:samples]
        self.ready = self.ready[samples:].clone()
        return torch.cat([found, torch.zeros(samples - found.size(0))])

    @torch.jit.export
    def get_methods(self) -> list[str]:
        """The methods' names. It is what a program asks first: so it makes ready, and no block has to wait for that."""
        if not self.made_ready:
            self.made_ready = True
            silence = torch.zeros(1, 1, 4 * self.size)
            for _ in range(2):  # TorchScript compiles what it runs for the first time, and again for the second
                for _ in range(self.lag // 2 + 1):
                    self.play(silence)
                self.through(silence)
                self.reset = True
        return self.methods

    @torch.jit.export
    def get_attributes(self) -> list[str]:
        return self.attributes

    def _say(self, which: int, sentence: str) -> None:
        """Say something once."""
        if (self.said >> which) & 1 == 0:
            self.said = self.said | (1 << which)
            print("sda: " + sentence)

    def _bounded(self, which: int, name: str, value: float, least: float, most: float) -> float:
        found = least if not value >= least else min(value, most)
        if found != value:
            self._say(which, name + " goes from " + str(least) + " to " + str(most))
        return found

    @torch.jit.export
    def get_temperature(self) -> list[float]:
        return [self.temperature]

    @torch.jit.export
    def set_temperature(self, value: float) -> int:
        self.temperature = self._bounded(2, "temperature", value, 0.01, 10.0)
        return 0

    @torch.jit.export
    def get_top_p(self) -> list[float]:
        return [self.top_p]

    @torch.jit.export
    def set_top_p(self, value: float) -> int:
        self.top_p = self._bounded(3, "top_p", value, 0.01, 1.0)
        return 0

    @torch.jit.export
    def get_top_k(self) -> list[int]:
        return [self.top_k]

    @torch.jit.export
    def set_top_k(self, value: int) -> int:
        self.top_k = int(self._bounded(4, "top_k", float(value), 0.0, float(self.codebook_size)))
        return 0

    @torch.jit.export
    def get_max_copy(self) -> list[float]:
        return [self.max_copy]

    @torch.jit.export
    def set_max_copy(self, value: float) -> int:
        if not self.knows and value >= 0:
            self._say(5, "this prior does not say what it was trained on, so that copies cannot be recognized")
        elif value < 0:
            self.max_copy = -1.0
        else:
            self.max_copy = self._bounded(6, "max_copy", value, 0.0, self.longest_copy)
        return 0

    @torch.jit.export
    def get_seed(self) -> list[int]:
        return [self.seed]

    @torch.jit.export
    def set_seed(self, value: int) -> int:
        self.seed = int(self._bounded(7, "seed", float(value), 0.0, float(self.largest_seed)))
        return 0

    @torch.jit.export
    def get_hold(self) -> list[bool]:
        return [self.hold]

    @torch.jit.export
    def set_hold(self, value: bool) -> int:
        self.hold = value
        return 0

    @torch.jit.export
    def get_reset(self) -> list[bool]:
        return [self.reset]

    @torch.jit.export
    def set_reset(self, value: bool) -> int:
        self.reset = self.reset or value
        return 0

    @torch.jit.export
    def get_gain(self) -> list[float]:
        return [self.gain]

    @torch.jit.export
    def set_gain(self, value: float) -> int:
        self.gain = self._bounded(8, "gain", value, 0.0, 10.0)
        return 0


ATTRIBUTES = {
    "temperature": FLOAT, "top_p": FLOAT, "top_k": INT, "max_copy": FLOAT, "seed": INT, "hold": BOOL, "reset": BOOL,
    "gain": FLOAT,
}  # fmt: skip


def methods_of(codes: int, frame: int) -> dict[str, tuple[list[int], list[str], list[str]]]:
    """Of each method: channels and samples a value, in and out, and what stands at its inlets and outlets."""
    names = [f"code {number + 1}" for number in range(codes)]
    warmer, sound = ["(signal) added to the temperature"], ["(signal) sound"]
    return {
        "forward": ([1, 1, 1, 1], warmer, sound),
        "play": ([1, 1, 1, 1], warmer, sound),
        "codes": ([1, 1, codes + 1, frame], warmer, [*names, "bits a code"]),
        "sound": ([codes, frame, 1, 1], names, sound),
        "through": ([1, 1, 1, 1], sound, sound),
        "listen": ([2, 1, 1, 1], [*sound, "(signal) above 0.5: go on from what was heard"], sound),
    }


def instrument(prior: Prior, codec: torch.jit.ScriptModule, frame_samples: int) -> torch.jit.ScriptModule:
    """An `Instrument`, ready to be saved.

    Raises:
        PriorError: the programs that load it cannot give it blocks of whole frames.
    """
    if frame_samples & (frame_samples - 1) or frame_samples > MOST_FRAME_SAMPLES:
        raise PriorError(
            f"A model whose code frame is {frame_samples} samples cannot be exported: programs compute powers of two, "
            f"of at most {MOST_FRAME_SAMPLES}; train a codec with such a frame."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is, see above
        return torch.jit.script(Instrument(prior, codec, frame_samples).eval())
