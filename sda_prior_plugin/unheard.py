"""What of the held-out recordings is unheard indeed: takes overlap, and then a held-out one is also trained on.

Everything that a prior says of itself stands on sound that it has not heard. So what is held out is looked for in what
is trained on, as codes, whoever split the recordings. The same sound at another level has other codes and is not found.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sda_prior_plugin.copying import Heard, copied_windows
from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.near_copies import NEAR, SAME, Neighbours, Sketch

COMMON_RECORDINGS, COMMON_SHARE = 3, 0.25
"""What so many recordings hold, and so large a share of them, is material that they are made of, such as the bars of
loops, and no take that is there twice."""
LEAST_UNHEARD = 0.25
"""Share of the held-out frames; with less unheard there is too little to judge by."""
LEAD_SECONDS = 1.0
"""Of a sequence that begins inside its recording, so much is not judged: a prior takes it for a beginning."""


@dataclass(frozen=True)
class Unheard:
    """Which frames of the held-out recordings a prior can be judged by.

    Attributes:
        heard: bool `[held-out frames]`, those that are also trained on.
        starts: `[sequences + 1]`, where each held-out sequence starts among them, and the end.
        frame_seconds: seconds of a frame.
        lead: bool `[held-out frames]`, those that only lead up to what is judged; None for none.
        sample_of: seconds held out that all this is a sample of; 0 where it is no sample.
    """

    heard: np.ndarray
    starts: np.ndarray
    frame_seconds: float
    lead: np.ndarray | None = None
    sample_of: float = 0.0

    @classmethod
    def of(cls, held_out: CodeSequences, heard: np.ndarray, frame_seconds: float) -> Unheard:
        """Of held-out sequences, of which the frames that are `heard`, bool `[held-out frames]`, are trained on."""
        lead = None
        if held_out.inside is not None:
            lead, ends = np.zeros(len(heard), bool), held_out.starts[1:]
            for first, end in zip(held_out.starts[:-1][held_out.inside], ends[held_out.inside], strict=True):
                lead[first : min(first + round(LEAD_SECONDS / frame_seconds), end - 1)] = True
        return cls(heard, held_out.starts, frame_seconds, lead, held_out.sample_of * frame_seconds)

    @property
    def seconds(self) -> float:
        """Held out."""
        return len(self.heard) * self.frame_seconds

    @property
    def heard_seconds(self) -> float:
        """Held out and trained on as well."""
        return int(self.heard.sum()) * self.frame_seconds

    @property
    def enough(self) -> bool:
        """Whether enough is unheard to judge by it alone."""
        return self.seconds - self.heard_seconds >= LEAST_UNHEARD * self.seconds

    @property
    def sentence(self) -> str:
        """What to say to a person of what is heard; empty where nothing is."""
        return heard_sentence(self.heard_seconds, self.seconds)

    @property
    def sample_sentence(self) -> str:
        """What to say to a person of judging by a sample; empty where it is by all that is held out."""
        if not self.sample_of:
            return ""
        return (
            f"{self.sample_of / 3600:.1f} hours are held out: the prior is judged by {self.seconds / 60:.0f} minutes "
            f"of them, {len(self.starts) - 1} stretches from all over"
        )

    @property
    def judged(self) -> np.ndarray:
        """bool `[held-out frames]`: those that a prior is judged by, the unheard ones or, if these are too few, all."""
        judged = ~self.heard if self.enough else np.ones(len(self.heard), bool)
        return judged if self.lead is None else judged & ~self.lead


def stretches(marks: np.ndarray) -> list[tuple[int, int]]:
    """First and end of each stretch in which bool `[frames]` is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def heard_sentence(heard_seconds: float, seconds: float) -> str:
    """What to say to a person of held-out recordings of which so much is also trained on; empty for none."""
    if not heard_seconds:
        return ""
    found = f"{heard_seconds:.1f} of {seconds:.1f} s held out are also trained on"
    if seconds - heard_seconds < LEAST_UNHEARD * seconds:
        return f"{found}: too little is unheard to judge the prior by, so it is judged by all of it"
    return f"{found}: the prior is judged by the rest"


def found_again(
    heard: Heard,
    sketch: Sketch,
    grids: Sequence[np.ndarray],
    neighbours: Sequence[Neighbours],
    shortest: int,
    own: Sequence[int],
) -> list[np.ndarray]:
    """Which frames of some recordings are sound that is trained on, in another recording: bool `[frames]` of each.

    A stretch is found where windows of about a second are the SAME sound as one in a recording, and where windows
    beside these are like nothing more than what follows and goes before there; of shorter recordings, where all of it
    occurs verbatim. What many recordings hold is no take, and is not found.

    Args:
        heard, sketch: of what is trained on.
        grids: what is looked for, codes `[frames, bands, levels]`.
        neighbours: of its windows in `sketch`.
        shortest: frames of the shortest stretch that counts as a copy.
        own: the recording that each grid is from, of those trained on, and -1 for none of these.
    """
    marks = [np.zeros(len(grid), bool) for grid in grids]
    recordings = int(sketch.recordings.max()) + 1
    for found, marked in zip(neighbours, marks, strict=True):
        common = (found.spread >= COMMON_RECORDINGS) & (found.spread >= COMMON_SHARE * recordings)
        same = (found.shares >= SAME) & ~common
        like = (found.shares >= NEAR / 2) & ~common
        diagonal = found.places - found.firsts
        for step in (1, -1):  # along the same stretch of the recording, forwards and backwards
            order = range(len(same))[::step]
            for last, this in itertools.pairwise(order):
                beside = found.firsts[this] - found.firsts[last] == step and diagonal[this] == diagonal[last]
                same[this] |= bool(same[last] and like[this] and beside)
        for which, found_there in ((same, True), (common, False)):
            for first in found.firsts[which]:
                marked[first : first + sketch.frames] = found_there
    short = [index for index, grid in enumerate(grids) if shortest <= len(grid) < sketch.frames]
    kinds = sorted({len(grids[index]) for index in short})
    copied, _ = copied_windows(heard, [grids[index] for index in short], kinds, [own[index] for index in short])
    for number, index in enumerate(short):
        if copied[kinds.index(len(grids[index])), number]:
            marks[index][:] = True
    return marks
