"""What of a sound file is sound: silence, lone glitches, and channels that cancel each other out.

All of it is found at the file's own rate, before its channels become one, in one pass over its blocks; only where
something is wrong a second or third pass follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

SILENCE = 1e-4
"""Of full scale, -80 dB: what never swings further is no sound, nor is what swings by one step of coarse samples."""
_GLITCHES = 2  # samples of a channel that can be a lone glitch
_TOWERS = 10.0  # how many times as far as all else it reaches
_CANCELLED = 1e-3  # of the energy that channels which have nothing to do with each other leave in their mean
_AUDIBLE = 1e-3  # of a recording's own swing: quieter parts of it are silent
_WINDOWS = 50  # a second; in each it is sounding or silent

Blocks = Callable[[], Iterator[np.ndarray]]
"""Gives a file's blocks, float32 `[samples, channels]`, from its beginning, each time that it is called."""


@dataclass(frozen=True)
class Mix:
    """How a file's channels become one.

    Attributes:
        limits: how far each channel reaches without its lone glitches, to which they are limited; None without any.
        channel: the one that is taken alone, since all together cancel each other out; None for their mean.
    """

    limits: tuple[float, ...] | None = None
    channel: int | None = None

    def mono(self, block: np.ndarray) -> np.ndarray:
        """float32 `[samples, channels]` as `[samples]`."""
        limited = self.limited(block)
        if limited.shape[1] == 1:
            return limited[:, 0]
        return limited.mean(axis=1) if self.channel is None else limited[:, self.channel]

    def limited(self, block: np.ndarray) -> np.ndarray:
        """The block without glitches, float32 `[samples, channels]`."""
        if self.limits is None:
            return block
        limits = np.array(self.limits, np.float32)
        return block.clip(-limits, limits)


@dataclass(frozen=True)
class Levels:
    """What a look at all samples of a file gave.

    Attributes:
        frames: samples of each channel.
        mix: how the channels become one.
        swing: half of the way from the lowest to the highest sample of that one.
        sounding: (first, last + 1) sample between which it is more than silence; (0, 0) for silence.
    """

    frames: int
    mix: Mix
    swing: float
    sounding: tuple[int, int]


def find_levels(blocks: Blocks, rate: int, mix: Mix | None = None) -> Levels:
    """Look at all of a file's samples, and decide how its channels become one."""
    look = _Look(mix or Mix(), rate)
    for block in blocks():
        look.add(block)
    better = look.better_mix()
    return look.levels() if better is None else find_levels(blocks, rate, better)


class _Look:
    """One pass over a file's blocks, mixed in one way."""

    def __init__(self, mix: Mix, rate: int) -> None:
        self._mix, self._window = mix, max(1, rate // _WINDOWS)
        self._frames = 0
        self._energies = np.zeros(0)  # of each channel
        self._mean_energy = 0.0
        self._largest: np.ndarray | None = None  # [largest samples, channels], rising, without their signs
        self._starts: list[np.ndarray] = []  # of the windows
        self._lows: list[np.ndarray] = []
        self._highs: list[np.ndarray] = []

    def add(self, block: np.ndarray) -> None:
        """`[samples, channels]`, at least one of each."""
        channels = np.ascontiguousarray(self._mix.limited(block).T)
        if self._largest is None:
            self._energies = np.zeros(len(channels))
            self._largest = np.zeros((_GLITCHES + 1, len(channels)), np.float32)
        mono = channels.mean(axis=0) if self._mix.channel is None else channels[self._mix.channel]
        starts = np.arange(0, len(mono), self._window)
        self._starts.append(starts + self._frames)
        self._lows.append(np.minimum.reduceat(mono, starts))
        self._highs.append(np.maximum.reduceat(mono, starts))
        with np.errstate(over="ignore"):  # by glitches, without which it is looked at again
            self._energies += [np.dot(samples, samples) for samples in channels]
            self._mean_energy += float(np.dot(mono, mono))
        for channel, samples in enumerate(channels):
            self._keep_largest(samples, channel)
        self._frames += len(mono)

    def _keep_largest(self, samples: np.ndarray, channel: int) -> None:
        assert self._largest is not None
        if max(samples.max(), -samples.min()) <= self._largest[0, channel]:
            return
        count = min(_GLITCHES + 1, len(samples))
        found = np.partition(np.abs(samples), len(samples) - count)[-count:]
        self._largest[:, channel] = np.sort(np.concatenate([self._largest[:, channel], found]))[-_GLITCHES - 1 :]

    def better_mix(self) -> Mix | None:
        """How the channels had better become one, if not as they did."""
        if self._largest is None:
            return None
        if self._mix.limits is None and (limits := self._limits()) is not None:
            return replace(self._mix, limits=limits)
        expected = self._energies.sum() / len(self._energies) ** 2
        if self._mix.channel is None and len(self._energies) > 1 and self._mean_energy < _CANCELLED * expected:
            return replace(self._mix, channel=int(self._energies.argmax()))
        return None

    def _limits(self) -> tuple[float, ...] | None:
        """How far each channel reaches without a sample or two that tower over all else; None if none does."""
        assert self._largest is not None
        largest = self._largest.astype(np.float64)
        limits = largest[-1]
        for below in range(_GLITCHES):
            towering = largest[below + 1] > np.maximum(_TOWERS * largest[below], SILENCE)
            limits = np.where(towering, np.minimum(limits, largest[below]), limits)
        return tuple(limits.tolist()) if (limits < largest[-1]).any() else None

    def levels(self) -> Levels:
        """What was found."""
        if not self._frames:
            return Levels(0, self._mix, 0.0, (0, 0))
        starts, lows, highs = (np.concatenate(each) for each in (self._starts, self._lows, self._highs))
        swing = (float(highs.max()) - float(lows.min())) / 2
        sounding = np.flatnonzero((highs - lows) / 2 > max(SILENCE, _AUDIBLE * swing))
        if not len(sounding):
            return Levels(self._frames, self._mix, swing, (0, 0))
        ends = np.append(starts[1:], self._frames)
        return Levels(self._frames, self._mix, swing, (int(starts[sounding[0]]), int(ends[sounding[-1]])))
