"""Names of files: as text, which a model's file can hold, and as the system has them.

A file system may take names that are no text, a field recorder writes `12:30:00.wav`, and what is `ö` on one system is
`o` and two dots on another. Names are kept as text wherever that is possible, and found again whatever their form.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

_LONGEST = 200  # bytes of a name to which more is to be added; most file systems take 255


def as_text(name: str) -> str:
    """A name as text; what is none in it becomes U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def hexadecimal(name: str) -> str:
    """The bytes of a name that is no text, in hexadecimal digits, to be kept beside it; none where the text is all."""
    given = os.fsencode(name)
    return "" if as_text(name).encode() == given else given.hex()


def as_the_system_has_it(text: str, digits: str = "") -> str:
    """The name of which `as_text` and `hexadecimal` are these, for calls that take a path."""
    return os.fsdecode(bytes.fromhex(digits) or text.encode())


def stays_inside(name: str, flavour: type[PurePath] = PurePath) -> bool:
    """Whether a path leads from a folder to something in it, on a system with paths of this kind (this one's)."""
    path = flavour(name)
    return bool(path.parts) and not path.anchor and ".." not in path.parts and "\0" not in name


def told_apart(paths: Iterable[Path], folder: Path) -> Iterator[tuple[Path, str]]:
    """Each path with its name in the folder as text, every text once, in the order of these texts.

    What is no text could be shown like another name; then it has a number behind it.
    """
    named = [(path, path.relative_to(folder).as_posix()) for path in paths]
    texts = {name: as_text(name) for _, name in named}
    taken = {texts[name] for _, name in named if not hexadecimal(name)}
    for name in sorted((name for name in texts if hexadecimal(name)), key=os.fsencode):
        text, number = texts[name], 1
        while texts[name] in taken:
            number += 1
            texts[name] = f"{text} ({number})"
        taken.add(texts[name])
    yield from sorted(((path, texts[name]) for path, name in named), key=lambda pair: pair[1])


def located(root: Path, names: Iterable[str]) -> dict[str, Path]:
    """Where the files with these names below `root` are, as the system has them; names in another form are found.

    `Glöckchen.wav` may be composed or not: it is one name to the eye, and some systems make one of the other. What is
    there exactly as it is called comes first, and what has been found for one name is not found for another. A name
    that is nowhere is given the place where it would be.
    """
    wanted = {name: root / name for name in names}
    found = {path for path in wanted.values() if os.path.lexists(path)}
    listing = _Listing()
    for name, path in wanted.items():
        if path not in found:
            places = listing.places(root, PurePath(name).parts)
            wanted[name] = next((place for place in places if place not in found), path)
            found.add(wanted[name])
    return wanted


def folder_there(folder: str) -> Path:
    """A folder by its absolute path, in whatever form its name is now."""
    path = Path(folder)
    if not path.anchor or os.path.lexists(path):
        return path
    return next(_Listing().places(Path(path.anchor), path.parts[1:]), path)


def model_file_name(model: str) -> str:
    """The name of a model's file, if nobody has chosen one: after the model."""
    return f"{shortened(as_the_system_has_it(model))}.sda"


def shortened(name: str) -> str:
    """A name that leaves room for more behind it: its beginning, if it is very long."""
    given = os.fsencode(name)
    return name if len(given) <= _LONGEST else os.fsdecode(given[:_LONGEST].decode("utf-8", "ignore").encode())


def model_files(folder: Path) -> list[Path]:
    """The `.sda` files of a folder, by name. Hidden ones are none: macOS writes a `._name.sda` beside each model on
    foreign disks."""
    return sorted(path for path in folder.glob("*.sda") if not path.name.startswith("."))


class _Listing:
    """What folders hold, each looked into once, by the form that names have in common."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[str, list[str]]] = {}

    def places(self, root: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        """Everything that `parts` below `root` could mean."""
        if not parts:
            yield root
            return
        names = self._of(root).get(_form(parts[0]), [])
        for name in sorted(names, key=lambda name: (name != parts[0], name)):
            yield from self.places(root / name, parts[1:])

    def _of(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._known:
            known = self._known[folder] = {}
            try:
                for name in os.listdir(folder):
                    known.setdefault(_form(name), []).append(name)
            except OSError:  # no folder, or none that may be looked into
                pass
        return self._known[folder]


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "surrogateescape"))
