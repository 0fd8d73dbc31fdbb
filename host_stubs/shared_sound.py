"""Recordings that share sound: the same take in another form, or a stretch of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from host_stubs.candidates import (
    FAINT,
    FAINTER,
    FRAMES,
    MOST_OF_IT,
    OVER_BACKGROUND,
    Alignment,
    alignments,
    levels_alike,
)
from host_stubs.fingerprints import (
    FRAME,
    HOP,
    RATE,
    SECOND,
    Fingerprint,
    Fingerprints,
    in_bands,
    powers_in_bands,
    spectra,
)

# Correlations of a second as waves: whatever they come from, such as a drum that rings on, who has heard one has heard
# the other. Each with the share of the loudest second that the second is at least in one recording and in the other.
_SAME_WAVE = (0.9, np.array([0.1, 0.25])), (0.95, np.array([0.025, 0.1]))
_LIKE_LEVEL = 0.45  # how alike the levels are then at least
_SAME_PHASE, _SAME_LEVEL = 0.82, 0.65  # how alike the same sound is at least, see `_alike`
_LOUD = 10**-0.6  # of a recording's loudest second: in the quiet end of a note little is left to tell notes by
_GOING_TOGETHER = 0.7  # correlation of all that two recordings have in common
_SHORTEST = RATE * 4 // 5  # samples in common: a second but for its ends
_MOST_OF_IT = 0.8  # share of a recording's sound that counts as all of it
_STEP = SECOND // 4  # frames between the stretches that are looked at
_COMPARED = 1_000, 100  # comparisons of waves in vain, about, and one more for every so many recordings
_LOOKED_AT = 8  # times as many alignments of which levels are compared, which takes a thirtieth of the time
_FILTERED = 4096  # alignments of which those of one group are left out at once
_AT_ONCE = 64  # alignments of which the levels are compared at once
_MAY_BE_ALIKE = 0.4  # levels of a second: of the same sound it was 0.47 at least, with frames that lie aside each other
_MAY_CORRELATE = 0.5  # a patch as waves: of the same sound it was 0.59 at least
_SURELY = 0.97  # correlation of a second as waves that needs no closer look, with levels alike
_WORTH_A_LOOK = 0.45  # correlation of two seconds as waves
_MARGIN = 3 * HOP  # samples that an alignment may be wrong by
_REACH = 2 * RATE  # samples before and after a promising moment that are compared
_TOLD, _NAMED = 8, 12  # groups that are told of, and names in each, before the rest are counted
_SHIFTS = np.exp(2j * np.pi * np.outer(np.linspace(-0.75, 0.75, 13), np.fft.rfftfreq(FRAME))).astype(np.complex64)
_TAPS = 32  # samples that one which lies between them is made of
_APART = np.arange(_TAPS)[:, None] - _TAPS // 2 - np.arange(4) / 4
_QUARTERS = (np.sinc(_APART) * np.cos(np.pi * _APART / (_TAPS + 2)) ** 2).astype(np.float32)


@dataclass(frozen=True)
class Shared:
    """Two recordings that share sound. `one` is all in `other`, `other` all in `one`: if both, they are one take."""

    one: str
    other: str
    one_in_other: bool
    other_in_one: bool


def shared_sound(fingerprints: Fingerprints) -> list[Shared]:
    """Pairs of recordings that share a second of sound, or all of a shorter one; enough to connect each with all that
    it shares sound with.

    Candidates come from patches of the spectrum, and are taken in the order in which the spectra around are alike.
    Whether they are one sound is seen from the waves themselves, lying on each other to a fraction of a sample: in
    nearly all cells of time and frequency that are louder than the noise the same phase and the same share of the
    power.
    """
    names, known = list(fingerprints.of), list(fingerprints.of.values())
    group = np.arange(len(names))  # of each recording the one that its group is named after
    pairs: list[Shared] = []
    left = _COMPARED[0] + len(known) // _COMPARED[1]
    for each, alike in _promising(known, group, _LOOKED_AT * left):
        if group[each.one] == group[each.other]:
            continue
        found = _compare(fingerprints, names[each.one], names[each.other], each, alike)
        if found is not None:
            pairs.append(found)
            group[group == group[each.one]] = int(group[each.other])
        elif (left := left - 1) <= 0:
            break
    return pairs


def _promising(known: list[Fingerprint], group: np.ndarray, most: int) -> Iterator[tuple[Alignment, float]]:
    """The alignments of recordings that are in two groups when it comes to them, the most promising first, of which the
    levels may be those of one sound, and how alike those are. Of recordings that are still in two groups thereafter,
    the levels of `most` are looked at, about."""
    rows = alignments(known)
    rows = rows[_enough(known, rows)]
    for start in range(0, len(rows), _FILTERED):
        left = rows[start : start + _FILTERED]
        while most > 0 and len(left := left[_apart(left, group)]):
            some, left = left[:_AT_ONCE], left[_AT_ONCE:]
            each = [Alignment(*row) for row in some.tolist()]
            alike = levels_alike(known, each)
            yield from ((each[number], float(alike[number])) for number in np.flatnonzero(alike >= _MAY_BE_ALIKE))
            most -= int(_apart(some, group).sum())


def _enough(known: list[Fingerprint], rows: np.ndarray) -> np.ndarray:
    """In which alignments two recordings have enough in common to be one sound, wherever precisely they lie."""
    one, other, _, offsets = rows.T
    begins, ends = np.array([_sounding(each) for each in known]).reshape(-1, 2).T
    lengths, near = ends - begins, offsets * HOP
    common = np.minimum(ends[one], ends[other] - near) - np.maximum(begins[one], begins[other] - near)
    return common + _MARGIN >= _least(np.minimum(lengths[one], lengths[other]))


def _least(shorter: int | np.ndarray) -> float | np.ndarray:
    """How many samples two recordings are to have in common, of as many of the shorter one."""
    return np.minimum(_SHORTEST, _MOST_OF_IT * shorter)


def _apart(rows: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Of which alignments the recordings are in two groups."""
    return group[rows[:, 0]] != group[rows[:, 1]]


