"""Room for what takes long to make: looked at before it is made, and other places for it if there is none after."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from host_stubs.errors import HostError


def check_room(path: Path, needed: int) -> None:
    """Raise HostError now if the disk of `path` has no room for so many bytes beside what is there.

    A folder that is yet to be made counts as the one that it will be in. Where a disk does not say how much it has,
    there is nothing to compare.
    """
    folder = next(folder for folder in Path(os.path.realpath(path)).parents if os.path.isdir(folder))
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return
    if disk.total and disk.free < needed:
        raise HostError(
            f"The disk of {folder} has {_size(disk.free)} left, and {path.name} takes about {_size(needed)} to make "
            "there. Make room on it, or save on another one."
        )


def folders_elsewhere() -> list[Path]:
    """Folders to save in what cannot be saved where it was wanted: the user's home, and the one for temporary files."""
    folders = [Path(os.path.expanduser("~"))]
    with suppress(OSError):  # there is none that may be written to
        folders.append(Path(tempfile.gettempdir()))
    return [folder for folder in folders if folder.is_absolute()]  # a user without a home is given "~"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
