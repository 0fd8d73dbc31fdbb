"""Near copies: stretches that a listener takes for those of a recording though some of their codes differ.

Two windows of about a second are compared place by place, a place being a band of a frame. Places agree where the
coarser levels of their codes are equal: in a residual quantizer these say in which cells of the codec's space a sound
lies, and the finer ones, which noise and another start offset change first, only where in the cell. An agreement
counts by how much it says, `-log2` of how common it is among the training codes, so that silence says next to nothing;
where nothing has changed since the frame before it counts by STEADY of that: one sustained note is like another.

The bounds on the share of a window's bits that agree were set by measurement, on recordings of drums, of a sitar, and
on synthesized textures and long notes. The same sound encoded from a start offset as far from eight trained ones as can
be agrees in 0.74, 0.81, 0.83 and 0.89 of its bits (medians), and in NEAR or more in 77, 100, 100 and 99 % of its
windows; the nearest window of another recording agrees in 0.24, 0.17, 0.14 and 0.33, and in NEAR or more in 7, 0, 0
and 5 %, hits on one drum being alike. What recordings of a kind share anyway is therefore measured beside it.

Neighbours are found as Wang (2003) finds recordings: by pairs of places that are listed with where they occur, the
rarest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sda_prior_plugin.compiled import compiled_in_order, inlined
from sda_prior_plugin.dataset import CodeSequences

NEAR = 0.6
"""Share of a window's bits from which on it is a near copy."""
WINDOW_SECONDS = 1.0
SAME = 0.8
"""The same, from which on it is taken for the same sound again: 5, 0, 0 and 0 % of other recordings' windows."""
STEADY = 0.25
"""What an agreement counts where nothing has changed, over what it counts elsewhere."""
TELLING = 0.5
"""Bits that a window needs to be compared, over those of a training window on average: quiet ones are all alike."""
MOST_CHECKED = 8_000
"""Training windows that one window is compared with, at most."""
PAIRS = 2**16
MOST_LISTED = 2**22
"""Training frames that pairs are listed of; of more, a day at eight start offsets, only every second or so, for memory:
a window has several."""


