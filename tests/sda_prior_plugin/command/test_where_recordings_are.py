"""Recordings that are gone, changed, renamed, long, or few."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import host_stubs
from host_stubs.plugins import load_plugins
from sda_prior_plugin.encoding import encode_long, encode_variants, is_long

from .running import QUICK, document, host


def test_missing_recordings_are_listed_and_dataset_finds_them(model: Path, recordings: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(recordings, tmp_path / "moved"))
    opened = host_stubs.open_model(model)
    host_stubs.Host(load_plugins()).set_dataset(opened, moved)
    host_stubs.save_model(opened, model)
    found = Path(shutil.move(moved, tmp_path / "found"))
    moved.mkdir()
    result = host("train-prior", model, *QUICK)
    assert result.exit_code == 1
    assert "5 of 5 recordings are missing" in result.stderr
    assert next(found.glob("*.wav")).name in result.stderr
    assert "--dataset" in result.stderr
    assert host("train-prior", model, *QUICK, "--dataset", found).exit_code == 0


def test_an_imported_model_is_told_its_dataset_once(recordings: Path, shared: Path, tmp_path: Path) -> None:
    imported = tmp_path / "imported.sda"
    assert host("import", shared / "legacy" / "tabla2.distill", "-o", imported).exit_code == 0
    result = host("train-prior", imported, *QUICK)
    assert result.exit_code == 1
    assert "--dataset" in result.stderr
    assert host("train-prior", imported, *QUICK, "--dataset", recordings).exit_code == 0
    assert document(imported)["dataset"]["folder"] == str(recordings)
    assert host("train-prior", imported, *QUICK, "--overwrite").exit_code == 0


@pytest.mark.parametrize("seconds", [0.01, 0.1, 3.0])
def test_one_recording_however_short_is_enough(tmp_path: Path, seconds: float) -> None:
    """The head is trained on, the tail held out."""
    folder = tmp_path / "one"
    folder.mkdir()
    time = np.arange(round(seconds * 48_000)) / 48_000
    soundfile.write(folder / "one.wav", 0.5 * np.sin(2 * np.pi * (300 + 100 * time) * time), 48_000)
    path = tmp_path / "one.sda"
    assert host("train", folder, "-o", path, "--epochs", 1).exit_code == 0
    result = host("train-prior", path, *QUICK)
    assert result.exit_code == 0, result.output
    assert document(path)["prior"]["held_out"] == ["one.wav"]
    assert host("generate", path, "--seconds", "1", "-o", tmp_path / "one-new.wav").exit_code == 0


def test_changed_recordings_are_named_in_a_warning(model: Path, recordings: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(recordings, tmp_path / "changed"))
    victim = sorted(changed.glob("*.wav"))[0]
    audio, rate = soundfile.read(victim)
    soundfile.write(victim, audio * 0.5, rate)
    shutil.copy(victim, changed / "one more.wav")
    result = host("train-prior", model, *QUICK, "--dataset", changed, "--json")
    assert result.exit_code == 0
    assert "1 recording changed" in result.stderr
    assert victim.name in result.stderr
    assert "1 recording in that folder not used, for the codec was not trained on them: one more.wav" in result.stderr
    dataset = json.loads(result.stdout)["dataset"]
    assert (dataset["changed"], dataset["added"]) == ([victim.name], ["one more.wav"])
    assert dataset["account"]["used"] == 5
    assert "1 new (one more.wav)" in host("info", model).stdout


def test_renamed_recordings_are_found_by_their_contents(model: Path, recordings: Path, tmp_path: Path) -> None:
    renamed = Path(shutil.copytree(recordings, tmp_path / "renamed"))
    first = sorted(renamed.glob("*.wav"))[0]
    first.rename(renamed / "other.wav")
    result = host("train-prior", model, *QUICK, "--dataset", renamed)
    assert result.exit_code == 1
    assert f"Renamed, it seems: {first.name} is now other.wav." in result.stderr


def test_a_long_recording_is_encoded_as_it_is_read_with_the_codes_of_the_whole(
    model: Path, recordings: Path, tmp_path: Path
) -> None:
    """Two minutes and a little more; where it is, is told on the way."""
    short = soundfile.read(sorted(recordings.glob("*.wav"))[0])[0]
    soundfile.write(tmp_path / "long.wav", np.resize(short, 125 * 44_100), 44_100)
    opened = host_stubs.open_model(model)
    opened.manifest = host_stubs.build_manifest(tmp_path).manifest
    (recording,) = (replace(each, span=(0.0, 125.0)) for each in opened.manifest.recordings("train", 48_000))
    told: list[float] = []
    assert is_long(opened.codec, recording)
    grids = encode_long(opened.codec, recording, 2, lambda name, share: told.append(share))
    whole = encode_variants(opened.codec, recording.audio, 2)
    assert all((one == other).all() for one, other in zip(grids, whole, strict=True))
    assert told == sorted(told)
    assert 0 < told[0] < 0.1
    assert told[-1] == pytest.approx(1, abs=0.01)


@dataclass
class InBlocks:
    """A recording that comes in blocks of an odd number of samples."""

    audio: np.ndarray
    name: str = "in blocks"

    @property
    def seconds(self) -> float:
        return len(self.audio) / 48_000

    def blocks(self) -> Iterator[np.ndarray]:
        for first in range(0, len(self.audio), 9_999):
            yield self.audio[first : first + 9_999]


@pytest.mark.parametrize("samples", [1, 700, 1_500, 8_191, 8_192, 8_192 * 3 - 100, 60_000, 8_192 * 40 + 5_000])
def test_each_variant_has_the_codes_that_the_codec_gives_for_that_sound_alone(
    trained_codec: Path, recordings: Path, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end too, which the codec mirrors; several at once, some at once, or as the sound is read."""
    codec, offsets = host_stubs.open_model(trained_codec).codec, 8
    audio = np.resize(soundfile.read(sorted(recordings.glob("*.wav"))[1], dtype="float32")[0], samples)
    leads = [number * codec.frame_samples // offsets for number in range(offsets)]
    alone = [codec.encode(np.concatenate([np.zeros(lead, np.float32), audio])) for lead in leads]
    together = encode_variants(codec, audio, offsets)
    monkeypatch.setattr("sda_prior_plugin.encoding.SAMPLES_PER_CALL", 3 * (samples + codec.frame_samples))
    for variants in (together, encode_variants(codec, audio, offsets), encode_long(codec, InBlocks(audio), offsets)):
        assert len(variants) == offsets
        for variant, wanted in zip(variants, alone, strict=True):
            np.testing.assert_array_equal(variant, wanted)
