"""The measure of how drawn sounds compare with recordings: it finds what is different, and nothing where nothing is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import host_stubs
from benchmarks.corpora import Dataset, encodec_like_dataset
from benchmarks.pitch import pitches
from benchmarks.residual_codec import ResidualCodec
from benchmarks.sound_measure import rows, told_nothing
from benchmarks.texture import direction, level, log_mel, texture
from benchmarks.two_sets import Sound, auc, auc_of_some, discrepancy, spread, standardized
from host_stubs.mel import Mel, MelSettings
from sda_prior_plugin import Prior, PriorSettings, train_prior

RATE = 24_000


def plucks(count: int, seed: int) -> list[np.ndarray]:
    """Plucked tones of a second, each of another pitch and decay and at about the same level."""
    rng, time = np.random.default_rng(seed), np.arange(RATE) / RATE
    found = []
    for _ in range(count):
        pitch, decay = 200 * 2 ** rng.uniform(0, 1.5), rng.uniform(3, 8)
        tones = [np.exp(-decay * time * k) * np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 7)]
        found.append((0.3 * 10 ** (rng.normal(0, 1) / 20) * np.sum(tones, axis=0)).astype(np.float32))
    return found


@pytest.fixture(scope="module")
def recordings() -> list[np.ndarray]:
    return plucks(48, seed=0)


@pytest.fixture(scope="module")
def as_they_are(recordings: list[np.ndarray]) -> list[Sound]:
    """What is measured of them."""
    return [Sound(str(number), texture(audio, RATE)) for number, audio in enumerate(recordings)]


def two_halves(changed: list[Sound], as_they_are: list[Sound], split: int = 0) -> tuple[list[Sound], list[Sound]]:
    """Half of the recordings, changed, and the other half, in units of this."""
    first, second = np.split(np.random.default_rng(split).permutation(len(as_they_are)), 2)
    theirs = [as_they_are[one] for one in second]
    return standardized([changed[one] for one in first], by=theirs), standardized(theirs, by=theirs)


def test_two_halves_of_the_same_recordings_are_not_told_apart(as_they_are: list[Sound]) -> None:
    halves = [two_halves(as_they_are, as_they_are, split) for split in range(4)]
    assert np.mean([auc(*both) for both in halves]) == pytest.approx(0.5, abs=0.1)
    assert np.mean([discrepancy(*both) for both in halves]) == pytest.approx(0, abs=0.01)
    assert np.mean([spread(*both) for both in halves]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "change",
    [np.flip, lambda audio: audio / 2, lambda audio: np.convolve(audio, np.ones(8) / 8, "same")],
    ids=["reversed", "6 dB lower", "low-passed"],
)
def test_what_was_changed_is_told_from_what_was_not(
    recordings: list[np.ndarray], as_they_are: list[Sound], change: Callable[[np.ndarray], np.ndarray]
) -> None:
    changed = [Sound(str(number), texture(change(audio), RATE)) for number, audio in enumerate(recordings)]
    ours, theirs = two_halves(changed, as_they_are)
    assert auc(ours, theirs) > 0.8
    assert discrepancy(ours, theirs) > 0.05


def test_of_few_sounds_at_a_time_a_difference_is_found_less_often() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = gaussian(24, rng, scale=2), gaussian(24, rng)
    ours = [Sound(sound.name, sound.windows + 1) for sound in ours]
    assert auc_of_some(ours, theirs, count=4) < auc(ours, theirs)


def gaussian(count: int, rng: np.random.Generator, scale: float = 1.0) -> list[Sound]:
    """Sounds of three windows that are alike."""
    return [
        Sound(str(rng.random()), scale * (rng.normal(size=(1, 4)) + 0.3 * rng.normal(size=(3, 4))))
        for _ in range(count)
    ]


def test_the_discrepancy_is_0_on_average_however_few_sounds_there_are() -> None:
    rng = np.random.default_rng(0)
    found = [discrepancy(gaussian(5, rng), gaussian(5, rng)) for _ in range(200)]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(len(found))


def test_a_recording_is_never_compared_with_itself() -> None:
    sounds = gaussian(6, np.random.default_rng(0))
    assert discrepancy(sounds, sounds) == pytest.approx(0, abs=1e-12)
    assert auc(sounds, sounds) < 0.6


def test_the_spread_is_how_far_apart_sounds_are() -> None:
    half, whole = (gaussian(20, np.random.default_rng(0), scale) for scale in (0.5, 1))
    assert spread(half, whole) == pytest.approx(0.5)


@pytest.mark.parametrize("hertz", [82.4, 220.0, 440.0, 987.8])
@pytest.mark.parametrize("rate", [24_000, 48_000])
def test_the_pitch_of_a_tone_is_its_own(hertz: float, rate: int) -> None:
    time = np.arange(rate // 4) / rate
    for overtones in (range(1, 2), range(1, 9), range(2, 6)):  # pure, full, and without the fundamental
        found = pitches(sum(0.1 * np.sin(2 * np.pi * k * hertz * time) for k in overtones), rate)
        assert len(found) > 5
        np.testing.assert_allclose(found, hertz, rtol=0.005)


def test_noise_and_silence_have_no_pitch() -> None:
    assert len(pitches(np.random.default_rng(0).normal(0, 0.1, RATE), RATE)) == 0
    assert len(pitches(np.zeros(RATE), RATE)) == len(pitches(np.zeros(10), RATE)) == 0


def test_a_level_is_in_decibels_against_full_scale() -> None:
    tone = 0.5 * np.sin(np.arange(RATE) * 2 * np.pi * 300 / RATE)
    assert level(tone) == pytest.approx(-9.03, abs=0.01)
    assert level(tone) - level(tone / 2) == pytest.approx(6.02, abs=0.01)


def test_plucked_sounds_run_forwards_and_backwards_the_other_way(recordings: list[np.ndarray]) -> None:
    for audio in recordings[:8]:
        cut_off = audio.copy()
        cut_off[RATE // 2 :] = 0
        assert direction(audio, RATE) > 0.3
        assert direction(cut_off, RATE) > 0.3
        assert direction(audio[::-1], RATE) == pytest.approx(-direction(audio, RATE), abs=0.1)


def test_the_shortest_sound_has_a_texture() -> None:
    short = np.full(10, 0.1, np.float32)
    assert texture(short, RATE).shape == (1, 4 * log_mel(short, RATE).shape[1])


@pytest.fixture(scope="module")
def encodec_like(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Plucked tones over a codec of one band, 75 frames a second and four levels."""
    folder = tmp_path_factory.mktemp("shared")
    for number, audio in enumerate(plucks(10, seed=1)):
        (folder / "audio" / "plucks").mkdir(parents=True, exist_ok=True)
        host_stubs.write_wav(folder / "audio" / "plucks" / f"{number}.wav", audio, RATE)
    (dataset,) = encodec_like_dataset("plucks", levels=4, codebook_size=64, folder=folder)
    return dataset


