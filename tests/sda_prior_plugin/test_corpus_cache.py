"""Codes kept from one training to the next: found when nothing has changed, and never instead of what is there now."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import host_stubs
from host_stubs.host import Host
from host_stubs.plugins import Plugins
from sda_prior_plugin import CodeCorpus, encode_recordings, train_prior
from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.edge import PriorJob, corpus_cache, prepare_job
from sda_prior_plugin.edge.corpus_cache import CorpusCache, DamagedCorpus, corpus_key
from sda_prior_plugin.kinds import KINDS

from .conftest import LevelCodec, Recording, small_settings, untrained_codec

KEY = "a" * 64
CODEBOOKS = LevelCodec().codebooks


def corpus_of(seconds: int, seed: int = 0, *, copies: bool = False) -> CodeCorpus:
    """The corpus of some noise, in three variants and perhaps in copies, and some more held out."""
    rng = np.random.default_rng(seed)
    sound = [Recording(name, rng.random(80 * seconds, dtype=np.float32)) for name in ("a ö.wav", "b.wav", "c.wav")]
    return encode_recordings(LevelCodec(), sound[:2], sound[2:], start_offsets=3, copies=copies)


def same(first: CodeCorpus, second: CodeCorpus) -> bool:
    def sequences_same(one: CodeSequences, other: CodeSequences) -> bool:
        arrays = ("codes", "starts", "recordings", "copies")
        return one.names == other.names and all(
            np.array_equal(getattr(one, name), getattr(other, name)) and getattr(one, name).dtype.kind in "iub"
            for name in arrays
        )

    return (
        first.shape == second.shape
        and first.frame_seconds == second.frame_seconds
        and np.array_equal(first.codebooks, second.codebooks)
        and first.train.codes.dtype == second.train.codes.dtype
        and sequences_same(first.train, second.train)
        and sequences_same(first.held_out, second.held_out)
    )


@pytest.fixture
def cache(tmp_path: Path) -> CorpusCache:
    return CorpusCache(tmp_path / "cache" / "codes")


@pytest.mark.parametrize("copies", [False, True])
def test_a_corpus_comes_back_as_it_was(cache: CorpusCache, copies: bool) -> None:
    corpus = corpus_of(20, copies=copies)
    assert cache.read(KEY, CODEBOOKS) is None
    assert same(cache.keep(KEY, corpus), corpus)
    again = cache.read(KEY, CODEBOOKS)
    assert again is not None
    assert same(again, corpus)
    assert again.kinds == corpus.kinds
    assert bool(again.kinds) == copies


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a code": lambda entry: flip(entry / "train-codes.npy", -1),
    "a header": lambda entry: flip(entry / "train-codes.npy", 20),
    "a start": lambda entry: flip(entry / "train-starts.npy", -8),
    "a held-out code": lambda entry: flip(entry / "held_out-codes.npy", -5),
    "cut off": lambda entry: cut(entry / "train-codes.npy"),
    "empty": lambda entry: os.truncate(entry / "train-codes.npy", 0),
    "gone": lambda entry: (entry / "held_out-recordings.npy").unlink(),
    "no JSON": lambda entry: (entry / "corpus.json").write_bytes(b"\xff garbage"),
    "other JSON": lambda entry: (entry / "corpus.json").write_text("[1]"),
    "a name": lambda entry: (entry / "corpus.json").write_text(
        (entry / "corpus.json").read_text().replace("b.w", "d.w")
    ),
    "no document": lambda entry: (entry / "corpus.json").unlink(),
    "another's": lambda entry: entry.rename(entry.with_name("b" * 64)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_seen_and_the_corpus_can_be_written_again(
    cache: CorpusCache, damage: Callable[[Path], object]
) -> None:
    corpus = corpus_of(20)
    cache.keep(KEY, corpus)
    damage(cache.folder / KEY)
    key = next(cache.folder.iterdir()).name
    with pytest.raises(DamagedCorpus):
        cache.read(key, CODEBOOKS)
    assert cache.read(key, CODEBOOKS) is None
    assert same(cache.keep(key, corpus), corpus)


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are large from 2 kB on, and four blocks of 200 bytes of each are checked."""
    for name, value in (("LARGE_BYTES", 2000), ("CHECKED_BLOCKS", 4), ("BLOCK_BYTES", 200)):
        monkeypatch.setattr(corpus_cache, name, value)


