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

A codec may have many levels, and then half of them is too fine. Of one with 75 frames a second and 8 levels of 1024, on
recordings of a tabla, that sound from another start offset agrees in 0.53 of its bits by four levels, in NEAR or more
in 29 % of its windows, and by MOST_COARSE in 0.91 and 97 %; the nearest window of another recording in 0.05 and 0.06.

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
from sda_prior_plugin.mapped import give_back, parts

NEAR = 0.6
"""Share of a window's bits from which on it is a near copy."""
MOST_COARSE = 2
"""Levels that places are compared by, at most."""
WINDOW_SECONDS = 1.0
SAME = 0.8
"""The same, from which on it is taken for the same sound again: 5, 0, 0 and 0 % of other recordings' windows."""
LEAST_ALIKE = 0.5, 0.75
"""Bounds of the share from which on a window is nearer than those of recordings are to each other. Without them it was
at most 0.58 of seconds of drums and a sitar, 0.66 to 0.77 of long notes."""
CERTAIN = 0.35
"""So much above that share it counts in full."""
STEADY = 0.25
"""What an agreement counts where nothing has changed, over what it counts elsewhere."""
TELLING = 0.5
"""Bits that a window needs to be compared, over those of a training window on average: quiet ones are all alike."""
MOST_CHECKED = 8_000
"""Training windows that one window is compared with, at most."""
PAIRS = 2**16
MOST_LISTED = 2**21
"""Training frames that pairs are listed of, in each band; of more, half a day at eight start offsets, only every second
or so, for memory, and other ones in other bands: a window has several."""
AT_ONCE = 127
"""Windows that are compared with all of those, so many that an int8 can count them."""
NOT_YET, TOO_LATE = -1, -2
"""What stands for no such window."""


