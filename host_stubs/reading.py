"""Reading a sound file as mono samples, block after block. Here it is decided how each is read, and how far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr

import host_stubs
from host_stubs.chunks import is_short_of_its_size
from host_stubs.errors import HostError
from host_stubs.kinds import OGG, RAW_SUFFIXES, Kind, kind_of
from host_stubs.levels import SILENCE, Levels, find_levels
from host_stubs.ogg import find_end
from host_stubs.sndfile import StoredSound, reason
from host_stubs.sound import Fault, OpenSound

SAMPLE_RATES = range(1_000, 1_000_001)  # Hz; a header that claims anything else is a broken header
SHORTEST_SECONDS = 0.1
"""Of what is left of a damaged file, to be of use. A file that is whole may be shorter."""
_MOST_MISSING = 0.01, 0.1  # of what a header says, or seconds: a codec's last frames
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


class _TooLong(HostError):
    """It need not be tried in another way."""


@dataclass(frozen=True)
class Plan:
    """How a sound file is read, as a look at all of it gave.

    Attributes:
        path: of the file.
        kind: what it is, if FFmpeg reads it; None if libsndfile does.
        rate: Hz, of the file.
        step: the smallest step of its samples, of full scale.
        levels: how long it is of use, and how its channels become one.
        fault: why it is not used to its end, or what else is wrong with it.
        promised: the seconds that its header says it holds, where it says so.
    """

    path: Path
    kind: Kind | None
    rate: int
    step: float
    levels: Levels
    fault: Fault
    promised: float | None

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
            raise HostError(f"{self.path} cannot be read as sound: {reason(error)}.") from error

    def _mono(self) -> Iterator[np.ndarray]:
        left = self.levels.frames
        with closing(_opened(self.path, self.kind)) as sound, closing(sound.blocks()) as blocks:
            for block in blocks:
                yield self.levels.mix.mono(block[:left])
                left -= len(block)
                if left <= 0:
                    return

    def note(self) -> str:
        """What is to be said of it, a sentence; "" where all of it is used as it is."""
        parts = [] if self.fault is Fault.NONE else [_said_of(self.fault, self.seconds, self.promised)]
        if self.levels.mix.limits is not None:
            parts.append("it has a lone glitch, far above all else, which is limited to the loudest of the rest")
        if self.levels.mix.channel is not None:
            parts.append("its channels cancel each other out, so that only the loudest of them is used")
        return f"{self.path}: {'; '.join(parts)}." if parts else ""


def measure(path: Path) -> Measured:
    """Read all of a sound file, and say what it gives.

    Raises HostError, a sentence that names the file, if there is no sound in it that can be used: it cannot be read,
    is empty, silent or no more than dither, or too little is left of it before it is damaged.
    """
    plan = plan_reading(path)
    if plan.levels.swing <= max(SILENCE, 1.01 * plan.step):
        more = ", but for a lone glitch" if plan.levels.mix.limits is not None else ""
        raise HostError(f"{path} is silent{more}.")
    start, end = plan.levels.sounding
    return Measured(plan.rate, plan.seconds, plan.note(), (start / plan.rate, end / plan.rate))


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
        plan = _checked_end(_best_plan(path, kind, most_seconds), kind)
    except OSError as error:
        raise HostError(f"{path} cannot be read as sound: {reason(error)}.") from error
    if plan.fault in _USED_UP_TO and plan.seconds < SHORTEST_SECONDS:
        raise HostError(f"{path} {_USED_UP_TO[plan.fault]} {plan.seconds:.2f} s, which is too little to be of use.")
    if not plan.levels.frames:
        raise HostError(f"{path} is empty: it holds no sound.")
    return plan


def _best_plan(path: Path, kind: Kind | None, most_seconds: float) -> Plan:
    """The plan of the reader that gives more of the file."""
    stored, refusal = None, None
    if kind is None or (kind.libsndfile and not _is_chained(path, kind)):
        try:
            stored = _plan(path, None, most_seconds)
        except _TooLong:
            raise
        except HostError as error:
            refusal = error
    if kind is not None and kind.demuxer is not None and (stored is None or stored.fault is Fault.DAMAGED):
        try:
            decoded = _plan(path, kind, most_seconds)
            if stored is None or decoded.levels.frames:
                return decoded
        except _TooLong:
            raise
        except HostError as error:
            refusal = refusal or error
    if stored is None:
        assert refusal is not None
        raise refusal
    return stored


def _plan(path: Path, kind: Kind | None, most_seconds: float) -> Plan:
    """Read all of a file with one of the readers. Raises HostError if it cannot, OSError if the file cannot be read."""
    with closing(_opened(path, kind)) as sound:
        rate, step, promised = sound.rate, sound.step, sound.promised
    if rate not in SAMPLE_RATES:
        raise HostError(f"{path} cannot be read as sound: its header claims {rate} samples per second.")
    faults: list[Fault] = []

    def blocks() -> Iterator[np.ndarray]:
        with closing(_opened(path, kind)) as sound, closing(sound.blocks()) as found:
            read = 0
            for block in found:
                finite = _finite_part(block)
                if len(finite):
                    yield finite
                if len(finite) < len(block):
                    faults.append(Fault.NOT_FINITE)
                    return
                read += len(block)
                if read > most_seconds * rate:
                    raise _TooLong(f"{path} is longer than {most_seconds / 60:g} minutes; give a shorter one.")
            faults.append(sound.fault)

    levels = find_levels(blocks, rate)
    return Plan(path, kind, rate, step, levels, faults[-1], promised)


def _checked_end(plan: Plan, kind: Kind | None) -> Plan:
    """The plan, which knows whether the file ends before its sound does, where that is seen otherwise."""
    if plan.fault is not Fault.NONE:
        return plan
    missing = 0.0 if plan.promised is None else plan.promised - plan.seconds
    if plan.promised and missing > max(_MOST_MISSING[0] * plan.promised, _MOST_MISSING[1]):
        return replace(plan, fault=Fault.CUT_OFF)
    with plan.path.open("rb") as file:
        ended = find_end(file).whole if kind is OGG else not is_short_of_its_size(file)
    return plan if ended else replace(plan, fault=Fault.CUT_OFF, promised=None)


def _is_chained(path: Path, kind: Kind) -> bool:
    """Whether it is several Ogg files one behind the other, of which libsndfile reads the first only."""
    if kind is not OGG:
        return False
    with path.open("rb") as file:
        return find_end(file).chained


def _opened(path: Path, kind: Kind | None) -> OpenSound:
    """The file, opened by FFmpeg if a kind is given, else by libsndfile."""
    return StoredSound(path) if kind is None else host_stubs.DecodedSound(path, kind)


def _finite_part(block: np.ndarray) -> np.ndarray:
    """`[samples, channels]` up to the first sample that is no finite number."""
    finite = np.isfinite(block)
    return block if finite.all() else block[: int(finite.all(axis=1).argmin())]


def _said_of(fault: Fault, used: float, promised: float | None) -> str:
    """A fault, for a sentence about its file."""
    if fault is Fault.UNFINISHED:
        return f"its header was never finished; all {used:.2f} s behind it are used"
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
