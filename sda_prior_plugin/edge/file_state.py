"""What tells a file from a later one of the same name."""

from __future__ import annotations

from pathlib import Path

FileState = tuple[int, int, int] | None
"""A file's number, its size in bytes and its time of change in nanoseconds; None without a file."""


def file_state(path: Path) -> FileState:
    """The state that a file is in now."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
