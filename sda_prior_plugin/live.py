"""Drawing while somebody plays: a frame at a time, each by the settings of its moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from sda_prior_plugin.copying import CopyGuard
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.inference import Memory
from sda_prior_plugin.laying_out import weights_of
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.random_stream import stream_keys
from sda_prior_plugin.sequences import Draw, Sequences


class LiveSettings(Protocol):
    """How the next frame is drawn.

    Attributes:
        temperature, top_p, top_k: as for `Prior.samples`.
        seed: of the random draws. With another one all begins anew, as from the start with that seed.
        resets: how often the prior was told to forget. When this changes, what it remembers is gone: another sound
            begins.
        hold: while it is true the prior remembers what it remembered when this became true. Each frame is one that
            could follow then, drawn anew.
    """

    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def resets(self) -> int: ...
    @property
    def hold(self) -> bool: ...


def draw_live(
    network: PriorNetwork, settings: Callable[[], LiveSettings], frames: int | None, guard: CopyGuard | None
) -> Iterator[np.ndarray]:
    """Frames of one sequence as they are asked for, each int `[1, bands, levels]`; `frames` None is without end.

    `settings` is called before each frame. While they stay as they are, the frames are those of `draw_stream`. What is
    needed in memory does not grow.

    Raises:
        PriorError: settings are out of bounds, or the guard leaves nothing to draw.
    """
    sequence = _Sequence(network, settings(), frames, guard)
    while frames is None or sequence.drawn < frames:
        yield sequence.next(settings())


class _Sequence:
    """The sequence that is drawn, and what it is to remember while it is held."""

    def __init__(self, network: PriorNetwork, now: LiveSettings, frames: int | None, guard: CopyGuard | None) -> None:
        most = network.settings.context_frames if frames is None else frames  # it remembers no more than these
        self._sequences = Sequences(
            network, weights_of(network), _keys(now.seed), most, endless=True, draw=_draw(now), guard=guard,
            start=np.zeros((0, network.shape.frame_codes), np.int64),
        )  # fmt: skip
        self._nothing = _copy(self._sequences.memory)
        self._held: Memory | None = None
        self._seed, self._resets = now.seed, now.resets
        self.drawn = 0

    def next(self, now: LiveSettings) -> np.ndarray:
        """The next frame, int `[1, bands, levels]`."""
        memory, progress = self._sequences.memory, self._sequences.progress
        draw = _draw(now)
        self._sequences.draw = (draw.temperature, draw.top_k, draw.top_p)
        if now.seed != self._seed:
            progress.keys[...] = _keys(now.seed)
            progress.sound[...] = 0
            self._forget()
        elif now.resets != self._resets:
            progress.sound[...] += 1
            self._forget()
        self._seed, self._resets = now.seed, now.resets
        if not now.hold:
            self._held = None
        elif self._held is None:
            self._held = _copy(memory)
        (frame,) = self._sequences.more(1)
        if self._held is not None:
            _put_back(self._held, memory)
            progress.sound[...] += 1  # or the same numbers would be drawn by again, and give the same frame
        self.drawn += 1
        return frame

    def _forget(self) -> None:
        _put_back(self._nothing, self._sequences.memory)
        self._held = None


def _draw(now: LiveSettings) -> Draw:
    return Draw(temperature=now.temperature, top_p=now.top_p, top_k=now.top_k)


def _keys(seed: int) -> np.ndarray:
    if seed < 0:
        raise PriorError(f"seed is {seed}; it must be at least 0.")
    return stream_keys(seed, 1)


def _copy(memory: Memory) -> Memory:
    return Memory(*(part.copy() for part in memory))


def _put_back(kept: Memory, memory: Memory) -> None:
    for part, was in zip(memory, kept, strict=True):
        part[...] = was