def place_keys(codes: np.ndarray) -> np.ndarray:
    """uint8 `[frames, bands]`: an 8-bit hash of the coarser half of the levels of codes `[frames, bands, levels]`.

    MOST_COARSE of them at most. Many codes share each of them, so that no sound can be made of them again.
    """
    keys = np.zeros(codes.shape[:2], np.uint32)
    for level in range(min((codes.shape[2] + 1) // 2, MOST_COARSE)):
        keys = (keys + codes[..., level].astype(np.uint32) + np.uint32(1)) * np.uint32(0x9E3779B1)
        keys ^= keys >> np.uint32(15)
        keys *= np.uint32(0x85EBCA77)
        keys ^= keys >> np.uint32(13)
    return (keys >> np.uint32(24)).astype(np.uint8)


@inlined
def _sequence_of(starts: np.ndarray, frame: np.int64) -> np.int64:
    """The sequence that a frame is in."""
    first, end = 0, len(starts) - 1
    while end - first > 1:
        middle = (first + end) // 2
        if starts[middle] <= frame:
            first = middle
        else:
            end = middle
    return np.int64(first)


def sequences_keys(codes: np.ndarray) -> np.ndarray:
    """What `place_keys` gives, for codes that may be mapped from a file and larger than memory."""
    keys = np.empty(codes.shape[:2], np.uint8)
    for rows in parts(codes):
        for first in range(rows.start, min(rows.stop, len(codes)), PAIRS):
            some = slice(first, min(first + PAIRS, rows.stop))
            keys[some] = place_keys(np.asarray(codes[some]))
    return keys


class PairIndex(NamedTuple):
    """Where training windows may begin that are near to one.

    Attributes:
        starts: `[sequences + 1]`, where each sequence of the training frames starts, and the end.
        recordings: `[sequences]`, which recording each is from.
        places, bounds: int32 `[bands, listed frames]` and `[bands, PAIRS + 1]`: where each pair of keys occurs.
    """

    starts: np.ndarray
    recordings: np.ndarray
    places: np.ndarray
    bounds: np.ndarray


@inlined
def _first_there(held: np.ndarray, recording: int, window: int) -> bool:
    """Whether a window has not been in a recording before; from now on it has."""
    before = held[recording]
    held[recording] = window
    return bool(before != window)


@compiled_in_order
def _nearest(
    new: np.ndarray,
    bits: np.ndarray,
    firsts: np.ndarray,
    frames: int,
    keys: np.ndarray,
    index: PairIndex,
    own: np.ndarray,
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
        keys: uint8 `[training frames, bands]`, and `index` of these.
        own: int32 `[windows]`, the training recording that each is from and not compared with; -1 for none.
        most: training windows that one window is compared with.
        seen, held: int8 `[training frames]`, `[recordings]`: NOT_YET, in `seen` TOO_LATE where no window begins.
        shares, found, spread: filled; a share of 0 and place -1 where nothing agrees.
    """
    starts, recordings, places, bounds = index
    for window in range(len(firsts)):
        first, itself = firsts[window], own[window]
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
                        if start < 0 or seen[start] == TOO_LATE or seen[start] == window:
                            continue
                        if itself >= 0 and recordings[_sequence_of(starts, start)] == itself:
                            continue
                        seen[start] = window
                        checked += 1
                        agreed = _agreed(new, bits, first, keys, start, frames)
                        if agreed > best:
                            best, at = agreed, start
                        if agreed >= SAME * total and _first_there(
                            held, recordings[_sequence_of(starts, start)], window
                        ):
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

    def without(self, marks: np.ndarray, frames: int) -> Neighbours:
        """Those of the windows, of so many `frames`, none of whose frames is marked, bool `[frames of the codes]`."""
        marked = np.concatenate([[0], np.cumsum(marks)])
        free = marked[self.firsts + frames] == marked[self.firsts]
        return Neighbours(self.firsts[free], self.shares[free], self.places[free], self.spread[free])


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
        keys = sequences_keys(sequences.codes) if sequences.keys is None else sequences.keys
        return cls(keys, sequences.starts, sequences.recordings, frames)

    @cached_property
    def key_bits(self) -> np.ndarray:
        """float32 `[bands, 256]`: what a key says, in bits; one that was never heard is as rare as can be."""
        counts = np.zeros((self.keys.shape[1], 256), np.int64)
        for first in range(0, len(self.keys), 4 * PAIRS):
            counts += np.stack([np.bincount(band, minlength=256) for band in self.keys[first : first + 4 * PAIRS].T])
            give_back(self.keys)
        return (-np.log2((counts + 1) / (len(self.keys) + 256))).astype(np.float32)

    @cached_property
    def least_bits(self) -> float:
        """What a window needs to be compared."""
        said, count = 0.0, min(len(self.keys), 2 * MOST_LISTED)
        for first in range(0, count, PAIRS):
            bits = self.bits_of(self.keys[max(first - 1, 0) : min(first + PAIRS, count)])  # and the frame before
            said += float(bits[min(first, 1) :].sum(axis=1).sum(dtype=np.float64))
        give_back(self.keys)
        return TELLING * said / count * self.frames if count else 0.0

    @cached_property
    def _index(self) -> PairIndex:
        bands, every = self.keys.shape[1], -(-len(self.keys) // MOST_LISTED)
        count = max(0, len(self.keys) - 1) // every
        places, bounds = np.empty((bands, count), np.int32), np.empty((bands, PAIRS + 1), np.int32)
        for number, band in enumerate(self.keys.T):
            listed = np.arange(count, dtype=np.int32) * every + number * every // bands
            pairs = np.empty(count, np.uint16)
            for some in (slice(first, first + 4 * PAIRS) for first in range(0, count, 4 * PAIRS)):
                pairs[some] = band[listed[some]].astype(np.uint16) * np.uint16(256) + band[listed[some] + 1]
                give_back(self.keys)
            places[number] = listed[np.argsort(pairs, kind="stable")]
            bounds[number] = np.concatenate([[0], np.cumsum(np.bincount(pairs, minlength=PAIRS))])
        return PairIndex(self.starts, self.recordings, places, bounds)

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

    def neighbours(self, grids: Sequence[np.ndarray], own: Sequence[int] | None = None) -> list[Neighbours]:
        """Of the windows of each grid `[frames, bands, levels]` that can be compared.

        `own` is the training recording that each grid is from, of which no variant is compared with it; -1 for none.
        """
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
            itself = np.repeat([-1] * len(grids) if own is None else own, [len(one) for one in firsts]).astype(np.int32)
            seen, held = np.empty(len(self.keys), np.int8), np.empty(self.recordings.max() + 1, np.int8)
            for first in range(0, count, AT_ONCE):
                some = slice(first, first + AT_ONCE)
                seen[:], held[:] = NOT_YET, NOT_YET
                for back in range(1, self.frames):
                    seen[np.maximum(self.starts[1:] - back, self.starts[:-1])] = TOO_LATE
                _nearest(
                    joined, bits, begins[some], self.frames, self.keys, self._index, itself[some], MOST_CHECKED,
                    seen, held, shares[some], places[some], spread[some],
                )  # fmt: skip
            give_back(self.keys)
        ends = np.cumsum([len(one) for one in firsts])[:-1]
        parts = zip(firsts, *(np.split(one, ends) for one in (shares, places, spread)), strict=True)
        return [Neighbours(*part) for part in parts]

    def near_counts(self, found: Sequence[Neighbours]) -> tuple[np.ndarray, np.ndarray]:
        """Of each grid, how many windows are near copies, and how many can be compared: int `[grids]` each."""
        return (
            np.array([np.count_nonzero(one.shares >= NEAR) for one in found], np.int64),
            np.array([len(one.shares) for one in found], np.int64),
        )

    def alike(self, found: Sequence[Neighbours]) -> float:
        """From what share on windows are nearer than those of recordings are to other ones, by what was found of these.

        One in twenty of theirs is as near, within bounds.
        """
        shares = np.concatenate([np.zeros(1), *(one.shares for one in found)])
        return float(np.clip(np.quantile(shares, 0.95), *LEAST_ALIKE))

    def near_weights(self, found: Sequence[Neighbours], alike: float) -> np.ndarray:
        """Of each grid, its windows by how near each is to a copy: float `[grids]`.

        A window counts 0 up to `alike` and 1 from CERTAIN above that on: what is nearly a copy tells a little.
        """
        return np.array([np.clip((one.shares - alike) / CERTAIN, 0, 1).sum(dtype=np.float64) for one in found])

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