@pytest.fixture(scope="module")
def prior(encodec_like: Dataset) -> Prior:
    """Trained for an epoch, with the defaults otherwise."""
    corpus = encodec_like.corpus(start_offsets=1)
    settings = PriorSettings.for_corpus(corpus, file_count=encodec_like.file_count, epochs=1, hidden_size=32)
    return train_prior(corpus, settings).prior


def test_a_codec_of_one_band_and_many_frames_keeps_the_contract(encodec_like: Dataset) -> None:
    codec = encodec_like.codec
    assert (codec.bands, codec.levels, codec.codebook_size, codec.frame_samples) == (1, 4, 64, 320)
    audio = plucks(1, seed=2)[0][: 10 * codec.frame_samples + 1]
    codes = codec.encode(audio)
    assert codes.shape == (11, 1, 4)
    assert codec.encode(audio[:-1]).shape == (10, 1, 4)
    assert codec.decode(codes).shape == (11 * codec.frame_samples,)


def test_a_residual_codec_comes_closer_with_each_level_and_is_the_same_again(recordings: list[np.ndarray]) -> None:
    def learned(levels: int) -> ResidualCodec:
        return ResidualCodec.learned(recordings[:8], frames_per_second=50, levels=levels, codebook_size=32)

    def off(codec: ResidualCodec) -> float:
        codes, audio = codec.encode(recordings[0])[:, 0], torch.from_numpy(recordings[0])[None]
        meant = sum(codec.codebooks[level][codes[:, level]] for level in range(codec.levels))
        log_mel = Mel(MelSettings(RATE, 1024, codec.frame_samples, 64)).log_mel(audio)[0].T[: len(codes)].numpy()
        return float(np.abs(meant - log_mel).mean())

    few, many = learned(1), learned(4)
    np.testing.assert_array_equal(many.codebooks[:1], few.codebooks)
    assert off(many) < 0.7 * off(few)


def test_without_the_recordings_there_is_no_such_corpus(tmp_path: Path) -> None:
    assert encodec_like_dataset(folder=tmp_path) == []


def test_a_prior_that_is_told_nothing_learns_from_the_same_copies(encodec_like: Dataset) -> None:
    corpus = encodec_like.corpus(start_offsets=2, copies=True)
    other = told_nothing(corpus)
    assert set(corpus.train.told(later=9)) == {*range(len(corpus.kinds)), 9}
    assert set(other.train.told(later=9)) == {0}
    assert other.train.codes is corpus.train.codes
    np.testing.assert_array_equal(other.train.copies, corpus.train.copies)


@pytest.mark.slow
def test_a_prior_is_measured_beside_the_recordings(encodec_like: Dataset, prior: Prior) -> None:
    near, sound = rows(encodec_like, prior, count=4, settings=[(1.0, 1.0), (1.0, 0.5)], untold=prior)
    assert [line[1] for line in sound] == [
        "recordings trained on",
        "recordings held out",
        "recordings trained on, not through the codec",
        "recordings trained on, from other start offsets",
        "drawn, temperature 1, top-p 1",
        "drawn, temperature 1, top-p 0.5",
        "not told of copies, temperature 1, top-p 0.7",
    ]
    assert [line[1] for line in near] == ["any recordings, as many as are held out", *(line[1] for line in sound[1:])]
    held_out, drawn = near[1], near[4]
    assert held_out[2] == "2"
    assert 0 <= float(drawn[4]) <= 1
    assert float(drawn[6]) > float(held_out[6])  # it has learned next to nothing
    assert drawn[8].endswith("%")
