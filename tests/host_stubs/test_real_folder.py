"""Every second in a folder of sound files is used, or named: each container and codec that the two readers know, whole
and with each kind of damage. The files are made here, by ffmpeg and soundfile."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from host_stubs.errors import HostError
from host_stubs.folder import look_through
from host_stubs.manifest import build_manifest
from host_stubs.reading import measure

pytestmark = pytest.mark.slow

SECONDS, RATE = 3.0, 44_100
AT = 0.6
"""Where files are cut off or damaged, as a share of their bytes; their sound needs as many in each second."""
DELAY = 0.06
"""Seconds that a codec adds at the beginning or the end: two frames of MP3."""

VIDEO = "-map 0:a -map 1:v -c:v mpeg4 "
BY_FFMPEG = {
    "riff16.wav": "",
    "riff24.wav": "-c:a pcm_s24le",
    "float.wav": "-c:a pcm_f32le",
    "double.wave": "-f wav -c:a pcm_f64le",
    "eight.wav": "-c:a pcm_u8",
    "mulaw.wav": "-c:a pcm_mulaw",
    "alaw.wav": "-c:a pcm_alaw",
    "adpcm.wav": "-c:a adpcm_ms",
    "ima.wav": "-c:a adpcm_ima_wav",
    "mp3.wav": "-c:a libmp3lame",
    "broadcast.bwf": "-f wav -write_bext 1 -metadata description=kick",
    "rf64.wav": "-rf64 always",
    "wave.w64": "",
    "plain.aiff": "",
    "plain.aif": "",
    "swapped.aifc": "-f aiff -c:a pcm_s16le",
    "float.aifc": "-f aiff -c:a pcm_f32be",
    "next.au": "",
    "next.snd": "-f au -c:a pcm_f32be",
    "plain.flac": "",
    "deep.flac": "-sample_fmt s32",
    "vorbis.ogg": "-c:a libvorbis -page_duration 100000",
    "vorbis.oga": "-c:a libvorbis -f ogg",
    "opus.opus": "-c:a libopus -page_duration 100000",
    "flac.oga": "-c:a flac -f ogg -page_duration 100000",
    "speex.spx": "-c:a libspeex -ar 16000 -ac 1 -f ogg -page_duration 100000",
    "constant.mp3": "",
    "variable.mp3": "-q:a 4",
    "no-xing.mp3": "-write_xing 0",
    "bare.mp3": "-write_xing 0 -id3v2_version 0",
    "layer2.mp2": "",
    "aac.m4a": "-c:a aac",
    "alac.m4a": "-c:a alac",
    "fast.m4a": "-c:a aac -movflags +faststart",
    "aac.mp4": "-c:a aac",
    "phone.3gp": "-c:a aac",
    "film.mp4": VIDEO + "-c:a aac",
    "film.mov": VIDEO + "-c:a pcm_s16le",
    "film.mkv": VIDEO + "-c:a aac",
    "film.avi": VIDEO + "-c:a libmp3lame",
    "sound.mov": "-c:a aac",
    "raw.aac": "-c:a aac",
    "sound.mka": "-c:a libvorbis -cluster_time_limit 100",
    "sound.webm": "-c:a libopus -cluster_time_limit 100",
    "plain.caf": "",
    "alac.caf": "-c:a alac",
    "windows.wma": "-c:a wmav2",
    "windows1.wma": "-c:a wmav1",
    "dolby.ac3": "",
    "dolby.eac3": "",
    "cinema.dts": "-c:a dca -strict -2",
    "pack.wv": "",
    "true.tta": "",
    "true.thd": "-c:a truehd -strict -2",
    "packing.mlp": "-c:a mlp -strict -2",
    "blaster.voc": "",
    "exchange.sox": "",
    "stream.m2ts": "-c:a mp2 -f mpegts",
    "stream.mpg": "-c:a mp2 -f mpeg",
    "flash.flv": "-c:a aac",
    "real.rm": "-c:a real_144 -ar 8000 -ac 1",
    "phone.gsm": "-c:a libgsm -ar 8000 -ac 1",
    "wide.g722": "-ar 16000 -ac 1",
}
PIPED = {
    "piped.wav": "-f wav",
    "piped.flac": "-f flac",
    "piped.aiff": "-f aiff",
    "piped.au": "-f au",
    "piped.caf": "-f caf -c:a pcm_s16le",
    "piped.ogg": "-f ogg -c:a libvorbis",
    "piped.mp3": "-f mp3",
}
BY_SOUNDFILE = [
    *(("WAV", subtype, "BIG") for subtype in ("PCM_16", "PCM_24", "FLOAT", "ULAW")),
    *(("WAV", subtype, "FILE") for subtype in ("PCM_32", "GSM610", "G721_32", "NMS_ADPCM_32")),
    *(("WAVEX", subtype, "FILE") for subtype in ("PCM_16", "PCM_24", "FLOAT")),
    *(("RF64", subtype, "FILE") for subtype in ("PCM_16", "PCM_24", "FLOAT")),
    *(("W64", subtype, "FILE") for subtype in ("PCM_16", "FLOAT", "IMA_ADPCM")),
    *(("AIFF", subtype, "FILE") for subtype in ("PCM_16", "PCM_24", "FLOAT", "ULAW", "GSM610", "IMA_ADPCM")),
    *(("CAF", subtype, "FILE") for subtype in ("PCM_16", "FLOAT", "ALAC_16", "ALAC_24")),
    *(("AU", subtype, "LITTLE") for subtype in ("PCM_16", "FLOAT", "G723_40")),
    *(("FLAC", subtype, "FILE") for subtype in ("PCM_S8", "PCM_16", "PCM_24")),
    *(("OGG", subtype, "FILE") for subtype in ("VORBIS", "OPUS")),
    ("MP3", "MPEG_LAYER_III", "FILE"),
    ("SVX", "PCM_16", "FILE"),
    ("VOC", "PCM_16", "FILE"),
    ("NIST", "PCM_16", "FILE"),
    ("PVF", "PCM_16", "FILE"),
    ("PAF", "PCM_24", "BIG"),
    ("IRCAM", "FLOAT", "LITTLE"),
    ("AVR", "PCM_16", "FILE"),
    ("XI", "DPCM_16", "FILE"),
    ("MAT5", "FLOAT", "FILE"),
]

KNOW_THEIR_LENGTH = [
    *("riff16.wav", "float.wav", "mulaw.wav", "adpcm.wav", "ima.wav", "mp3.wav", "rf64.wav", "wave.w64", "plain.aiff"),
    *("swapped.aifc", "next.au", "plain.flac", "deep.flac", "constant.mp3", "variable.mp3", "fast.m4a", "sound.mka"),
    *("sound.webm", "film.mkv", "plain.caf", "pack.wv", "true.tta"),
]
KNOW_THEIR_END = ["vorbis.ogg", "opus.opus", "flac.oga", "speex.spx", "film.avi", "piped.flac"]
KNOW_NOTHING = [
    *("no-xing.mp3", "bare.mp3", "layer2.mp2", "raw.aac", "dolby.ac3", "dolby.eac3", "cinema.dts", "true.thd"),
    *("stream.m2ts", "stream.mpg", "blaster.voc", "exchange.sox", "windows.wma", "flash.flv"),
]
"""Of these nobody can know that something is missing where a copy of them ended."""
INDEXED_AT_THE_END = ["aac.m4a", "alac.m4a", "sound.mov", "film.mp4"]
NOTICE_DAMAGE = [
    *("plain.flac", "deep.flac", "piped.flac", "vorbis.ogg", "opus.opus", "flac.oga", "speex.spx", "true.tta"),
    *("pack.wv", "constant.mp3", "no-xing.mp3", "variable.mp3", "layer2.mp2", "mp3.wav", "aac.m4a", "alac.m4a"),
    *("fast.m4a", "film.mp4", "film.mkv", "raw.aac", "dolby.ac3", "dolby.eac3", "true.thd", "windows.wma"),
    *("flash.flv", "stream.m2ts", "stream.mpg", "alac.caf"),
]
CANNOT_NOTICE_DAMAGE = ["riff16.wav", "float.wav", "mulaw.wav", "adpcm.wav", "plain.aiff", "next.au", "wave.w64"]
CHECK_EACH_FRAME = [
    *("plain.flac", "piped.flac", "vorbis.ogg", "opus.opus", "flac.oga", "true.tta", "pack.wv", "true.thd"),
    *("dolby.ac3", "dolby.eac3"),
]
HAVE_PAUSES = ["sound.mka", "sound.webm"]
FRAME = {"true.tta": 1.1, "pack.wv": 0.6}
"""Seconds that stand and fall together; of the others less than half of one."""


def the_sound(rate: int = RATE, channels: int = 2) -> np.ndarray:
    """Noise: of it every codec takes as many bytes in each second."""
    random = np.random.default_rng(0)
    return 0.2 * random.uniform(-1, 1, (round(SECONDS * rate), channels))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All healthy files."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg, which makes the files, is not installed")
    folder = tmp_path_factory.mktemp("healthy")
    source = tmp_path_factory.mktemp("source") / "noise.wav"
    soundfile.write(source, the_sound(), RATE)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", source]
    command += ["-f", "lavfi", "-i", f"color=black:size=64x64:rate=5:duration={SECONDS}"]
    for name, options in BY_FFMPEG.items():
        command += [*([] if options.startswith("-map") else ["-map", "0:a"]), *options.split(), folder / name]
    subprocess.run(command, check=True)
    for name, options in PIPED.items():
        with (folder / name).open("wb") as file:
            piped = subprocess.Popen(
                ["ffmpeg", "-nostdin", "-v", "error", "-i", source, *options.split(), "pipe:1"], stdout=subprocess.PIPE
            )
            assert piped.stdout is not None
            shutil.copyfileobj(piped.stdout, file)
            assert piped.wait() == 0
    for container, subtype, endian in BY_SOUNDFILE:
        rate = {"OPUS": 48_000, "DPCM_16": 44_100}.get(subtype, 16_000)
        path = folder / name_of(container, subtype, endian)
        soundfile.write(path, the_sound(rate, 1), rate, subtype, endian, container)
    (folder / "phone.amr").write_bytes(amr())
    return folder


def name_of(container: str, subtype: str, endian: str) -> str:
    """A name without a suffix: their content decides."""
    return f"{container} {subtype} {endian}"


def amr() -> bytes:
    """Frames of 20 ms of AMR at its highest rate. What is in them may be anything."""
    random = np.random.default_rng(0)
    return b"#!AMR\n" + b"".join(b"\x3c" + random.bytes(31) for _ in range(round(SECONDS * 50)))


HEALTHY = [*BY_FFMPEG, *PIPED, *(name_of(*each) for each in BY_SOUNDFILE), "phone.amr"]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_whole_file_is_used_whole_without_a_word(folder: Path, name: str) -> None:
    found = measure(folder / name)
    assert SECONDS * 0.99 < found.seconds < SECONDS * 1.01 + DELAY
    assert found.note == ""


def test_every_file_is_found_by_its_content(folder: Path, tmp_path: Path) -> None:
    headerless = {".gsm", ".g722"}
    for number, path in enumerate(sorted(folder.iterdir())):
        suffix = path.suffix if path.suffix in headerless else ""
        (tmp_path / f"{number}{suffix}").hardlink_to(path)
    found = look_through(tmp_path)
    assert found.left_out == []
    assert len(found.recordings) == len(HEALTHY)


def held(path: Path) -> float:
    """How many seconds ffmpeg's own program finds in a file."""
    options = ["-map", "0:a", "-ac", "1", "-ar", "8000", "-f", "s16le", "pipe:1"]
    command = ["ffmpeg", "-nostdin", "-v", "quiet", "-i", path, *options]
    return len(subprocess.run(command, capture_output=True, check=False).stdout) / 2 / 8_000


