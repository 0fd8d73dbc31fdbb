"""What of a file is sound: silence, dither, glitches and channels that cancel are not; all else is left as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from host_stubs.audio import peak_normalized
from host_stubs.errors import HostError
from host_stubs.manifest import build_manifest
from host_stubs.reading import measure, read_recording

RATE = 16_000


def tone(seconds: float = 1.0, pitch: float = 440.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)


def written(path: Path, sound: np.ndarray, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, sound, RATE, subtype=subtype)
    return path


@pytest.mark.parametrize(
    ("subtype", "step"), [("PCM_16", 1 / 32_768), ("PCM_24", 1 / 8_388_608), ("PCM_U8", 1 / 128), ("FLOAT", 1e-5)]
)
def test_silence_and_dither_of_one_bit_are_no_sound(tmp_path: Path, subtype: str, step: float) -> None:
    dither = np.random.default_rng(0).integers(-1, 2, RATE) * step
    for name, sound in (("silent", np.zeros(RATE)), ("dither", dither), ("offset", np.full(RATE, 0.25))):
        with pytest.raises(HostError, match=rf"{name}\.wav is silent\."):
            measure(written(tmp_path / f"{name}.wav", sound, subtype))


def test_the_silence_of_a_telephone_is_no_sound(tmp_path: Path) -> None:
    for subtype in ("ALAW", "ULAW"):
        with pytest.raises(HostError, match="is silent"):
            measure(written(tmp_path / f"{subtype}.wav", np.zeros(RATE), subtype))


def test_a_very_quiet_recording_is_sound(tmp_path: Path) -> None:
    found = measure(written(tmp_path / "quiet.wav", 1e-3 * tone(), "PCM_24"))
    assert (found.note, found.seconds, found.sounding) == ("", 1.0, (0.0, 1.0))


@pytest.mark.parametrize("glitches", [[1e6], [3e4, -1e9], [-40.0], [40.0, 35.0]])
def test_a_lone_glitch_is_limited_to_all_else_and_said(tmp_path: Path, glitches: list[float]) -> None:
    sound = tone().astype(np.float32)
    sound[5_000 : 5_000 + len(glitches)] = glitches
    path = written(tmp_path / "glitch.wav", sound)
    audio = read_recording(path, RATE)
    assert np.abs(audio).max() == np.abs(np.delete(sound, range(5_000, 5_000 + len(glitches)))).max()
    np.testing.assert_array_equal(audio[:5_000], sound[:5_000])
    assert "glitch" in measure(path).note


def test_a_glitch_is_found_before_resampling_spreads_it(tmp_path: Path) -> None:
    sound = tone(seconds=4.0)
    sound[40_000] = 1e6
    audio = read_recording(written(tmp_path / "glitch.wav", sound), 48_000)
    assert np.abs(audio).max() < 0.4


def test_a_glitch_in_one_channel_leaves_the_others(tmp_path: Path) -> None:
    sound = np.stack([tone(), tone(pitch=300.0)], axis=1).astype(np.float32)
    clean = sound.mean(axis=1)
    sound[5_000, 1] = 1e5
    audio = read_recording(written(tmp_path / "glitch.wav", sound), RATE)
    np.testing.assert_array_equal(np.delete(audio, 5_000), np.delete(clean, 5_000))


def test_nothing_but_a_glitch_is_no_sound(tmp_path: Path) -> None:
    sound = np.zeros(RATE)
    sound[100] = 0.9
    with pytest.raises(HostError, match="is silent, but for a lone glitch"):
        measure(written(tmp_path / "glitch.wav", sound))


def test_a_hit_is_no_glitch(tmp_path: Path) -> None:
    hit = np.zeros(RATE)
    hit[1_000:1_400] = np.exp(-np.arange(400) / 5) * np.cos(np.arange(400))
    found = measure(written(tmp_path / "hit.wav", hit))
    assert found.note == ""
    assert found.sounding == (pytest.approx(1_000 / RATE, abs=0.02), pytest.approx(1_040 / RATE, abs=0.02))


@pytest.mark.parametrize("gains", [(1.0, -1.0), (0.5, -0.5), (1.0, 0.5, -1.5), (1.0, -1.0, 0.0, 0.0), (-1.0, 1.001)])
def test_of_channels_that_cancel_the_loudest_is_taken_and_said(tmp_path: Path, gains: tuple[float, ...]) -> None:
    sound = (0.5 * tone()[:, None] * np.array(gains)).astype(np.float32)
    path = written(tmp_path / "phase.wav", sound)
    loudest = sound[:, int(np.abs(gains).argmax())]
    np.testing.assert_array_equal(read_recording(path, RATE), loudest)
    assert "cancel" in measure(path).note


@pytest.mark.parametrize("channels", [1, 2, 8, 40])
def test_channels_that_do_not_cancel_are_averaged_as_ever(tmp_path: Path, channels: int) -> None:
    """One that sounds among many that are silent is no cancelling."""
    sound = np.zeros((RATE, channels), np.float32)
    sound[:, -1] = tone()
    path = written(tmp_path / "wide.wav", sound)
    np.testing.assert_array_equal(read_recording(path, RATE), sound.mean(axis=1))
    assert measure(path).note == ""


def test_all_of_it_may_be_wrong_at_once(tmp_path: Path) -> None:
    sound = np.stack([tone(4.0), -1.01 * tone(4.0)], axis=1)
    sound[20_000, 0], sound[50_000:] = 1e7, np.nan
    path = written(tmp_path / "worst.wav", sound)
    found = measure(path)
    assert found.seconds == 50_000 / RATE
    assert all(word in found.note for word in ("finite", "glitch", "cancel"))
    np.testing.assert_array_equal(read_recording(path, RATE), (-1.01 * tone(4.0)[:50_000]).astype(np.float32))


def test_a_recording_in_blocks_knows_the_same(tmp_path: Path) -> None:
    sound = np.stack([tone(), -tone()], axis=1)
    sound[5_000, 0] = 1e7
    written(tmp_path / "a.wav", sound)
    written(tmp_path / "b.wav", tone(pitch=300.0))
    for part in ("train", "held_out"):
        for recording in build_manifest(tmp_path).manifest.recordings(part, RATE):
            np.testing.assert_array_equal(np.concatenate(list(recording.blocks())), recording.audio)
            np.testing.assert_array_equal(recording.audio, peak_normalized(read_recording(recording.path, RATE)))
            assert np.sqrt((recording.audio**2).mean()) == pytest.approx(np.sqrt(0.5), rel=0.01)


def silent_but(start: float, end: float, seconds: float = 10.0) -> np.ndarray:
    sound = tone(seconds)
    at = np.arange(len(sound)) / RATE
    return np.where((start <= at) & (at < end), sound, 0.0)


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 10), (0, 7), (0, 0.2), (6, 10), (9.8, 10), (4, 4.5), (0, 9.5), (2, 8.5)],
)
def test_the_one_recording_is_cut_so_that_both_parts_hold_sound(tmp_path: Path, start: float, end: float) -> None:
    written(tmp_path / "only.wav", silent_but(start, end))
    manifest = build_manifest(tmp_path).manifest
    (entry,) = manifest.files
    assert entry.train is not None
    assert entry.held_out is not None
    assert (entry.train[0], entry.held_out[1]) == (0.0, 10.0)
    assert entry.train[1] < entry.held_out[0]
    for part in ("train", "held_out"):
        (recording,) = manifest.recordings(part, RATE)
        sounding = np.count_nonzero(np.abs(recording.audio) > 0.1) / RATE
        assert sounding > 0.1 * min(recording.seconds, end - start)


def test_a_silent_recording_is_never_what_is_held_out(tmp_path: Path) -> None:
    for number in range(6):
        written(tmp_path / f"{number}.wav", np.zeros(RATE))
    written(tmp_path / "a.wav", tone())
    written(tmp_path / "b.wav", tone(pitch=300.0))
    scan = build_manifest(tmp_path)
    assert [entry.path for entry in scan.manifest.files] == ["a.wav", "b.wav"]
    assert len(scan.manifest.skipped) == 6
