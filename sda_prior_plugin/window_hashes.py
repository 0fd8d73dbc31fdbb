"""Hashes of frames and of windows of frames, and tables that windows are looked up in.

Every frame is known by a 32-bit hash of its codes, every window of frames by a 64-bit hash of those, which rolls along
(Karp and Rabin 1987). Equal windows have equal hashes, so that none is missed. Unequal ones have equal hashes once in
2^32 pairs if all but one of their frames are the same, and once in 2^64 if not: what was heard is hardly ever more than
a few windows that nearly are the one that is looked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sda_prior_plugin.compiled import compiled_in_order, inlined
from sda_prior_plugin.mapped import parts

ODD = np.uint64(0x9E3779B97F4A7C15)
ROLL = np.uint64(0xD1342543DE82EF95)
MIX = np.uint64(0xBF58476D1CE4E5B9)
FRAME = np.uint64(0xFFFFFFFF)
"""The bits of what a frame's codes are mixed to that are its hash."""
_SHIFT = np.uint64(31)
_EMPTY = np.uint64(0)


@inlined
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> _SHIFT)) * MIX
    return value ^ (value >> _SHIFT)


@inlined
def frame_hash(codes: np.ndarray) -> np.uint64:
    """What tells a frame, its codes `[frame codes]`, from others."""
    value = ODD
    for place in range(len(codes)):
        value = _mixed((value + np.uint64(codes[place]) + np.uint64(1)) * ODD)
    return value & FRAME


@compiled_in_order
def _hash_frames(codes: np.ndarray, hashes: np.ndarray) -> None:
    for frame in range(len(codes)):
        hashes[frame] = np.uint32(frame_hash(codes[frame]))


@compiled_in_order
def _hash_windows(hashes: np.ndarray, frames: int, found: np.ndarray) -> None:
    """Fill `found` with the hash of each window of `frames`; 0 stands for no window, and for none that is there."""
    leaves = np.uint64(1)
    for _ in range(frames):
        leaves *= ROLL
    rolling = np.uint64(0)
    for frame in range(len(hashes)):
        rolling = rolling * ROLL + hashes[frame]
        if frame >= frames:
            rolling -= leaves * hashes[frame - frames]
        if frame >= frames - 1:
            found[frame - frames + 1] = max(_mixed(rolling), np.uint64(1))


@inlined
def _slot(table: np.ndarray, wanted: np.uint64) -> np.int64:
    """Where `wanted` stands in the table, or the free place where it would."""
    mask = np.uint64(len(table) - 1)
    slot = wanted & mask
    while table[slot] != _EMPTY and table[slot] != wanted:
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)


@compiled_in_order
def enter(wanted: np.ndarray, table: np.ndarray) -> None:
    """Put hashes into a table, to be looked up with `_slot`."""
    for index in range(len(wanted)):
        table[_slot(table, wanted[index])] = wanted[index]


@compiled_in_order
def completing(table: np.ndarray, before: np.ndarray, codes: np.ndarray, found: np.ndarray) -> None:
    """Fill `found` bool `[C]`: which last codes of a frame make it end a window that was heard.

    Args:
        table: of a `CopyGuard`.
        before: uint64 `[its frames - 1]`, the hashes of the frames before.
        codes: int `[frame codes]`; all but the last are known.
        found: one for each code that may be the last.
    """
    rolling = np.uint64(0)
    for one in before:
        rolling = (rolling + one) * ROLL
    prefix = ODD
    for place in range(len(codes) - 1):
        prefix = _mixed((prefix + np.uint64(codes[place]) + np.uint64(1)) * ODD)
    for code in range(len(found)):
        frame = _mixed((prefix + np.uint64(code) + np.uint64(1)) * ODD) & FRAME
        one = max(_mixed(rolling + frame), np.uint64(1))
        found[code] = table[_slot(table, one)] == one


