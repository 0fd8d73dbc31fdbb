"""How an Ogg file ends, and whether it is several files one behind the other: its pages (RFC 3533)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

_PAGE = b"OggS\0"
_HEAD = 27  # bytes of a page before its table of segments
_LARGEST = _HEAD + 255 + 255 * 255  # bytes of a page
_FIRST, _LAST = 2, 4  # flags of a stream's first and last page


@dataclass(frozen=True)
class OggEnd:
    """`whole`: the last page is there and says that it is the last. `chained`: it is of another stream than the first
    ones: a file of several, one behind the other."""

    whole: bool
    chained: bool


def find_end(file: BinaryIO) -> OggEnd:
    """Look at the first and the last pages of an Ogg file."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    begin = file.read(4096)
    serials = {begin[at + 14 : at + 18] for at in _pages(begin) if begin[at + 5] & _FIRST}
    file.seek(max(0, size - 2 * _LARGEST))
    tail = file.read()
    pages = _pages(tail)
    if not pages:
        return OggEnd(False, False)
    last = pages[-1]
    segments = tail[last + 26]
    end = last + _HEAD + segments + sum(tail[last + _HEAD : last + _HEAD + segments])
    whole = end <= len(tail) and tail[last + 5] & _LAST != 0
    return OggEnd(whole, tail[last + 14 : last + 18] not in serials)


def _pages(content: bytes) -> list[int]:
    """Where pages begin."""
    found, at = [], content.find(_PAGE)
    while 0 <= at <= len(content) - _HEAD:
        found.append(at)
        at = content.find(_PAGE, at + 1)
    return found
