"""Where in a WAV, Wave64, AIFF, CAF or AU file its samples are, whatever its header says, and a header that is right.

A recorder that loses power leaves a header that was never finished; interrupted copies end early; some programs count
a few bytes too many or too few. libsndfile believes such a header, or refuses the file.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

Order = Literal["little", "big"]

LEAST_TAIL_SECONDS = 0.1
"""What stands behind the samples that a header knows of, and is no chunk, is sound if it is at least so long."""
_MOST_CHUNKS = 10_000  # before the samples; a file of nothing but empty chunks ends here
_MOST_FORMAT = 1 << 16  # bytes of a format chunk
_SLACK = 8  # bytes; many programs count the header's own 8 bytes, or a padding byte, too
_FROM_A_PIPE = range(0x7FFF0000, 0x80000001)  # lengths that stand for none, as sox writes them
_MOST_RIFF = 0xFFFFF000  # bytes of samples; for more of them a header is made RF64
_FLAC_HEAD = b"fLaC\0\0\0\x22"
_AT_ONCE = 1 << 20  # bytes
_USUAL_RATE = 80_000  # bytes a second, where it is not known how many a sound takes
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")


@dataclass(frozen=True)
class Layout:
    """How chunks follow each other in a container: the order of bytes, where the first begins, what its name and size
    take, at what multiples they begin, and whether a size counts the chunk's head."""

    order: Order
    first: int
    name_bytes: int
    size_bytes: int
    align: int
    counts_head: bool
    data: bytes
    before_samples: int = 0


_RIFF = Layout("little", 12, 4, 4, 2, False, b"data")
_LAYOUTS = {
    b"RIFF": _RIFF,
    b"RF64": _RIFF,
    b"BW64": _RIFF,
    b"RIFX": Layout("big", 12, 4, 4, 2, False, b"data"),
    b"FORM": Layout("big", 12, 4, 4, 2, False, b"SSND", 8),
    b"riff": Layout("little", 40, 16, 8, 8, True, b"data" + _W64_TAIL),
    b"caff": Layout("big", 8, 4, 8, 1, False, b"data", 4),
}


@dataclass(frozen=True)
class Samples:
    """Where a file's samples are.

    Attributes:
        start: of them in the file, in bytes.
        claimed: bytes that the header says they take; None if it does not say.
        there: bytes of them that there are.
        header: what to put before them so that a reader finds all of them; None where the file's own does.
        forgotten: whether the header knows less of them than there is: it was never finished.
        codec: WAV's number of what they are encoded with; 0 where it has none.
    """

    start: int
    claimed: int | None
    there: int
    header: bytes | None
    forgotten: bool = False
    codec: int = 0

    @property
    def cut_off(self) -> bool:
        """Whether the header promises more than there is."""
        return self.claimed is not None and self.claimed > self.there + _SLACK


def find_samples(file: BinaryIO) -> Samples | None:
    """Where the samples of a file are; None where that is not known: of another kind, or without any."""
    size = os.fstat(file.fileno()).st_size
    magic = _read(file, 0, 4)
    if magic in (b".snd", b"dns."):
        return _au_samples(file, size, "big" if magic == b".snd" else "little")
    layout = _LAYOUTS.get(magic)
    if layout is None:
        return None
    format_, long_sizes = b"", b""
    for name, body, claimed in _chunks(file, layout, size):
        if name == layout.data:
            start = body + layout.before_samples
            claimed -= layout.before_samples
            if layout.data[:4] == b"data" and layout.before_samples == 0:
                return _wave_samples(file, layout, format_, long_sizes, start, claimed, size)
            there = max(0, size - start)
            known = 0 < claimed < 1 << 62 and claimed not in _FROM_A_PIPE
            return Samples(start, claimed if known else None, min(there, claimed) if known else there, None)
        if name[:4] == b"fmt ":
            format_ = _read(file, body, min(claimed, _MOST_FORMAT))
        elif name == b"ds64":
            long_sizes = _read(file, body, 16)
    return None


