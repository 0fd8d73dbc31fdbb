"""How far an Ogg file can be read, and whether it is several files one behind the other: its pages (RFC 3533).

The libraries pass over a damaged page without a word, and go on with what comes behind it as if nothing were missing.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import BinaryIO

_PAGE = b"OggS"
_HEAD = 27  # bytes of a page before its table of segments
_FIRST, _LAST = 2, 4  # flags of a stream's first and last page
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class OggPages:
    """What a look at all pages gave.

    Attributes:
        good: bytes from the file's beginning up to the first page that is damaged, or not all there.
        damaged: whether something that is no such page stands there; not where the file is only over.
        ended: whether each stream's last page says that it is the last.
        chained: whether it is several files one behind the other.
    """

    good: int
    damaged: bool
    ended: bool
    chained: bool


def look_at_pages(file: BinaryIO) -> OggPages:
    """Check every page of an Ogg file against its checksum."""
    file.seek(0)
    good, numbers, going_on = 0, dict[bytes, int](), set[bytes]()
    chained = begun = False
    while True:
        head = file.read(_HEAD)
        table = file.read(head[26]) if len(head) == _HEAD else b""
        content = file.read(sum(table))
        page = head + table + content
        over = len(head) < _HEAD or len(table) < head[26] or len(content) < sum(table)
        if over or head[:4] != _PAGE or head[22:26] != _checksum(page):
            if begun and not going_on:  # what stands behind the last page of all is a tag, or nothing
                return OggPages(good, _stands_in_rest(file, good), True, chained)
            return OggPages(good, len(head) > 0 and not (over and head[:4] == _PAGE), False, chained)
        serial, number = head[14:18], int.from_bytes(head[18:22], "little")
        if numbers.get(serial, number - 1) != number - 1:
            return OggPages(good, True, not going_on, chained)
        numbers[serial] = number
        if head[5] & _FIRST:
            chained = chained or begun
            going_on.add(serial)
        else:
            begun = True
        if head[5] & _LAST:
            going_on.discard(serial)
            numbers.pop(serial)
        good += len(page)


def _stands_in_rest(file: BinaryIO, start: int) -> bool:
    """Whether there is another page, or what looks like one."""
    file.seek(start)
    before = b""
    while part := file.read(1 << 20):
        if _PAGE in before + part:
            return True
        before = part[-3:]
    return False


def _checksum(page: bytes) -> bytes:
    """The CRC of a page without its own, from the highest bit on. That of zlib goes from the lowest on: it gives the
    same, reversed, of reversed bytes."""
    bare = page[:22] + bytes(4) + page[26:]
    reverse = zlib.crc32(bare.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return reverse.to_bytes(4, "big").translate(_REVERSED)
