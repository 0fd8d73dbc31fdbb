"""Recordings as spectrograms to take crops from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from host_stubs.errors import HostError
from host_stubs.mel import Mel, MelSettings
from host_stubs.tracks import CROP, Tracks

MEL = Mel(MelSettings())


@pytest.fixture(scope="module")
def recordings() -> list[np.ndarray]:
    """Of three seconds, of a quarter of one, empty, and of two seconds."""
    random = np.random.default_rng(0)
    return [random.uniform(-0.5, 0.5, samples).astype(np.float32) for samples in (144_000, 12_000, 0, 96_000)]


def test_an_empty_recording_has_no_track(recordings: list[np.ndarray]) -> None:
    assert Tracks.of(recordings, MEL).frames == [282, 24, 188]


def test_a_crop_is_the_spectrogram_of_its_place_and_zeros_where_the_recording_is_over(
    recordings: list[np.ndarray],
) -> None:
    tracks = Tracks.of(recordings, MEL)
    whole = MEL.log_mel(torch.from_numpy(recordings[0] / np.abs(recordings[0]).max())[None])[0]
    torch.testing.assert_close(tracks.crop(0, 10)[:128], whole[:, 10 : 10 + CROP])
    assert not tracks.crop(0, 10)[128:].any()
    assert tracks.crop(1, 20)[:, :4].any()
    assert not tracks.crop(1, 20)[:, 4:].any()


def test_what_is_kept_in_a_file_is_what_would_be_in_memory(
    recordings: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = Tracks.of(recordings, MEL)
    monkeypatch.setattr("host_stubs.tracks.MOST_IN_MEMORY", in_memory._read(0, 0).nbytes)
    in_a_file = Tracks.of(recordings, MEL)
    assert not any(isinstance(kept, np.ndarray) for kept in in_a_file._kept)
    for track in range(3):
        for start in range(in_memory.starts(track)):
            torch.testing.assert_close(in_a_file.crop(track, start), in_memory.crop(track, start), rtol=0, atol=0)
    torch.testing.assert_close(in_a_file.spread(5), in_memory.spread(5), rtol=0, atol=0)


def test_crops_are_spread_over_all_recordings(recordings: list[np.ndarray]) -> None:
    tracks = Tracks.of(recordings, MEL)
    assert len(tracks.spread(100)) == 3 + 1 + 2
    first, last = tracks.spread(2)
    torch.testing.assert_close(first[0], tracks.crop(0, 0))
    torch.testing.assert_close(last[0], tracks.crop(2, CROP))


def test_a_quiet_crop_is_made_louder_by_ten_at_most() -> None:
    sound = np.concatenate([np.ones(100), np.full(143_900, 0.01)]).astype(np.float32)
    tracks = Tracks.of([sound], MEL)
    quiet = tracks.crop(0, 100).expm1()
    torch.testing.assert_close(tracks.louder(0, 100, 1.0).expm1(), 100 * quiet, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(tracks.louder(0, 100, 0.0), tracks.crop(0, 100), rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_a_sentence(recordings: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_stubs.tracks.MOST_IN_MEMORY", 0)
    with Path("/dev/full").open("r+b", buffering=0) as full:
        monkeypatch.setattr("tempfile.TemporaryFile", lambda prefix: full)
        with pytest.raises(HostError, match=r"No space left on device\). Make room there, or set TMPDIR"):
            Tracks.of(recordings, MEL)
