"""The codes of a training's recordings, kept for the next one in the user's cache folder.

Each corpus has a folder of its own, named by a key that follows from the codec and from the contents of the recordings,
so that what has changed is not found. In it are numpy arrays, as `numpy.load` reads them, and one JSON document with
their checksums.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import platformdirs

from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.dataset import CodeCorpus, CodeSequences
from sda_prior_plugin.edge.contract import ManifestEntry
from sda_prior_plugin.edge.corpus_traces import traces_bytes, with_traces
from sda_prior_plugin.encoding import Codec
from sda_prior_plugin.kinds import LONGEST_COPIED, MOST_COPIED, Kind
from sda_prior_plugin.windows import LARGE_BYTES

FORMAT = 5
"""Of the files and of how recordings are encoded; what another version has written is not found."""
MOST_BYTES = 4 * 2**30
"""Of all corpora together; the one that was not used for the longest time goes first."""
CHECKED_BLOCKS, BLOCK_BYTES = 64, 2**16
"""Of a file of more than LARGE_BYTES so many blocks, evenly spread from the first to the last byte, are checked."""
LEFT_BEHIND_SECONDS = 24 * 3600
"""After so long what an interrupted process was making or removing is cleared away."""

DOCUMENT = "corpus.json"
PARTS = ("train", "held_out")
ARRAYS = ("codes", "starts", "recordings")
KINDS_OF_TRAIN = "train-kinds.npy"
"""Which kind of copy each training sequence is, where there are copies."""


class DamagedCorpus(Exception):  # noqa: N818 - a state of a file, not an error of the program
    """What was kept is not what was written."""


def default_cache() -> CorpusCache | None:
    """The cache in the user's own cache folder; None for a user without a home."""
    try:
        folder = Path(platformdirs.user_cache_dir("sda-prior-plugin", appauthor=False))
    except RuntimeError:  # there is no home
        return None
    return CorpusCache(folder / "codes") if folder.is_absolute() else None  # older versions give "~" as it stands


def corpus_key(
    codec: Codec,
    files: Iterable[ManifestEntry],
    hashes: Mapping[str, str],
    start_offsets: int,
    kinds: Sequence[Kind] = (),
) -> str:
    """The name of the corpus that a codec makes of some recordings.

    A codec is known by its codebooks and by what it makes of a short sound, for its network is its own affair.

    Args:
        codec: the codec.
        files: of the dataset; their order, spans and parts count, and not the folder that they are in.
        hashes: SHA-256 of the contents of those files, by path, that are not as the manifest says.
        start_offsets: from how many starting points each recording is encoded.
        kinds: of copies that are encoded, too.
    """
    made_of = {
        "format": FORMAT,
        "codec": [
            codec.sample_rate,
            codec.frame_samples,
            [codec.bands, codec.levels, codec.codebook_size],
            _digest(np.ascontiguousarray(codec.codebooks, dtype=np.float32)),
            _digest(np.ascontiguousarray(codec.encode(probe(codec.sample_rate)), dtype=np.int64)),
        ],
        "files": [
            [file.path, hashes.get(file.path, file.sha256), file.seconds, file.train, file.held_out] for file in files
        ],
        "variants": start_offsets,
        "kinds": [[dataclasses.asdict(kind) for kind in kinds], LONGEST_COPIED, MOST_COPIED],
    }
    return _text_digest(made_of)


def probe(sample_rate: int) -> np.ndarray:
    """Six seconds of sound, no moment like another, float32 `[samples]`: a rising tone, and noise that fades."""
    seconds = np.arange(6 * sample_rate) / sample_rate
    rising = np.sin(2 * np.pi * 40 * seconds * 2 ** (seconds * 4 / 3)) * (1.2 - np.cos(5 * seconds)) / 2.2
    noise = np.random.default_rng(0).uniform(-1, 1, len(seconds)) * np.exp(-3 * (seconds % 1))
    return (0.5 * rising + 0.5 * noise).astype(np.float32)