def is_sound_beyond(file: BinaryIO) -> bool:
    """Whether sound lies behind what a WAV, AIFF or FLAC says it holds: another file, or more samples of an AIFF."""
    magic, size = _read(file, 0, 4), os.fstat(file.fileno()).st_size
    if magic == _FLAC_HEAD[:4]:
        return any(_FLAC_HEAD in _read(file, at, _AT_ONCE + len(_FLAC_HEAD)) for at in range(4, size, _AT_ONCE))
    if magic not in (b"RIFF", b"FORM"):
        return False
    layout = _LAYOUTS[magic]
    end = 8 + int.from_bytes(_read(file, 4, 4), layout.order)
    if any(_read(file, at, 4) == magic and _read(file, at + 8, 4) == _read(file, 8, 4) for at in (end, end + end % 2)):
        return True
    samples = find_samples(file) if magic == b"FORM" else None
    if samples is None or samples.claimed is None:
        return False
    return _is_sound_behind(file, layout, samples.start + samples.there, size, _USUAL_RATE)


def is_short_of_its_size(file: BinaryIO) -> bool:
    """Whether a container of chunks, AVI and others too, says that it is longer than its file."""
    magic, size = _read(file, 0, 4), os.fstat(file.fileno()).st_size
    if magic not in (b"RIFF", b"FORM"):
        return False
    promised = int.from_bytes(_read(file, 4, 4), _LAYOUTS[magic].order)
    return promised < _FROM_A_PIPE[0] and promised + 8 > size + 2 * _SLACK


def has_bad_packets(file: BinaryIO) -> bool:
    """Whether the table of packets in a CAF is not of as many as it says: libsndfile writes of it to the terminal."""
    layout, size = _LAYOUTS.get(_read(file, 0, 4)), os.fstat(file.fileno()).st_size
    if layout is None or layout is not _LAYOUTS[b"caff"]:
        return False
    for name, body, claimed in _chunks(file, layout, size):
        if name == b"pakt":
            count, sizes = (
                int.from_bytes(_read(file, body, 8), "big"),
                _read(file, body + 24, max(0, min(claimed, size) - 24)),
            )
            ends = sum(byte < 0x80 for byte in sizes)  # the last byte of each number
            return ends != count or re.search(rb"[\x80-\xff]{5}", sizes) is not None
    return False


def _wave_samples(
    file: BinaryIO, layout: Layout, format_: bytes, long_sizes: bytes, start: int, claimed: int, size: int
) -> Samples | None:
    """The samples of a WAV or Wave64 file."""
    if len(format_) < 14:
        return None
    codec, _, _, per_second, block = struct.unpack(("<" if layout.order == "little" else ">") + "HHIIH", format_[:14])
    rest = max(0, size - start)
    whole_file = int.from_bytes(_read(file, 4, 4), layout.order) + 8 if layout.size_bytes == 4 else 1 << 62
    if layout.size_bytes == 4 and len(long_sizes) == 16 and claimed >= 0xFFFFFFFF:
        whole_file, claimed = 1 << 62, int.from_bytes(long_sizes[8:16], "little")
    unknown = claimed > rest and ((claimed >= 0xFFFFFF00 and layout.size_bytes == 4) or claimed in _FROM_A_PIPE)
    forgotten = _is_sound_behind(file, layout, start + claimed, size, per_second) if claimed <= rest else False
    if claimed == 0 and not forgotten:
        return Samples(start, 0, 0, None, codec=codec)
    there = rest if unknown or forgotten else min(claimed, rest)
    filled_up = start % layout.align == 0
    healthy = not unknown and not forgotten and filled_up and claimed <= rest and whole_file >= start + there
    if not healthy:
        there -= there % max(1, block)
    header = None if healthy else _wave_header(format_, there, layout.order)
    return Samples(start, None if unknown or forgotten else claimed, there, header, forgotten, codec)