@compiled_in_order
def find_first(hashes: np.ndarray, starts: np.ndarray, frames: int, table: np.ndarray, places: np.ndarray) -> None:
    """Fill `places` with the first place in `hashes` of each window of `frames` in the table, where it is there."""
    leaves = np.uint64(1)
    for _ in range(frames):
        leaves *= ROLL
    for sequence in range(len(starts) - 1):
        begin, end = starts[sequence], starts[sequence + 1]
        rolling = np.uint64(0)
        for frame in range(begin, end):
            rolling = rolling * ROLL + hashes[frame]
            if frame >= begin + frames:
                rolling -= leaves * hashes[frame - frames]
            if frame >= begin + frames - 1:
                one = max(_mixed(rolling), np.uint64(1))
                slot = _slot(table, one)
                if table[slot] == one and places[slot] < 0:
                    places[slot] = frame - frames + 1


@compiled_in_order
def look_up(wanted: np.ndarray, table: np.ndarray, places: np.ndarray, found: np.ndarray) -> None:
    """Fill `found` with the places of the hashes `wanted`."""
    for index in range(len(wanted)):
        found[index] = places[_slot(table, wanted[index])]


def empty_table(most: int, room: int) -> np.ndarray:
    """A table for at most so many hashes, uint64 `[a power of two]`, with `room` times as many places at least."""
    return np.zeros(1 << max(4, (room * most - 1).bit_length()), np.uint64)


def window_hashes(hashes: np.ndarray, frames: int) -> np.ndarray:
    """uint64 `[windows]`: what tells the windows of `frames` of some frame hashes apart."""
    found = np.empty(max(len(hashes) - frames + 1, 0), np.uint64)
    _hash_windows(hashes, frames, found)
    return found


@compiled_in_order
def pass_by(
    hashes: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    leaves: np.ndarray,
    salts: np.ndarray,
    rolling: np.ndarray,
    table: np.ndarray,
    slots: np.ndarray | None,
    recordings: np.ndarray | None,
    latest: np.ndarray | None,
    holding: np.ndarray | None,
) -> None:
    """Take windows of several lengths of some frames to a table: enter them, or count who holds those in it.

    Args:
        hashes, starts: of the frames, and where each sequence of them starts; no window goes beyond its sequence.
        lengths, leaves, salts, rolling: `[lengths]`, frames of the windows and what each length needs.
        table: as `_slot` wants it.
        slots: int `[lengths, frames]`, to be filled with the slot of the window that ends with each frame; None where
            nothing is to be entered.
        recordings: `[sequences]`, which each is from, ascending; None, like the rest, where nothing is counted.
        latest, holding: int32 `[slots of the table]`, from -1 and 0 on, the last recording that holds what is there,
            and how many do.
    """
    for sequence in range(len(starts) - 1):
        begin = starts[sequence]
        for kind in range(len(lengths)):
            rolling[kind] = np.uint64(0)
        for frame in range(begin, starts[sequence + 1]):
            for kind in range(len(lengths)):
                length = lengths[kind]
                value = rolling[kind] * ROLL + hashes[frame]
                if frame - begin >= length:
                    value -= leaves[kind] * hashes[frame - length]
                rolling[kind] = value
                if frame - begin >= length - 1:
                    one = max(_mixed(value + salts[kind]), np.uint64(1))
                    slot = _slot(table, one)
                    if slots is not None:
                        table[slot] = one
                        slots[kind, frame] = slot
                    if recordings is None or latest is None or holding is None:
                        continue
                    if table[slot] == one and latest[slot] != recordings[sequence]:
                        latest[slot] = recordings[sequence]
                        holding[slot] += 1


def window_kinds(lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `pass_by` needs for windows of these lengths: `lengths`, `leaves`, `salts` and `rolling`."""
    kinds = np.array(lengths, np.int64)
    leaves = np.array([pow(int(ROLL), length, 2**64) for length in lengths], np.uint64)
    return kinds, leaves, kinds.astype(np.uint64) * ODD, np.zeros(len(kinds), np.uint64)


def frame_hashes(codes: np.ndarray) -> np.ndarray:
    """uint32 `[frames]` of codes `[frames, bands, levels]`: what tells frames apart."""
    hashes = np.empty(len(codes), np.uint32)
    for rows in parts(codes):
        some = np.ascontiguousarray(codes[rows])
        _hash_frames(some.reshape(len(some), math.prod(codes.shape[1:])), hashes[rows])
    return hashes
