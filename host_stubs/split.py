"""Which recordings are held out."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from host_stubs.recording import RecordingEntry, Span

SPLIT_SEED = 42
HELD_OUT_SHARE = 0.2
GAP_SECONDS = 0.5


def split(
    entries: list[RecordingEntry],
    seed: int,
    sounding: Mapping[str, Span] | None = None,
    groups: Mapping[str, str] | None = None,
) -> tuple[list[RecordingEntry], list[str]]:
    """Give each entry its part, and say what a user should know about it.

    Recordings with the same contents, and those with the same value in `groups`, from paths, go together: were one
    trained on and the other held out, the held-out measurements would be lies. `sounding` says of each path from where
    to where it is more than silence, in seconds; all of it where it does not.
    """
    contents = {entry.sha256: entry.seconds for entry in reversed(entries)}
    if len(contents) == 1:
        first = entries[0]
        return _split_within(entries, (sounding or {}).get(first.path, (0.0, first.seconds)))
    together: dict[str, dict[str, float]] = {}
    for entry in entries:
        group = (groups or {}).get(entry.path, entry.sha256)
        together.setdefault(group, {})[entry.sha256] = contents[entry.sha256]
    notes = []
    if len(together) == 1:
        notes = ["All recordings share sound: what is held out is not unheard, and numbers measured on it flatter."]
        together = {sha256: {sha256: seconds} for sha256, seconds in contents.items()}
    held_out = _held_out_contents(list(together.values()), seed)
    files = [
        replace(entry, held_out=(0.0, entry.seconds))
        if entry.sha256 in held_out
        else replace(entry, train=(0.0, entry.seconds))
        for entry in entries
    ]
    return files, notes


def _held_out_contents(groups: list[dict[str, float]], seed: int) -> set[str]:
    """Choose what is held out, of groups of contents with their seconds: a fifth of the recordings, more (up to a
    third) while they are less than a tenth of the sound, and never more than half of the sound. Several that go
    together are taken only while all is less than a third of both, unless there is nothing else. Always at least one
    group, and never all."""
    shuffled = list(groups)
    random.Random(seed).shuffle(shuffled)
    recordings = sum(map(len, groups))
    total = sum(sum(group.values()) for group in groups)
    count = max(1, round(HELD_OUT_SHARE * recordings))
    chosen: set[str] = set()
    held = 0.0
    for group in shuffled:
        if len(chosen) >= count and (held >= 0.1 * total or len(chosen) >= recordings // 3):
            break
        seconds = sum(group.values())
        most = total / 2 if len(group) == 1 else total / 3
        if held + seconds <= most and (len(group) == 1 or len(chosen) + len(group) <= recordings / 3):
            chosen.update(group)
            held += seconds
    smallest = min(groups, key=lambda group: sum(group.values()))
    return chosen or set(smallest)


def _split_within(entries: list[RecordingEntry], sounding: Span) -> tuple[list[RecordingEntry], list[str]]:
    """All there is, is one recording: its head trains, its tail is held out, and the gap between them keeps a sound
    that rings on from being in both. The gap shrinks with a short recording. Where one of them would be
    mostly silent, only what sounds is shared out, and the silence around it goes with the head or the tail."""
    seconds = entries[0].seconds
    start, end = sounding
    held = HELD_OUT_SHARE * seconds
    if start < (seconds - held) / 2 and end > seconds - held / 2:  # silence is not most of either
        start, end = 0.0, seconds
    length = end - start
    cut = end - HELD_OUT_SHARE * length
    gap = min(GAP_SECONDS, length / 10)
    train, held_out = (0.0, cut - gap), (cut, seconds)
    notes = [f"There is only one recording ({seconds:.1f} s): its last {seconds - cut:.1f} s are held out."]
    if length < 5:
        notes.append("That is very little sound to learn from; a few more recordings would make a better model.")
    return [replace(entry, train=train, held_out=held_out) for entry in entries], notes
