"""What recordings share with each other, no prior having a part in it: what sounds are measured against.

Held-out recordings are compared with those trained on, and each of those trained on with the others of them, itself
left out with all its variants: none of it is heard twice over, and many more recordings say what is natural than are
held out. Sound that two recordings have in common because it is the same take is left out of both.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sda_prior_plugin.copy_test import Counts, by_recording
from sda_prior_plugin.copying import Heard, copied_windows
from sda_prior_plugin.dataset import CodeCorpus, CodeSequences
from sda_prior_plugin.near_copies import Sketch
from sda_prior_plugin.nearness import unit_shares
from sda_prior_plugin.unheard import Unheard, found_again, stretches

FEWEST_TRAINED = 8
"""Recordings trained on. Each is compared with one fewer than sounds are: of few that is much less to share with.
Seconds of unheard loops made of the same 4, 16 or 40 bars were accused in 2, 2 and 20 % of 40 trials with six
recordings, in 0, 0 and 2 % with eight, and never with ten or more; the nearest tenth of the natural windows weighed as
near then, not the nearest twentieth as now."""
MOST_TWICE = 0.25
"""Share of the sound trained on that other recordings hold, too. If it is more, takes that are there twice cannot be
told from material that all is made of, and what is natural cannot be known."""
LOOKED_AT_SECONDS = 120.0
"""Of what is trained on, at most; from so many recordings as there are in it, for the recording is the unit."""


@dataclass(frozen=True)
class Pieces:
    """Stretches of recordings.

    Attributes:
        grids: their codes, `[frames, bands, levels]` each.
        units: which recording each is from, of all that are looked at.
        own: the same among those trained on, and -1 for what is held out.
    """

    grids: list[np.ndarray]
    units: list[int]
    own: list[int]

    def without(self, marks: Sequence[np.ndarray]) -> Pieces:
        """What is left without the frames that are marked, bool `[frames]` of each."""
        cut = [
            (grid[first:end], unit, one)
            for grid, unit, one, marked in zip(self.grids, self.units, self.own, marks, strict=True)
            for first, end in stretches(~marked)
        ]
        return Pieces([grid for grid, _, _ in cut], [unit for _, unit, _ in cut], [one for _, _, one in cut])


@dataclass(frozen=True)
class Natural:
    """What recordings share with others; a unit is a recording.

    Attributes:
        unheard: what of the held-out recordings is not trained on as well.
        pieces: the unheard stretches of them, grids `[frames, bands, levels]`.
        exact: for each window length, verbatim copies of the windows of each unit.
        near: near copies of the windows of each unit that can be compared.
        weighed: the same, each window by how near it is.
        alike: from what share on a window is nearer than is natural.
        shares: mean share of each unit that agrees with what is nearest to it.
        twice: share of what was looked at of the recordings trained on that is the same sound as in another of them.
    """

    unheard: Unheard
    pieces: list[np.ndarray]
    exact: list[Counts]
    near: Counts
    weighed: Counts
    alike: float
    shares: np.ndarray
    twice: float


def natural(corpus: CodeCorpus, heard: Heard, sketch: Sketch, lengths: Sequence[int], piece_frames: int) -> Natural:
    """What the recordings of a corpus share.

    Args:
        corpus: all recordings.
        heard, sketch: of those trained on.
        lengths: frames of the windows of verbatim copies, ascending.
        piece_frames: how long the stretches are, at most, in which recordings that are trained on are looked at.
    """
    held_out = corpus.held_out
    all_pieces = _looked_at(corpus, piece_frames)
    neighbours = sketch.neighbours(all_pieces.grids, all_pieces.own)
    marks = found_again(heard, sketch, all_pieces.grids, neighbours, lengths[0], all_pieces.own)
    pieces = all_pieces.without(marks)
    found = [one.without(marked, sketch.frames) for one, marked in zip(neighbours, marks, strict=True)]
    alike = sketch.alike(found)
    count = held_out.recording_count + corpus.train.recording_count
    units, of_found = (np.array(some.units, np.int64) for some in (pieces, all_pieces))
    copied, counted = (
        by_recording(one, units, count) for one in copied_windows(heard, pieces.grids, lengths, pieces.own)
    )
    near, compared = (by_recording(one, of_found, count) for one in sketch.near_counts(found))
    return Natural(
        unheard=Unheard.of(held_out, np.concatenate(marks[: len(held_out)]), corpus.frame_seconds),
        pieces=[grid for grid, own in zip(pieces.grids, pieces.own, strict=True) if own < 0],
        exact=list(zip(copied, counted, strict=True)),
        near=(near, compared),
        weighed=(by_recording(sketch.near_weights(found, alike), of_found, count), compared),
        alike=alike,
        shares=unit_shares(found, all_pieces.units),
        twice=float(np.concatenate([np.zeros(1), *marks[len(held_out) :]]).mean()),
    )


def _looked_at(corpus: CodeCorpus, piece_frames: int) -> Pieces:
    """All that is held out, and, of recordings enough to do without one, some of what is trained on."""
    held_out, train = corpus.held_out, corpus.train
    grids, units = [np.asarray(held_out[index]) for index in range(len(held_out))], held_out.recordings.tolist()
    chosen, own = list[np.ndarray](), list[int]()
    if train.recording_count >= FEWEST_TRAINED:
        chosen, own = some_pieces(train, piece_frames, round(LOOKED_AT_SECONDS / corpus.frame_seconds))
    return Pieces(
        [*grids, *chosen], [*units, *(held_out.recording_count + one for one in own)], [-1] * len(grids) + own
    )


def some_pieces(train: CodeSequences, frames: int, most: int) -> tuple[list[np.ndarray], list[int]]:
    """Stretches of what is trained on, about `most` frames in all, and which recording each is from.

    Each recording's first variant is cut into as equal parts of at most `frames` as can be. Of all these every second,
    third or so is taken, so that they are from as many recordings as possible, and the same ones every time.
    """
    firsts = train.first_variants[:-1].tolist()
    lengths = train.lengths[firsts].tolist()
    cuts = [
        (recording, first, end)
        for recording, length in enumerate(lengths)
        for first, end in itertools.pairwise(np.linspace(0, length, -(-length // frames) + 1).astype(int).tolist())
    ]
    chosen = cuts[:: max(1, -(-sum(lengths) // most))]
    grids = [np.asarray(train[firsts[recording]])[first:end] for recording, first, end in chosen]
    return grids, [recording for recording, _, _ in chosen]
