"""Looking through a folder: which files in it are recordings, and which are not and why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from host_stubs.errors import HostError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
OTHER_SUFFIXES = (
    ".aac",
    ".ac3",
    ".amr",
    ".ape",
    ".au",
    ".caf",
    ".m4a",
    ".mka",
    ".opus",
    ".rf64",
    ".w64",
    ".wma",
    ".wv",
)
"""Of sound files that are not used, but not passed over in silence either."""


@dataclass(frozen=True)
class Found:
    """The sound files of a folder, and what in it looks like sound but cannot be used: each with the reason."""

    recordings: list[Path]
    left_out: list[tuple[Path, str]]


def find_recordings(folder: Path) -> list[Path]:
    """All sound files below `folder`, as `look_through` finds them."""
    return look_through(folder).recordings


def look_through(folder: Path) -> Found:
    """The sound files below `folder`, recursively, by suffix, in an order that is the same on every machine.

    Hidden files and folders are left out without a word: macOS writes a hidden "._name.wav" beside each file on foreign
    disks. Links to folders are not followed, for they may lead in a circle.
    Raises HostError if `folder` is not a folder.
    """
    if not folder.is_dir():
        raise HostError(f"{folder} is not a folder." if folder.exists() else f"There is no folder {folder}.")
    found = Found([], [])

    def unreadable(error: OSError) -> None:
        found.left_out.append((Path(error.filename), f"{error.filename} cannot be looked into ({error.strerror})."))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            path = Path(place, name)
            if path.is_symlink():
                found.left_out.append((path, f"{path} is a link to a folder, which is not followed."))
        for name in files:
            path = Path(place, name)
            suffix = path.suffix.lower()
            if name.startswith("."):
                continue
            if suffix in OTHER_SUFFIXES:
                found.left_out.append((path, f"{path} is of a kind that is not read; make it a WAV or FLAC file."))
            elif suffix in SUFFIXES and path.is_file():
                found.recordings.append(path)
            elif suffix in SUFFIXES:
                found.left_out.append((path, f"{path} is no file, or a link to none."))
    found.recordings.sort(key=lambda path: path.relative_to(folder).parts)
    found.left_out.sort()
    return found