class CorpusCache:
    """Corpora by key in one folder, which several processes may use at once.

    A corpus is written beside its place and moved there when it is whole. All together they stay below `most_bytes`.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder, self.most_bytes = folder, most_bytes

    def read(self, key: str, codebooks: np.ndarray) -> CodeCorpus | None:
        """The corpus of this key, or None without one. Codes of more than LARGE_BYTES are mapped, not read.

        Args:
            key: as `corpus_key` gives it.
            codebooks: the codec's, float `[levels, codebook_size, dim]`.

        Raises:
            DamagedCorpus: it is not what was written. It is removed.
        """
        entry = self.folder / key
        if not os.path.isdir(entry):  # unlike Path's, it takes a folder that may not be looked into for no folder
            return None
        try:
            corpus = _read(entry, key, codebooks)
        except Exception as error:  # whatever comes of reading something else
            if not os.path.isdir(entry):  # another process has just removed it to make room
                return None
            self._remove(entry)
            raise DamagedCorpus(str(error)) from error
        with suppress(OSError):  # without it, it looks as if it had not been used for longer than is true
            os.utime(entry / DOCUMENT)
        return corpus

    def keep(self, key: str, corpus: CodeCorpus) -> CodeCorpus:
        """Write a corpus, making room for it. Where another process has written the same one first, that one stays.

        Returns:
            the corpus as it is read from there: large codes need not stay in memory.

        Raises:
            OSError: it cannot be written, or is larger than all may be together.
            DamagedCorpus: it could not be read again.
        """
        if self.folder.exists() and not self.folder.is_dir():
            self.folder.unlink()
        self.folder.mkdir(parents=True, exist_ok=True)
        needed = sum(array.nbytes for array in _arrays(corpus).values()) + traces_bytes(corpus.train.codes)
        if needed > self.most_bytes:
            raise OSError(f"{needed / 2**30:.1f} GB are more than the {self.most_bytes / 2**30:.1f} GB kept at most")
        self._make_room(needed)
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=self.folder))
        try:
            _write(making, key, corpus)
            if os.path.lexists(self.folder / key) and not os.path.isdir(self.folder / key):
                self._remove(self.folder / key)
            try:
                making.rename(self.folder / key)
            except OSError:
                if not os.path.isdir(self.folder / key):
                    raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
        self._make_room(0)
        return self.read(key, corpus.codebooks) or corpus

    def _make_room(self, needed: int) -> None:
        """Remove what was left behind, and the corpora longest not used, until so many bytes more are allowed."""
        entries = []
        for entry in self.folder.iterdir():
            with suppress(OSError):  # another process has removed it meanwhile
                if entry.name.startswith("."):
                    if _left_behind(entry):
                        shutil.rmtree(entry, ignore_errors=True)
                else:
                    for path in filter(_left_behind, entry.glob(".*")):
                        path.unlink()
                    entries.append((_last_used(entry), sum(path.stat().st_size for path in entry.iterdir()), entry))
        total = sum(size for _, size, _ in entries)
        for _, size, entry in sorted(entries):
            if total + needed <= self.most_bytes:
                break
            self._remove(entry)
            total -= size

    def _remove(self, entry: Path) -> None:
        """Move a corpus out of the way in one step, then remove it, as far as that is possible."""
        with suppress(OSError):
            going = Path(tempfile.mkdtemp(prefix=".removing-", dir=self.folder))
            try:
                entry.rename(going / entry.name)
            finally:
                shutil.rmtree(going, ignore_errors=True)
        shutil.rmtree(entry, ignore_errors=True)  # on a full disk there is no room to move it to


def _left_behind(unfinished: Path) -> bool:
    """Whether a process that was making or removing something has been interrupted, and not just now."""
    return time.time() - unfinished.stat().st_mtime > LEFT_BEHIND_SECONDS


def checksum(path: Path) -> str:
    """SHA-256 of a file's contents; of a large one, of blocks evenly spread over it."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= LARGE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for begin in np.linspace(0, size - BLOCK_BYTES, CHECKED_BLOCKS).astype(int).tolist():
            file.seek(begin)
            digest.update(file.read(BLOCK_BYTES))
        return digest.hexdigest()


def _write(folder: Path, key: str, corpus: CodeCorpus) -> None:
    files = {}
    for name, array in _arrays(corpus).items():
        with (folder / name).open("wb") as file:
            # not the file itself: numpy would say how much it has written, and not what was wrong with the disk
            np.lib.format.write_array(SimpleNamespace(write=file.write), array, allow_pickle=False)
        files[name] = checksum(folder / name)
    contents = {
        "key": key,
        "frame_seconds": corpus.frame_seconds,
        "names": {part: getattr(corpus, part).names for part in PARTS},
        "kinds": corpus.kinds,
        "files": files,
    }
    text = json.dumps({"sha256": _text_digest(contents), "corpus": contents})
    (folder / DOCUMENT).write_text(text, "utf-8")


def _read(folder: Path, key: str, codebooks: np.ndarray) -> CodeCorpus:
    """The corpus in a folder; ValueError, or whatever comes of reading something else, where it is damaged."""
    document = json.loads((folder / DOCUMENT).read_text("utf-8"))
    contents = document["corpus"]
    if document["sha256"] != _text_digest(contents) or contents["key"] != key:
        raise ValueError(f"{DOCUMENT} is damaged")
    parts = {}
    for part in PARTS:
        codes, starts, recordings = (_read_array(folder, _file_name(part, name), contents["files"]) for name in ARRAYS)
        parts[part] = CodeSequences(codes, starts, recordings, tuple(contents["names"][part]))
    kinds = tuple(contents["kinds"])
    if kinds:
        which = _read_array(folder, KINDS_OF_TRAIN, contents["files"])
        parts["train"] = dataclasses.replace(parts["train"], kinds=which)
    parts["train"] = with_traces(folder, "train", parts["train"])
    vectors = np.ascontiguousarray(codebooks, dtype=np.float32)
    shape = CodeShape(parts["train"].codes.shape[1], *vectors.shape[:2])
    return CodeCorpus(shape, vectors, **parts, frame_seconds=contents["frame_seconds"], kinds=kinds)


def _read_array(folder: Path, name: str, checksums: Mapping[str, str]) -> np.ndarray:
    path = folder / name
    if checksum(path) != checksums[name]:
        raise ValueError(f"{name} is damaged")
    return np.load(path, mmap_mode="r" if path.stat().st_size > LARGE_BYTES else None)


def _arrays(corpus: CodeCorpus) -> dict[str, np.ndarray]:
    """A corpus's arrays by the names of their files."""
    arrays = {_file_name(part, array): getattr(getattr(corpus, part), array) for part in PARTS for array in ARRAYS}
    return arrays if corpus.train.kinds is None else {**arrays, KINDS_OF_TRAIN: corpus.train.kinds}


def _file_name(part: str, array: str) -> str:
    return f"{part}-{array}.npy"


def _last_used(entry: Path) -> float:
    """When a corpus was used, in seconds since 1970; one without a document is of no use, as if from long ago."""
    try:
        return (entry / DOCUMENT).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _digest(array: np.ndarray) -> list[Any]:
    return [array.shape, hashlib.sha256(array.tobytes()).hexdigest()]


def _text_digest(document: Any) -> str:
    """SHA-256 of a JSON document, however it is laid out."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
