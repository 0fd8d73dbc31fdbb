"""The dataset manifest: which recordings a model was trained on, and which of them were held out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile

from host_stubs.errors import HostError, shown
from host_stubs.fingerprints import MOST_SECONDS, Fingerprints
from host_stubs.folder import find_recordings, look_through
from host_stubs.reading import recording_blocks
from host_stubs.recording import Recording, RecordingEntry, Span
from host_stubs.shared_sound import groups_of, shared_sound, told
from host_stubs.split import SPLIT_SEED, split

MOST_FILES = 16_384
MOST_TEXT = 6 * 2**20  # characters of the manifest as JSON; a prior names the recordings once more
_SHA256_DIGITS = 64
_LARGEST = 2**53  # of a size in bytes or a length in seconds
_LISTED = 5  # names in a line before the rest are counted


@dataclass(frozen=True)
class DatasetCheck:
    """What has become of a manifest's files since, by relative path.

    Attributes:
        missing: not there under that name.
        changed: there, with other contents: changed, or replaced by another recording.
        added: recordings in the folder that are not in the manifest: new since, or not to be used then.
        renamed: of the missing, those whose very contents lie under another, added, name, which is the value.
    """

    missing: list[str]
    changed: list[str]
    added: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """What has changed, in a line; nothing if nothing has."""
        parts = [
            f"{len(names)} {word} ({listed(names)})"
            for word, names in (("missing", self.missing), ("changed", self.changed), ("new", self.added))
            if names
        ]
        if self.renamed:
            parts.append(f"renamed: {listed([f'{old} is now {new}' for old, new in self.renamed.items()])}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Scan:
    """What a look through a folder gave. `skipped` holds (relative path, reason) of each file that is no use, `notes`
    are sentences for the user about the split."""

    manifest: DatasetManifest
    skipped: list[tuple[str, str]]
    notes: list[str]


@dataclass(frozen=True)
class DatasetManifest:
    """A folder (absolute path) and its recordings, in the order of their paths."""

    folder: str
    files: tuple[RecordingEntry, ...]

    def part(self, part: str) -> list[tuple[RecordingEntry, Span]]:
        """The recordings of "train" or "held_out", each with the span that belongs to that part."""
        if part not in ("train", "held_out"):
            raise ValueError(f"a dataset has the parts 'train' and 'held_out', not '{part}'")
        spans = [(entry, entry.train if part == "train" else entry.held_out) for entry in self.files]
        return [(entry, span) for entry, span in spans if span is not None]

    def seconds(self, part: str) -> float:
        """How much sound a part holds, in seconds."""
        return sum(end - start for _, (start, end) in self.part(part))

    def recordings(self, part: str, sample_rate: int) -> Iterator[Recording]:
        """The recordings of one part, "train" or "held_out", at `sample_rate` Hz; each is read when its sound is used.

        Raises HostError at the first file that is missing.
        """
        for entry, span in self.part(part):
            path = Path(self.folder) / entry.path
            if not path.is_file():
                raise HostError(f"{path} is missing. If the recordings have moved, say where they are: --dataset DIR")
            yield Recording(entry.path, path, span, entry.seconds, sample_rate)

    def moved_to(self, folder: Path) -> DatasetManifest:
        """The same recordings and the same split, in another folder."""
        return replace(self, folder=str(folder.resolve()))

    def check(self, folder: Path | None = None, *, contents: bool = True) -> DatasetCheck:
        """Compare what is in `folder` (the manifest's own if None) with what was, by size and SHA-256.

        Without `contents` no file is opened, and only what has another size is known to have changed.
        Raises HostError at the first one that is there but cannot be read.
        """
        root = Path(self.folder) if folder is None else folder
        missing: dict[str, RecordingEntry] = {}
        changed = []
        for entry in self.files:
            path = root / entry.path
            try:
                if path.stat().st_size != entry.bytes or (contents and _sha256(path) != entry.sha256):
                    changed.append(entry.path)
            except (FileNotFoundError, NotADirectoryError):
                missing[entry.path] = entry
            except OSError as error:
                raise HostError(f"{path} is there but cannot be read ({error.strerror}).") from error
        known = {entry.path for entry in self.files}
        there = [path.relative_to(root).as_posix() for path in find_recordings(root)] if root.is_dir() else []
        added = [name for name in there if name not in known]
        renamed = _renamed(missing.values(), added, root) if contents else {}
        return DatasetCheck(list(missing), changed, [_legible(name) for name in added], renamed)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as docs/sda-format.md describes it."""
        return {
            "folder": self.folder,
            "files": [
                {
                    "path": entry.path,
                    "bytes": entry.bytes,
                    "sha256": entry.sha256,
                    "seconds": entry.seconds,
                    "train": list(entry.train) if entry.train else None,
                    "held_out": list(entry.held_out) if entry.held_out else None,
                }
                for entry in self.files
            ],
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> DatasetManifest:
        """Read what `to_json` wrote. Raises HostError when it is something else.

        A file may come from a stranger: a path that leads out of the dataset's folder is refused.
        """
        entries, folder = document.get("files"), document.get("folder")
        if not isinstance(folder, str) or "\0" in folder:
            raise HostError("The dataset manifest is damaged (its folder is not text).")
        if not isinstance(entries, list):
            raise HostError("The dataset manifest is damaged (its files are not a list).")
        try:
            files = tuple(_entry(each) for each in entries)
        except KeyError as error:
            raise HostError(f"The dataset manifest is damaged (a file in it has no {error.args[0]}).") from error
        except (TypeError, ValueError) as error:
            raise HostError(f"The dataset manifest is damaged ({error}).") from error
        if len({entry.path for entry in files}) < len(files):
            raise HostError("The dataset manifest is damaged (it names a file twice).")
        return DatasetManifest(folder, files)


def build_manifest(folder: Path, *, seed: int = SPLIT_SEED) -> Scan:
    """Look through a folder, read every recording once, and decide which are held out.

    Unreadable, empty and non-finite files are skipped and named. The split depends on the files' relative paths,
    lengths and contents and on `seed`, not on the machine.
    Raises HostError when the folder holds no recording, none that can be used, or more than a file can name.
    """
    found = look_through(folder)
    entries, skipped = [], [(path.relative_to(folder).as_posix(), _legible(reason)) for path, reason in found.left_out]
    with Fingerprints() as fingerprints:
        for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in found.recordings):
            try:
                _check_name(path)
                entries.append(_measured(path, name, fingerprints))
            except HostError as error:
                skipped.append((name, str(error)))
        shared = shared_sound(fingerprints)
    if not entries:
        if skipped:
            reasons = "; ".join(reason for _, reason in skipped[:3]) + (" …" if len(skipped) > 3 else "")
            raise HostError(f"None of the {len(skipped)} recordings in {folder} can be used: {reasons}")
        raise HostError(f"There are no recordings (WAV, FLAC, OGG, MP3, AIFF) in {folder}.")
    files, notes = split(entries, seed, groups_of(shared))
    notes += told(shared, {entry.path for entry in files if entry.held_out})
    if fingerprints.passed_on:
        hours = MOST_SECONDS // 3600
        notes.append(f"Whether recordings share sound was looked for in the first {hours} hours of them alone.")
    manifest = DatasetManifest(str(folder.resolve()), tuple(files))
    if len(files) > MOST_FILES or len(json.dumps(manifest.to_json())) > MOST_TEXT:
        raise HostError(
            f"{folder} holds {len(files):,} recordings, or such long names, that a model could not be opened again; "
            f"take a folder with at most {MOST_FILES:,}."
        )
    return Scan(manifest, skipped, notes)


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _renamed(missing: Iterable[RecordingEntry], added: Iterable[str], root: Path) -> dict[str, str]:
    """Under which of the added names the contents of missing files lie. Only files of the right size are read."""
    by_contents = {(entry.bytes, entry.sha256): entry.path for entry in missing}
    sizes = {size for size, _ in by_contents}
    found: dict[str, str] = {}
    for name in added:
        with suppress(OSError):  # it is not theirs as far as can be known
            size = (root / name).stat().st_size
            if size in sizes and (old := by_contents.get((size, _sha256(root / name)))) is not None:
                found.setdefault(old, _legible(name))
    return found


def _check_name(path: Path) -> None:
    """Refuse a name that is no text, such as one from an old disk: neither JSON nor libsndfile could say it."""
    if (legible := _legible(str(path))) != str(path):
        raise HostError(f"{legible} has a name that is not UTF-8; rename it to use it.")


def _legible(name: str) -> str:
    """A name as text, whatever its bytes are."""
    return os.fsencode(name).decode("utf-8", "replace")


def _measured(path: Path, name: str, fingerprints: Fingerprints) -> RecordingEntry:
    """An entry without a part yet, and its fingerprint. Reads the whole file: a header may promise what the data does
    not hold."""
    try:
        rate = soundfile.info(path).samplerate
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError):
        rate = 48000  # read_recording will say what is wrong with it
    samples = sum(map(len, fingerprints.listen(name, recording_blocks(path, rate), rate)))
    return RecordingEntry(name, path.stat().st_size, _sha256(path), samples / rate, None, None)


