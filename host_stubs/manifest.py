"""The dataset manifest: which recordings a model was trained on, and which of them were held out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from host_stubs.account import Account, Said
from host_stubs.dataset_check import DatasetCheck, compare, sha256_of
from host_stubs.errors import HostError, shown
from host_stubs.fingerprints import MOST_SECONDS, Fingerprints
from host_stubs.folder import look_through
from host_stubs.header import AND_BYTES, BYTES_A_VALUE, values_in
from host_stubs.kinds import COMMON_KINDS
from host_stubs.names import (
    as_text,
    as_the_system_has_it,
    folder_there,
    hexadecimal,
    located,
    stays_inside,
    told_apart,
)
from host_stubs.reading import Measured, plan_reading
from host_stubs.recording import Recording, RecordingEntry, Span
from host_stubs.shared_sound import groups_of, sentences_on, shared_sound
from host_stubs.split import SPLIT_SEED, split

MOST_FILES = 16_384
MOST_TEXT = 6 * 2**20  # characters of the manifest as JSON; a prior names the recordings once more
MOST_SKIPPED = 1000  # files that are not used, and
MOST_SKIPPED_TEXT = 2**18  # characters that they take as JSON; the rest of them are only counted
LONGEST_SENTENCE = 500  # characters of what is said of a file
LONGEST_PATH = 4096  # characters of a path, as Linux takes them
_ROOM_TO_COUNT = 100  # characters that are left for how many more there are
_SHA256_DIGITS = 64
_LARGEST = 2**53  # of a size in bytes or a length in seconds
_MEMBERS = frozenset({"folder", "folder_hex", "files", "skipped", "more_skipped"})
_MEMBERS_OF_A_FILE = frozenset({"path", "path_hex", "bytes", "sha256", "seconds", "train", "held_out", "note"})
_HEXADECIMAL = re.compile("(?:[0-9a-f]{2})*")


@dataclass(frozen=True)
class Scan:
    """What a look through a folder gave. `notes` are sentences for the user about the split."""

    manifest: DatasetManifest
    notes: list[str]


@dataclass(frozen=True)
class DatasetManifest:
    """A folder and its recordings, in the order of their paths.

    Attributes:
        folder: its absolute path, as the system has it.
        files: the recordings.
        skipped: files that were of no use when the folder was looked through, each with the reason.
        more_skipped: how many more there were.
        unknown: what a file says of the dataset that this host does not know, as plain JSON, to be kept.
    """

    folder: str
    files: tuple[RecordingEntry, ...]
    skipped: tuple[Said, ...] = ()
    more_skipped: int = 0
    unknown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def account(self) -> Account:
        """What became of all files of the folder when it was looked through."""
        in_part = tuple((entry.path, entry.note) for entry in self.files if entry.note)
        return Account(len(self.files) - len(in_part), in_part, self.skipped, self.more_skipped)

    def paths(self, folder: Path | None = None) -> dict[str, Path]:
        """Where each recording is, by its path in the manifest: in `folder`, or the manifest's own if None.

        A name may have another form there than it had, see `located`. A recording that is missing has the path that
        it would have.
        """
        root = folder_there(self.folder) if folder is None else folder
        names = {entry.path: as_the_system_has_it(entry.path, entry.path_hex) for entry in self.files}
        where = located(root, names.values())
        return {path: where[name] for path, name in names.items()}

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
        where = self.paths()
        for entry, span in self.part(part):
            path = where[entry.path]
            if not path.is_file():
                raise HostError(f"{path} is missing. If the recordings have moved, say where they are: --dataset DIR")
            yield Recording(entry.path, path, span, entry.seconds, sample_rate)

    def moved_to(self, folder: Path) -> DatasetManifest:
        """The same recordings and the same split, in another folder."""
        return replace(self, folder=str(folder.resolve()))

    def check(self, folder: Path | None = None, *, contents: bool = True, seconds: float | None = None) -> DatasetCheck:
        """Compare what is in `folder` (the manifest's own if None) with what was, by size and SHA-256.

        Without `contents` no file is opened, and only what has another size is known to have changed. After so many
        `seconds`, if they are given, it is left at what has been seen.
        Raises HostError at the first one that is there but cannot be read, and where nothing answers in time.
        """
        return compare(self, folder, contents=contents, seconds=seconds)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as docs/sda-format.md describes it."""
        document = {**self.unknown, "folder": as_text(self.folder), "files": [_plain(entry) for entry in self.files]}
        if digits := hexadecimal(self.folder):
            document["folder_hex"] = digits
        if self.skipped or self.more_skipped:
            document["skipped"] = [list(said) for said in self.skipped]
            document["more_skipped"] = self.more_skipped
        return document

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> DatasetManifest:
        """Read what `to_json` wrote. Raises HostError when it is something else.

        A file may come from a stranger: a path that leads out of the dataset's folder is refused.
        """
        entries, folder = document.get("files"), document.get("folder")
        if not isinstance(folder, str):
            raise HostError("The dataset manifest is damaged (its folder is not text).")
        if not isinstance(entries, list):
            raise HostError("The dataset manifest is damaged (its files are not a list).")
        try:
            if len(entries) > MOST_FILES:
                raise ValueError(f"it names more than {MOST_FILES:,} files")
            files = tuple(_entry(each) for each in entries)
            folder = as_the_system_has_it(folder, _digits(document.get("folder_hex", "")))
            if "\0" in folder or len(folder) > LONGEST_PATH:
                raise ValueError("its folder cannot be one")
            skipped, more = _skipped(document.get("skipped", [])), document.get("more_skipped", 0)
            if type(more) is not int or not 0 <= more < _LARGEST:
                raise ValueError("the files that it counts as skipped are no number")
        except KeyError as error:
            raise HostError(f"The dataset manifest is damaged (a file in it has no {error.args[0]}).") from error
        except (TypeError, ValueError) as error:
            raise HostError(f"The dataset manifest is damaged ({error}).") from error
        if len({entry.path for entry in files}) < len(files):
            raise HostError("The dataset manifest is damaged (it names a file twice).")
        return DatasetManifest(folder, files, skipped, more, _all_but(document, _MEMBERS))


def build_manifest(folder: Path, *, seed: int = SPLIT_SEED) -> Scan:
    """Look through a folder, read every recording once, and decide which are held out.

    Files that are of no use are named in the manifest's account, and so is what of a recording is not used. The split
    depends on the recordings' relative paths, lengths and contents and on `seed`, not on the machine.
    Raises HostError when the folder holds no recording, none that can be used, or more than a file can name.
    """
    found = look_through(folder)
    sounding: dict[str, Span] = {}
    entries, skipped = [], [_said(path, folder, reason) for path, reason in found.left_out]
    with Fingerprints() as fingerprints:
        for path, name in told_apart(found.recordings, folder):
            try:
                plan = plan_reading(path)
                measured = plan.measured()
                entries.append(_entry_of(path, name, folder, measured))
            except HostError as error:
                skipped.append(_said(path, folder, str(error)))
            else:
                sounding[name] = measured.sounding
                fingerprints.listen(name, plan.blocks(plan.rate), plan.rate)
        shared = shared_sound(fingerprints)
    if not entries:
        several = f"None of the {len(found.recordings)} recordings in {folder} can be used"
        what = several if found.recordings else f"There are no recordings ({COMMON_KINDS}) in {folder}"
        why = " ".join(reason for _, reason in skipped[:3]) + (" …" if len(skipped) > 3 else "")
        raise HostError(f"{what}: {why}" if skipped else f"{what}.")
    files, notes = split(entries, seed, sounding, groups_of(shared))
    notes += sentences_on(shared, {entry.path for entry in files if entry.held_out})
    if fingerprints.passed_on:
        hours = MOST_SECONDS // 3600
        notes.append(f"Whether recordings share sound was looked for in the first {hours} hours of them alone.")
    manifest = DatasetManifest(str(folder.resolve()), tuple(files))
    text = json.dumps(manifest.to_json())
    if len(files) > MOST_FILES or not _can_be_opened_again(text, files):
        raise HostError(
            f"{folder} holds {len(files):,} recordings, or such long names, that a model could not be opened again; "
            f"take a folder with at most {MOST_FILES:,}."
        )
    told = _as_many_as_fit(sorted(skipped), min(MOST_SKIPPED_TEXT, MOST_TEXT - _ROOM_TO_COUNT - len(text)))
    return Scan(replace(manifest, skipped=told, more_skipped=len(skipped) - len(told)), notes)


def _can_be_opened_again(text: str, files: Iterable[RecordingEntry]) -> bool:
    """Whether a file with this manifest stays within the limits of what opening it may take.

    A prior names every recording once more; and a comma in a name counts like a value of its own.
    """
    values = values_in(text) + values_in(json.dumps([entry.path for entry in files]))
    return len(text) <= MOST_TEXT and BYTES_A_VALUE * values <= AND_BYTES


def _said(path: Path, folder: Path, sentence: str) -> Said:
    """What is said of a file, with its path relative to the folder, as text of bounded length."""
    name = path.relative_to(folder).as_posix()
    sentence = as_text(sentence.replace(str(path), name))
    return as_text(name), sentence if len(sentence) <= LONGEST_SENTENCE else f"{sentence[: LONGEST_SENTENCE - 1]}…"


def _as_many_as_fit(skipped: list[Said], characters: int) -> tuple[Said, ...]:
    """The first of what was skipped, as many as a manifest may hold in so many characters of JSON."""
    fit = 0
    for said in skipped[:MOST_SKIPPED]:
        characters -= len(json.dumps(said)) + len(", ")
        if characters < 0:
            break
        fit += 1
    return tuple(skipped[:fit])


def _entry_of(path: Path, name: str, folder: Path, measured: Measured) -> RecordingEntry:
    """An entry without a part yet."""
    size = path.stat().st_size
    digest = sha256_of(path, size)
    if digest is None:
        raise HostError(f"{path} changes while it is read.")
    return RecordingEntry(
        path=name,
        bytes=size,
        sha256=digest,
        seconds=measured.seconds,
        train=None,
        held_out=None,
        note=_said(path, folder, measured.note)[1],
        path_hex=hexadecimal(path.relative_to(folder).as_posix()),
    )


def _plain(entry: RecordingEntry) -> dict[str, Any]:
    """An entry as JSON."""
    document = {
        **entry.unknown,
        "path": entry.path,
        "bytes": entry.bytes,
        "sha256": entry.sha256,
        "seconds": entry.seconds,
        "train": list(entry.train) if entry.train else None,
        "held_out": list(entry.held_out) if entry.held_out else None,
    }
    if entry.note:
        document["note"] = entry.note
    if entry.path_hex:
        document["path_hex"] = entry.path_hex
    return document


def _entry(document: Mapping[str, Any]) -> RecordingEntry:
    if not isinstance(document, dict) or not isinstance(document["path"], str):
        raise TypeError("one of its files has no path")
    if len(document["path"]) > LONGEST_PATH:
        raise ValueError(f"{shown(document['path'])} cannot be a path")
    path, path_hex = str(PurePosixPath(document["path"])), _digits(document.get("path_hex", ""))
    if not all(stays_inside(name) for name in (path, as_the_system_has_it(path, path_hex))):
        raise ValueError(f"{shown(path)} leads out of the dataset's folder")
    sha256, size = document["sha256"], document["bytes"]
    if not isinstance(sha256, str) or len(sha256) != _SHA256_DIGITS:
        raise TypeError(f"the SHA-256 of {shown(path)} is none")
    if type(size) is not int or not 0 <= size < _LARGEST:
        raise ValueError(f"the size of {shown(path)} is none")
    return RecordingEntry(
        path=path,
        bytes=size,
        sha256=sha256,
        seconds=_seconds(document["seconds"]),
        train=_span(document["train"]),
        held_out=_span(document["held_out"]),
        note=_sentence(document.get("note", "")),
        path_hex=path_hex,
        unknown=_all_but(document, _MEMBERS_OF_A_FILE),
    )


def _all_but(document: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in known}


def _digits(value: Any) -> str:
    """The bytes of a name in hexadecimal digits."""
    if not isinstance(value, str) or not _HEXADECIMAL.fullmatch(value):
        raise ValueError(f"{shown(value)} are not the bytes of a name")
    return value


def _skipped(value: Any) -> tuple[Said, ...]:
    if not isinstance(value, list) or len(value) > MOST_SKIPPED:
        raise ValueError("the files that it names as skipped are no list, or too many")
    for said in value:
        if not isinstance(said, list) or len(said) != 2 or not isinstance(said[0], str) or len(said[0]) > LONGEST_PATH:
            raise ValueError(f"{shown(said)} is no file that was skipped")
    return tuple((path, _sentence(sentence)) for path, sentence in value)


def _sentence(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_SENTENCE:
        raise ValueError(f"{shown(value)} is not what can be said of a file")
    return value


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
