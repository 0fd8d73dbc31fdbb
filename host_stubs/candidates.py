"""Which recordings may share sound: moments of one whose spectra look like moments of another's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from host_stubs.fingerprints import BANDS, LINED, SECOND, Fingerprint, power_of

FRAMES = 8  # of a patch: a quarter of a second
_DEPTH = 2.5  # powers of ten below a patch's maximum that still count: noise 20 dB below a sound changes little then
_TIMES, _BANDS = 4, 10  # cosines along time and along frequency that a patch is described by
_ASKED_EVERY = SECOND // 2  # frames
FAINT, FAINTER = 10**-2.5, 10**-3.5  # of the power of the loudest cell
OVER_BACKGROUND = 6  # times its power
MOST_OF_IT = 0.5  # of the power of a sound, that cells are to have which stand for it
_NEIGHBOURS = 24  # other recordings that a patch is compared with further
_ALIKE = 0.88  # correlation of two patches' descriptions: of the same sound it was 0.91 at least, however degraded
_AT_ONCE = 1 << 10, 1 << 13  # patches asked for, and patches compared with, in one product
_MOST_ASKED, _MOST_KNOWN = 3 << 13, 1 << 18  # patches; of more than two hours they lie further apart
_DESCRIBED = 64, 1 << 13  # recordings, and patches, that are described at once
_FEW = 1 << 15  # patches: all of so many are compared with each other
_IN_CELL = 1 << 10  # patches of more that are alike, about
_NEAR = 4  # cells that a patch is looked for in: its own, and the nearest to that
_AROUND = 3  # spectra of half a second each, around a patch, that are compared as one
_PLACE_BITS, _ALIKE_BITS = 24, 24  # of numbers that stand for several
_ANY_PLACE = (1 << _PLACE_BITS) - 1
_ROUNDS = 4  # of moving the cells' centres to the middle of what lies around them (Lloyd's algorithm)


@dataclass(frozen=True)
class Alignment:
    """Two recordings, by their numbers, and how they may lie on each other: frame `at` of `one` is frame `at + offset`
    of `other`."""

    one: int
    other: int
    at: int
    offset: int


def alignments(recordings: list[Fingerprint]) -> np.ndarray:
    """Rows of what an `Alignment` says, int64 `[alignments, 4]`, at most one for each place of two recordings on each
    other; first those around which the spectra are the most alike."""
    if len(recordings) < 2:
        return np.zeros((0, 4), np.int64)
    patches = _Patches(recordings)
    asked, known, alike = patches.nearest()
    swapped = patches.owner[asked] > patches.owner[known]
    asked, known = np.where(swapped, known, asked), np.where(swapped, asked, known)
    one, other, at = patches.owner[asked], patches.owner[known], patches.frame[asked]
    offset = patches.frame[known] - at
    same = (one * len(recordings) + other) << _PLACE_BITS | (np.round(offset / 2).astype(np.int64) & _ANY_PLACE)
    best = _best_of_each(same, alike)
    best = best[np.argsort(-alike[best])]
    rows = np.stack([one, other, at, offset], axis=1)[best]
    return rows[np.argsort(-_lines_alike(recordings, rows), kind="stable")]


def _lines_alike(recordings: list[Fingerprint], rows: np.ndarray) -> np.ndarray:
    """How alike the spectra are around the patches of alignments, from 0 to 1: the cosine of the roots of their powers.

    Notes that are alike in all bands differ in their lines; one sound hardly does, wherever precisely it begins.
    """
    counts = np.array([len(each.lines) for each in recordings])
    firsts = np.cumsum(counts) - counts
    one, other, at, offset = rows.T
    of, middles = np.concatenate([one, other]), np.concatenate([at, at + offset]) + FRAMES // 2
    begin = firsts[of] + (middles // LINED - _AROUND // 2).clip(0, (counts[of] - _AROUND).clip(0))
    begins, found = _without_repeats(begin, int(counts.sum()))
    ours, theirs = np.split(found, 2)
    lasts = np.repeat(firsts + counts - 1, counts)[begins]
    powers = np.concatenate([each.lines for each in recordings])
    roots = np.sqrt(np.sum([powers[np.minimum(begins + after, lasts)] for after in range(_AROUND)], axis=0))
    roots /= np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-20)
    parts = (slice(start, start + _AT_ONCE[0]) for start in range(0, len(rows), _AT_ONCE[0]))
    alike = [np.einsum("ij,ij->i", roots[ours[part]], roots[theirs[part]]) for part in parts]
    return np.concatenate([np.zeros(0), *alike])


def _without_repeats(numbers: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """What np.unique gives of numbers below `most`, and where each is in it, sooner."""
    there = np.zeros(most, bool)
    there[numbers] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[numbers]


def levels_alike(recordings: list[Fingerprint], some: list[Alignment]) -> np.ndarray:
    """How alike the levels of two recordings are in the second around each alignment, from 0 to 1, with the frames on
    each other that fit best: on the mean over all cells that stand out of the noise the geometric mean of both, equally
    loud as wholes, as a share of the larger."""
    ours = np.zeros((len(some), SECOND, BANDS), np.float32)
    theirs = np.zeros((len(some), SECOND + 2, BANDS), np.float32)
    backgrounds = np.empty((2, len(some), 1, BANDS), np.float32)
    for row, each in enumerate(some):
        one, other = recordings[each.one], recordings[each.other]
        first, last = max(one.heard[0], other.heard[0] - each.offset), min(one.heard[1], other.heard[1] - each.offset)
        begin = max(first, min(each.at - (SECOND - FRAMES) // 2, last - SECOND))
        end = max(begin, min(begin + SECOND, last))
        ours[row, : end - begin] = one.levels[begin:end]
        before = begin + each.offset - 1
        found = other.levels[max(0, before) : end + each.offset + 1]
        theirs[row, max(0, -before) :][: len(found)] = found
        backgrounds[:, row, 0] = one.background, other.background
    shifted = (theirs[:, shift : shift + SECOND] for shift in range(3))
    return np.max([_levels_alike(np.stack([ours, each]), backgrounds) for each in shifted], axis=0)


def _levels_alike(powers: np.ndarray, backgrounds: np.ndarray) -> np.ndarray:
    """The same for `[2, alignments, frames, BANDS]`, frame by frame."""
    powers = powers * (gains := 1 / np.maximum(powers.sum(axis=(2, 3), keepdims=True), 1e-20))
    larger = powers.max(axis=0)
    loudest = larger.max(axis=(1, 2), keepdims=True)
    distinct = (larger > FAINTER * loudest) & (larger > OVER_BACKGROUND * (backgrounds * gains).max(axis=0))
    enough = (powers * distinct).sum(axis=(2, 3)).min(axis=0) >= MOST_OF_IT
    distinct = np.where(enough[:, None, None], distinct, larger > FAINT * loudest)
    shares = np.sqrt(powers.prod(axis=0)) / np.maximum(larger, 1e-30)
    return (shares * distinct).sum(axis=(1, 2)) / np.maximum(distinct.sum(axis=(1, 2)), 1)


class _Patches:
    """All patches of recordings, described.

    Attributes:
        owner, frame: of each, the number of its recording and the frame that it begins at.
    """

    def __init__(self, recordings: list[Fingerprint]) -> None:
        total = sum(last - first for first, last in (each.heard for each in recordings))
        step = -(-total // _MOST_KNOWN)
        described = list(_described(recordings, step))
        self.owner, self.frame, asked, self._vectors = (np.concatenate(each) for each in zip(*described, strict=True))
        questions = np.flatnonzero(asked)
        self._asked = questions[:: -(-len(questions) // _MOST_ASKED)]

    def nearest(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Patches asked for, patches of other recordings, and how alike they are; of each recording the most alike."""
        found = []
        for asked, parts in self._to_compare():
            best = _Best(asked, self.owner)
            for known in parts:
                best.consider(known, _products(self._vectors[asked], self._vectors[known]))
            found.append(best.found())
        first, second, alike = (np.concatenate(each) for each in zip(*found, strict=True))
        return first, second, alike

    def _to_compare(self) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Patches asked for, and those that each of them is compared with, in parts."""
        some, many = _AT_ONCE
        if len(self._vectors) <= _FEW:
            everything = np.arange(len(self._vectors))
            parts = [everything[start : start + many] for start in range(0, len(everything), many)]
            yield from ((self._asked[start : start + some], parts) for start in range(0, len(self._asked), some))
            return
        cells, near = _cells(self._vectors)
        order = np.argsort(cells, kind="stable")
        bounds = np.searchsorted(cells[order], np.arange(len(near) + 1))
        members = [order[start:end] for start, end in pairwise(bounds)]
        for cell in np.unique(cells[self._asked]):
            asked = self._asked[cells[self._asked] == cell]
            near_ones = np.concatenate([members[each] for each in near[cell]])
            parts = np.split(near_ones, [_IN_CELL // 4, _IN_CELL])  # the first find most
            yield from ((asked[start : start + some], parts) for start in range(0, len(asked), some))


def _cells(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cell that each vector belongs to, such that near ones mostly share one or lie in neighbours, and the nearest
    `_NEAR` of each cell, itself first.

    Cells are what lies nearest to one of some centres (an inverted file, Jégou, Douze and Schmid 2011).
    """
    random = np.random.default_rng(0)
    count = len(vectors) // _IN_CELL
    sample = vectors[random.choice(len(vectors), 32 * count, replace=False)]
    centres = sample[:count]
    for _ in range(_ROUNDS):
        nearest = np.argmax(_products(sample, centres), axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-9), centres)
    cells = np.concatenate(
        [
            np.argmax(_products(vectors[start : start + _AT_ONCE[1]], centres), axis=1)
            for start in range(0, len(vectors), _AT_ONCE[1])
        ]
    )
    alike = _products(centres, centres)
    np.fill_diagonal(alike, 2)
    return cells, np.argsort(-alike, axis=1)[:, :_NEAR]


