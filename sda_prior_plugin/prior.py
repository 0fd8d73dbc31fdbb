"""A trained prior: says how probable codes are, and draws new ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.copying import CopyGuard, Heard, Passage, covered, shortest_window
from sda_prior_plugin.cores import NetworkSettings
from sda_prior_plugin.errors import TRAIN_AGAIN, PriorError
from sda_prior_plugin.half import HALF
from sda_prior_plugin.kinds import AS_RECORDED
from sda_prior_plugin.live import LiveSettings, draw_live
from sda_prior_plugin.near_copies import Sketch
from sda_prior_plugin.network import PriorNetwork, normalized, of_this_network
from sda_prior_plugin.report import TrainingReport
from sda_prior_plugin.sampling import Wanted, draw_grids, draw_stream
from sda_prior_plugin.sequences import Draw, default_top_p
from sda_prior_plugin.settings import PriorSettings

TIMED_SECONDS = 10.9
"""How far from a recording's start the network is told the time, at least: as far as `KNOWN_FRAMES` of the host's codec
go. It is what tells that a long tone is to end soon."""
BLOCK_FRAMES = 64
"""Frames that `log2_probs` reads at a time; only speed and memory depend on it."""


def perplexity(bits: float) -> float:
    """2 to the power of bits per code; infinite where they are 1000 or more, or not a number."""
    return 2.0**bits if bits < 1000 else math.inf


def window_log2_probs(logits: Tensor, ends: Tensor, frames: Tensor) -> Tensor:
    """log2 of the probability of each code of a window, `[B, window, N]`.

    A frame's first code also carries the probability that the recording goes on at all.

    Args:
        logits, ends: as `PriorNetwork.forward` gives them.
        frames: int `[B, 1 + window, N]`; padding ("no code") gives a value that means nothing but is finite.
    """
    codes = frames[:, 1:].clamp(max=logits.shape[-1] - 1)
    taken = -F.cross_entropy(logits.flatten(0, -2).float(), codes.flatten(), reduction="none").view(codes.shape)
    goes_on = F.logsigmoid(-ends[:, : codes.shape[1]].float())
    return torch.cat([taken[..., :1] + goes_on[..., None], taken[..., 1:]], dim=-1) / math.log(2)


def network_settings(settings: PriorSettings, frame_seconds: float, kinds: Sequence[str] = ()) -> NetworkSettings:
    """The part of the settings that shapes the network; its context is whole frames, at least one.

    `kinds` are those that it is told apart, the first being as recorded; none where there are none.
    """
    return NetworkSettings(
        architecture=settings.architecture,
        hidden_size=settings.hidden_size,
        layers=settings.layers,
        heads=settings.heads,
        context_frames=max(1, math.ceil(settings.context_seconds / frame_seconds - 1e-6)),
        dropout=settings.dropout,
        copy_kinds=max(0, len(kinds) - 1),
        timed_frames=math.ceil(TIMED_SECONDS / frame_seconds),
    )


class Prior:
    """A prior over the codes of one codec, in eval mode on the CPU, ready to use.

    Attributes:
        network: the trained network.
        settings: what it was trained with.
        report: how training went.
        frame_seconds: seconds of sound in a frame.
        heard: what it was trained on, as far as it takes to recognize copies; None in a file that does not hold it.
        sketch: the same for near copies.
        kinds: names of what it can be asked for, the first being as recorded: the kinds it was told apart.
        default_top_p: from which share of the codes it draws where nobody says.
    """

    def __init__(
        self,
        network: PriorNetwork,
        settings: PriorSettings,
        report: TrainingReport,
        frame_seconds: float,
        heard: Heard | None = None,
        sketch: Sketch | None = None,
        kinds: Sequence[str] = (),
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.settings, self.report, self.frame_seconds = settings, report, frame_seconds
        self.heard, self.sketch = heard, sketch
        self.kinds = tuple(kinds) or (AS_RECORDED,)
        self.default_top_p = default_top_p(frame_seconds)

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, Tensor],
        settings: PriorSettings,
        report: TrainingReport,
        *,
        shape: CodeShape,
        codebooks: np.ndarray,
        frame_seconds: float,
        heard: Heard | None = None,
        sketch: Sketch | None = None,
        kinds: Sequence[str] = (),
    ) -> Prior:
        """The prior whose `weights` gave these, some of them perhaps `halved`.

        Nothing is allocated before the weights are known to fit.

        Raises:
            PriorError: the weights are not those of a network with these settings for these codes.
        """
        sizes = network_settings(settings, frame_seconds, kinds)
        with torch.device("meta"):
            network = PriorNetwork(shape, codebooks, sizes)
        expected = network.state_dict()
        weights = of_this_network(weights, expected)
        for name in sorted(expected.keys() | weights.keys()):
            if name not in weights or name not in expected:
                raise PriorError(f"The prior {'lacks' if name in expected else 'has an unknown'} tensor {name}.")
            wanted, given = expected[name], weights[name]
            if given.shape != wanted.shape or given.dtype not in (wanted.dtype, HALF):
                raise PriorError(
                    f"The prior's {name} is {given.dtype} {list(given.shape)}; this codec and the prior's settings "
                    f"need {wanted.dtype} {list(wanted.shape)}."
                )
            if not bool(torch.isfinite(given).all()):
                raise PriorError(f"The prior's {name} holds numbers that are not finite.")
        own = {name: tensor.to(expected[name].dtype, copy=True) for name, tensor in weights.items()}
        network.load_state_dict(own, assign=True)
        network.codebooks = normalized(codebooks)
        return cls(network, settings, report, frame_seconds, heard, sketch, kinds)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Everything that was learned, by name."""
        return dict(self.network.state_dict())

    @property
    def shape(self) -> CodeShape:
        return self.network.shape

    @property
    def parameters(self) -> int:
        """Learned numbers in the network."""
        return sum(weights.numel() for weights in self.network.parameters())

    @torch.no_grad()
    def log2_probs(self, codes: np.ndarray) -> np.ndarray:
        """log2 of the probability of each code, given all before it and that a recording starts here.

        Args:
            codes: int `[frames, bands, levels]`.

        Returns:
            float32 `[frames, bands, levels]`. A frame's first code carries the probability that the recording goes on.

        Raises:
            PriorError: the codes have another shape or range.
        """
        shape = self.shape
        checked = shape.checked(codes)
        grid = checked.reshape(-1, shape.frame_codes).astype(np.int64)
        padded = torch.as_tensor(np.concatenate([np.full((1, shape.frame_codes), shape.codebook_size), grid]))
        found, state = [], None
        for first in range(0, len(grid), BLOCK_FRAMES):
            frames = padded[None, first : first + BLOCK_FRAMES + 1]
            logits, ends, state = self.network(frames, torch.tensor([first]), state)
            found.append(window_log2_probs(logits, ends, frames)[0])
        return torch.cat(found).view(checked.shape).numpy() if found else np.zeros(checked.shape, np.float32)

    def sample(self, frames: int | None = None, **how: Any) -> np.ndarray:
        """One new code grid, int `[frames, bands, levels]`; see `samples`, whose other arguments it takes."""
        return self.samples(1, frames, **how)[0]

    def samples(
        self,
        count: int,
        frames: int | None = None,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        top_p: float | None = None,
        top_k: int = 0,
        max_frames: int = 4096,
        max_copy: float | None = None,
        start: np.ndarray | None = None,
        kind: str | None = None,
    ) -> list[np.ndarray]:
        """New code grids, each int `[frames, bands, levels]`; the same arguments give the same ones.

        Args:
            count: how many.
            frames: length of each, sounds one after another; None gives one sound, as long as the prior makes it.
            seed: of the random draws; each grid has a stream of its own.
            temperature: above 1 more adventurous, below 1 safer.
            top_p: draw only from the most probable codes that make up this share (nucleus sampling, Holtzman et al.
                2020); 1 for all, None for `default_top_p`. A code that goes on and is the most probable one is not
                counted: the share is then of the others, or the sound would stand still.
            top_k: draw only from the so many most probable codes; 0 for all.
            max_frames: where to end at the latest when `frames` is None.
            max_copy: seconds; no grid holds a longer stretch that occurs in the training codes. A code that would
                complete one is not drawn; where no other is left, the sound ends. Near copies, some of whose codes
                differ, are not kept out.
            start: int `[any, bands, levels]`, codes that each grid goes on from, and does not repeat.
            kind: one of `kinds`, what the sounds are to be like; None for as recorded.

        Raises:
            PriorError: an argument is out of bounds, or `max_copy` is given and `heard` is not known or leaves nothing
                to draw.
        """
        if count < 1:
            raise PriorError(f"count is {count}; it must be at least 1.")
        draw = self._draw(temperature, top_p, top_k)
        return draw_grids(self.network, count, self._wanted(frames, max_frames, seed, draw, max_copy, start, kind))

    def stream(
        self,
        frames: int | None = None,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        top_p: float | None = None,
        top_k: int = 0,
        max_frames: int = 4096,
        max_copy: float | None = None,
        start: np.ndarray | None = None,
        kind: str | None = None,
    ) -> Iterator[np.ndarray]:
        """The grid that `sample` gives for the same arguments, in pieces int `[some, bands, levels]` as it is drawn.

        The first piece is a single frame, and memory does not grow with the length. Raises as `samples` does, at once
        but for a guard that leaves nothing to draw.
        """
        draw = self._draw(temperature, top_p, top_k)
        return draw_stream(self.network, self._wanted(frames, max_frames, seed, draw, max_copy, start, kind))

    def live(
        self, settings: Callable[[], LiveSettings], frames: int | None = None, *, max_copy: float | None = None
    ) -> Iterator[np.ndarray]:
        """The grid that `sample` gives for the same settings, a frame int `[1, bands, levels]` at a time, without end
        where `frames` is None; what `settings` gives is looked at before each frame, and may change.

        Raises:
            PriorError: at once as `samples` does for `frames` and `max_copy`, else before the frame that cannot be
                drawn.
        """
        if frames is not None and frames < 1:
            raise PriorError(f"frames is {frames}; it must be at least 1.")
        return draw_live(self.network, settings, frames, None if max_copy is None else self.guard(max_copy))

    def _draw(self, temperature: float, top_p: float | None, top_k: int) -> Draw:
        return Draw(temperature=temperature, top_p=self.default_top_p if top_p is None else top_p, top_k=top_k)

    def _wanted(
        self,
        frames: int | None,
        max_frames: int,
        seed: int,
        draw: Draw,
        max_copy: float | None,
        start: np.ndarray | None,
        kind: str | None,
    ) -> Wanted:
        if seed < 0:
            raise PriorError(f"seed is {seed}; it must be at least 0.")
        if (frames is not None and frames < 1) or max_frames < 1:
            raise PriorError(f"frames is {frames} and max_frames {max_frames}; they must be at least 1.")
        if kind is not None and kind not in self.kinds:
            raise PriorError(f"This prior does not know {kind!r}; what it can be asked for: {', '.join(self.kinds)}.")
        return Wanted(
            frames=frames,
            max_frames=max_frames,
            seed=seed,
            draw=draw,
            guard=None if max_copy is None else self.guard(max_copy),
            start=None if start is None else self.shape.checked(start, "start"),
            kind=0 if kind is None else self.kinds.index(kind),
        )

    def guard(self, seconds: float) -> CopyGuard:
        """What keeps new codes from copying recordings for longer than `seconds`."""
        if not 0 <= seconds < math.inf:
            raise PriorError(f"max_copy is {seconds}; it must be at least 0.")
        return CopyGuard.against(self._known(), math.floor(seconds / self.frame_seconds + 1e-6) + 1)

    def verbatim(self, codes: np.ndarray) -> tuple[float, list[Passage]]:
        """How much of codes `[frames, bands, levels]` is copied from the recordings.

        Silence and single sustained codes do not count, nor do passages below a third of a second.

        Returns:
            the share of the frames that are part of a copied passage, and the passages.

        Raises:
            PriorError: `heard` is not known.
        """
        return covered(self._known(), self.shape.checked(codes), shortest_window(self.frame_seconds))

    def near_share(self, codes: np.ndarray) -> float | None:
        """The share of the frames of codes `[frames, bands, levels]` that are part of a near copy, or a verbatim one.

        None where that is not known.
        """
        return None if self.sketch is None else self.sketch.near_share(self.shape.checked(codes))

    def _known(self) -> Heard:
        if self.heard is None:
            raise PriorError(
                "This prior does not say what it was trained on, so that copies cannot be recognized; ",
                TRAIN_AGAIN,
                ".",
            )
        return self.heard
