"""Which recordings may share sound: moments of one whose spectra look like moments of another's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from host_stubs.fingerprints import BANDS, SECOND, Fingerprint

_FRAMES = 8  # of a patch: a quarter of a second
_DEPTH = 2.5  # powers of ten below a patch's maximum that still count: noise 20 dB below a sound changes little then
_TIMES, _BANDS = 4, 10  # cosines along time and along frequency that a patch is described by
_ASKED_EVERY = SECOND // 2  # frames
_NEIGHBOURS = 16  # other recordings that a patch is compared with further
_ALIKE = 0.88  # correlation of two patches' descriptions: of the same sound it was 0.91 at least, however degraded
_AT_ONCE = 1 << 10, 1 << 13  # patches asked for, and patches compared with, in one product
_MOST_ASKED, _MOST_KNOWN = 1 << 14, 1 << 18  # patches; of more than two hours they lie further apart


@dataclass(frozen=True)
class Alignment:
    """Two recordings, by their numbers, and how they may lie on each other: frame `at` of `one` is frame `at + offset`
    of `other`."""

    one: int
    other: int
    at: int
    offset: int


def alignments(recordings: list[Fingerprint]) -> list[Alignment]:
    """The most promising first: those that the most and the most similar patches speak for."""
    if len(recordings) < 2:
        return []
    patches = _Patches(recordings)
    votes: Mapping[tuple[int, int, int], list[tuple[float, int, int]]] = defaultdict(list)
    for asked, known, alike in patches.nearest():
        one, other = patches.owner[asked], patches.owner[known]
        at, found = patches.frame[asked], patches.frame[known]
        if one > other:
            one, other, at, found = other, one, found, at
        votes[int(one), int(other), round((found - at) / 2)].append((alike, int(at), int(found)))
    ranked = sorted(votes.items(), key=lambda item: (-sum(vote[0] - _ALIKE for vote in item[1]), item[0]))
    best = [(one, other, max(heard)) for (one, other, _), heard in ranked]
    return [Alignment(one, other, at, found - at) for one, other, (_, at, found) in best]


class _Patches:
    """All patches of recordings, described.

    Attributes:
        owner, frame: of each, the number of its recording and the frame that it begins at.
    """

    def __init__(self, recordings: list[Fingerprint]) -> None:
        total = sum(last - first for first, last in (each.heard for each in recordings))
        step = -(-total // _MOST_KNOWN)
        cosines = np.kron(_cosines(_FRAMES, _TIMES), _cosines(BANDS, _BANDS))[:, 1:].astype(np.float32)
        described, owners, frames, asked = [], [], [], []
        for number, recording in enumerate(recordings):
            starts, patches = _patches(recording, step)
            described.append(patches @ cosines)
            owners.append(np.full(len(starts), number))
            frames.append(starts)
            asked.append(_asked(starts, recording, step))
        vectors = np.concatenate(described)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        self.owner, self.frame = np.concatenate(owners), np.concatenate(frames)
        self._vectors = vectors
        questions = np.flatnonzero(np.concatenate(asked))
        self._asked = questions[:: -(-len(questions) // _MOST_ASKED)]

    def nearest(self) -> Iterator[tuple[int, int, float]]:
        """(patch asked for, patch of another recording, how alike), of each recording the most alike."""
        some, many = _AT_ONCE
        for begin in range(0, len(self._asked), some):
            asked = self._asked[begin : begin + some]
            best = _Best(asked, self.owner)
            for start in range(0, len(self._vectors), many):
                best.consider(start, self._vectors[asked] @ self._vectors[start : start + many].T)
            yield from best.found()


class _Best:
    """For each of some patches the most alike ones, at most one from each other recording."""

    def __init__(self, asked: np.ndarray, owner: np.ndarray) -> None:
        self._asked, self._owner = asked, owner
        self._least = np.full(len(asked), _ALIKE, np.float32)
        self._rows = self._known = np.zeros(0, np.int64)
        self._alike = np.zeros(0, np.float32)

    def consider(self, start: int, alike: np.ndarray) -> None:
        rows, columns = np.nonzero(alike > self._least[:, None])
        others = self._owner[self._asked[rows]] != self._owner[start + columns]
        rows, columns = rows[others], columns[others]
        if not len(rows):
            return
        self._rows = np.concatenate([self._rows, rows])
        self._known = np.concatenate([self._known, start + columns])
        self._alike = np.concatenate([self._alike, alike[rows, columns]])
        self._keep_best()

    def _keep_best(self) -> None:
        order = np.lexsort((-self._alike, self._owner[self._known], self._rows))
        owners = self._owner[self._known[order]]
        new = np.ones(len(order), bool)
        new[1:] = (np.diff(self._rows[order]) != 0) | (np.diff(owners) != 0)
        order = order[new]
        order = order[np.lexsort((-self._alike[order], self._rows[order]))]
        rows = self._rows[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
        full = rank == _NEIGHBOURS - 1
        self._least[rows[full]] = self._alike[order[full]]
        order = order[rank < _NEIGHBOURS]
        self._rows, self._known, self._alike = self._rows[order], self._known[order], self._alike[order]

    def found(self) -> Iterator[tuple[int, int, float]]:
        return zip(self._asked[self._rows].tolist(), self._known.tolist(), self._alike.tolist(), strict=True)


def _patches(recording: Fingerprint, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the patches of a recording begin, and each as logarithms of its levels, `[patches, _FRAMES * BANDS]`."""
    first, last = recording.heard
    starts = np.arange(first, max(last - _FRAMES, first) + 1, step)
    levels = np.log10(recording.levels[first:last] + np.float32(1e-20))
    levels = np.pad(levels, ((0, max(0, _FRAMES - len(levels))), (0, 0)), constant_values=-20)
    windows = np.lib.stride_tricks.sliding_window_view(levels, _FRAMES, axis=0)[starts - first]
    patches = windows.transpose(0, 2, 1).reshape(len(starts), -1)
    return starts, np.maximum(patches, patches.max(axis=1, keepdims=True) - _DEPTH)


def _asked(starts: np.ndarray, recording: Fingerprint, step: int) -> np.ndarray:
    """Which patches are looked for in other recordings: two a second, and the one where it is loudest."""
    every = max(1, _ASKED_EVERY // step)
    asked = np.arange(len(starts)) % every == 0
    power = recording.levels[starts].sum(axis=1)
    asked[max(0, int(power.argmax()) - 1)] = True
    return asked


def _cosines(length: int, count: int) -> np.ndarray:
    """The first `count` vectors of the discrete cosine transform, `[length, count]`."""
    return np.cos(np.pi / length * (np.arange(length)[:, None] + 0.5) * np.arange(count)) / np.sqrt(length)
