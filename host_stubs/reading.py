"""Reading a sound file as mono samples, block after block. Here it is decided how each is read, and how far."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soxr

import host_stubs
from host_stubs.chunks import find_samples, is_short_of_its_size, is_sound_beyond
from host_stubs.errors import HostError
from host_stubs.kinds import OGG, RAW_SUFFIXES, Kind, kind_of
from host_stubs.levels import SILENCE, Levels, find_levels
from host_stubs.ogg import look_at_pages
from host_stubs.sndfile import StoredSound, reason
from host_stubs.sound import Fault, OpenSound

SAMPLE_RATES = range(1_000, 1_000_001)  # Hz; a header that claims anything else is a broken header
SHORTEST_SECONDS = 0.1
"""Of what is left of a damaged file, to be of use. A file that is whole may be shorter."""
_LARGEST = 1e30  # of a sample that is a number: the mean of a few channels of more would be none
_MOST_MISSING = 0.01, 0.1  # of what a header says, or seconds: a codec's last frames
_KEPT = 1 << 20  # samples of all channels: what a look at a file of no more has read is not read again
_USED_UP_TO = {
    Fault.CUT_OFF: "is cut off after",
    Fault.DAMAGED: "is damaged after",
    Fault.NOT_FINITE: "holds samples that are not finite numbers after",
}


@dataclass(frozen=True)
class Measured:
    """What a sound file gives, found by reading all of it.

    Attributes:
        rate: Hz, of the file.
        seconds: of use, from its beginning.
        note: "" where all of it is used as it is; else a sentence that names the file and says what is not used, or how
            it is read.
        sounding: from where to where, in seconds, it is more than silence.
    """

    rate: int
    seconds: float
    note: str
    sounding: tuple[float, float]


class _TooLong(HostError):  # noqa: N818 - a property of a file, not a fault
    """It need not be tried in another way."""


@dataclass(frozen=True)
class Source:
    """A sound file and who reads it.

    Attributes:
        path: of the file.
        kind: what it is, if FFmpeg reads it; None if libsndfile does.
        good: how many bytes of it are read; None for all.
    """

    path: Path
    kind: Kind | None
    good: int | None = None

    def open(self) -> OpenSound:
        """Raises HostError if that one cannot read it, OSError if nobody can."""
        if self.kind is None:
            return StoredSound(self.path, self.good)
        return host_stubs.DecodedSound(self.path, self.kind, self.good)


@dataclass(frozen=True)
class Plan:
    """How a sound file is read, as a look at all of it gave.

    Attributes:
        source: the file and its reader.
        rate: Hz, of the file.
        step: the smallest step of its samples, of full scale.
        levels: how long it is of use, and how its channels become one.
        fault: why it is not used to its end, or what else is wrong with it.
        promised: the seconds that its header says it holds, where it says so.
        beyond: whether sound lies behind what the header tells of, where nobody reads it.
        kept: the samples that the look has read, where they are few; None where they are to be read again.
    """

    source: Source
    rate: int
    step: float
    levels: Levels
    fault: Fault
    promised: float | None
    beyond: bool = False
    kept: tuple[np.ndarray, ...] | None = field(default=None, repr=False, compare=False)

    @property
    def seconds(self) -> float:
        """How long it is of use."""
        return self.levels.frames / self.rate

    def blocks(self, sample_rate: int) -> Iterator[np.ndarray]:
        """Its samples of use as one channel, float32 `[samples]`, at `sample_rate` Hz: soxr resamples.

        Raises HostError if the file can no longer be read.
        """
        try:
            yield from _resampled(self._mono(), self.rate, sample_rate)
        except OSError as error:
            raise _unreadable(self.source.path, error) from error

    def _mono(self) -> Iterator[np.ndarray]:
        left = self.levels.frames
        with closing(self._read()) as blocks:
            for block in blocks:
                yield self.levels.mix.mono(block[:left])
                left -= len(block)
                if left <= 0:
                    return

    def _read(self) -> Generator[np.ndarray, None, None]:
        if self.kept is not None:
            yield from self.kept
            return
        with closing(self.source.open()) as sound, closing(sound.blocks()) as blocks:
            yield from blocks

    def measured(self) -> Measured:
        """What the file gives. Raises HostError, as `measure` does, if that is no sound."""
        if self.levels.swing <= max(SILENCE, 1.01 * self.step):
            more = ", but for a lone glitch" if self.levels.mix.limits is not None else ""
            raise HostError(f"{self.source.path} is silent{more}.")
        start, end = self.levels.sounding
        return Measured(self.rate, self.seconds, self.note(), (start / self.rate, end / self.rate))

    def note(self) -> str:
        """What is to be said of it, a sentence; "" where all of it is used as it is."""
        parts = [] if self.fault is Fault.NONE else [_said_of(self.fault, self.seconds, self.promised)]
        if self.beyond:
            parts.append("more sound lies behind what its header tells of, and is not used")
        if self.levels.mix.limits is not None:
            parts.append("it has a lone glitch, far above all else, which is limited to the loudest of the rest")
        if self.levels.mix.channel is not None:
            parts.append("its channels cancel each other out, so that only the loudest of them is used")
        return f"{self.source.path}: {'; '.join(parts)}." if parts else ""


def measure(path: Path) -> Measured:
    """Read all of a sound file, and say what it gives.

    Raises HostError, a sentence that names the file, if there is no sound in it that can be used: it cannot be read,
    is empty, silent or no more than dither, or too little is left of it before it is damaged.
    """
    return plan_reading(path).measured()


def read_recording(path: Path, sample_rate: int, most_seconds: float = math.inf) -> np.ndarray:
    """The recording as float32 mono `[samples]` at `sample_rate` Hz: channels are averaged, then soxr resamples.

    A damaged file is read up to its damage, lone glitches are limited, and of channels that cancel each other out the
    loudest is taken. Raises HostError, one line that names the file, if it cannot be read, holds nothing of use, or is
    longer than `most_seconds`.
    """
    return np.concatenate(list(recording_blocks(path, sample_rate, most_seconds)))


def recording_blocks(path: Path, sample_rate: int, most_seconds: float = math.inf) -> Iterator[np.ndarray]:
    """The recording as `read_recording` gives it, block after block, so that memory does not grow with its length.

    The file is read twice: once to find out how, once to give it. Raises HostError as that does.
    """
    yield from plan_reading(path, most_seconds).blocks(sample_rate)


def plan_reading(path: Path, most_seconds: float = math.inf) -> Plan:
    """Find out how a sound file is read, by reading all of it. libsndfile reads it if it can; FFmpeg does if that
    cannot, is known to guess, or gives up before the end.

    Raises HostError as `read_recording` does.
    """
    try:
        if not path.stat().st_size:
            raise HostError(f"{path} is empty (0 bytes).")
        kind = kind_of(path)
        if kind is None and path.suffix.lower() in RAW_SUFFIXES:
            raise HostError(f"{path} holds samples without a header, which could be anything; make it a WAV file.")
        if kind is None:
            raise HostError(f"{path} cannot be read as sound: it is of no kind that is known.")
        plan = _ogg_plan(path, most_seconds) if kind is OGG else _best_plan(path, kind, most_seconds)
    except OSError as error:
        raise _unreadable(path, error) from error
    if plan.fault in _USED_UP_TO and plan.seconds < SHORTEST_SECONDS:
        raise HostError(f"{path} {_USED_UP_TO[plan.fault]} {plan.seconds:.2f} s, which is too little to be of use.")
    if not plan.levels.frames:
        raise HostError(f"{path} is empty: it holds no sound.")
    return plan


def _ogg_plan(path: Path, most_seconds: float) -> Plan:
    """The plan for an Ogg file, which is read up to its first bad page. Of several files one behind the other,
    libsndfile reads only the first."""
    with path.open("rb") as file:
        pages = look_at_pages(file)
    readers = [OGG] if pages.chained else [None, OGG]
    plan = _first_that_reads([Source(path, kind, pages.good) for kind in readers], most_seconds)
    if pages.damaged or not pages.ended:
        return replace(plan, fault=Fault.DAMAGED if pages.damaged else Fault.CUT_OFF, promised=None)
    return plan


def _best_plan(path: Path, kind: Kind, most_seconds: float) -> Plan:
    """The plan for a file of another kind, which knows, too, whether it ends before its sound does."""
    stored = [Source(path, None)] if kind.libsndfile else []
    decoded = [Source(path, kind)] if kind.demuxer is not None else []
    plan = _first_that_reads(stored + decoded, most_seconds)
    if plan.fault is Fault.CUT_OFF and plan.promised is not None and not _lacks(plan, plan.promised):
        return replace(plan, fault=Fault.NONE)  # what stands behind the sound is a tag
    if plan.fault is not Fault.NONE:
        return plan
    with path.open("rb") as file:
        samples = find_samples(file)
        short = is_short_of_its_size(file)
        plan = replace(plan, beyond=is_sound_beyond(file))
    if samples is not None and samples.cut_off and samples.there and samples.claimed:
        return replace(plan, fault=Fault.CUT_OFF, promised=plan.seconds * samples.claimed / samples.there)
    if plan.promised is not None and _lacks(plan, plan.promised):
        return replace(plan, fault=Fault.CUT_OFF)
    return replace(plan, fault=Fault.CUT_OFF, promised=None) if short and samples is None else plan


def _lacks(plan: Plan, promised: float) -> bool:
    """Whether a file holds so much less than its header promises that sound is missing."""
    return promised - plan.seconds > max(_MOST_MISSING[0] * promised, _MOST_MISSING[1])


def _first_that_reads(sources: list[Source], most_seconds: float) -> Plan:
    """The plan of the first reader that comes to the end of a file, else of the last that gives any of it."""
    best, refusal = None, None
    for source in sources:
        try:
            plan = _plan(source, most_seconds)
        except _TooLong:
            raise
        except HostError as error:
            refusal = refusal or error
            continue
        if best is None or plan.levels.frames:
            best = plan
        if best.fault is not Fault.DAMAGED:
            break
    if best is None:
        assert refusal is not None
        raise refusal
    return best


def _plan(source: Source, most_seconds: float) -> Plan:
    """Read all of a file. Raises HostError if its reader cannot, OSError if nobody can."""
    first = source.open()
    rate, step, promised = first.rate, first.step, first.promised
    if rate not in SAMPLE_RATES:
        first.close()
        raise HostError(f"{source.path} cannot be read as sound: its header claims {rate} samples per second.")
    opened, faults, kept = [first], list[Fault](), list[np.ndarray]()

    def blocks() -> Generator[np.ndarray, None, None]:
        kept.clear()
        with closing(opened.pop() if opened else source.open()) as sound, closing(sound.blocks()) as found:
            read = 0
            for block in found:
                finite = _finite_part(block)
                if len(finite):
                    if read * block.shape[1] <= _KEPT:
                        kept.append(finite)
                    yield finite
                if len(finite) < len(block):
                    faults.append(Fault.NOT_FINITE)
                    return
                read += len(block)
                if read > most_seconds * rate:
                    raise _TooLong(f"{source.path} is longer than {most_seconds / 60:g} minutes; give a shorter one.")
            faults.append(sound.fault)

    levels = find_levels(blocks, rate)
    whole = sum(block.size for block in kept) <= _KEPT and sum(map(len, kept)) == levels.frames
    return Plan(source, rate, step, levels, faults[-1], promised, kept=tuple(kept) if whole else None)


def _unreadable(path: Path, error: Exception) -> HostError:
    return HostError(f"{path} cannot be read as sound: {reason(error)}.")


def _finite_part(block: np.ndarray) -> np.ndarray:
    """`[samples, channels]` up to the first sample that is no finite number."""
    finite = np.abs(block) < _LARGEST
    return block if finite.all() else block[: int(finite.all(axis=1).argmin())]


def _said_of(fault: Fault, used: float, promised: float | None) -> str:
    """A fault, for a sentence about its file."""
    if fault is Fault.UNFINISHED:
        return f"its header was never finished, and all {used:.2f} s behind it are used"
    if fault is Fault.INCOMPLETE:
        return f"it has gaps, and only the {used:.2f} s of sound that are there are used"
    of = f" of {promised:.2f} s" if promised is not None and promised > used else ""
    if fault is Fault.CUT_OFF and of:
        return f"it is cut off: {used:.2f} s{of} are used"
    return f"it {_USED_UP_TO[fault]} {used:.2f} s{of}, and is used up to there"


def _resampled(blocks: Iterable[np.ndarray], before: int, after: int) -> Iterator[np.ndarray]:
    """Blocks, at least one, at another rate."""
    resampler = soxr.ResampleStream(before, after, 1, dtype="float32") if before != after else None
    first, given = np.zeros(0, np.float32), 0
    for block in blocks:
        first = first if len(first) else block[:1]
        out = block if resampler is None else resampler.resample_chunk(block)
        given += len(out)
        if len(out):
            yield out
    last = first[:0] if resampler is None else resampler.resample_chunk(first[:0], last=True)
    # Resampling can leave nothing of a sound of a few samples.
    yield last if len(last) or given else first
