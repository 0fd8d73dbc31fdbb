"""Sounds that are dropped on a page: the only files that it sends, each for the page that it was dropped on."""

from __future__ import annotations

import secrets
from pathlib import Path

from host_stubs.errors import HostError

DROP = "/dropped"
MOST_DROPPED = 256 * 2**20
"""Bytes: ten minutes of stereo with 24 bits a sample, and some more."""
MOST_WAITING = 4


class Drops:
    """What was dropped, in a folder of the server's own, until the page that it is for takes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[str, Path] = {}

    def new(self) -> tuple[str, Path]:
        """A name for a drop, and the file that it is to be written to. The oldest that nobody took goes."""
        self._folder.mkdir(parents=True, exist_ok=True)
        while len(self._waiting) >= MOST_WAITING:
            self._waiting.pop(next(iter(self._waiting))).unlink(missing_ok=True)
        drop = secrets.token_hex(16)
        path = self._waiting[drop] = self._folder / drop
        return drop, path

    def taken(self, drop: str) -> Path:
        """The file of a drop, which belongs to the caller from now on. Raises HostError if there is none."""
        path = self._waiting.pop(drop, None)
        if path is None:
            raise HostError(f"That could not be taken: at most {MOST_DROPPED // 2**20} MB are. Drop it once more.")
        return path