def _compare(fingerprints: Fingerprints, one: str, other: str, alignment: Alignment, alike: float) -> Shared | None:
    """Whether two recordings, with levels so much alike, are one sound where the alignment says."""
    middle, near = alignment.at * HOP, alignment.offset * HOP
    if abs(near) <= HOP and _clearly(fingerprints, one, other, middle, 0, alike):
        return _shared(fingerprints, one, other, 0)  # two forms of a take mostly begin at the same moment
    offset, correlation = _place(fingerprints, one, other, (middle, middle + FRAMES * HOP), near, finer=False)
    if correlation < _MAY_CORRELATE:
        return None
    if _clearly(fingerprints, one, other, middle, offset, alike):
        return _shared(fingerprints, one, other, offset)
    for offset in _offsets(fingerprints, one, other, middle, near):
        if _same_at(fingerprints, one, other, middle, offset):
            return _shared(fingerprints, one, other, offset)
    return None


def _clearly(fingerprints: Fingerprints, one: str, other: str, middle: int, offset: int, alike: float) -> bool:
    """Whether the second around `middle`, or all where that is less, correlates so much that no closer place need be
    looked for, and is the same: if levels are alike and it is no faint end of both, or on a closer look."""
    recordings = first, second = fingerprints.of[one], fingerprints.of[other]
    begin, end = _overlap(first, second, offset)
    begin = max(begin, min(middle - RATE // 2, end - RATE))
    end = min(end, begin + RATE)
    if begin >= end:
        return False
    ours, theirs = fingerprints.sound(one, begin, end), fingerprints.sound(other, begin + offset, end + offset)
    if float(ours @ theirs) < _SURELY * float(np.linalg.norm(ours) * np.linalg.norm(theirs)):
        return False
    if alike >= _SAME_LEVEL and end - begin == RATE:
        frames = begin // HOP, (begin + offset) // HOP
        levels = [each.power[frame : frame + SECOND].sum() for each, frame in zip(recordings, frames, strict=True)]
        shares = np.sort(np.array(levels) / SECOND / [each.loudest for each in recordings])
        if (shares >= _SAME_WAVE[-1][1]).all():
            return True
    return _same_at(fingerprints, one, other, middle, offset)


def _same_at(fingerprints: Fingerprints, one: str, other: str, middle: int, offset: int) -> bool:
    """Whether two recordings are one sound around `middle`, or where they are loudest, with sample 0 of `one` on sample
    `offset` of `other`."""
    first, second = fingerprints.of[one], fingerprints.of[other]
    begin, end = _overlap(first, second, offset)
    if end - begin < _least(min(_length(first), _length(second))):
        return False
    moments = (middle, _loudest(first, second, begin, end, offset))
    for start, stop in {(max(begin, moment - _REACH), min(end, moment + _REACH)) for moment in moments}:
        ours = spectra(fingerprints.sound(one, start, stop))
        theirs = spectra(fingerprints.sound(other, start + offset, stop + offset))
        if _same(ours, theirs, first, second):
            return True
    return False


def _shared(fingerprints: Fingerprints, one: str, other: str, offset: int) -> Shared:
    """What two recordings that share sound have of each other."""
    first, second = fingerprints.of[one], fingerprints.of[other]
    begin, end = _overlap(first, second, offset)
    whole = _together(fingerprints, one, other, begin, end, offset)
    inside = [whole and end - begin >= _MOST_OF_IT * _length(each) for each in (first, second)]
    return Shared(one, other, *inside)


def _together(fingerprints: Fingerprints, one: str, other: str, begin: int, end: int, offset: int) -> bool:
    """Whether two recordings go together all the way from `begin` to `end`, or for the first minute of it."""
    end = min(end, begin + 60 * RATE)
    ours, theirs = fingerprints.sound(one, begin, end), fingerprints.sound(other, begin + offset, end + offset)
    return float(ours @ theirs) >= _GOING_TOGETHER * float(np.linalg.norm(ours) * np.linalg.norm(theirs))


def _length(recording: Fingerprint) -> int:
    """Of what is not silence, in samples."""
    begin, end = _sounding(recording)
    return end - begin


def _sounding(recording: Fingerprint) -> tuple[int, int]:
    """From which sample to which it sounds, as far as frames tell."""
    first, last = recording.heard
    begin = first * HOP + HOP // 2 if first else 0
    end = (last - 1) * HOP - HOP // 2 if last < len(recording.levels) else recording.samples
    return begin, end


def _overlap(one: Fingerprint, other: Fingerprint, offset: int) -> tuple[int, int]:
    """From where to where in `one` both sound, in samples, with sample 0 of `one` on sample `offset` of `other`."""
    (begin, end), (their_begin, their_end) = _sounding(one), _sounding(other)
    begin, end = max(begin, their_begin - offset), min(end, their_end - offset)
    return begin, end


def _loudest(one: Fingerprint, other: Fingerprint, begin: int, end: int, offset: int) -> int:
    """The sample of `one`, of those from `begin` to `end`, where either is nearest to its loudest."""
    first, count = begin // HOP, (end - begin) // HOP
    shares = [
        recording.power[start : start + count] / recording.loudest
        for recording, start in ((one, first), (other, max(0, first + round(offset / HOP))))
    ]
    shortest = min(map(len, shares))
    return (first + int(np.argmax(shares[0][:shortest] + shares[1][:shortest]))) * HOP


def _offsets(fingerprints: Fingerprints, one: str, other: str, middle: int, near: int) -> Iterator[int]:
    """Which sample of `other` may lie on sample 0 of `one`: where the second around `middle` correlates most, without
    the ends of what may be common to both, one of which may be in one alone, and with them."""
    begin, end = _overlap(fingerprints.of[one], fingerprints.of[other], near)
    spans, found = dict[tuple[int, int], None](), set[int]()
    for margin in (_MARGIN, 0):
        first = max(begin + margin, min(middle - RATE // 4, end - margin - RATE))
        spans[first, min(end - margin, first + RATE)] = None
    for first, last in spans:
        if last - first >= RATE // 16:
            offset, correlation = _place(fingerprints, one, other, (first, last), near)
            if correlation >= _WORTH_A_LOOK and offset not in found:
                found.add(offset)
                yield offset
        if last - first == RATE:
            return  # no end is in a whole second


def _place(
    fingerprints: Fingerprints, one: str, other: str, span: tuple[int, int], near: int, finer: bool = True
) -> tuple[int, float]:
    """Which sample of `other` lies on sample 0 of `one` where a span of `one` correlates most with it, and how much."""
    first, last = span
    ours = fingerprints.sound(one, first, last)
    theirs = fingerprints.sound(other, first + near - _MARGIN, last + near + _MARGIN)
    place, correlation = _best_place(ours, theirs, finer)
    return near - _MARGIN + place, correlation


def _best_place(ours: np.ndarray, theirs: np.ndarray, finer: bool) -> tuple[int, float]:
    """Where in `theirs`, which is longer, `ours` correlates most, and how much; `finer` to a quarter of a sample: the
    period of a bright note can fall nearer to whole samples than the place itself does."""
    size = -(-len(theirs) // 4096) * 4096  # what comes round is beyond the places that are looked at
    correlations = np.fft.irfft(np.fft.rfft(theirs, size) * np.fft.rfft(ours, size).conj(), size)
    powers = np.zeros(len(theirs) + 1)
    np.cumsum(np.square(theirs, dtype=np.float64), out=powers[1:])
    powers = powers[len(ours) :] - powers[: -len(ours)]
    scale = np.sqrt(np.maximum(powers, 1e-3 * powers.max() + 1e-20) * (float(ours @ ours) + 1e-20))
    if not finer:
        likeness = correlations[: len(powers)] / scale
        place = int(np.argmax(likeness))
        return place, float(likeness[place])
    around = np.concatenate([correlations[-_TAPS // 2 :], correlations[: len(powers) + _TAPS // 2 - 1]])
    quarters = np.lib.stride_tricks.sliding_window_view(around, _TAPS) @ _QUARTERS / scale[:, None]
    place, part = divmod(int(np.argmax(quarters)), len(_QUARTERS[0]))
    return place + (part >= 2), float(quarters[place, part])


def _same(ours: np.ndarray, theirs: np.ndarray, one: Fingerprint, other: Fingerprint) -> bool:
    """Whether a second of these spectra, or all where they are shorter, is one sound and no faint end of both."""
    cross = ours * theirs.conj()
    shift = _SHIFTS[int(np.argmax((_SHIFTS * cross.sum(axis=0)).real.sum(axis=1)))]
    together = in_bands(cross * shift)
    powers = np.stack([powers_in_bands(ours), powers_in_bands(theirs)])
    loudest = np.array([one.loudest, other.loudest])
    backgrounds = np.stack([one.background, other.background])
    length = min(SECOND, len(together))
    for start in sorted({*range(0, len(together) - length + 1, _STEP), len(together) - length}):
        window = slice(start, start + length)
        levels = powers[:, window].sum(axis=(1, 2))
        if not levels.all():
            continue
        shares = np.sort(levels / length / loudest)
        phase, level = _alike(together[window], powers[:, window], backgrounds)
        if shares[1] >= _LOUD and phase >= _SAME_PHASE and level >= _SAME_LEVEL:
            return True
        wave = together[window].sum() / np.sqrt(levels.prod())
        if (
            length == SECOND
            and level >= _LIKE_LEVEL
            and any(wave >= least and (shares >= loud).all() for least, loud in _SAME_WAVE)
        ):
            return True
    return False


def _alike(together: np.ndarray, powers: np.ndarray, backgrounds: np.ndarray) -> tuple[float, float]:
    """How alike two sounds are, equally loud as wholes, on the mean over all cells that stand out of the noise: the
    real part of their product as a share of the powers' geometric mean, and of the larger of them.

    `together` is `[frames, bands]`, `powers` `[2, frames, bands]`, `backgrounds` `[2, bands]`.
    """
    gains = 1 / np.maximum(powers.sum(axis=(1, 2)), 1e-20)
    powers, backgrounds = powers * gains[:, None, None], backgrounds * gains[:, None]
    together = together * np.sqrt(gains.prod())
    larger = powers.max(axis=0)
    distinct = (larger > FAINTER * larger.max()) & (larger > OVER_BACKGROUND * backgrounds.max(axis=0))
    if powers[:, distinct].sum(axis=1).min() < MOST_OF_IT:
        distinct = larger > FAINT * larger.max()  # a sound that goes on and on is its own background
    product = together[distinct]
    means = np.sqrt(powers[:, distinct].prod(axis=0) + 1e-20)
    return float((product / means).mean()), float((product / larger[distinct]).mean())


def groups_of(shared: list[Shared]) -> dict[str, str]:
    """For each recording that shares sound, the first of those that it belongs with."""
    groups: dict[str, str] = {}
    for pair in shared:
        first, *others = sorted({groups.get(pair.one, pair.one), groups.get(pair.other, pair.other)})
        groups |= {pair.one: first, pair.other: first}
        groups |= {name: first for name, of in groups.items() if of in others}
    return groups


def sentences_on(shared: list[Shared], held_out: set[str]) -> list[str]:
    """A sentence for each group, and what has become of it: the first few, and how many more there are."""
    groups: dict[str, list[str]] = {}
    for name, first in sorted(groups_of(shared).items()):
        groups.setdefault(first, []).append(name)
    sentences = []
    for names in groups.values():
        parts = {name in held_out for name in names}
        fate = "." if len(parts) > 1 else f"; they are {'held out' if parts == {True} else 'trained on'} together."
        sentences.append(_relation(names, shared) + fate)
    more = len(sentences) - _TOLD
    return sentences[:_TOLD] + ([f"{more} more groups of recordings share sound."] if more > 0 else [])


def _relation(names: list[str], shared: list[Shared]) -> str:
    if len(names) > 2:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f"{', '.join(names[:_NAMED])}{more} share sound"
    (pair,) = (pair for pair in shared if pair.one in names)
    if pair.one_in_other and pair.other_in_one:
        return f"{pair.one} and {pair.other} are the same sound"
    if pair.one_in_other:
        return f"{pair.one} is part of {pair.other}"
    if pair.other_in_one:
        return f"{pair.other} is part of {pair.one}"
    return f"{pair.one} and {pair.other} share sound"
