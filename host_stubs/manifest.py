"""The dataset manifest: which recordings a model was trained on, and which of them were held out."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import soundfile

from host_stubs.audio import find_recordings, look_through, peak_normalized, recording_blocks, scaled_to_peak
from host_stubs.errors import HostError, shown

SPLIT_SEED = 42
HELD_OUT_SHARE = 0.2
GAP_SECONDS = 0.5
MOST_FILES = 16_384
MOST_TEXT = 6 * 2**20  # characters of the manifest as JSON; a prior names the recordings once more
_SHA256_DIGITS = 64
_LARGEST = 2**53  # of a size in bytes or a length in seconds
PIECE_SECONDS = 120.0
_LISTED = 5  # names in a line before the rest are counted

Span = tuple[float, float]


@dataclass(frozen=True)
class RecordingEntry:
    """One recording; `path` is relative to the dataset's folder. Spans are (start, end) in seconds, None for no part.

    A recording is either trained on or held out as a whole; only when it is all there is, it is cut in two.
    """

    path: str
    bytes: int
    sha256: str
    seconds: float
    train: Span | None
    held_out: Span | None


@dataclass(frozen=True)
class Recording:
    """A recording or a part of one, mono, with its peak at 1 (or silence), read when it is asked for.

    Attributes:
        name: its path relative to the dataset's folder.
        path: of the file.
        span: the part of it, in seconds.
        file_seconds: how long the file is.
        sample_rate: Hz, at which it is given.
    """

    name: str
    path: Path
    span: Span
    file_seconds: float
    sample_rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.span[1] - self.span[0]

    @property
    def audio(self) -> np.ndarray:
        """All of it, float32 `[samples]`. Raises HostError if it cannot be read."""
        return peak_normalized(np.concatenate(list(self._samples())))

    def blocks(self) -> Iterator[np.ndarray]:
        """The same, block after block: it is read twice, and memory does not grow with its length."""
        peak = max((float(np.abs(block).max(initial=0.0)) for block in self._samples()), default=0.0)
        for block in self._samples():
            yield scaled_to_peak(block, peak)

    def pieces(self) -> Iterator[np.ndarray]:
        """The same in pieces of about two minutes; most recordings are a single one."""
        if self.seconds <= PIECE_SECONDS:
            yield self.audio
            return
        waiting: list[np.ndarray] = []
        for block in self.blocks():
            waiting.append(block)
            if sum(map(len, waiting)) >= PIECE_SECONDS * self.sample_rate:
                yield np.concatenate(waiting)
                waiting = []
        if waiting:
            yield np.concatenate(waiting)

    def _samples(self) -> Iterator[np.ndarray]:
        """The samples of the span as they are in the file. Its end is the last one, however its length was rounded."""
        first = round(self.span[0] * self.sample_rate)
        end = None if self.span[1] >= self.file_seconds else round(self.span[1] * self.sample_rate)
        at = 0
        for block in recording_blocks(self.path, self.sample_rate):
            yield block[max(0, first - at) : None if end is None else max(0, end - at)]
            at += len(block)
            if end is not None and at >= end:
                return


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
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in found.recordings):
        try:
            _check_name(path)
            entries.append(_measured(path, name))
        except HostError as error:
            skipped.append((name, str(error)))
    if not entries:
        if skipped:
            reasons = "; ".join(reason for _, reason in skipped[:3]) + (" …" if len(skipped) > 3 else "")
            raise HostError(f"None of the {len(skipped)} recordings in {folder} can be used: {reasons}")
        raise HostError(f"There are no recordings (WAV, FLAC, OGG, MP3, AIFF) in {folder}.")
    files, notes = _split(entries, seed)
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


def _measured(path: Path, name: str) -> RecordingEntry:
    """An entry without a part yet. Reads the whole file: a header may promise what the data does not hold."""
    try:
        rate = soundfile.info(path).samplerate
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError):
        rate = 48000  # read_recording will say what is wrong with it
    samples = sum(map(len, recording_blocks(path, rate)))
    return RecordingEntry(name, path.stat().st_size, _sha256(path), samples / rate, None, None)


def _split(entries: list[RecordingEntry], seed: int) -> tuple[list[RecordingEntry], list[str]]:
    """Give each entry its part. Files with the same contents are one recording under several names: were one trained
    on and the other held out, the held-out measurements would be lies."""
    by_content: dict[str, list[RecordingEntry]] = {}
    for entry in entries:
        by_content.setdefault(entry.sha256, []).append(entry)
    if len(by_content) == 1:
        return _split_within(entries)
    held_out = _held_out_contents({sha: copies[0].seconds for sha, copies in by_content.items()}, seed)
    files = [
        replace(entry, held_out=(0.0, entry.seconds))
        if entry.sha256 in held_out
        else replace(entry, train=(0.0, entry.seconds))
        for entry in entries
    ]
    return files, []


def _held_out_contents(seconds: Mapping[str, float], seed: int) -> set[str]:
    """Choose what is held out: a fifth of the recordings, more (up to a third) while they are less than a tenth of
    the sound, and never more than half of the sound. Always at least one, and never all."""
    shuffled = list(seconds)
    random.Random(seed).shuffle(shuffled)
    total = sum(seconds.values())
    count = max(1, round(HELD_OUT_SHARE * len(seconds)))
    chosen: set[str] = set()
    held = 0.0
    for content in shuffled:
        if len(chosen) >= count and (held >= 0.1 * total or len(chosen) >= len(seconds) // 3):
            break
        if held + seconds[content] <= total / 2:  # the shortest always fits, so one is always chosen
            chosen.add(content)
            held += seconds[content]
    return chosen


def _split_within(entries: list[RecordingEntry]) -> tuple[list[RecordingEntry], list[str]]:
    """All there is, is one recording: its head trains, its tail is held out, and the gap between them keeps a sound
    that rings on from being in both. The gap shrinks with a short recording."""
    seconds = entries[0].seconds
    held = HELD_OUT_SHARE * seconds
    gap = min(GAP_SECONDS, seconds / 10)
    notes = [f"There is only one recording ({seconds:.1f} s): its last {held:.1f} s are held out."]
    if seconds < 5:
        notes.append("That is very little sound to learn from; a few more recordings would make a better model.")
    train, held_out = (0.0, seconds - held - gap), (seconds - held, seconds)
    return [replace(entry, train=train, held_out=held_out) for entry in entries], notes


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