def _is_sound_behind(file: BinaryIO, layout: Layout, end: int, size: int, per_second: int) -> bool:
    """Whether samples go on behind their chunk: what stands there is long, no chunk, and not only zeros."""
    if size - end < max(1, per_second * LEAST_TAIL_SECONDS):
        return False
    if any(_is_chunk(file, layout, at, size) for at in {end, -(-end // layout.align) * layout.align}):
        return False
    return any(_read(file, at, 4096).strip(b"\0") for at in range(end, size, max(4096, (size - end) // 64)))


def _wave_header(format_: bytes, there: int, order: Order) -> bytes:
    """A header for so many bytes of samples; an RF64 one where a WAV cannot have so many."""
    end = "<" if order == "little" else ">"
    format_chunk = b"fmt " + struct.pack(end + "I", len(format_)) + format_ + bytes(len(format_) % 2)
    if there > _MOST_RIFF and order == "little":
        sizes = struct.pack("<QQQI", 4 + 36 + len(format_chunk) + 8 + there, there, 0, 0)
        lead, claim = b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<I", len(sizes)) + sizes, 0xFFFFFFFF
    else:
        claim = min(there, _MOST_RIFF)
        magic = b"RIFF" if order == "little" else b"RIFX"
        lead = magic + struct.pack(end + "I", 4 + len(format_chunk) + 8 + claim) + b"WAVE"
    return lead + format_chunk + b"data" + struct.pack(end + "I", claim)


def _au_samples(file: BinaryIO, size: int, order: Order) -> Samples | None:
    head = _read(file, 0, 24)
    if len(head) < 24:
        return None
    start, claimed = int.from_bytes(head[4:8], order), int.from_bytes(head[8:12], order)
    if not 24 <= start <= min(size, _MOST_FORMAT):
        return None
    rest = size - start
    if claimed == 0 and rest:
        unfinished = bytearray(_read(file, 0, start))
        unfinished[8:12] = b"\xff\xff\xff\xff"
        return Samples(start, None, rest, bytes(unfinished), forgotten=True)
    if claimed == 0xFFFFFFFF:
        return Samples(start, None, rest, None)
    return Samples(start, claimed, min(claimed, rest), None)


def _chunks(file: BinaryIO, layout: Layout, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, where its content begins, and how long it claims to be, of each chunk from the first."""
    at = layout.first
    for _ in range(_MOST_CHUNKS):
        if _read(file, at - 1, 4) in (b"fmt ", layout.data[:4]):
            at -= 1  # behind a chunk of odd length whose writer forgot to fill it up
        name, claimed = _head(file, layout, at)
        if len(name) < layout.name_bytes:
            return
        yield name, at + layout.name_bytes + layout.size_bytes, claimed
        at += layout.name_bytes + layout.size_bytes + claimed
        at = -(-at // layout.align) * layout.align
        if at >= size:
            return


def _head(file: BinaryIO, layout: Layout, at: int) -> tuple[bytes, int]:
    """A chunk's name and the bytes of its content; the name is short where the file is over."""
    head = _read(file, at, layout.name_bytes + layout.size_bytes)
    if len(head) < layout.name_bytes + layout.size_bytes:
        return b"", 0
    claimed = int.from_bytes(head[layout.name_bytes :], layout.order)
    return head[: layout.name_bytes], max(0, claimed - len(head)) if layout.counts_head else claimed


def _is_chunk(file: BinaryIO, layout: Layout, at: int, size: int) -> bool:
    name, claimed = _head(file, layout, at)
    return _is_name(name[:4]) and claimed <= size - at


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(max(0, at))
    return file.read(count)


class Rewritten(io.RawIOBase):
    """A file, or as much of it as is good, or its samples behind another header: as a file that can be asked for any
    place."""

    def __init__(self, file: BinaryIO, samples: Samples | None, good: int | None = None) -> None:
        super().__init__()
        if samples is None or samples.header is None:
            samples = Samples(0, None, os.fstat(file.fileno()).st_size if good is None else good, b"")
        self._file, self._samples = file, samples
        self._header = samples.header or b""
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        length = len(self._header) + self._samples.there
        # A damaged header can lead anywhere; of an exception here the libraries would write to the terminal.
        self._at = min(max(0, offset + (0, self._at, length)[whence]), length)
        return self._at

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # any writable buffer is one
        part = self._header[self._at : self._at + len(buffer)]
        if not part:
            at = self._at - len(self._header)
            wanted = max(0, min(len(buffer), self._samples.there - at))
            part = _read(self._file, self._samples.start + at, wanted)
        memoryview(buffer).cast("B")[: len(part)] = part
        self._at += len(part)
        return len(part)
