"""Training copies: what they sound like, how a corpus knows them apart, and what a prior that was told draws."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from sda_prior_plugin import CodeCorpus, encode_recordings, kinds, train_prior
from sda_prior_plugin.batches import CodeBatches
from sda_prior_plugin.copies import FACTORS, SIZE, copies_of, nearest_smooth, resampled, spectrum_of
from sda_prior_plugin.encoding import encode_copies
from sda_prior_plugin.kinds import AS_RECORDED, KINDS, LONGEST_COPIED, Kind, copies_of_each, kinds_of
from sda_prior_plugin.run import Run

from .conftest import Recording, assert_same, small_settings
from .test_resuming import states_of

RATE, FRAME = 8000, 1024
NOTES = (22, 25, 27)
"""Pitches of the recordings, in semitones above 110 Hz: no two of their copies at other speeds are all the same."""
LEVEL = 24
"""Of 31, the level of the recordings."""


def tone(pitch: float, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.sin(2 * np.pi * 110 * 2 ** (pitch / 12) * time).astype(np.float32)


@dataclass
class PitchCodec:
    """A real, if humble, codec: of each frame the loudest semitone above 110 Hz, and the level in steps of 1/31."""

    sample_rate: int = RATE
    frame_samples: int = FRAME
    bands: int = 1
    levels: int = 2
    codebook_size: int = 64
    codebooks: np.ndarray = field(default_factory=lambda: np.random.default_rng(0).normal(size=(2, 64, 4)))

    def encode(self, audio: np.ndarray) -> np.ndarray:
        frames = np.pad(audio, (0, -len(audio) % FRAME)).reshape(-1, FRAME)
        spectrum = np.abs(np.fft.rfft(frames * np.hanning(FRAME), 8 * FRAME))
        pitch = 12 * np.log2(np.maximum(spectrum.argmax(1) * RATE / (8 * FRAME), 1) / 110)
        level = np.abs(frames).max(1) * 31
        return np.clip(np.round(np.stack([pitch, level], -1)), 0, 63).astype(np.int64)[:, None]


@dataclass
class Timed(Recording):
    """A recording that says how long it is."""

    seconds: float


def melodies(count: int, seed: int) -> list[Recording]:
    """Recordings of some notes, one after another."""
    rng = np.random.default_rng(seed)
    sounds = [np.concatenate([tone(rng.choice(NOTES), 0.5) for _ in range(8)]) for _ in range(count)]
    return [Recording(f"{seed}-{number}", sound * np.float32(LEVEL / 31)) for number, sound in enumerate(sounds)]


@pytest.fixture(scope="module")
def melodic() -> CodeCorpus:
    return encode_recordings(PitchCodec(), melodies(6, 1), melodies(2, 2), start_offsets=4, copies=True)


@pytest.mark.parametrize("speed", [2 ** (-4 / 12), 2 ** (1 / 12), 2.0])
def test_a_sound_at_another_speed_is_as_loud_and_as_much_shorter_and_higher(speed: float) -> None:
    sound = tone(24, 1.5)
    faster = resampled(spectrum_of(sound), len(sound), speed)
    assert len(faster) == pytest.approx(len(sound) / speed, rel=0.004)
    cycles = np.count_nonzero(np.diff(np.signbit(faster))) / 2
    assert cycles == pytest.approx(440 * 1.5, abs=1)
    inner = slice(500, -500)
    assert np.abs(faster[inner]).max() == pytest.approx(1, abs=0.02)
    late = np.concatenate([np.zeros(RATE, np.float32), sound])
    assert (
        np.abs(resampled(spectrum_of(late), len(late), speed)[: RATE // 3]).max() < 0.01
    )  # nothing of the end comes in at the beginning


def test_lengths_of_copies_are_even_soon_computed_and_within_a_few_cents_of_their_kind() -> None:
    for pieces in (1, 2, 7, 31, 351):
        for kind in KINDS:
            wanted = pieces * SIZE / kind.speed
            found = rest = nearest_smooth(wanted)
            assert not found % 2
            assert abs(1200 * np.log2(found / wanted)) < 7
            for factor in FACTORS:
                while not rest % factor:
                    rest //= factor
            assert rest == 1


@pytest.mark.parametrize(("wanted", "found"), [(0.3, 2), (2, 2), (3.2, 4), (13.2, 14), (26, 24), (27, 28)])
def test_the_nearest_soon_computed_length_is_the_nearest(wanted: float, found: int) -> None:
    assert nearest_smooth(wanted) == found


def test_kind_0_is_as_recorded_and_every_kind_has_a_name_and_a_sound_of_its_own() -> None:
    sound = tone(0, 0.5) * np.linspace(0, 1, RATE // 2, dtype=np.float32)
    made = list(copies_of(KINDS, sound))
    np.testing.assert_array_equal(made[0], sound)
    assert KINDS[0].name == AS_RECORDED
    assert len({kind.name for kind in KINDS}) == len({copy.tobytes() for copy in made}) == len(KINDS)


def test_kinds_lean_to_no_side() -> None:
    """What is drawn as recorded is a little like what else a prior was told."""
    assert sum(kind.semitones for kind in KINDS) == sum(kind.decibels for kind in KINDS) == 0


def test_copies_begin_where_the_recording_does_and_only_the_other_start_offsets_with_silence() -> None:
    """A prior takes for the rule what most of what it hears begins with."""
    codec, sound = PitchCodec(), melodies(1, 1)[0].audio
    grids = encode_copies(codec, sound, range(len(KINDS)))
    for kind, grid in zip(KINDS, grids, strict=True):
        np.testing.assert_array_equal(grid, codec.encode(*copies_of([kind], sound)))


def test_recordings_to_train_on_have_copies_of_every_kind_after_themselves_and_held_out_ones_have_none(
    melodic: CodeCorpus,
) -> None:
    train = melodic.train
    assert melodic.kinds == tuple(kind.name for kind in KINDS)
    assert train.kinds is not None
    for recording in range(train.recording_count):
        assert train.kinds[train.recordings == recording].tolist() == [0] * 4 + list(range(1, len(KINDS)))
    assert not melodic.held_out.copies.any()
    pitches = [{*train[index][:, 0, 0].tolist()} for index in range(4 + len(KINDS) - 1)]
    for kind, heard in zip(KINDS[1:], pitches[4:], strict=True):
        moved = np.add([*pitches[0]], kind.semitones)
        assert np.abs(moved[:, None] - [*heard]).min(1).max() <= 0.5, kind.name  # the codec hears whole semitones


def test_long_recordings_have_no_copies_and_much_sound_has_few_of_each_kind_as_many() -> None:
    sounds = [Timed(str(number), tone(0, 0.2), seconds) for number, seconds in enumerate((1.0, LONGEST_COPIED + 1.0))]
    train = encode_recordings(PitchCodec(), sounds, melodies(1, 2), start_offsets=2, copies=True).train
    assert np.bincount(train.recordings, train.copies).tolist() == [len(KINDS) - 1, 0]
    assert copies_of_each(60.0) == len(KINDS) - 1
    assert 0 < copies_of_each(kinds.MOST_COPIED / 3) < len(KINDS) - 1
    assert copies_of_each(2 * kinds.MOST_COPIED) == 0
    each = np.bincount([kind for number in range(len(KINDS) - 1) for kind in kinds_of(number, 3)])
    assert each.tolist() == [0] + [3] * (len(KINDS) - 1)


def test_codes_without_sound_have_no_copies_and_nothing_is_told(corpus: CodeCorpus) -> None:
    settings = small_settings(corpus)
    assert settings.augmented_share == 0
    assert Run(corpus, settings, torch.device("cpu")).network.kind is None


def test_batches_say_of_each_window_which_kind_it_is(melodic: CodeCorpus) -> None:
    source = CodeBatches(melodic, context=8, batch_size=16, seed=0, augmented_share=0.5)
    seen = []
    for epoch in range(1, 17):
        source.set_epoch(epoch)
        seen += [batch.kinds.copy() for batch in source]
    told, later = np.concatenate(seen), len(KINDS)
    assert np.mean((told > 0) & (told < later)) == pytest.approx(0.5, abs=0.05)
    assert np.mean(told == later) == pytest.approx(0.5 * 3 / 4, abs=0.05), "of four start offsets three are another"
    assert {*told.tolist()} == {*range(len(KINDS) + 1)}
    alone = CodeBatches(melodic, context=8, batch_size=16, seed=0)
    assert not np.concatenate([batch.kinds.copy() for batch in alone]).any()


@pytest.mark.slow
def test_what_is_drawn_as_recorded_has_the_pitch_and_level_of_the_recordings_and_the_rest_is_as_asked() -> None:
    """Though half of what is learned from is lower or quieter, and nearly all of it begins with silence."""
    codec, told = PitchCodec(), [Kind(), Kind(-2), Kind(decibels=-6)]
    grids, names, numbers = [], [], []
    for recording in melodies(6, 1):
        for number in (0, 0, 0, 1, 2):
            lead = np.zeros(len(grids) * 200 % FRAME, np.float32)
            grids.append(codec.encode(np.concatenate([lead, *copies_of([told[number]], recording.audio)])))
            names.append(recording.name)
            numbers.append(number)
    held_out = [codec.encode(recording.audio) for recording in melodies(2, 2)]
    corpus = CodeCorpus.from_sequences(
        grids, held_out, codebooks=codec.codebooks, train_names=names, frame_seconds=FRAME / RATE,
        train_kinds=numbers, kinds=[kind.name for kind in told],
    )  # fmt: skip
    prior = train_prior(corpus, small_settings(corpus, epochs=40, augmented_share=0.5)).prior
    for name, kind in ((None, told[0]), *((kind.name, kind) for kind in told)):
        pitch, level = np.concatenate(prior.samples(24, 12, seed=3, kind=name))[:, 0].T
        assert np.mean(np.isin(pitch, np.add(NOTES, kind.semitones))) > 0.7, name
        assert np.median(level) == pytest.approx(LEVEL * kind.level, abs=1), name


def test_a_training_with_copies_goes_on_from_any_moment_as_if_it_had_not_been_broken_off(melodic: CodeCorpus) -> None:
    settings = small_settings(melodic, epochs=2, augmented_share=0.5)
    run, states = states_of(melodic, settings)
    assert_same(train_prior(melodic, settings, resume_from=states[len(states) // 3]), run)
