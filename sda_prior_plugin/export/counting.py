"""The numbers of `random_stream.py` again, in TorchScript, whose whole numbers are signed and wrap round."""

import numpy as np
import torch
from torch import Tensor, nn

from sda_prior_plugin import random_stream


def signed(number: int | np.uint64) -> int:
    """The int64 with the bits of a number of 64 bits."""
    return (int(number) ^ (1 << 63)) - (1 << 63)


LOW = 0xFFFFFFFF


class RandomStream(nn.Module):
    """The first random stream of a seed; it has to be seeded first."""

    by: Tensor
    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("by", torch.tensor([[signed(number)] for number in random_stream.MULTIPLY]))
        self.register_buffer("step", torch.tensor([[signed(number)] for number in random_stream.KEY_STEP]))
        self.rounds, self.low = random_stream.ROUNDS, LOW
        self.key = [0, 0]

    @torch.jit.export
    def seed(self, seed: int) -> None:
        """Begin the stream of a seed below 2^32: with the key that numpy's `SeedSequence([seed, 0])` gives.

        (O'Neill 2015, "Developing a seed_seq alternative", with the constants that numpy has.)
        """
        pool = [seed & self.low, 0, 0, 0]
        by = 0x43B0D7E5
        for place in range(4):
            following = (by * 0x931E8875) & self.low
            pool[place] = self._hashed(pool[place], by, following)
            by = following
        for source in range(4):
            for place in range(4):
                if source != place:
                    following = (by * 0x931E8875) & self.low
                    other = self._hashed(pool[source], by, following)
                    one = (0xCA01F9DD * pool[place] - 0x4973F715 * other) & self.low
                    pool[place] = one ^ (one >> 16)
                    by = following
        by = 0x8B51F9DD
        for place in range(4):
            following = (by * 0x58F38DED) & self.low
            pool[place] = self._hashed(pool[place], by, following)
            by = following
        self.key = [pool[0] | (pool[1] << 32), pool[2] | (pool[3] << 32)]

    def _hashed(self, value: int, by: int, following: int) -> int:
        value = ((value ^ by) * following) & self.low
        return value ^ (value >> 16)

    @torch.jit.export
    def uniforms(self, sound: int, frame: int, again: int, count: int) -> Tensor:
        """float64 `[count]` from 0 up to 1: those of a frame of a sound, `random_stream.uniforms`.

        `again` is 0, or how often numbers were asked for since the same frame.
        """
        counters = torch.arange((count + 3) // 4)
        # both halves of a round at once: one and three, two and four
        first = torch.stack([counters, torch.full_like(counters, sound)])
        second = torch.stack([torch.full_like(counters, frame), torch.full_like(counters, again)])
        by_low, by_high = self.by & self.low, (self.by >> 32) & self.low
        keys = torch.tensor([[self.key[0]], [self.key[1]]])
        for _ in range(self.rounds):
            low, high = first & self.low, (first >> 32) & self.low
            middle = by_high * low + (((by_low * low) >> 32) & self.low)
            rest = by_low * high + (middle & self.low)
            upper = by_high * high + ((middle >> 32) & self.low) + ((rest >> 32) & self.low)
            first, second = upper.flip(0) ^ second ^ keys, (self.by * first).flip(0)
            keys = keys + self.step
        numbers = torch.stack([first[0], second[0], first[1], second[1]], 1).flatten()[:count]
        return ((numbers >> 11) & 0x1FFFFFFFFFFFFF).double() * 2.0**-53
