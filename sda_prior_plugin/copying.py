"""Verbatim copies: which stretches of some codes occur in the codes that a prior has learned from.

The windows that are looked for, of all lengths, go into one small table of their hashes, and what was learned from
streams past it once: the time is proportional to the training codes, and no memory is needed but for the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.mapped import sequence_parts
from sda_prior_plugin.window_hashes import (
    empty_table,
    enter,
    find_first,
    frame_hashes,
    look_up,
    pass_by,
    window_hashes,
    window_kinds,
)

SHORTEST_COPY_SECONDS = 1 / 3


def holding_windows(heard: Heard, new: np.ndarray, starts: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """How many recordings hold each window of `new` frame hashes, int `[lengths, new frames]` by its last frame.

    `starts` are those of the sequences in `new`, with the end. What was heard is passed by once, for all lengths.
    """
    needs, table = window_kinds(lengths), empty_table(len(lengths) * len(new), 2)
    slots = np.full((len(lengths), len(new)), -1, np.int64)
    latest, holding = np.full(len(table), -1, np.int32), np.zeros(len(table), np.int32)
    pass_by(new, starts, *needs, table, slots, None, None, None)
    first = 0
    for some in sequence_parts(heard.hashes, heard.starts):
        recordings = heard.recordings[first : first + len(some) - 1]
        pass_by(heard.hashes, some, *needs, table, None, recordings, latest, holding)
        first += len(recordings)
    return np.where(slots >= 0, holding[slots], 0)


@dataclass(frozen=True)
class Passage:
    """A stretch of frames that occurs in a recording.

    Attributes:
        first: where it begins among the codes that were looked at, in frames.
        frames: how long it is.
        name: the recording.
        at: where it begins in the recording, in frames; true to a frame or two where the recording was encoded from
            several start offsets, or it is from a copy at another speed.
    """

    first: int
    frames: int
    name: str
    at: int


@dataclass(frozen=True)
class Heard:
    """What a prior has learned from, as far as it takes to recognize it.

    Attributes:
        hashes: uint32 `[all frames]`, the sequences one after another.
        starts: `[sequences + 1]`, where each starts, and the end.
        recordings: `[sequences]`, which recording each is from.
        names: of the recordings.
    """

    hashes: np.ndarray
    starts: np.ndarray
    recordings: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, sequences: CodeSequences) -> Heard:
        """What these sequences leave behind."""
        hashes = frame_hashes(sequences.codes) if sequences.hashes is None else sequences.hashes
        return cls(hashes, sequences.starts, sequences.recordings, sequences.names)

    def places(self, hashes: np.ndarray, frames: int) -> np.ndarray:
        """For each window of `frames` of some frame hashes, the first frame where it was heard, or -1: `[windows]`."""
        return self.first_places(window_hashes(hashes, frames), frames)

    def first_places(self, wanted: np.ndarray, frames: int) -> np.ndarray:
        """The same for windows of which the hashes are `wanted`."""
        table = empty_table(len(wanted), 4)
        places, found = np.full(len(table), -1, np.int64), np.empty(len(wanted), np.int64)
        enter(wanted, table)
        for sequences in sequence_parts(self.hashes, self.starts):
            find_first(self.hashes, sequences, frames, table, places)
        look_up(wanted, table, places, found)
        return found

    def passages(self, codes: np.ndarray, least: int) -> list[Passage]:
        """The stretches of at least `least` frames of codes `[frames, bands, levels]` that were heard.

        From left to right, each as long as it goes on; silence and single sustained codes are passed over.
        """
        hashes = frame_hashes(codes)
        counts = moving(hashes, least)
        best = np.where(counts, self.places(hashes, least), -1)
        frames, places = least, best
        while (places >= 0).any():  # where there are several places, prefer one that goes on for longer
            best[: len(places)] = np.where(places >= 0, places, best[: len(places)])
            frames = max(frames + 1, frames * 5 // 4)
            places = np.where(moving(hashes, frames), self.places(hashes, frames), -1)
        found, first = [], 0
        while (ahead := np.flatnonzero(best[first:] >= 0)).size:
            first += int(ahead[0])
            found.append(self._passage(hashes, first, int(best[first])))
            first += found[-1].frames
        return found

    def longest_passage(self, grids: Sequence[np.ndarray], least: int) -> Passage | None:
        """The longest passage of any of the grids, if there is one of `least` frames."""
        all_hashes = [frame_hashes(grid) for grid in grids]
        longest: Passage | None = None
        # a window that was heard has shorter ones in it that were: bisect for the longest, in all grids together
        shorter, longer = least - 1, max(map(len, all_hashes), default=0) + 1
        while longer - shorter > 1:
            middle = (shorter + longer) // 2
            windows = [window_hashes(hashes, middle) for hashes in all_hashes]
            counts = [moving(hashes, middle) for hashes in all_hashes]
            wanted = np.concatenate(windows)
            places = self.first_places(wanted, middle)
            heard = np.flatnonzero(np.concatenate(counts) & (places >= 0))
            if len(heard):
                begins = np.cumsum([0, *map(len, windows)])
                grid = int(np.searchsorted(begins, heard[0], side="right")) - 1
                longest = self._passage(all_hashes[grid], int(heard[0] - begins[grid]), int(places[heard[0]]))
                shorter = middle
            else:
                longer = middle
        return longest

    def _passage(self, hashes: np.ndarray, first: int, place: int) -> Passage:
        """What begins at `first` of `hashes` and at `place` of what was heard, for as long as both agree."""
        sequence = int(np.searchsorted(self.starts, place, side="right")) - 1
        longest = min(len(hashes) - first, int(self.starts[sequence + 1]) - place)
        differ = np.flatnonzero(hashes[first : first + longest] != self.hashes[place : place + longest])
        return Passage(
            first=first,
            frames=int(differ[0]) if len(differ) else longest,
            name=self.names[self.recordings[sequence]],
            at=self._in_recording(sequence, place - int(self.starts[sequence])),
        )

    def _in_recording(self, sequence: int, frame: int) -> int:
        """Where in its recording a frame of a sequence is from, which may be a copy at another speed."""
        first = int(np.flatnonzero(self.recordings == self.recordings[sequence])[0])
        recorded, frames = (int(self.starts[one + 1] - self.starts[one]) for one in (first, sequence))
        return frame if abs(frames - recorded) <= 1 else round(frame * recorded / frames)


@dataclass(frozen=True)
class CopyGuard:
    """What keeps new codes from holding any window of `frames` frames that was heard, silence included.

    A window is complete with the last code of its last frame: of those codes the ones that would complete a heard
    window are ruled out, as `completing` finds them in the `table`.
    """

    frames: int
    table: np.ndarray

    @classmethod
    def against(cls, heard: Heard, frames: int) -> CopyGuard:
        """For windows of `frames` frames."""
        table = empty_table(len(heard.hashes), 2)
        for begin, end in pairwise(heard.starts):
            enter(window_hashes(heard.hashes[begin:end], frames), table)
        return cls(frames, table)


def shortest_window(frame_seconds: float) -> int:
    """How many frames a copy has at least: a third of a second, and two, for a single frame in common says little."""
    return max(2, round(SHORTEST_COPY_SECONDS / frame_seconds))


def moving(hashes: np.ndarray, frames: int) -> np.ndarray:
    """Which windows of `frames` are more than silence or one sustained code: bool `[windows]`.

    A window counts if not all of its frames are the same.
    """
    changes = np.concatenate([[0], np.cumsum(hashes[1:] != hashes[:-1])]) if len(hashes) else np.zeros(0, np.int64)
    count = max(len(hashes) - frames + 1, 0)
    return changes[frames - 1 :][:count] > changes[:count]


def copied_windows(
    heard: Heard, grids: Sequence[np.ndarray], lengths: Sequence[int], own: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How many windows of each length each grid has that were heard, and how many it has: int `[lengths, grids]` each.

    Silence and single sustained codes are no copies, but count among all: what is mostly silent copies little.

    Args:
        heard: what was learned from.
        grids: codes `[frames, bands, levels]`.
        lengths: frames of the windows.
        own: which recording of what was heard each grid is from, -1 for none; such a grid's windows are copies where
            another recording holds them, too.
    """
    copied, counted = (np.zeros((len(lengths), len(grids)), np.int64) for _ in range(2))
    all_hashes = [frame_hashes(grid) for grid in grids]
    starts = np.cumsum([0, *map(len, all_hashes)])
    new = np.concatenate([np.zeros(0, np.uint32), *all_hashes])
    found = holding_windows(heard, new, starts, lengths)
    for index, hashes in enumerate(all_hashes):
        itself = int(own is not None and own[index] >= 0)
        for number, frames in enumerate(lengths):
            counts = moving(hashes, frames)
            ends = found[number, starts[index] + frames - 1 : starts[index + 1]] > itself
            counted[number, index] = len(counts)
            copied[number, index] = (counts & ends).sum() if len(counts) else 0
    return copied, counted


def covered(heard: Heard, codes: np.ndarray, least: int) -> tuple[float, list[Passage]]:
    """The share of the frames of codes `[frames, bands, levels]` that are part of a copied window, and the passages.

    Windows of `least` frames count that were heard and are more than silence or one sustained code.
    """
    hashes = frame_hashes(codes)
    copied = np.zeros(len(codes) + 1, np.int64)
    windows = np.flatnonzero(moving(hashes, least) & (heard.places(hashes, least) >= 0))
    np.add.at(copied, windows, 1)
    np.add.at(copied, windows + least, -1)
    return float((copied.cumsum()[:-1] > 0).mean()) if len(codes) else 0.0, heard.passages(codes, least)