def _products(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each vector with each other; by torch, since numpy's threads wait busily for each other."""
    return (torch.from_numpy(some) @ torch.from_numpy(others).T).numpy()


def _best_of_each(of: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Which is the most alike of those of each number, as rising as these are. To sort whole numbers twice takes a
    quarter of the time of `np.lexsort`."""
    order = np.argsort(of)
    rising = of[order]
    place = np.cumsum(np.append(False, rising[1:] != rising[:-1])[: len(rising)])
    order = order[np.argsort(place << _ALIKE_BITS | _unlike(alike[order]))]
    return order[np.diff(place, prepend=-1) != 0]


def _unlike(alike: np.ndarray) -> np.ndarray:
    """Whole numbers of less than `_ALIKE_BITS` bits, the smaller the more alike."""
    return ((1 - alike) * (1 << _ALIKE_BITS - 1)).astype(np.int64).clip(0)


class _Best:
    """For each of some patches the most alike ones, at most one from each other recording."""

    def __init__(self, asked: np.ndarray, owner: np.ndarray) -> None:
        self._asked, self._owner = asked, owner
        self._least = np.full(len(asked), _ALIKE, np.float32)
        self._rows = self._known = np.zeros(0, np.int64)
        self._alike = np.zeros(0, np.float32)

    def consider(self, known: np.ndarray, alike: np.ndarray) -> None:
        """Patches, and how alike each of those asked for is to them."""
        hits = np.flatnonzero(alike > self._least[:, None])  # ten times faster than np.nonzero
        rows, columns = np.divmod(hits, alike.shape[1])
        found = known[columns]
        others = self._owner[self._asked[rows]] != self._owner[found]
        rows, columns, found = rows[others], columns[others], found[others]
        if not len(rows):
            return
        self._rows = np.concatenate([self._rows, rows])
        self._known = np.concatenate([self._known, found])
        self._alike = np.concatenate([self._alike, alike[rows, columns]])
        self._keep_best()

    def _keep_best(self) -> None:
        count = int(self._owner[-1]) + 1
        order = _best_of_each(self._rows * count + self._owner[self._known], self._alike)
        rows = self._rows[order]
        order = order[np.argsort(rows << _ALIKE_BITS | _unlike(self._alike[order]))]
        rows = self._rows[order]
        rank = np.arange(len(rows))
        rank -= np.maximum.accumulate(np.where(np.diff(rows, prepend=-1) != 0, rank, 0))  # where its row begins
        full = rank == _NEIGHBOURS - 1
        self._least[rows[full]] = self._alike[order[full]]
        order = order[rank < _NEIGHBOURS]
        self._rows, self._known, self._alike = self._rows[order], self._known[order], self._alike[order]

    def found(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._asked[self._rows], self._known, self._alike


def _described(recordings: list[Fingerprint], step: int) -> Iterator[tuple[np.ndarray, ...]]:
    """The patches of some recordings after those of others: whose each is, the frame that it begins at, whether it is
    looked for in other recordings, and what describes it, float32 `[patches, _TIMES * _BANDS - 1]` of length 1."""
    for first in range(0, len(recordings), _DESCRIBED[0]):
        some = recordings[first : first + _DESCRIBED[0]]
        heard = [_heard(each) for each in some]
        starts = [np.arange(0, len(levels) - FRAMES + 1, step) for levels in heard]
        counts = [len(each) for each in starts]
        asked = np.concatenate([_asked(*each, step) for each in zip(heard, starts, strict=True)])
        before = np.cumsum([0, *map(len, heard)])[:-1]
        at = np.concatenate(starts)
        logarithms = np.log10(np.concatenate(heard) + np.float32(1e-20))
        windows = np.lib.stride_tricks.sliding_window_view(logarithms, FRAMES, axis=0)
        parts = np.array_split(at + np.repeat(before, counts), 1 + len(at) // _DESCRIBED[1])
        owner = np.repeat(np.arange(first, first + len(some)), counts)
        frame = at + np.repeat([each.heard[0] for each in some], counts)
        yield owner, frame, asked, np.concatenate([_description(windows[part]) for part in parts])


def _heard(recording: Fingerprint) -> np.ndarray:
    """The levels between the silence before it and the silence after it, for a patch at least."""
    levels = recording.levels[slice(*recording.heard)]
    return levels if len(levels) >= FRAMES else np.pad(levels, ((0, FRAMES - len(levels)), (0, 0)))


def _description(logarithms: np.ndarray) -> np.ndarray:
    """What patches are described by, given the logarithms of their levels, `[patches, BANDS, FRAMES]`."""
    patches = logarithms.reshape(len(logarithms), -1)
    vectors = _products(np.maximum(patches, patches.max(axis=1, keepdims=True) - _DEPTH), _COSINES)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _asked(levels: np.ndarray, starts: np.ndarray, step: int) -> np.ndarray:
    """Which patches are looked for in other recordings: two a second, and the one where it is loudest."""
    asked = np.zeros(len(starts), bool)
    asked[:: max(1, _ASKED_EVERY // step)] = True
    asked[max(0, int(power_of(levels)[starts].argmax()) - 1)] = True
    return asked


def _cosines(length: int, count: int) -> np.ndarray:
    """The first `count` vectors of the discrete cosine transform, `[length, count]`."""
    return np.cos(np.pi / length * (np.arange(length)[:, None] + 0.5) * np.arange(count)) / np.sqrt(length)


_COSINES = np.kron(_cosines(BANDS, _BANDS), _cosines(FRAMES, _TIMES))[:, 1:].T.astype(np.float32)  # but for the mean
