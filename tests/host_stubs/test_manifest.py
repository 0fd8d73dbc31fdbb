"""Which recordings a dataset has, which are held out, and what has become of them since."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from host_stubs.errors import HostError
from host_stubs.manifest import DatasetManifest, build_manifest
from host_stubs.recording import RecordingEntry
from host_stubs.split import split


def entries(seconds: list[float]) -> list[RecordingEntry]:
    return [RecordingEntry(f"{n:04}.wav", 1, f"sha{n}", length, None, None) for n, length in enumerate(seconds)]


def test_names_every_recording(sounds: Path) -> None:
    manifest = build_manifest(sounds).manifest
    paths = [entry.path for entry in manifest.files]
    assert paths == ["0/tone0.wav", "0/tone2.wav", "0/tone4.wav", "1/tone1.wav", "1/tone3.wav", "1/tone5.wav"]
    first = manifest.files[0]
    data = (sounds / first.path).read_bytes()
    assert first.bytes == len(data)
    assert first.sha256 == hashlib.sha256(data).hexdigest()
    assert first.seconds == pytest.approx(0.4)
    assert manifest.folder == str(sounds.resolve())


def test_holds_out_whole_files(sounds: Path) -> None:
    manifest = build_manifest(sounds).manifest
    train, held_out = manifest.part("train"), manifest.part("held_out")
    assert len(held_out) == 1
    assert len(train) == 5
    assert all((entry.train is None) != (entry.held_out is None) for entry in manifest.files)
    assert all(span == (0.0, entry.seconds) for entry, span in train + held_out)


def test_the_split_depends_on_the_seed_and_not_on_the_place(sounds: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(sounds, tmp_path / "elsewhere"))
    assert build_manifest(sounds).manifest.files == build_manifest(elsewhere).manifest.files
    splits = {str(build_manifest(sounds, seed=seed).manifest.part("held_out")) for seed in range(8)}
    assert len(splits) > 1


@given(st.lists(st.floats(0.01, 1000), min_size=2, max_size=60), st.integers(0, 1000))
def test_there_is_always_enough_in_both_parts(seconds: list[float], seed: int) -> None:
    files, _ = split(entries(seconds), seed)
    held = [entry.seconds for entry in files if entry.held_out]
    assert 1 <= len(held) <= max(1, round(0.2 * len(seconds)), len(seconds) // 3)
    assert len(held) < len(seconds)
    assert sum(held) <= sum(seconds) / 2 * (1 + 1e-9)


def test_short_held_out_files_get_company() -> None:
    files, _ = split(entries([0.1] * 20 + [10.0] * 80), seed=3)
    held = [entry.seconds for entry in files if entry.held_out]
    assert sum(held) >= 0.1 * sum(entry.seconds for entry in files)


def test_copies_of_a_recording_are_on_the_same_side(sounds: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sounds, tmp_path / "twice"))
    shutil.copytree(sounds, folder / "copies")
    manifest = build_manifest(folder).manifest
    held_out = {entry.sha256 for entry, _ in manifest.part("held_out")}
    assert held_out
    assert held_out.isdisjoint(entry.sha256 for entry, _ in manifest.part("train"))


def test_one_recording_is_cut_in_two_with_a_gap(tmp_path: Path, write_sound: Any) -> None:
    soundfile.write(tmp_path / "long.wav", 0.5 * np.sin(np.arange(160_000)), 16_000)
    scan = build_manifest(tmp_path)
    (entry,) = scan.manifest.files
    assert entry.train == pytest.approx((0, 7.5))
    assert entry.held_out == pytest.approx((8, 10))
    assert "only one recording" in scan.notes[0]


def test_one_very_short_recording_still_works_and_says_so(tmp_path: Path, write_sound: Any) -> None:
    write_sound(tmp_path / "click.wav", 0.05)
    scan = build_manifest(tmp_path)
    parts = [list(scan.manifest.recordings(part, 48_000)) for part in ("train", "held_out")]
    assert [len(recording.audio) for (recording,) in parts] == [1680, 480]
    assert "very little sound" in scan.notes[1]


def test_the_parts_of_one_recording_do_not_overlap(tmp_path: Path) -> None:
    ramp = np.arange(1, 16_001, dtype=np.float32) / 16_000
    soundfile.write(tmp_path / "ramp.wav", ramp, 16_000, subtype="FLOAT")
    manifest = build_manifest(tmp_path).manifest
    train, held_out = (next(manifest.recordings(part, 16_000)).audio for part in ("train", "held_out"))
    assert len(train) == 11_200
    assert len(held_out) == 3_200
    np.testing.assert_allclose(train, ramp[:11_200] / ramp[11_199], rtol=1e-5)
    np.testing.assert_allclose(held_out, ramp[-3_200:], rtol=1e-5)


def test_recordings_come_peak_normalized_at_the_rate_asked_for(sounds: Path) -> None:
    manifest = build_manifest(sounds).manifest
    recordings = list(manifest.recordings("train", 48_000))
    for recording, (entry, _) in zip(recordings, manifest.part("train"), strict=True):
        assert recording.name == entry.path
        assert recording.audio.dtype == np.float32
        assert abs(len(recording.audio) - entry.seconds * 48_000) <= 1
        assert np.abs(recording.audio).max() == pytest.approx(1)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"), [(48_000, 1, "PCM_U8"), (192_000, 8, "DOUBLE"), (44_100, 2, "FLOAT")]
)
def test_a_recording_in_blocks_is_the_recording(tmp_path: Path, rate: int, channels: int, subtype: str) -> None:
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, (rate * 4, channels))
    soundfile.write(tmp_path / "only.wav", sound, rate, subtype=subtype)
    manifest = build_manifest(tmp_path).manifest
    for part in ("train", "held_out"):
        (recording,) = manifest.recordings(part, 48_000)
        blocks = list(recording.blocks())
        np.testing.assert_array_equal(np.concatenate(blocks), recording.audio)
        np.testing.assert_array_equal(np.concatenate(list(recording.pieces())), recording.audio)
        assert np.abs(recording.audio).max() == pytest.approx(1)
        assert abs(len(recording.audio) - recording.seconds * 48_000) <= 1


def test_a_long_recording_comes_in_pieces(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).uniform(-1, 1, 8_000 * 1600), 8_000)
    (recording,) = build_manifest(tmp_path).manifest.recordings("train", 8_000)
    pieces = list(recording.pieces())
    assert len(pieces) == 10
    assert all(abs(len(piece) / 8_000 - 120) < 40 for piece in pieces[:-1])
    np.testing.assert_array_equal(np.concatenate(pieces), recording.audio)


def test_useless_files_are_skipped_and_named(own_sounds: Path) -> None:
    (own_sounds / "empty.wav").touch()
    (own_sounds / "text.wav").write_text("not a sound")
    whole = (own_sounds / "0" / "tone0.wav").read_bytes()
    (own_sounds / "cut.wav").write_bytes(whole[: len(whole) // 8])
    soundfile.write(own_sounds / "nan.wav", np.full(100, np.nan, np.float32), 16_000, subtype="FLOAT")
    soundfile.write(own_sounds / "nothing.wav", np.zeros(0), 16_000)
    scan = build_manifest(own_sounds)
    skipped = scan.manifest.account.skipped
    assert [name for name, _ in skipped] == ["cut.wav", "empty.wav", "nan.wav", "nothing.wav", "text.wav"]
    for name, reason in skipped:
        assert reason.startswith(name)
        assert "\n" not in reason
    assert len(scan.manifest.files) == 6


def test_a_folder_without_a_usable_recording_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no recordings"):
        build_manifest(tmp_path)
    with pytest.raises(HostError, match="There is no folder"):
        build_manifest(tmp_path / "missing")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(HostError, match=r"None of the 1 recordings.*empty\.wav"):
        build_manifest(tmp_path)


def test_a_check_tells_missing_from_changed(own_sounds: Path, tmp_path: Path, write_sound: Any) -> None:
    manifest = build_manifest(own_sounds).manifest
    assert manifest.check() == manifest.moved_to(own_sounds).check()
    assert (manifest.check().missing, manifest.check().changed) == ([], [])
    (own_sounds / "0" / "tone2.wav").unlink()
    write_sound(own_sounds / "1" / "tone1.wav", 0.5, pitch=77.0)  # as long as before
    check = manifest.check()
    assert check.missing == ["0/tone2.wav"]
    assert check.changed == ["1/tone1.wav"]
    assert len(manifest.check(tmp_path / "nowhere").missing) == 6


def test_a_check_lists_what_is_new_and_what_was_renamed(own_sounds: Path, write_sound: Any) -> None:
    manifest = build_manifest(own_sounds).manifest
    write_sound(own_sounds / "2" / "new.wav", 0.5, pitch=55.0)
    (own_sounds / "0" / "tone0.wav").rename(own_sounds / "音.wav")
    check = manifest.check()
    assert check.added == ["2/new.wav", "音.wav"]
    assert check.missing == ["0/tone0.wav"]
    assert check.renamed == {"0/tone0.wav": "音.wav"}
    assert check.summary() == ("1 missing (0/tone0.wav), 2 new (2/new.wav, 音.wav), renamed: 0/tone0.wav is now 音.wav")
    quick = manifest.check(contents=False)
    assert (quick.missing, quick.added, quick.renamed) == (check.missing, check.added, {})


def test_what_looks_like_sound_and_is_not_used_is_named(own_sounds: Path) -> None:
    (own_sounds / "song.m4a").write_bytes(b"of another kind")
    (own_sounds / "loop").symlink_to(own_sounds)
    (own_sounds / "gone.wav").symlink_to(own_sounds / "nowhere.wav")
    manifest = build_manifest(own_sounds).manifest
    assert len(manifest.files) == 6
    skipped = dict(manifest.account.skipped)
    assert skipped.keys() == {"song.m4a", "loop", "gone.wav"}
    assert "song.m4a cannot be read as sound" in skipped["song.m4a"]


def test_a_missing_recording_is_named_with_the_way_out(own_sounds: Path) -> None:
    manifest = build_manifest(own_sounds).manifest
    shutil.rmtree(own_sounds)
    with pytest.raises(HostError, match=r"tone.*--dataset"):
        list(manifest.recordings("train", 48_000))


def test_survives_json(sounds: Path) -> None:
    manifest = build_manifest(sounds).manifest
    assert DatasetManifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


def test_what_a_later_host_says_of_a_dataset_is_kept(sounds: Path) -> None:
    document = json.loads(json.dumps(build_manifest(sounds).manifest.to_json()))
    document["weather"] = {"rain": [1, 2]}
    document["files"][2]["loudness"] = -23.5
    assert DatasetManifest.from_json(document).moved_to(sounds).to_json() == document


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../secret.wav"},
        {"path": "/etc/secret.wav"},
        {"path": "a/../../secret.wav"},
        {"path": ""},
        {"path": 3},
        {"sha256": 3},
        {"bytes": None},
        {"train": [1]},
        {"train": [2, 1]},
        {"held_out": [-1, 1]},
        {"held_out": [float("nan"), 1]},
        {"held_out": "ab"},
    ],
    ids=str,
)
def test_a_damaged_or_evil_manifest_is_refused(change: dict[str, Any]) -> None:
    entry = {"path": "a.wav", "bytes": 1, "sha256": "0" * 64, "seconds": 1.0, "train": [0, 1], "held_out": None}
    DatasetManifest.from_json({"folder": "/x", "files": [entry]})
    with pytest.raises(HostError, match="manifest is damaged"):
        DatasetManifest.from_json({"folder": "/x", "files": [entry | change]})


@pytest.mark.parametrize("document", [{}, {"folder": 1, "files": []}, {"folder": "/x", "files": 3}], ids=str)
def test_a_manifest_without_its_parts_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(HostError, match="manifest is damaged"):
        DatasetManifest.from_json(document)


def test_only_the_two_parts_exist(sounds: Path) -> None:
    with pytest.raises(ValueError, match="validation"):
        build_manifest(sounds).manifest.part("validation")