@pytest.mark.usefixtures("small_is_large")
def test_large_codes_are_mapped_from_their_file(cache: CorpusCache) -> None:
    corpus = corpus_of(150)
    kept = cache.keep(KEY, corpus)
    assert same(kept, corpus)
    assert isinstance(kept.train.codes, np.memmap)
    assert not isinstance(kept.train.starts, np.memmap)


@pytest.mark.usefixtures("small_is_large")
def test_mapped_codes_train_the_prior_that_they_train_in_memory(cache: CorpusCache, corpus: CodeCorpus) -> None:
    mapped = cache.keep(KEY, corpus)
    assert isinstance(mapped.train.codes, np.memmap)
    settings = small_settings(corpus, epochs=1)
    first, second = (train_prior(codes, settings).prior.weights for codes in (corpus, mapped))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("damage", [lambda path: flip(path, 0), lambda path: flip(path, -1), lambda path: cut(path)])
def test_damage_to_what_is_checked_of_large_codes_is_seen(cache: CorpusCache, damage: Callable[[Path], object]) -> None:
    cache.keep(KEY, corpus_of(150))
    damage(cache.folder / KEY / "train-codes.npy")
    with pytest.raises(DamagedCorpus, match="train-codes"):
        cache.read(KEY, CODEBOOKS)


