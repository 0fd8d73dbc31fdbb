"""The synthesized corpus: from its seed, varied, audible, and never clipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from host_stubs.errors import HostError
from host_stubs.synth import SAMPLE_RATE, bell, chime, hat, kick, pluck, snare, write_demo_recordings


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_demo_recordings(tmp_path_factory.mktemp("demo") / "made" / "as needed")


def test_the_corpus_is_a_minute_of_short_recordings(corpus: list[Path]) -> None:
    infos = [soundfile.info(path) for path in corpus]
    assert len(corpus) == 32
    assert all(info.subtype == "PCM_16" and info.samplerate == SAMPLE_RATE and info.channels == 1 for info in infos)
    assert all(0.6 <= info.duration <= 4.0 for info in infos)
    assert 60 <= sum(info.duration for info in infos) <= 90
    kinds = {path.stem.split("_", 1)[1] for path in corpus}
    assert kinds == {"string", "string_phrase", "bell", "bell_phrase", "drum", "drum_loop"}


def test_every_recording_is_audible_and_none_clips(corpus: list[Path]) -> None:
    for path in corpus:
        audio, _ = soundfile.read(path)
        assert 0.89 < np.abs(audio).max() < 0.91, path.name
        assert audio.std() > 0.02, path.name
        assert abs(audio.mean()) < 0.01, path.name
        assert abs(audio[-1]) < 1e-3, path.name  # no click at the end


def test_the_same_seed_gives_the_same_bytes(corpus: list[Path], tmp_path: Path) -> None:
    again = write_demo_recordings(tmp_path / "again", count=8)
    assert [path.name for path in again] == [path.name for path in corpus[:8]]
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(again, corpus, strict=False))
    other_seed = write_demo_recordings(tmp_path / "other", seed=1, count=8)
    assert all(one.read_bytes() != other.read_bytes() for one, other in zip(again, other_seed, strict=True))


def test_no_two_recordings_are_alike(corpus: list[Path]) -> None:
    assert len({path.read_bytes() for path in corpus}) == len(corpus)


@pytest.mark.parametrize("pitch", [110.0, 440.0, 880.0])
def test_a_plucked_string_sounds_at_its_pitch(pitch: float) -> None:
    sound = pluck(np.random.default_rng(0), pitch, 1.0)
    powers = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    partials = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE) / pitch
    assert powers[np.abs(partials - np.round(partials)) < 0.05].sum() > 0.9 * powers.sum()


def test_each_instrument_is_loudest_near_one() -> None:
    rng = np.random.default_rng(0)
    for sound in (pluck(rng, 220, 1), bell(rng, 440, 1), chime(rng, 440, 1), kick(rng), snare(rng), hat(rng)):
        assert 0.3 < np.abs(sound).max() < 1.6
        assert np.isfinite(sound).all()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(HostError, match="cannot be made"):
        write_demo_recordings(tmp_path / "file" / "demo")
