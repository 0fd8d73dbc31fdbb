"""Sound files: what is found, how it is read, and one clear line for each that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from host_stubs.audio import Written, peak_normalized, write_wav, write_wav_blocks
from host_stubs.errors import HostError
from host_stubs.folder import find_recordings
from host_stubs.reading import measure, read_recording


def sine(pitch: float, seconds: float, rate: int) -> np.ndarray:
    return np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)


def test_recordings_are_found_below_the_folder_in_a_stable_order(tmp_path: Path) -> None:
    for name in ("b/2.flac", "b/1.WAV", "a.mp3", "c/d/3.aiff", "notes.txt", "._a.wav", ".trash/4.wav", "b.ogg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a folder.wav").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_recordings(tmp_path)]
    assert found == ["a.mp3", "b/1.WAV", "b/2.flac", "b.ogg", "c/d/3.aiff"]


@pytest.mark.parametrize(("name", "said"), [("missing", "There is no folder"), ("file", "not a folder")])
def test_a_folder_that_is_none_is_named(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(HostError, match=said):
        find_recordings(tmp_path / name)


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 2e-2),
        ("wav", "PCM_16", 1e-4),
        ("wav", "PCM_24", 1e-6),
        ("wav", "FLOAT", 1e-6),
        ("wav", "DOUBLE", 1e-6),
        ("flac", "PCM_16", 1e-4),
        ("aiff", "PCM_16", 1e-4),
        ("ogg", "VORBIS", 5e-2),
        ("mp3", "MPEG_LAYER_III", 5e-2),
    ],
)
def test_each_format_reads_as_the_sound_that_was_written(
    tmp_path: Path, suffix: str, subtype: str, tolerance: float
) -> None:
    sound = 0.5 * sine(440, 0.5, 48_000)
    soundfile.write(tmp_path / f"sound.{suffix}", sound, 48_000, subtype=subtype)
    audio = read_recording(tmp_path / f"sound.{suffix}", 48_000)
    assert audio.dtype == np.float32
    assert len(audio) >= len(sound)
    assert np.abs(audio[: len(sound)] - sound)[2_000:-2_000].max() < tolerance


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = sine(200, 0.1, 48_000), 0.5 * sine(300, 0.1, 48_000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), 48_000, subtype="FLOAT")
    np.testing.assert_allclose(read_recording(tmp_path / "stereo.wav", 48_000), (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_other_sample_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "sound.wav", sine(440, 1.0, rate), rate, subtype="FLOAT")
    audio = read_recording(tmp_path / "sound.wav", 48_000)
    assert len(audio) == 48_000
    assert np.abs(audio - sine(440, 1.0, 48_000))[2_000:-2_000].max() < 1e-3


def test_a_recording_longer_than_a_block_is_read_whole(tmp_path: Path) -> None:
    sound = sine(50, 8.0, 48_000).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", sound, 48_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_recording(tmp_path / "long.wav", 48_000), sound)


def wav_bytes(path: Path, sound: np.ndarray, rate: int = 48_000, subtype: str = "FLOAT") -> bytes:
    soundfile.write(path, sound, rate, subtype=subtype, format="WAV")
    return path.read_bytes()


@pytest.mark.parametrize(
    "problem", ["0 bytes", "text", "cut off", "cut in the header", "no samples", "NaN", "infinite", "rate"]
)
def test_what_cannot_be_used_is_one_line_that_names_the_file(tmp_path: Path, problem: str) -> None:
    path = tmp_path / "bad.wav"
    sound = sine(440, 0.1, 48_000)
    if problem == "0 bytes":
        path.write_bytes(b"")
    elif problem == "text":
        path.write_text("these are not the samples you are looking for\n" * 20)
    elif problem == "cut off":
        path.write_bytes(wav_bytes(path, sound)[:4_000])
    elif problem == "cut in the header":
        path.write_bytes(wav_bytes(path, sound)[:30])
    elif problem == "no samples":
        wav_bytes(path, sound[:0])
    elif problem == "rate":
        wav_bytes(path, sound, rate=1)
    else:
        sound[100] = np.nan if problem == "NaN" else np.inf
        wav_bytes(path, sound)
    with pytest.raises(HostError) as caught:
        read_recording(path, 48_000)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert message.endswith(".")


def test_a_flac_or_mp3_that_is_noise_is_named(tmp_path: Path) -> None:
    for name in ("bad.flac", "bad.mp3", "bad.ogg", "bad.aiff"):
        (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(3_000))
        with pytest.raises(HostError, match=name):
            read_recording(tmp_path / name, 48_000)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"gone\.wav"):
        read_recording(tmp_path / "gone.wav", 48_000)


def test_a_wav_from_a_pipe_which_knows_no_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    content = bytearray(wav_bytes(path, sine(440, 0.1, 48_000), subtype="PCM_16"))
    content[4:8] = b"\xff\xff\xff\xff"
    content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(read_recording(path, 48_000)) == 4_800


def test_peaks_are_brought_to_one_and_silence_stays_silence() -> None:
    assert np.abs(peak_normalized(np.array([0.1, -0.2, 0.05], np.float32))).max() == 1.0
    assert not peak_normalized(np.zeros(10, np.float32)).any()
    assert not peak_normalized(np.full(10, 1e-42, np.float32)).any()  # 1 / peak would be infinite
    assert len(peak_normalized(np.zeros(0, np.float32))) == 0


def test_what_is_written_reads_back_and_is_clipped_not_wrapped(tmp_path: Path) -> None:
    sound = np.array([0.0, 0.5, -1.0, 1.0, 1.5, -1.5], np.float32)
    write_wav(tmp_path / "any name", sound, 48_000)
    np.testing.assert_allclose(read_recording(tmp_path / "any name", 48_000), np.clip(sound, -1, 1), atol=1e-4)
    assert soundfile.info(tmp_path / "any name").samplerate == 48_000


def test_sound_that_comes_in_blocks_makes_the_same_file(tmp_path: Path) -> None:
    sound = np.linspace(-1.2, 0.7, 5_000).astype(np.float32)
    write_wav(tmp_path / "whole.wav", sound, 48_000)
    blocks = (sound[start : start + 999] for start in range(0, 5_000, 999))
    written = write_wav_blocks(tmp_path / "blocks.wav", blocks, 48_000)
    assert (tmp_path / "blocks.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()
    assert written == Written(5_000, pytest.approx(1.2))


def test_an_error_while_sound_comes_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    write_wav(path, np.ones(10), 48_000)
    before = path.read_bytes()

    def blocks() -> Iterator[np.ndarray]:
        yield np.zeros(10)
        raise HostError("no more")

    with pytest.raises(HostError, match="no more"):
        write_wav_blocks(path, blocks(), 48_000)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["x.wav"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="does not exist"):
        write_wav(tmp_path / "no such folder" / "x.wav", np.zeros(10), 48_000)
    with pytest.raises(HostError, match="is a folder"):
        write_wav(tmp_path, np.zeros(10), 48_000)


def test_an_old_file_is_whole_until_the_new_one_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.wav"
    write_wav(path, np.ones(10), 48_000)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(HostError, match="unchanged"):
        write_wav(path, np.zeros(100), 48_000)
    assert path.read_bytes() == before


def test_what_a_recording_gives_is_measured(tmp_path: Path) -> None:
    sound = sine(440, 2.0, 44_100) * (np.arange(88_200) < 66_150)
    soundfile.write(tmp_path / "a.wav", sound, 44_100)
    found = measure(tmp_path / "a.wav")
    assert (found.rate, found.seconds, found.note) == (44_100, 2.0, "")
    assert found.sounding == (0.0, pytest.approx(1.5, abs=0.02))


@pytest.mark.parametrize("at", [0.05, 1.5])
def test_samples_that_are_no_numbers_end_a_recording(tmp_path: Path, at: float) -> None:
    sound = sine(440, 2.0, 48_000)
    sound[round(at * 48_000)] = np.nan
    soundfile.write(tmp_path / "a.wav", sound, 48_000, subtype="FLOAT")
    if at < 0.1:
        with pytest.raises(HostError, match=r"not finite numbers after 0\.05 s, which is too little to be of use"):
            measure(tmp_path / "a.wav")
    else:
        found = measure(tmp_path / "a.wav")
        assert found.seconds == len(read_recording(tmp_path / "a.wav", 48_000)) / 48_000 == 1.5
        assert "not finite numbers after 1.50 s of 2.00 s, and is used up to there" in found.note


def test_a_whole_recording_may_be_as_short_as_it_likes(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "click.wav", sine(440, 0.005, 48_000), 48_000)
    assert measure(tmp_path / "click.wav").seconds == 0.005


@pytest.mark.parametrize("name", ["list.m3u8", "list.wav", "list.mp4"])
def test_a_file_that_names_others_gets_none_of_them(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / "secret.wav", sine(440, 1.0, 48_000), 48_000)
    lists = [
        "#EXTM3U\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{tmp_path}/secret.wav'\n",
    ]
    for text in lists:
        (tmp_path / name).write_text(text)
        with pytest.raises(HostError, match="cannot be read as sound"):
            measure(tmp_path / name)


def test_what_libraries_say_of_a_damaged_mp3_does_not_reach_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, 0.5 * sine(440, 4.0, 44_100), 44_100)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3_000] = bytes(3_000)
    path.write_bytes(content)
    found = measure(path)
    assert 1.5 < found.seconds < 2.05
    assert "is damaged after" in found.note
    assert capfd.readouterr() == ("", "")