def test_of_two_that_write_the_same_corpus_one_does_and_both_use_it(cache: CorpusCache) -> None:
    corpora = [corpus_of(20) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        kept = list(threads.map(lambda corpus: cache.keep(KEY, corpus), corpora))
    assert all(same(corpus, corpora[0]) for corpus in kept)
    assert [entry.name for entry in cache.folder.iterdir()] == [KEY]


def used(cache: CorpusCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file())


def test_what_was_not_used_for_the_longest_time_makes_room(cache: CorpusCache) -> None:
    for number, key in enumerate(("a", "b", "c")):
        cache.keep(key, corpus_of(400, seed=number))
        os.utime(cache.folder / key / "corpus.json", (number, number))
    cache.most_bytes = used(cache) + 5_000
    assert cache.read("a", CODEBOOKS) is not None, "used again, so it is not the oldest any more"
    cache.keep("d", corpus_of(400, seed=3))
    assert sorted(entry.name for entry in cache.folder.iterdir()) == ["a", "c", "d"]
    assert used(cache) <= cache.most_bytes


def test_a_corpus_larger_than_all_may_be_together_is_not_kept_and_drives_nothing_out(cache: CorpusCache) -> None:
    cache.keep("a", corpus_of(20))
    cache.most_bytes = used(cache) + 10
    with pytest.raises(OSError, match="kept at most"):
        cache.keep("b", corpus_of(400))
    assert [entry.name for entry in cache.folder.iterdir()] == ["a"]


def test_what_has_lost_its_document_makes_room_first(cache: CorpusCache) -> None:
    for number, key in enumerate(("a", "b")):
        cache.keep(key, corpus_of(400, seed=number))
    (cache.folder / "b" / "corpus.json").unlink()
    cache.most_bytes = used(cache) + 5_000
    cache.keep("c", corpus_of(400, seed=3))
    assert sorted(entry.name for entry in cache.folder.iterdir()) == ["a", "c"]


def test_what_an_interrupted_process_left_behind_is_cleared_away_a_day_later(cache: CorpusCache) -> None:
    cache.keep("a", corpus_of(20))
    for name, age in ((".making-old", 2 * 24 * 3600), (".making-now", 60)):
        shutil.copytree(cache.folder / "a", cache.folder / name)
        then = os.stat(cache.folder).st_mtime - age
        os.utime(cache.folder / name, (then, then))
        (cache.folder / "a" / name).write_bytes(b"traces")
        os.utime(cache.folder / "a" / name, (then, then))
    cache.keep("b", corpus_of(20))
    assert sorted(entry.name for entry in cache.folder.iterdir()) == [".making-now", "a", "b"]
    assert [path.name for path in (cache.folder / "a").glob(".*")] == [".making-now"]


@dataclass(frozen=True)
class File:
    """A file of a dataset."""

    path: str = "a.wav"
    sha256: str = "1234"
    seconds: float = 2.0
    train: tuple[float, float] | None = (0.0, 2.0)
    held_out: tuple[float, float] | None = None


@dataclass
class LouderCodec(LevelCodec):
    """Another encoder with the same codebooks."""

    def encode(self, audio: np.ndarray) -> np.ndarray:
        return super().encode(audio * 1.2)


@dataclass
class OtherCodec(LevelCodec):
    """The same encoder with codebooks of its own."""

    made: np.ndarray = field(default_factory=lambda: np.ones((2, 4, 1), np.float32))

    @property
    def codebooks(self) -> np.ndarray:
        return self.made


def test_the_key_is_the_same_for_the_same_and_another_for_whatever_changes_the_codes() -> None:
    files = [File(), File("b.wav", train=None, held_out=(0.0, 2.0))]
    key = corpus_key(LevelCodec(), files, {}, 4)
    assert key == corpus_key(LevelCodec(), list(files), {}, 4)
    changed = corpus_key(LevelCodec(), files, {"a.wav": "5678"}, 4)
    assert changed == corpus_key(LevelCodec(), [File(sha256="5678"), files[1]], {}, 4)
    others = [
        corpus_key(LouderCodec(), files, {}, 4),
        corpus_key(OtherCodec(), files, {}, 4),
        corpus_key(LevelCodec(sample_rate=81), files, {}, 4),
        corpus_key(LevelCodec(), files, {}, 5),
        corpus_key(LevelCodec(), files, {}, 4, KINDS),
        corpus_key(LevelCodec(), files, {}, 4, KINDS[:-1]),
        changed,
        corpus_key(LevelCodec(), files[:1], {}, 4),
        corpus_key(LevelCodec(), files[::-1], {}, 4),
        corpus_key(LevelCodec(), [File(train=(0.0, 1.0)), files[1]], {}, 4),
        corpus_key(LevelCodec(), [File(train=None, held_out=(0.0, 2.0)), files[1]], {}, 4),
    ]
    assert len({key, *others}) == 1 + len(others)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned nothing, over four short recordings beside it."""
    folder = tmp_path_factory.mktemp("saved")
    host_stubs.write_demo_recordings(folder / "recordings", seed=3, count=4)
    manifest = host_stubs.build_manifest(folder / "recordings").manifest
    host_stubs.save_model(host_stubs.Model("small", untrained_codec(seed=0), manifest), folder / "small.sda", Plugins())
    return folder / "small.sda"


@pytest.fixture
def own(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in a folder of its own, for a user whose cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(saved.parent, tmp_path / "model")
    return tmp_path / "model" / "small.sda"


def job_of(path: Path, **how: bool) -> PriorJob:
    return prepare_job(Host(Plugins()), path, {"start_offsets": 2}, dataset=path.parent / "recordings", **how)


def encoded(job: PriorJob) -> tuple[CodeCorpus, list[str], list[str]]:
    """The corpus, the recordings that were encoded for it, and what was said."""
    names: list[str] = []
    notes: list[str] = []
    return job.corpus(on_recording=names.append, on_note=notes.append), names, notes


def test_training_again_on_the_same_recordings_starts_from_the_codes_of_the_first_time(own: Path) -> None:
    first, names, notes = encoded(job_of(own))
    assert len(names) == 4
    assert notes == []
    second, names, notes = encoded(job_of(own))
    assert same(first, second)
    assert names == []
    assert notes == ["codes of 4 recordings found from an earlier training"]


def test_a_moved_dataset_is_the_same_dataset(own: Path, tmp_path: Path) -> None:
    encoded(job_of(own))
    moved = Path(shutil.move(own.parent, tmp_path / "moved")) / own.name
    assert encoded(job_of(moved))[1] == []


def test_a_changed_recording_is_encoded_as_it_is_now(own: Path) -> None:
    first, *_ = encoded(job_of(own))
    path = next(iter(sorted((own.parent / "recordings").iterdir())))
    audio, rate = soundfile.read(path)
    soundfile.write(path, audio[: len(audio) // 2], rate)
    second, names, _ = encoded(job_of(own))
    assert len(names) == 4
    assert not same(first, second)
    assert encoded(job_of(own))[1] == [], "from now on this is what there is"


def test_another_codec_with_the_same_codebooks_has_codes_of_its_own(own: Path) -> None:
    first, *_ = encoded(job_of(own))
    model = host_stubs.open_model(own, Plugins())
    other = host_stubs.Model("small", untrained_codec(seed=1), model.manifest)
    assert np.array_equal(other.codec.codebooks, model.codec.codebooks)
    host_stubs.save_model(other, own, Plugins())
    second, names, _ = encoded(job_of(own))
    assert len(names) == 4
    assert not same(first, second)


def test_damaged_codes_are_encoded_again_and_kept_again(own: Path, tmp_path: Path) -> None:
    first, *_ = encoded(job_of(own))
    (path,) = (tmp_path / "cache").rglob("train-codes.npy")
    flip(path, -1)
    second, names, notes = encoded(job_of(own))
    assert same(first, second)
    assert len(names) == 4
    (note,) = notes
    assert "damaged (train-codes.npy is damaged); encoding again" in note
    assert encoded(job_of(own))[1] == []


def test_without_a_cache_nothing_is_looked_for_and_nothing_kept(own: Path, tmp_path: Path) -> None:
    _, names, notes = encoded(job_of(own, cache=False))
    assert len(names) == 4
    assert notes == []
    assert not (tmp_path / "cache").exists()


def test_a_cache_folder_that_cannot_be_written_is_said_in_one_line_and_no_reason_to_stop(
    own: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    corpus, names, notes = encoded(job_of(own))
    assert len(names) == 4
    assert corpus.train_codes > 0
    (note,) = notes
    assert "cannot be kept in" in note
    assert "this one goes on" in note


@pytest.mark.parametrize("what", ["the folder", "the corpus", "a document of something else", "nothing but zeros"])
def test_whatever_stands_in_the_place_of_codes_they_are_made_and_kept_anew(
    own: Path, tmp_path: Path, what: str
) -> None:
    first, *_ = encoded(job_of(own))
    (entry,) = (tmp_path / "cache" / "sda-prior-plugin" / "codes").iterdir()
    if what == "the folder":
        shutil.rmtree(entry.parent)
        entry.parent.write_text("a file")
    elif what == "the corpus":
        shutil.rmtree(entry)
        entry.write_text("a file")
    elif what == "a document of something else":
        (entry / "corpus.json").write_text("[" * 100_000)
    else:
        for path in entry.iterdir():
            path.write_bytes(bytes(path.stat().st_size))
    second, names, _ = encoded(job_of(own))
    assert len(names) == 4
    assert same(first, second)
    assert encoded(job_of(own))[1] == [], "they are kept"


def test_a_full_disk_is_no_reason_to_stop(own: Path, tmp_path: Path) -> None:
    disk = tmp_path / "cache"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with (disk / "filler").open("wb") as file:
            file.write(bytes(40_000))
        corpus, names, notes = encoded(job_of(own))
        assert (len(names), corpus.train_codes > 0) == (4, True)
        (note,) = notes
        assert "for the next training (No space left on device); this one goes on" in note
    finally:
        subprocess.run(["umount", disk], check=True)


def test_recordings_that_change_while_they_are_encoded_are_not_kept_as_what_they_were(
    own: Path, tmp_path: Path
) -> None:
    job = job_of(own)

    def change(name: str) -> None:
        path = own.parent / "recordings" / name
        audio, rate = soundfile.read(path)
        soundfile.write(path, audio / 2, rate)

    job.corpus(on_recording=change)
    assert list((tmp_path / "cache").rglob("corpus.json")) == []


def test_the_document_says_what_the_arrays_are(cache: CorpusCache) -> None:
    corpus = corpus_of(20)
    cache.keep(KEY, corpus)
    contents = json.loads((cache.folder / KEY / "corpus.json").read_text())["corpus"]
    assert contents["names"] == {"train": ["a ö.wav", "b.wav"], "held_out": ["c.wav"]}
    codes = np.load(cache.folder / KEY / "train-codes.npy")
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, corpus.train.codes)
