"""New sound from a model: what is asked of the plugins, and how the codes that they make become sound."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import host_stubs

if TYPE_CHECKING:
    import numpy as np

    from host_stubs.codec import Codec
    from host_stubs.continuation import Start
    from host_stubs.host import Host
    from host_stubs.model import Model

MAX_SECONDS, MAX_AUTO_SECONDS = 3600.0, 60.0
DEFAULT_TOP_P = 0.9
"""What the existing host has, for a prior that does not say what suits it."""


@dataclass(frozen=True)
class Wish:
    """What is wanted, as `generate_codes` takes it.

    `seconds` None: as long as it is, up to `MAX_AUTO_SECONDS`. `top_p` None: what suits the prior.
    """

    seconds: float | None = None
    count: int = 1
    temperature: float = 1.0
    top_p: float | None = None
    top_k: int = 0
    max_copy: float | None = None
    kind: str | None = None
    seed: int = 0

    def frames(self, codec: Codec) -> int | None:
        """Code frames of each sound; None for as many as it takes."""
        return None if self.seconds is None else _frames(self.seconds, codec)

    def most_frames(self, codec: Codec) -> int:
        """Code frames after which each sound ends."""
        return _frames(MAX_AUTO_SECONDS if self.seconds is None else self.seconds, codec)

    @property
    def special(self) -> list[str]:
        """Arguments of the hook that not every plugin can do, and that are wanted."""
        return [name for name in ("max_copy", "kind") if getattr(self, name) is not None]


def default_top_p(model: Model) -> float:
    """From which share of the codes to draw where nobody says: what the model's prior says, if it does."""
    suits: float = getattr(model.prior, "default_top_p", DEFAULT_TOP_P)
    return suits


def new_codes(host: Host, model: Model, wish: Wish, start: Start | None) -> list[np.ndarray] | None:
    """New code grids that follow `start`, if that is given; None where no plugin offers any."""
    grids: list[np.ndarray] | None = host.plugins.first(
        "generate_codes",
        wish.special + ([] if start is None else ["start"]),
        model=model,
        frames=wish.frames(model.codec),
        max_frames=wish.most_frames(model.codec),
        count=wish.count,
        temperature=wish.temperature,
        top_p=default_top_p(model) if wish.top_p is None else wish.top_p,
        top_k=wish.top_k,
        max_copy=wish.max_copy,
        start=None if start is None else start.codes,
        kind=wish.kind,
        seed=wish.seed,
    )
    return grids


def sound_blocks(codec: Codec, start: Start | None, grid: np.ndarray, seconds: float | None) -> Iterator[np.ndarray]:
    """The sound of new codes, after what they follow, as it is decoded; of what is new, at most so many seconds."""
    new = len(grid) * codec.frame_samples if seconds is None else max(1, round(seconds * codec.sample_rate))
    if start is None:
        return host_stubs.between(codec.decode_stream([grid]), 0, new)
    return host_stubs.between(codec.decode_stream([start.codes, grid]), start.lead, start.lead + start.samples + new)


def _frames(seconds: float, codec: Codec) -> int:
    return math.ceil(seconds * codec.sample_rate / codec.frame_samples)
