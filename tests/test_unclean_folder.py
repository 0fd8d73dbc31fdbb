"""A folder as artists have them, through the real `host train`: every second that is in it is used, or named."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

RATE, SECONDS = 16_000, 4.0
BY_FFMPEG = {
    "phone.m4a": "-c:a aac",
    "garage.caf": "-c:a pcm_s16le",
    "messenger.opus": "-c:a libopus -ar 48000",
    "logic.w64": "-c:a pcm_s16le",
    "film.mp4": "-c:a aac",
    "no xing.mp3": "-c:a libmp3lame -b:a 64k -write_xing 0 -id3v2_version 0",
}
BY_SOUNDFILE = {"take.aifc": "AIFF", "take.wave": "WAV", "take.oga": "OGG", "take.bwf": "WAV", "take.snd": "AU"}
UNSAID = [*BY_FFMPEG, *BY_SOUNDFILE, "pipe.flac", "riff 16 too large.wav"]
SAID = {
    "power lost.wav": "was never finished",
    "claims more.wav": "is cut off: 4.00 s",
    "cancels.wav": "cancel each other out",
    "glitch.wav": "lone glitch",
    "damaged.mp3": "is damaged after",
}
SKIPPED = {"silent.wav": "is silent", "dither.wav": "is silent", "cover.jpg": "is no sound file"}


def sound(pitch: float) -> np.ndarray:
    """A tone in some noise, which no two of these recordings share."""
    random, time = np.random.default_rng(round(pitch)), np.arange(round(SECONDS * RATE)) / RATE
    return 0.3 * np.sin(2 * np.pi * pitch * time) + 0.1 * random.uniform(-1, 1, len(time))


def by_ffmpeg(source: Path, options: str, target: Path | str) -> bytes:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(source), *options.split(), str(target)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def write_wav_with(path: Path, pitch: float, at: bytes, change: int) -> None:
    """A WAV whose size behind `at` is off by `change`; None of its samples are touched."""
    soundfile.write(path, sound(pitch), RATE)
    content = bytearray(path.read_bytes())
    place = content.index(at) + 4
    size = struct.unpack("<I", content[place : place + 4])[0]
    content[place : place + 4] = struct.pack("<I", max(0, size + change))
    path.write_bytes(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One recording for each kind of trouble."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg, which makes the files, is not installed")
    folder, source = tmp_path_factory.mktemp("unclean"), tmp_path_factory.mktemp("source") / "source.wav"
    for number, (name, options) in enumerate(BY_FFMPEG.items()):
        soundfile.write(source, sound(200 + 31 * number), RATE)
        by_ffmpeg(source, options, folder / name)
    for number, (name, container) in enumerate(BY_SOUNDFILE.items()):
        soundfile.write(folder / name, sound(500 + 31 * number), RATE, format=container)
    soundfile.write(source, sound(669), RATE)
    (folder / "pipe.flac").write_bytes(by_ffmpeg(source, "-f flac", "pipe:1"))
    write_wav_with(folder / "riff 16 too large.wav", 700, b"RIFF", 16)
    write_wav_with(folder / "claims more.wav", 731, b"data", 200_000)
    write_wav_with(folder / "power lost.wav", 762, b"data", -(2**32))
    soundfile.write(source, sound(793), RATE)
    by_ffmpeg(source, "-c:a libmp3lame -b:a 64k", folder / "damaged.mp3")
    content = bytearray((folder / "damaged.mp3").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = bytes(range(250)) * 12
    (folder / "damaged.mp3").write_bytes(content)
    one = sound(824)
    soundfile.write(folder / "cancels.wav", np.stack([one, -one], axis=1), RATE)
    one = sound(855)
    one[30_000] = 1e6
    soundfile.write(folder / "glitch.wav", one, RATE, subtype="FLOAT")
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    dither = np.random.default_rng(0).integers(-1, 2, RATE).astype(np.int16)
    soundfile.write(folder / "dither.wav", dither, RATE)
    (folder / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(3000))
    (folder / "._take.wave").write_bytes(b"of macOS")
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """What the real command says of it."""
    output = tmp_path_factory.mktemp("models") / "unclean.sda"
    command = [sys.executable, "-m", "host_stubs.cli", "train", folder, "-o", output, "--epochs", "1", "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def dataset(trained: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(trained.stdout)["dataset"]
    return found


def test_every_second_is_used(dataset: dict[str, Any]) -> None:
    files = {each["path"]: each for each in dataset["files"]}
    assert files.keys() == {*UNSAID, *SAID}
    for name in {*UNSAID, *SAID} - {"damaged.mp3"}:
        assert files[name]["seconds"] == pytest.approx(SECONDS, abs=0.11), name  # an MP3 is whole frames, and a delay
    assert 1.0 < files["damaged.mp3"]["seconds"] < 2.5


def test_what_is_used_in_part_or_in_another_way_is_said(dataset: dict[str, Any]) -> None:
    notes = {each["path"]: each.get("note", "") for each in dataset["files"]}
    assert [name for name in UNSAID if notes[name]] == []
    for name, said in SAID.items():
        assert said in notes[name]


def test_what_is_no_sound_is_named_with_the_reason(dataset: dict[str, Any]) -> None:
    skipped = dict(dataset["skipped"])
    assert skipped.keys() == SKIPPED.keys()
    for name, said in SKIPPED.items():
        assert said in skipped[name]


def test_the_console_says_the_same_and_nothing_else_gets_onto_it(trained: subprocess.CompletedProcess[str]) -> None:
    lines = trained.stderr.splitlines()
    for name in {*SAID, *SKIPPED}:
        assert any(name in line for line in lines), name
    known = ("Used", "Skipped", "18 recordings", "Training", "VQ-VAE", "Saved", "warning", "looking")
    assert [line for line in lines if not line.startswith(known)] == []
