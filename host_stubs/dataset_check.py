"""What has become of a dataset's files: what is there is compared with what a manifest says, as far as that is safe.

A manifest can name anything. Only plain files of the size that it says are opened, no more of them is read than that,
and a look can be given a time, after which it ends, whatever does not answer.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from host_stubs.account import listed
from host_stubs.errors import HostError, shown
from host_stubs.folder import find_recordings
from host_stubs.names import as_text, folder_there

if TYPE_CHECKING:
    from host_stubs.manifest import DatasetManifest
    from host_stubs.recording import RecordingEntry

PATIENCE = 0.3
"""Seconds beyond its time that a look has to notice that this is over; then something does not answer."""
_BLOCK_BYTES = 2**20
# A pipe is not waited for, and no terminal taken over; each system has some of these flags.
_OPENING = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_BINARY", "O_NONBLOCK", "O_NOCTTY"))
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class DatasetCheck:
    """What has become of a manifest's files since, by relative path.

    Attributes:
        missing: not there under that name, or no plain file.
        changed: there, with other contents: changed, or replaced by another recording.
        added: recordings in the folder of which the manifest says nothing: new since, or only counted as skipped.
        renamed: of the missing, those whose very contents lie under another, added, name, which is the value.
        folder_there: whether there is the folder.
        complete: whether there was time to look at everything; what was not looked at is in none of these.
    """

    missing: list[str]
    changed: list[str]
    added: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    folder_there: bool = True
    complete: bool = True

    def summary(self) -> str:
        """What has changed, in a line; nothing if nothing has."""
        parts = [
            f"{len(names)} {word} ({listed(names)})"
            for word, names in (("missing", self.missing), ("changed", self.changed), ("new", self.added))
            if names
        ]
        if self.renamed:
            parts.append(f"renamed: {listed([f'{old} is now {new}' for old, new in self.renamed.items()])}")
        if not self.complete:
            parts.append("not all of it was looked at, which takes long")
        return ", ".join(parts)


def compare(manifest: DatasetManifest, folder: Path | None, *, contents: bool, seconds: float | None) -> DatasetCheck:
    """What `DatasetManifest.check` gives, and raises."""
    if seconds is None:
        return _Look(manifest, folder, lambda: None).check(contents)
    until = time.monotonic() + seconds

    def tick() -> None:
        if time.monotonic() > until:
            raise _TimeIsOver

    outcome: list[DatasetCheck | Exception] = []

    def look() -> None:
        try:
            outcome.append(_Look(manifest, folder, tick).check(contents))
        except Exception as error:
            outcome.append(error)

    looking = threading.Thread(target=look, name="looks at a dataset", daemon=True)  # it may never come back
    looking.start()
    looking.join(seconds + PATIENCE)
    if not outcome:
        raise HostError(f"{shown(as_text(manifest.folder if folder is None else str(folder)))} does not answer.")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def sha256_of(path: Path, size: int, tick: Callable[[], object] = lambda: None) -> str | None:
    """The SHA-256 of a plain file of `size` bytes, in hexadecimal digits; None if what is there is something else.

    `tick` is called for each block of it.
    """
    with open(os.open(path, _OPENING), "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return None
        digest, left = hashlib.sha256(), size
        while left and (block := file.read(min(_BLOCK_BYTES, left))):
            tick()
            digest.update(block)
            left -= len(block)
    return None if left else digest.hexdigest()


class _TimeIsOver(Exception):  # noqa: N818 - no error: the end of a look
    """Raised where a look is to end."""


class _Look:
    """One look at the files of a dataset; `tick` is called again and again, and what it raises ends the look."""

    def __init__(self, manifest: DatasetManifest, folder: Path | None, tick: Callable[[], object]) -> None:
        self._manifest, self._folder, self._tick = manifest, folder, tick
        self._missing: dict[str, RecordingEntry] = {}
        self._changed: set[str] = set()
        self._added: dict[Path, str] = {}
        self._renamed: dict[str, str] = {}

    def check(self, contents: bool) -> DatasetCheck:
        root = folder_there(self._manifest.folder) if self._folder is None else self._folder
        there, complete = os.path.isdir(root), True
        try:
            where = self._manifest.paths(root)
            to_read = self._compare_sizes(where)
            if there:
                self._find_added(root, where)
            if contents:
                self._compare_contents(where, to_read)
                self._find_renamed()
        except _TimeIsOver:
            complete = False
        changed = [entry.path for entry in self._manifest.files if entry.path in self._changed]
        return DatasetCheck(list(self._missing), changed, list(self._added.values()), self._renamed, there, complete)

    def _compare_sizes(self, where: Mapping[str, Path]) -> list[RecordingEntry]:
        """Note what is missing or has another size; the others."""
        others = []
        for entry in self._manifest.files:
            self._tick()
            path = where[entry.path]
            try:
                status = path.stat()
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise _unreadable(path, error) from error
                self._missing[entry.path] = entry
                continue
            if not stat.S_ISREG(status.st_mode):
                self._missing[entry.path] = entry
            elif status.st_size != entry.bytes:
                self._changed.add(entry.path)
            else:
                others.append(entry)
        return others

    def _compare_contents(self, where: Mapping[str, Path], entries: Iterable[RecordingEntry]) -> None:
        for entry in entries:
            path = where[entry.path]
            try:
                if sha256_of(path, entry.bytes, self._tick) != entry.sha256:
                    self._changed.add(entry.path)
            except OSError as error:
                raise _unreadable(path, error) from error

    def _find_added(self, root: Path, where: Mapping[str, Path]) -> None:
        there = {path for name, path in where.items() if name not in self._missing}
        known = {path.relative_to(root).as_posix() for path in there}
        new = [path for path in find_recordings(root, known, self._tick) if path not in there]
        skipped = {name for name, _ in self._manifest.skipped}
        names = ((path, as_text(path.relative_to(root).as_posix())) for path in new)
        self._added = {path: name for path, name in names if name not in skipped}

    def _find_renamed(self) -> None:
        """Under which of the added names the contents of missing files lie. Only files of the right size are read."""
        by_contents = {(entry.bytes, entry.sha256): entry.path for entry in self._missing.values()}
        sizes = {size for size, _ in by_contents}
        for path, name in self._added.items():
            with suppress(OSError):  # it is not theirs as far as can be known
                size = path.stat().st_size
                digest = sha256_of(path, size, self._tick) if size in sizes else None
                if digest is not None and (old := by_contents.get((size, digest))) is not None:
                    self._renamed.setdefault(old, name)


def _unreadable(path: Path, error: OSError) -> HostError:
    return HostError(f"{path} is there but cannot be read ({error.strerror}).")
