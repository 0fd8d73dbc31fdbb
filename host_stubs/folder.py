"""Looking through a folder: which files in it are recordings, and which are not and why."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from host_stubs.errors import HostError
from host_stubs.kinds import RAW_SUFFIXES, SUFFIXES, sound_kind

_GLANCED_AT = 20  # files of a folder that are opened to know whether it holds recordings


@dataclass(frozen=True)
class Found:
    """The sound files of a folder, and whatever else in it is not hidden: each with the reason why it is not used."""

    recordings: list[Path]
    left_out: list[tuple[Path, str]]


def find_recordings(folder: Path, known: Collection[str] = (), tick: Callable[[], object] = lambda: None) -> list[Path]:
    """All sound files below `folder`, as `look_through` finds them."""
    return look_through(folder, known, tick).recordings


def look_through(folder: Path, known: Collection[str] = (), tick: Callable[[], object] = lambda: None) -> Found:
    """The sound files below `folder`, recursively, by their content, in an order that is the same on every machine.

    `known` are paths relative to `folder`, with `/`, of what is known to be a recording: those are not opened.
    `tick` is called for each folder and file, and ends the look with what it raises.
    Hidden files and folders are left out without a word: macOS writes a hidden "._name.wav" beside each file on foreign
    disks. Links to folders are not followed, for they may lead in a circle.
    Raises HostError if `folder` is not a folder.
    """
    if not os.path.isdir(folder):
        raise HostError(f"{folder} is not a folder." if os.path.lexists(folder) else f"There is no folder {folder}.")
    found = Found([], [])
    known = frozenset(known)

    def unreadable(error: OSError) -> None:
        found.left_out.append((Path(error.filename), f"{error.filename} cannot be looked into ({error.strerror})."))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        tick()
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in folders):
            if path.is_symlink():
                found.left_out.append((path, f"{path} is a link to a folder, which is not followed."))
        for path in (Path(place, name) for name in files if not name.startswith(".")):
            tick()
            why_not = None if path.relative_to(folder).as_posix() in known else _why_not(path)
            if why_not is None:
                found.recordings.append(path)
            else:
                found.left_out.append((path, why_not))
    found.recordings.sort(key=lambda path: path.relative_to(folder).parts)
    found.left_out.sort()
    return found


def holds_recordings(folder: Path, *, deeper: bool) -> bool:
    """Whether there seem to be recordings right in a folder or, if `deeper`, in one right in it: by the names of the
    files, and the content of a few. A folder that may not be looked into holds none."""
    if any(_suffix(name) in SUFFIXES for _, name in _visible(folder, files=True)):
        return True
    for path, _ in islice(_visible(folder, files=True), _GLANCED_AT):
        if _why_not(path) is None:
            return True
    return deeper and any(holds_recordings(path, deeper=False) for path, _ in _visible(folder, files=False))


def _visible(folder: Path, *, files: bool) -> list[tuple[Path, str]]:
    """Files, or folders, right in a folder that are not hidden, and their names; none of one that is not readable."""
    try:
        with os.scandir(folder) as entries:
            return [(folder / entry.name, entry.name) for entry in entries if _is_wanted(entry, files=files)]
    except OSError:
        return []


def _is_wanted(entry: os.DirEntry[str], *, files: bool) -> bool:
    try:
        return not entry.name.startswith(".") and (entry.is_file() if files else entry.is_dir())
    except OSError:  # a link to what may not be looked at
        return False


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _why_not(path: Path) -> str | None:
    """Why a file is no recording; None if it is one. Only regular files are opened: another may block."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return f"{path} is no file, or a link to none."
        if sound_kind(path) is not None:
            return None
    except FileNotFoundError:
        return f"{path} is a link to nothing."
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})."
    if _suffix(path.name) in RAW_SUFFIXES:
        return f"{path} holds samples without a header, which could be anything; make it a WAV file."
    return f"{path} is no sound file."
