"""The archive that a model of the existing host is, checked before what is in it is read: a zip made by `torch.save`.

Such a zip never compresses, so what is in it is no larger than the file; and its pickle names nothing but tensors and
plain values. What does not keep to that is not read.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import BinaryIO

from host_stubs.errors import HostError

MOST_ENTRIES = 10_000
MOST_PICKLE_BYTES = 2**18

_START = b"PK\x03\x04"
_ENTRY = b"PK\x01\x02"
_PICKLE = "data.pkl"
_MARK = b"distill_model"
_BLOCK = 2**20
_STORAGES = ("Bool", "Byte", "Char", "Short", "Int", "Long", "Half", "BFloat16", "Float", "Double")
_NAMED = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", *(f"torch {kind}Storage" for kind in _STORAGES)}


def is_legacy_model(path: Path) -> bool:
    """Whether a file is a model of the existing host, as far as its archive tells."""
    try:
        return _MARK in checked_pickle(path)
    except (HostError, OSError):
        return False


def checked_pickle(path: Path) -> bytes:
    """The pickle of an archive, which `torch.load` may read with `weights_only`: it is bounded by the file's size.

    Raises HostError, one sentence, for a file that is no such archive, and OSError if it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(_START)) != _START:
            raise HostError(f"{path} is not a model of the existing host, or is cut off: it is no zip archive.")
        if _count(file, _ENTRY) > MOST_ENTRIES:
            raise HostError(f"{path} is not a model of the existing host: it has more than {MOST_ENTRIES:,} entries.")
        try:
            with zipfile.ZipFile(file) as archive:
                return _pickle_in(archive, path, file.seek(0, 2))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
            raise HostError(f"{path} is not a model of the existing host, or is cut off: {error}.") from error


def _pickle_in(archive: zipfile.ZipFile, path: Path, size: int) -> bytes:
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise HostError(f"{path} is not a model of the existing host: it is a compressed archive.")
    if sum(entry.file_size for entry in entries) > size:
        raise HostError(f"{path} is damaged: what is in it is larger than the file.")
    if len({entry.filename.casefold() for entry in entries}) < len(entries):
        raise HostError(f"{path} is damaged: two things in it have the same name.")
    pickles = [entry for entry in entries if entry.filename.casefold().endswith(_PICKLE)]
    if len(pickles) != 1 or pickles[0].file_size > MOST_PICKLE_BYTES:
        raise HostError(f"{path} is not a model of the existing host: what it holds is not described as in one.")
    content = archive.read(pickles[0])
    for operation, argument, _ in pickletools.genops(content):
        named = "GLOBAL" in operation.name or operation.name in ("INST", "EXT1", "EXT2", "EXT4")
        if named and argument not in _NAMED:
            raise HostError(f"{path} is damaged, or holds more than tensors and plain values; nothing of it was run.")
    return content


def _count(file: BinaryIO, mark: bytes) -> int:
    """How often `mark` occurs from here on."""
    count, before = 0, b""
    while block := file.read(_BLOCK):
        count += (before + block).count(mark)
        before = block[1 - len(mark) :]
    return count
