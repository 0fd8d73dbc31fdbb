"""The header of a safetensors file, checked before anything that it says is used.

A file may come from a stranger. What its header claims is compared with the file's size before memory is taken for it,
and every step is linear in that size. The limits are those of docs/sda-format.md.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from host_stubs.errors import HostError, shown

METADATA = "__metadata__"
LENGTH_BYTES = 8
MOST_HEADER_BYTES = 32 * 2**20
DEEPEST = 64  # levels of objects and lists inside each other
MOST_DIMENSIONS = 32
LONGEST_SIDE = 2**53
TIMES_ITS_SIZE = 4  # what opening a file may take of memory, and
AND_BYTES = 64 * 2**20  # this much beside it
BYTES_A_VALUE = 256  # the most that a JSON value takes in memory while it is read, beside its text

DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
}
"""The types that a tensor may have, as the format names them."""

_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*+\\u")  # one of the header itself, not of a text inside it
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Place:
    """Where a tensor is: `begin` and `end` are bytes of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a header says; `size` is that of the file, in bytes, and `data` where its tensors begin."""

    metadata: dict[str, str]
    tensors: dict[str, Place]
    size: int
    data: int


def read_header(file: BinaryIO, path: Path) -> Header:
    """The header of an open file that begins like a safetensors file.

    Raises HostError, naming `path`, for one that is cut off or says what cannot be.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if length > MOST_HEADER_BYTES:
        raise HostError(
            f"{path} is damaged: its header claims {length:,} bytes; at most {MOST_HEADER_BYTES:,} are allowed."
        )
    if LENGTH_BYTES + length > size:
        raise HostError(f"{path} is truncated: it ends inside its header.")
    content = parsed(_text(file.read(length), path, size), "header", path, size)
    metadata = content.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise HostError(f"{path} is damaged: its header's metadata is not text.")
    for text in (*metadata, *metadata.values(), *content):
        check_text(text, "header", path)
    data = LENGTH_BYTES + length
    tensors = {name: _place(name, value, data, path) for name, value in content.items()}
    _check_that_they_fill(tensors, data, size, path)
    return Header(metadata, tensors, size, data)


def parsed(text: str, part: str, path: Path, size: int) -> dict[str, Any]:
    """The JSON object that `text`, a part of the file, is.

    Raises HostError if it is none, if a name in it occurs twice in an object, or if it would take too much memory.
    """
    check_room(3 * sys.getsizeof(text) + BYTES_A_VALUE * values_in(text), part, path, size)
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        reason = f" ({error})" if isinstance(error, _NotAllowedError) else ""
        raise HostError(f"{path} is damaged: its {part} is not readable JSON{reason}.") from error
    if not isinstance(value, dict):
        raise HostError(f"{path} is damaged: its {part} is not a JSON object.")
    return value


def check_values(value: Any, part: str, path: Path) -> None:
    """Raise HostError where JSON is deeper than is allowed, or where a text in it is none, with half a character."""
    level: list[Any] = [value]
    for _ in range(DEEPEST + 1):
        inside: list[Any] = []
        for each in level:
            kind = type(each)
            if kind is str:
                check_text(each, part, path)
            elif kind is dict:
                inside += each
                inside += each.values()
            elif kind is list:
                inside += each
        level = inside
        if not level:
            return
    raise HostError(f"{path} is damaged: its {part} is more than {DEEPEST} levels deep.")


def check_text(text: str, part: str, path: Path) -> None:
    """Raise HostError for a text with half a character in it, which could not be written to another file."""
    if not text.isascii() and _HALF_A_CHARACTER.search(text):
        raise HostError(f"{path} is damaged: its {part} holds {shown(text)}, which is no text.")


def check_room(needed: int, part: str, path: Path, size: int) -> None:
    """Raise HostError where a part of a file of `size` would take `needed` bytes of memory, and that is too much."""
    if needed > TIMES_ITS_SIZE * size + AND_BYTES:
        raise HostError(
            f"{path} is damaged: its {part} would take {needed:,} bytes of memory, more than {TIMES_ITS_SIZE} times "
            f"the file's size and {AND_BYTES:,}."
        )


class _NotAllowedError(ValueError):
    """JSON that Python's reader takes, but not this one."""


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _NotAllowedError("a name occurs twice in an object")
    return values


def _no_number(name: str) -> Any:
    raise _NotAllowedError(f"{name} is no number")


def values_in(text: str | bytes) -> int:
    """At least the number of JSON values in `text`: each but the first follows a comma or an opening bracket."""
    marks = ",[{"
    if isinstance(text, bytes):
        return 1 + sum(text.count(mark.encode()) for mark in marks)
    return 1 + sum(text.count(mark) for mark in marks)


def _text(body: bytes, path: Path, size: int) -> str:
    """The header's bytes as text, if reading what it says would not take too much memory."""
    # One character beyond the first 256 makes a text two or four times as large as its bytes.
    widest = 1 if body.isascii() and not (b"\\u" in body and _ESCAPE.search(body)) else 4
    check_room((1 + 2 * widest) * len(body) + BYTES_A_VALUE * values_in(body), "header", path, size)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HostError(f"{path} is damaged: its header is not readable JSON (it is not UTF-8).") from error


def _place(name: str, value: Any, data: int, path: Path) -> Place:
    if not name or not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise HostError(f"{path} is damaged: its header does not describe tensors.")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _wrong(path, name, f"is of a type that this host cannot read: {shown(dtype)}")
    size = math.prod(side or 1 for side in shape) if _are_counts(shape) and len(shape) <= MOST_DIMENSIONS else math.inf
    if size >= LONGEST_SIDE:
        raise _wrong(path, name, f"is of a shape that cannot be: {shown(shape)}")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise _wrong(path, name, f"is in a place that cannot be: {shown(offsets)}")
    begin, end = offsets
    if end - begin != (0 if 0 in shape else size) * DTYPES[dtype].itemsize:
        raise _wrong(path, name, f"is {dtype} {shown(shape)}, which {end - begin:,} bytes cannot be")
    return Place(dtype, tuple(shape), data + begin, data + end)


def _wrong(path: Path, tensor: str, what: str) -> HostError:
    return HostError(f"{path} is damaged: its tensor {shown(tensor)} {what}.")


def _are_counts(value: Any) -> bool:
    if type(value) is not list:
        return False
    for each in value:  # noqa: SIM110 - this is read for every tensor: `all` takes twice as long
        if type(each) is not int or not 0 <= each < LONGEST_SIDE:
            return False
    return True


def _check_that_they_fill(tensors: Mapping[str, Place], data: int, size: int, path: Path) -> None:
    """Raise HostError unless the tensors lie one after another, without gap or overlap, up to the end of the file."""
    end = max((place.end for place in tensors.values()), default=data)
    if end > size:
        raise HostError(f"{path} is truncated: {end - size:,} of {end:,} bytes are missing.")
    reached = data
    for name, place in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if place.begin != reached:
            how = "overlaps the one before it" if place.begin < reached else "does not begin where the one before ends"
            raise _wrong(path, name, how)
        reached = place.end
    if reached != size:
        raise HostError(f"{path} is damaged: {size - reached:,} bytes at its end belong to no tensor.")
