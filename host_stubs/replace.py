"""Writing a file in one step: another file in the same folder, flushed to the disk, then moved over the old one."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from host_stubs.errors import HostError


def check_writable(path: Path) -> None:
    """Raise HostError now if `path` could not be written later: before an hour of training, not after it."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise HostError(f"{path} is a folder; give the name of a file in it.")
    if not target.parent.is_dir():
        raise HostError(f"The folder {target.parent} does not exist; {path.name} cannot be written there.")
    if target.exists() and not os.access(target, os.W_OK):
        raise HostError(f"{path} is write-protected.")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise HostError(f"The folder {target.parent} cannot be written to ({error.strerror}).") from error


@contextmanager
def new_file_in_place_of(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there takes `path`'s place when the block ends well."""
    check_writable(path)
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # with the mode the umask gives
        mode = (target if target.exists() else temporary).stat().st_mode & 0o7777
        yield temporary
        temporary.chmod(mode)
        _flush(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise HostError(f"{path} could not be written ({error}). What was there before is unchanged.") from error
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(OSError):  # the new file is in place; some file systems cannot flush a folder
        _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