@pytest.mark.parametrize("name", [*KNOW_THEIR_LENGTH, *KNOW_THEIR_END, *KNOW_NOTHING])
def test_a_file_that_is_cut_off_is_used_to_its_end_and_named(folder: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = (folder / name).read_bytes()
    path.write_bytes(content[: round(AT * len(content))])
    found = measure(path)
    assert abs(found.seconds - held(path)) < 0.01 * SECONDS + DELAY
    if name in KNOW_THEIR_LENGTH:
        used, of = map(float, re.findall(r"([\d.]+) s", found.note.removeprefix(str(path))))
        assert used == pytest.approx(found.seconds, abs=0.01)
        assert of == pytest.approx(SECONDS, abs=0.1)
    assert "is cut off" in found.note or (name in KNOW_NOTHING and found.note == "")


@pytest.mark.parametrize("name", INDEXED_AT_THE_END)
def test_a_film_or_phone_recording_that_lost_its_index_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (tmp_path / name).write_bytes(content[: round(AT * len(content))])
    with pytest.raises(HostError, match=f"{name} cannot be read as sound"):
        measure(tmp_path / name)


def damaged(content: bytes, how: str) -> bytes:
    """With some of its bytes zeroed, or a few bits flipped."""
    broken, at = bytearray(content), round(AT * len(content))
    if how == "zeroed":
        broken[at : at + len(content) // 50] = bytes(len(content) // 50)
    else:
        random = np.random.default_rng(1)
        for place in random.integers(at, at + 300, 8):
            broken[place] ^= 1 << int(random.integers(8))
    return bytes(broken)


@pytest.mark.parametrize(
    ("name", "how"), [*((name, "zeroed") for name in NOTICE_DAMAGE), *((name, "flipped") for name in CHECK_EACH_FRAME)]
)
def test_a_file_that_is_damaged_in_the_middle_is_used_up_to_there(
    folder: Path, tmp_path: Path, name: str, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(damaged((folder / name).read_bytes(), how))
    found = measure(path)
    assert AT * SECONDS - FRAME.get(name, 0.5) < found.seconds < AT * SECONDS + 0.1
    assert "is damaged after" in found.note or "is cut off" in found.note
    assert capfd.readouterr() == ("", "")  # libraries write of it to the terminal


@pytest.mark.parametrize("name", HAVE_PAUSES)
def test_what_is_missing_in_a_file_that_may_have_pauses_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(damaged((folder / name).read_bytes(), "zeroed"))
    found = measure(tmp_path / name)
    assert AT * SECONDS < found.seconds < SECONDS - 0.05
    assert f"it has gaps, and only the {found.seconds:.2f} s of sound that are there are used" in found.note


@pytest.mark.parametrize("name", CANNOT_NOTICE_DAMAGE)
def test_damage_that_nobody_can_notice_costs_no_sound(folder: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(damaged((folder / name).read_bytes(), "zeroed"))
    assert measure(path).seconds == measure(folder / name).seconds


Change = Callable[[bytes], bytes]


def put(at: bytes, offset: int, value: bytes) -> Change:
    """With `value` written `offset` bytes behind the beginning of `at`."""

    def change(content: bytes) -> bytes:
        place = content.index(at) + offset
        return content[:place] + value + content[place + len(value) :]

    return change


def both(first: Change, second: Change) -> Change:
    return lambda content: second(first(content))


def size(value: int) -> bytes:
    return struct.pack("<I", value)


def add(at: bytes, offset: int, more: int) -> Change:
    """With the little-endian number there made larger by so much."""

    def change(content: bytes) -> bytes:
        place = content.index(at) + offset
        value = int.from_bytes(content[place : place + 4], "little") + more
        return put(at, offset, size(value))(content)

    return change


def at_data(value: bytes) -> Change:
    return put(b"data", 4, value)


UNFINISHED, FINE, CUT = "was never finished", "", "is cut off"
ODD = b"junk" + size(5) + b"12345"
HEADERS: dict[str, tuple[str, Change, str]] = {
    "the recorder lost power": ("riff16.wav", both(at_data(size(0)), put(b"RIFF", 4, size(0))), UNFINISHED),
    "data size 0": ("riff16.wav", at_data(size(0)), UNFINISHED),
    "data size 0, 24 bits": ("riff24.wav", at_data(size(0)), UNFINISHED),
    "data size 0, float": ("float.wav", at_data(size(0)), UNFINISHED),
    "data size 0, 8 bits": ("eight.wav", at_data(size(0)), UNFINISHED),
    "data size 0, ADPCM": ("adpcm.wav", at_data(size(0)), UNFINISHED),
    "data size 0, IMA": ("ima.wav", at_data(size(0)), UNFINISHED),
    "data size 0, RIFX": ("WAV PCM_16 BIG", at_data(size(0)), UNFINISHED),
    "data size 0, W64": ("wave.w64", put(b"data", 16, bytes(8)), UNFINISHED),
    "data size 0, RF64": ("rf64.wav", put(b"ds64", 8, bytes(16)), UNFINISHED),
    "data size 0, AU": ("next.au", put(b".snd", 8, bytes(4)), UNFINISHED),
    "data size 0, CAF": ("plain.caf", put(b"data", 4, bytes(8)), FINE),
    "sizes 0, AIFF": ("plain.aiff", both(put(b"SSND", 4, bytes(4)), put(b"COMM", 10, bytes(4))), FINE),
    "data size unknown": ("riff16.wav", at_data(size(0xFFFFFFFF)), FINE),
    "data size unknown, sox": ("riff16.wav", at_data(size(0x7FFFFFFF - 36)), FINE),
    "data size unknown, RF64": ("rf64.wav", put(b"ds64", 8, b"\xff" * 16), FINE),
    "data size unknown, CAF": ("plain.caf", put(b"data", 4, b"\xff" * 8), FINE),
    "data size of long ago": ("riff16.wav", at_data(size(100_000)), UNFINISHED),
    "data size too large": ("riff16.wav", add(b"data", 4, 200_000), CUT),
    "data size one too large": ("riff16.wav", add(b"data", 4, 1), FINE),
    "RIFF size 16 too large": ("riff16.wav", add(b"RIFF", 4, 16), FINE),
    "RIFF size too small": ("riff16.wav", put(b"RIFF", 4, size(1000)), FINE),
    "FORM size too small": ("plain.aiff", put(b"FORM", 4, bytes([0, 0, 4, 0])), FINE),
    "an odd chunk that is not filled up": (
        "WAVEX PCM_16 FILE",
        lambda content: content.replace(b"data", ODD + b"data", 1),
        FINE,
    ),
    "chunks behind the sound": ("riff16.wav", lambda content: content + b"cue " + size(4) + bytes(4), FINE),
    "zeros behind the sound": ("riff16.wav", lambda content: content + bytes(200_000), FINE),
}


@pytest.mark.parametrize("damage", HEADERS)
def test_a_header_that_is_wrong_costs_no_sound(folder: Path, tmp_path: Path, damage: str) -> None:
    name, change, said = HEADERS[damage]
    path = tmp_path / "recording"
    path.write_bytes(change((folder / name).read_bytes()))
    found = measure(path)
    assert found.seconds == pytest.approx(SECONDS, rel=0.01)
    assert said in found.note
    assert bool(said) == bool(found.note)


def test_nothing_that_a_library_says_of_a_damaged_table_reaches_the_terminal(folder: Path, tmp_path: Path) -> None:
    """In a process of its own: what C has written stands in a buffer until it ends."""
    content = bytearray((folder / "CAF ALAC_16 FILE").read_bytes())
    table = content.index(b"pakt") + 12 + 24
    content[table : table + 6] = b"\xff" * 6
    (tmp_path / "a.caf").write_bytes(content)
    (tmp_path / "b.mp3").write_bytes(damaged((folder / "constant.mp3").read_bytes(), "zeroed"))
    command = "import sys; from host_stubs.manifest import *; build_manifest(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", command, tmp_path], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize("name", ["constant.mp3", "variable.mp3", "no-xing.mp3", "pack.wv", "plain.flac", "vorbis.ogg"])
def test_a_tag_behind_the_sound_is_no_damage(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes((folder / name).read_bytes() + b"TAG" + b"Kick".ljust(125, b"\0"))
    found = measure(tmp_path / name)
    assert (found.seconds, found.note) == (measure(folder / name).seconds, "")


@pytest.mark.parametrize("name", ["riff16.wav", "plain.aiff", "plain.flac"])
def test_of_several_files_one_behind_the_other_it_is_said_that_only_the_first_is_used(
    folder: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "two").write_bytes(2 * (folder / name).read_bytes())
    found = measure(tmp_path / "two")
    assert found.seconds == pytest.approx(SECONDS, rel=0.01)
    assert "more sound lies behind what its header tells of" in found.note


def test_samples_that_an_aiff_does_not_know_of_are_said(folder: Path, tmp_path: Path) -> None:
    content = bytearray((folder / "plain.aiff").read_bytes())
    place = content.index(b"SSND") + 4
    half = (len(content) - place) // 2 // 2 * 2
    content[place : place + 4] = half.to_bytes(4, "big")
    (tmp_path / "stale").write_bytes(content)
    found = measure(tmp_path / "stale")
    assert found.seconds < 0.6 * SECONDS
    assert "more sound lies behind what its header tells of" in found.note


def test_an_ogg_file_of_several_one_behind_the_other_is_used_whole(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "two.ogg").write_bytes(2 * (folder / "vorbis.ogg").read_bytes())
    assert measure(tmp_path / "two.ogg").seconds == pytest.approx(2 * SECONDS, rel=0.01)


def test_no_file_of_a_folder_is_lost_without_a_word(folder: Path, tmp_path: Path) -> None:
    for number, name in enumerate(HEALTHY[::4]):
        content = (folder / name).read_bytes()
        (tmp_path / f"{number} {name}").write_bytes(content[: len(content) // 3] if number % 2 else content)
    (tmp_path / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(5000))
    (tmp_path / "._hidden.wav").write_bytes(b"of macOS")
    scan = build_manifest(tmp_path)
    named = {entry.path for entry in scan.manifest.files} | {name for name, _ in scan.manifest.skipped}
    assert named == {path.name for path in tmp_path.iterdir()} - {"._hidden.wav"}
    assert dict(scan.manifest.skipped)["cover.jpg"] == "cover.jpg is no sound file."


def test_there_are_at_least_120_files() -> None:
    cut = len(KNOW_THEIR_LENGTH) + len(KNOW_THEIR_END) + len(KNOW_NOTHING) + len(INDEXED_AT_THE_END)
    broken = len(NOTICE_DAMAGE) + len(CHECK_EACH_FRAME) + len(CANNOT_NOTICE_DAMAGE)
    assert len(HEALTHY) + cut + broken + len(HEADERS) >= 120
