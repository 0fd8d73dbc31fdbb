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
    entries: list[RecordingEntry], seed: int, sounding: Mapping[str, Span] | None = None
) -> tuple[list[RecordingEntry], list[str]]:
    """Give each entry its part. Files with the same contents are one recording under several names: were one trained
    on and the other held out, the held-out measurements would be lies.

    `sounding` says of each path from where to where it is more than silence, in seconds; all of it where it does not.
    """
    by_content: dict[str, list[RecordingEntry]] = {}
    for entry in entries:
        by_content.setdefault(entry.sha256, []).append(entry)
    if len(by_content) == 1:
        first = entries[0]
        return _split_within(entries, (sounding or {}).get(first.path, (0.0, first.seconds)))
    held_out = _held_out_contents({sha: copies[0].seconds for sha, copies in by_content.items()}, seed)
    files = [
        replace(entry, held_out=(0.0, entry.seconds))
        if entry.sha256 in held_out
        else replace(entry, train=(0.0, entry.seconds))
        for entry in entries
    ]
    return files, []


def _held_out_contents(seconds: Mapping[str, float], seed: int) -> set[str]:
    """Choose what is held out: a fifth of the recordings, more (up to a third) while they are less than a tenth of
    the sound, and never more than half of the sound. Always at least one, and never all."""
    shuffled = list(seconds)
    random.Random(seed).shuffle(shuffled)
    total = sum(seconds.values())
    count = max(1, round(HELD_OUT_SHARE * len(seconds)))
    chosen: set[str] = set()
    held = 0.0
    for content in shuffled:
        if len(chosen) >= count and (held >= 0.1 * total or len(chosen) >= len(seconds) // 3):
            break
        if held + seconds[content] <= total / 2:  # the shortest always fits, so one is always chosen
            chosen.add(content)
            held += seconds[content]
    return chosen


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
