"""Tensors in a file, each read when it is asked for: what nobody asks for costs nothing, however large it is."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from host_stubs.errors import HostError
from host_stubs.header import DTYPES, Header, Place, read_header

Kind = tuple[torch.dtype, tuple[int, ...]]
"""What a tensor is: type and shape."""


def kind_of(tensor: Tensor) -> Kind:
    """What a tensor is."""
    return tensor.dtype, tuple(tensor.shape)


class TensorFile:
    """An open safetensors file. It stays open for as long as something may be read from it.

    The file is read, not mapped: another program that cuts it short then makes for an error, not for a crash. A save
    puts another file in its place, and leaves this one as it is to whoever has it open.
    """

    def __init__(self, file: FileIO, path: Path) -> None:
        """Takes over `file`. Raises HostError as `read_header` does."""
        self.path = path
        self._file = file
        self._close = weakref.finalize(self, file.close)
        self._lock = threading.Lock()
        try:
            self._state = self._stat()
            self.header: Header = read_header(file, path)
        except BaseException:
            self._close()
            raise

    def tensors(self, prefix: str = "", *, inside: bool = True) -> StoredTensors:
        """Those whose names begin with `prefix`, under the rest of their names; or, if not `inside`, all others."""
        places = self.header.tensors.items()
        if inside:
            return StoredTensors(self, {name[len(prefix) :]: at for name, at in places if name.startswith(prefix)})
        return StoredTensors(self, {name: at for name, at in places if not name.startswith(prefix)})

    def read(self, place: Place) -> Tensor:
        """A tensor with memory of its own. Raises HostError if the file can no longer be read, or has changed."""
        try:
            content = torch.empty(place.end - place.begin, dtype=torch.uint8)
            view = content.numpy().data
            with self._lock:
                self._file.seek(place.begin)
                got = 0
                while got < len(view) and (more := self._file.readinto(view[got:])):
                    got += more
                changed = got < len(view) or self._stat() != self._state
        except OSError as error:
            raise HostError(f"{self.path} cannot be read ({error.strerror}).") from error
        except (MemoryError, RuntimeError) as error:
            raise HostError(f"There is not enough memory for what {self.path} holds.") from error
        if changed:
            raise HostError(f"{self.path} has been changed by another program since it was opened; open it again.")
        return content.view(DTYPES[place.dtype]).reshape(place.shape)

    def _stat(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


class StoredTensors(Mapping[str, Tensor]):
    """Tensors that are still in their file: each is read whenever it is asked for; what they are is known before."""

    def __init__(self, file: TensorFile, places: Mapping[str, Place]) -> None:
        self._file = file
        self._places = dict(places)

    def __getitem__(self, name: str) -> Tensor:
        return self._file.read(self._places[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def kinds(self) -> dict[str, Kind]:
        """Type and shape of each. Nothing is read."""
        return {name: (DTYPES[place.dtype], place.shape) for name, place in self._places.items()}