def place_keys(codes: np.ndarray) -> np.ndarray:
    """uint8 `[frames, bands]`: an 8-bit hash of the coarser half of the levels of codes `[frames, bands, levels]`.

    Many codes share each of them, so that no sound can be made of them again.
    """
    keys = np.zeros(codes.shape[:2], np.uint32)
    for level in range((codes.shape[2] + 1) // 2):
        keys = (keys + codes[..., level].astype(np.uint32) + np.uint32(1)) * np.uint32(0x9E3779B1)
        keys ^= keys >> np.uint32(15)
        keys *= np.uint32(0x85EBCA77)
        keys ^= keys >> np.uint32(13)
    return (keys >> np.uint32(24)).astype(np.uint8)


class PairIndex(NamedTuple):
    """Where training windows may begin that are near to one.

    Attributes:
        before, after: int32 `[training frames]`, frames of the same sequence before each, and from it on.
        places, bounds: int32 `[bands, listed frames]` and `[bands, PAIRS + 1]`: where each pair of keys occurs.
        recordings: int32 `[training frames]`, which recording each is from.
    """

    before: np.ndarray
    after: np.ndarray
    places: np.ndarray
    bounds: np.ndarray
    recordings: np.ndarray


@compiled_in_order
def _nearest(
    new: np.ndarray,
    bits: np.ndarray,
    firsts: np.ndarray,
    frames: int,
    keys: np.ndarray,
    index: PairIndex,
    most: int,
    seen: np.ndarray,
    held: np.ndarray,
    shares: np.ndarray,
    found: np.ndarray,
    spread: np.ndarray,
) -> None:
    """Fill `shares` and `found` `[windows]`: how much agrees with the nearest training window, and its first frame.
    And `spread`: how many recordings hold a window that agrees in SAME or more.

    Args:
        new: uint8 `[frames, bands]`, keys of what is looked at, and `bits` float32 of each.
        firsts: int `[windows]`, where each window of so many `frames` begins.
        keys: uint8 `[training frames, bands]`.
        index: of these.
        most: training windows that one window is compared with.
        seen, held: int32 `[training frames]` and `[recordings]`, -1 everywhere: the last window that looked there.
        shares, found, spread: filled; a share of 0 and place -1 where nothing agrees.
    """
    before, after, places, bounds, recordings = index
    for window in range(len(firsts)):
        first = firsts[window]
        total = _bits(bits, first, frames)
        best, at, checked, least, limit = np.float32(0), -1, 0, 0, 16
        while checked < most and least < len(keys):
            for frame in range(frames - 1):
                for band in range(new.shape[1]):
                    pair = np.int64(new[first + frame, band]) * 256 + np.int64(new[first + frame + 1, band])
                    begin, end = bounds[band, pair], bounds[band, pair + 1]
                    if end - begin <= least or end - begin > limit:
                        continue
                    for number in range(begin, end):
                        place = places[band, number]
                        start = place - frame
                        if before[place] < frame or after[place] < frames - frame or seen[start] == window:
                            continue
                        seen[start] = window
                        checked += 1
                        agreed = _agreed(new, bits, first, keys, start, frames)
                        if agreed > best:
                            best, at = agreed, start
                        if agreed >= SAME * total and held[recordings[start]] != window:
                            held[recordings[start]] = window
                            spread[window] += 1
                        if checked >= most:
                            break
            least, limit = limit, limit * 8
        shares[window] = best / max(total, np.float32(1e-6))
        found[window] = at


@inlined
def _bits(bits: np.ndarray, first: int, frames: int) -> np.float32:
    """What so many frames say, from the first one on."""
    total = np.float32(0)
    for frame in range(frames):
        for band in range(bits.shape[1]):
            total += bits[first + frame, band]
    return total


@inlined
def _agreed(new: np.ndarray, bits: np.ndarray, first: int, keys: np.ndarray, start: int, frames: int) -> np.float32:
    """How much of that so many frames of `keys`, from `start` on, agree with."""
    agreed = np.float32(0)
    for frame in range(frames):
        for band in range(new.shape[1]):
            if keys[start + frame, band] == new[first + frame, band]:
                agreed += bits[first + frame, band]
    return agreed


def near_window(frame_seconds: float, lengths: np.ndarray, shortest: int) -> int:
    """Frames of the windows that are compared: a second, or what the median training recording has, if that is less."""
    wanted = round(WINDOW_SECONDS / frame_seconds)
    typical = int(np.median(lengths)) if len(lengths) else 0
    return max(shortest, min(wanted, typical))


@dataclass(frozen=True)
class Neighbours:
    """What is nearest to each window of some codes, `[windows]` each.

    Attributes:
        firsts: where each begins.
        shares: of its bits that agree with the nearest training window.
        places: first frame of that among all training frames, or -1.
        spread: training recordings that hold the window or the SAME sound.
    """

    firsts: np.ndarray
    shares: np.ndarray
    places: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class Sketch:
    """What a prior has learned from, as far as it takes to recognize what is near to it.

    Attributes:
        keys: uint8 `[all frames, bands]`, of the sequences one after another.
        starts: `[sequences + 1]`, where each starts, and the end.
        recordings: `[sequences]`, which recording each is from.
        frames: of the windows that are compared.
    """

    keys: np.ndarray
    starts: np.ndarray
    recordings: np.ndarray
    frames: int

    @classmethod
    def of(cls, sequences: CodeSequences, frames: int) -> Sketch:
        """The sketch of these sequences."""
        keys = np.empty(sequences.codes.shape[:2], np.uint8)
        for first in range(0, len(keys), PAIRS):  # codes may be mapped from a file and larger than memory
            keys[first : first + PAIRS] = place_keys(np.asarray(sequences.codes[first : first + PAIRS]))
        return cls(keys, sequences.starts, sequences.recordings, frames)

    @cached_property
    def key_bits(self) -> np.ndarray:
        """float32 `[bands, 256]`: what a key says, in bits; one that was never heard is as rare as can be."""
        counts = np.stack([np.bincount(band, minlength=256) for band in self.keys.T])
        return (-np.log2((counts + 1) / (len(self.keys) + 256))).astype(np.float32)

    @cached_property
    def least_bits(self) -> float:
        """What a window needs to be compared."""
        some = self.bits_of(self.keys[:MOST_LISTED])
        return TELLING * float(some.sum(axis=1).mean(dtype=np.float64)) * self.frames

    @cached_property
    def _index(self) -> PairIndex:
        lengths = np.diff(self.starts)
        before = (np.arange(len(self.keys)) - np.repeat(self.starts[:-1], lengths)).astype(np.int32)
        after = np.repeat(lengths, lengths).astype(np.int32) - before
        listed = np.arange(0, len(self.keys) - 1, -(-len(self.keys) // MOST_LISTED), dtype=np.int32)
        places, bounds = [], []
        for band in self.keys.T:
            pairs = band[listed].astype(np.uint16) * np.uint16(256) + band[listed + 1]
            places.append(listed[np.argsort(pairs, kind="stable")])
            bounds.append(np.concatenate([[0], np.cumsum(np.bincount(pairs, minlength=PAIRS))]).astype(np.int32))
        recordings = np.repeat(self.recordings, lengths).astype(np.int32)
        return PairIndex(before, after, np.stack(places), np.stack(bounds), recordings)

    def bits_of(self, keys: np.ndarray) -> np.ndarray:
        """What keys `[frames, bands]` say one after another, float32 of the same shape."""
        bits = self.key_bits[np.arange(keys.shape[1]), keys]
        bits[1:][keys[1:] == keys[:-1]] *= np.float32(STEADY)
        return bits

    def telling(self, keys: np.ndarray) -> np.ndarray:
        """Where windows begin that can be compared, int: they say enough, and are more than one sustained sound."""
        count = max(len(keys) - self.frames + 1, 0)
        said = np.concatenate([[0], np.cumsum(self.bits_of(keys).sum(axis=1, dtype=np.float64))])
        changes = np.concatenate([[0], np.cumsum((keys[1:] != keys[:-1]).any(axis=1))])
        enough = said[self.frames :][:count] - said[:count] >= self.least_bits
        return np.flatnonzero(enough & (changes[self.frames - 1 :][:count] > changes[:count]))

    def neighbours(self, grids: Sequence[np.ndarray]) -> list[Neighbours]:
        """Of the windows of each grid `[frames, bands, levels]` that can be compared."""
        if not grids:
            return []
        all_keys = [place_keys(np.asarray(grid)) for grid in grids]
        firsts = [self.telling(keys) for keys in all_keys]
        count = sum(map(len, firsts))
        shares, places, spread = np.zeros(count, np.float32), np.full(count, -1, np.int64), np.zeros(count, np.int64)
        if count and len(self.keys) > 1:
            joined, bits = np.concatenate(all_keys), np.concatenate([self.bits_of(keys) for keys in all_keys])
            offsets = np.cumsum([0, *map(len, all_keys)])
            begins = np.concatenate([one + offset for one, offset in zip(firsts, offsets[:-1], strict=True)])
            seen, held = np.full(len(self.keys), -1, np.int32), np.full(self.recordings.max() + 1, -1, np.int32)
            _nearest(
                joined, bits, begins, self.frames, self.keys, self._index, MOST_CHECKED, seen, held,
                shares, places, spread,
            )  # fmt: skip
        ends = np.cumsum([len(one) for one in firsts])[:-1]
        parts = zip(firsts, *(np.split(one, ends) for one in (shares, places, spread)), strict=True)
        return [Neighbours(*part) for part in parts]

    def near_counts(self, found: Sequence[Neighbours]) -> tuple[np.ndarray, np.ndarray]:
        """Of each grid, how many windows are near copies, and how many can be compared: int `[grids]` each."""
        return (
            np.array([np.count_nonzero(one.shares >= NEAR) for one in found], np.int64),
            np.array([len(one.shares) for one in found], np.int64),
        )

    def near_share(self, grid: np.ndarray) -> float:
        """The share of a grid's frames that are part of a near copy."""
        (found,) = self.neighbours([grid])
        marks = np.zeros(len(grid) + 1, np.int64)
        near = found.firsts[found.shares >= NEAR]
        np.add.at(marks, near, 1)
        np.add.at(marks, near + self.frames, -1)
        return float((marks.cumsum()[:-1] > 0).mean()) if len(grid) else 0.0

    def agreement(self, grid: np.ndarray, other: np.ndarray) -> float:
        """The share of the bits of one grid that agree with another one of the same shape."""
        keys = place_keys(grid)
        bits = self.bits_of(keys)
        return float((bits * (keys == place_keys(other))).sum() / max(float(bits.sum()), 1e-6))