def _entry(document: Mapping[str, Any]) -> RecordingEntry:
    if not isinstance(document, dict) or not isinstance(document["path"], str):
        raise TypeError("one of its files has no path")
    path = PurePosixPath(document["path"])
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in str(path) or ":" in path.parts[0]:
        raise ValueError(f"{shown(str(path))} leads out of the dataset's folder")
    if "\0" in str(path):
        raise ValueError(f"{shown(str(path))} cannot be the name of a file")
    sha256, size = document["sha256"], document["bytes"]
    if not isinstance(sha256, str) or len(sha256) != _SHA256_DIGITS:
        raise TypeError(f"the SHA-256 of {shown(str(path))} is none")
    if type(size) is not int or not 0 <= size < _LARGEST:
        raise ValueError(f"the size of {shown(str(path))} is none")
    return RecordingEntry(
        path=str(path),
        bytes=size,
        sha256=sha256,
        seconds=_seconds(document["seconds"]),
        train=_span(document["train"]),
        held_out=_span(document["held_out"]),
    )


def _span(value: Any) -> Span | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{shown(value)} is no part of a recording")
    start, end = _seconds(value[0]), _seconds(value[1])
    if start > end:
        raise ValueError(f"{start} to {end} s is no part of a recording")
    return start, end


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        raise ValueError(f"{shown(value)} is no length in seconds")
    return float(value)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
