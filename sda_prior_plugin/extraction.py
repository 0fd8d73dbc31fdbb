"""Extraction: whether a prior that is given the beginning of a recording goes on as the recording does.

Carlini et al. (2023) call what can be had back that way extractable. The same for held-out recordings says how much of
it is skill: a sustained note goes on in only one way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.near_copies import NEAR, Sketch
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.sampling import Wanted, draw_for_each
from sda_prior_plugin.sequences import Draw, default_top_p
from sda_prior_plugin.team import Team

GIVEN_SECONDS = 3.0
BEGINNINGS = 12
"""Stretches that are continued of the recordings trained on, and as many of those held out."""
DRAWS = 2
"""Continuations of each at temperature 1."""


@dataclass(frozen=True)
class Extraction:
    """Shares of continuations that go on as the recording did: most of the bits of their codes agree with it.

    Attributes:
        train: of recordings that were trained on, at temperature 1, and `train_greedy` with the likeliest codes.
        held_out, held_out_greedy: the same of unheard ones.
        beginnings, held_out_beginnings: stretches that were continued.
        given_seconds, seconds: length of these at most, and of what was drawn to go on.
    """

    train: float
    train_greedy: float
    held_out: float
    held_out_greedy: float
    beginnings: int
    held_out_beginnings: int
    given_seconds: float
    seconds: float


def beginnings(pieces: list[np.ndarray], given: int, frames: int, rng: np.random.Generator) -> list[np.ndarray]:
    """BEGINNINGS stretches of `given` frames, or as many as there are, and the `frames` after them, each of a piece."""
    room = np.array([len(piece) - frames for piece in pieces])
    fits = np.flatnonzero(room >= 2)
    chosen = []
    for piece in rng.permutation(fits)[:BEGINNINGS]:
        length = min(given, int(room[piece]))
        first = int(rng.integers(0, room[piece] - length + 1))
        chosen.append(pieces[piece][first : first + length + frames])
    return chosen


def first_variants(sequences: CodeSequences) -> list[np.ndarray]:
    """Each recording as its first variant has it."""
    return [np.asarray(sequences[index]) for index in sequences.first_variants[:-1]]


def extraction_frames(frame_seconds: float, frames: int) -> int:
    """How many frames `extract` reads and draws at most, where so many `frames` are drawn to go on."""
    return 2 * BEGINNINGS * (DRAWS + 1) * (given_frames(frame_seconds) + frames)


def given_frames(frame_seconds: float) -> int:
    """How many frames of a recording are gone on from, at most."""
    return max(2, round(GIVEN_SECONDS / frame_seconds))


def extract(
    network: PriorNetwork, sketch: Sketch, train: list[np.ndarray], held_out: list[np.ndarray], frame_seconds: float,
    seed: int, team: Team | None = None,
) -> Extraction | None:  # fmt: skip
    """Continue stretches of recordings and see how many go on as these do; None where none is long enough.

    Args:
        network: what draws.
        sketch: of what was trained on.
        train, held_out: pieces of recordings `[frames, bands, levels]`.
        frame_seconds: seconds of a frame.
        seed: of the stretches and the draws.
        team: what is to be drawn is shared out in it.
    """
    team = team or Team()
    given, frames = given_frames(frame_seconds), sketch.frames
    rng = np.random.default_rng([seed, 1])
    chosen = [beginnings(pieces, given, frames, rng) for pieces in (train, held_out)]
    if not chosen[0]:
        return None

    def went_on(stretches: list[np.ndarray], draw: Draw, count: int) -> float:
        mine = team.share(list(enumerate(stretches)))
        wishes = [Wanted(frames, frames, seed + number, draw, start=stretch[:-frames]) for number, stretch in mine]
        agree = [
            [bool(sketch.agreement(stretch[-frames:], new) >= NEAR) for new in drawn]
            for (_, stretch), drawn in zip(mine, draw_for_each(network, count, wishes), strict=True)
        ]
        return float(np.mean(team.shared_out(agree, len(stretches)))) if stretches else 0.0

    usual = Draw(top_p=default_top_p(frame_seconds))
    return Extraction(
        train=went_on(chosen[0], usual, DRAWS),
        train_greedy=went_on(chosen[0], Draw(top_k=1), 1),
        held_out=went_on(chosen[1], usual, DRAWS),
        held_out_greedy=went_on(chosen[1], Draw(top_k=1), 1),
        beginnings=len(chosen[0]),
        held_out_beginnings=len(chosen[1]),
        given_seconds=given * frame_seconds,
        seconds=frames * frame_seconds,
    )
