"""Writing a file in one step: another file in the same folder, flushed to the disk, then moved over the old one."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import platform
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import TypeAlias

from host_stubs.errors import FileChanged, HostError
from host_stubs.locks import hidden_beside, turn_to_write

logger = logging.getLogger("sda_host")

UNCHANGED = "What was there before is unchanged."
_END_BYTES = 1 << 16  # at both ends of a file, to tell it from another one of the same size
_LEFT_BEHIND_SECONDS = 24 * 3600  # after so long another machine's unfinished file is taken to be left behind
_UNFINISHED = ".tmp"
_NO_FLUSH_OF_FOLDERS = (errno.EINVAL, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR, errno.EOPNOTSUPP)
_WAYS_OUT = {
    errno.ENOSPC: "Make room on that disk, or save on another one.",
    errno.EDQUOT: "Make room in your share of that disk, or save on another one.",
    errno.EFBIG: "No file there may be that large: save on another disk.",
    errno.EROFS: "Save in a folder that you may write to.",
    errno.EACCES: "Save in a folder that you may write to.",
    errno.EPERM: "Save in a folder that you may write to.",
}
_TRY_ELSEWHERE = "Try again, or save on another disk."


@dataclass(frozen=True)
class FileState:
    """What tells a file from a later one of the same name: its number on the disk, size, time and both ends."""

    inode: int
    bytes: int
    changed_ns: int
    ends: str


Expected: TypeAlias = FileState | EllipsisType | None
"""What must be at a place that is written to: a file with a state, nothing (None), or ... for no matter what."""


@dataclass
class NewFile:
    """A file on its way: `path` is where to write it, `state` what it is once it has taken its place."""

    path: Path
    state: FileState | None = None


def file_state(path: Path) -> FileState | None:
    """The state of a file now; None if there is none."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            return FileState(status.st_ino, status.st_size, status.st_mtime_ns, "")
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            digest = hashlib.sha256(file.read(_END_BYTES))
            file.seek(max(0, status.st_size - _END_BYTES))
            digest.update(file.read(_END_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:  # it is there, and may not be read
        status, digest = path.stat(), hashlib.sha256()
    return FileState(status.st_ino, status.st_size, status.st_mtime_ns, digest.hexdigest())


def check_writable(path: Path) -> None:
    """Raise HostError now if `path` could not be written later: before an hour of training, not after it."""
    target = Path(os.path.realpath(path))
    try:
        if target.is_dir():
            raise HostError(f"{path} is a folder; give the name of a file in it.")
        if not target.parent.is_dir():
            raise HostError(f"The folder {target.parent} does not exist; {path.name} cannot be written there.")
        if target.exists() and not os.access(target, os.W_OK):
            raise HostError(f"{path} is write-protected. Save under another name, or allow yourself to write it.")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        reason = f"The folder {target.parent} cannot be written to ({error.strerror})."
        raise HostError(f"{reason} {_way_out(error)}") from error


@contextmanager
def new_file_in_place_of(path: Path, replacing: Expected = ...) -> Iterator[NewFile]:
    """Give a place to write a file; what is there takes `path`'s place when the block ends well.

    Of two processes that write the same file, the second one waits. An existing file's permissions stay, and a symbolic
    link is followed. What a process that died while writing has left is removed.

    Raises FileChanged if there is another file at `path` than the one with the state `replacing` (None: than none), and
    HostError if it cannot be written; the old file is then untouched.
    """
    check_writable(path)
    target = Path(os.path.realpath(path))
    try:
        with turn_to_write(target) as alone:
            _clear_leftovers(target, alone)
            _check_unchanged(path, replacing)
            new = NewFile(hidden_beside(target, f".{_this_machine()}-{secrets.token_hex(4)}{_UNFINISHED}"))
            try:
                _create(new.path, target)
                yield new
                _take_over_rights(new.path, target)
                _flush(new.path)
                new.state = file_state(new.path)
                _check_unchanged(path, replacing)
                os.replace(new.path, target)
            finally:
                with suppress(OSError):  # the next one to write clears it away
                    new.path.unlink(missing_ok=True)
            _flush_folder(target)
    except OSError as error:
        reason = error.strerror or error
        raise HostError(f"{path} could not be written ({reason}). {_way_out(error)} {UNCHANGED}") from error


def _check_unchanged(path: Path, known: Expected) -> None:
    now = None if known is ... else file_state(path)
    if now is not None and now != known:
        happened = "was not there before" if known is None else "has changed since it was opened"
        raise FileChanged(f"{path} {happened}, and is left as it is. Open it again, or save under another name.")


def _clear_leftovers(target: Path, alone: bool) -> None:
    """Remove what processes that died while they wrote `target` have left, and nothing that a living one still writes.

    Whoever is `alone` holds the lock: nobody else on this machine writes. What another machine has begun goes after a
    day, for there are networks through which locks do not reach.
    """
    begun = hidden_beside(target, ".").name
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if entry.name.startswith(begun) and entry.name.endswith(_UNFINISHED):
                with suppress(OSError):
                    dead = alone and entry.name.startswith(f"{begun}{_this_machine()}-")
                    if dead or time.time() - entry.stat().st_mtime > _LEFT_BEHIND_SECONDS:
                        os.unlink(entry.path)


def _create(new: Path, old: Path) -> None:
    """Make an empty file with the rights that any new one has, but for nobody else to see if an old one is replaced."""
    mode = 0o600 if old.exists() else 0o666  # less what the umask takes
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))


def _take_over_rights(new: Path, old: Path) -> None:
    """Give a new file the rights of the old one, and its owner as far as that may be."""
    if old.exists():
        status = old.stat()
        if hasattr(os, "chown"):
            with suppress(OSError):
                os.chown(new, status.st_uid, status.st_gid)
        new.chmod(stat.S_IMODE(status.st_mode))


def _way_out(error: OSError) -> str:
    return _WAYS_OUT.get(error.errno or 0, _TRY_ELSEWHERE)


def _this_machine() -> str:
    """A short mark for this machine, the same for all of its processes."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _flush_folder(target: Path) -> None:
    """Flush the folder that a new file has taken its place in. The file is there, whatever comes of that."""
    try:
        _flush(target.parent)
    except OSError as error:
        if error.errno not in _NO_FLUSH_OF_FOLDERS:
            logger.warning("%s is written, but its disk says: %s. Keep a copy elsewhere.", target, error.strerror)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
