"""Near copies, what of the held-out recordings is unheard, how near sounds lie, and what recordings share anyway."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

import host_stubs
from sda_prior_plugin import CodeCorpus
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.copy_test import by_recording, chances_of_more
from sda_prior_plugin.copying import Heard
from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.encoding import encode_recordings, encode_variants
from sda_prior_plugin.natural import FEWEST_TRAINED
from sda_prior_plugin.near_copies import NEAR, Sketch, place_keys
from sda_prior_plugin.nearness import nearness

from .conftest import phrases

WINDOW = 6
OFFSETS = 8


def sketched(grids: list[np.ndarray]) -> Sketch:
    starts = np.cumsum([0, *map(len, grids)])
    names = tuple(map(str, range(len(grids))))
    return Sketch.of(CodeSequences(np.concatenate(grids), starts, np.arange(len(grids)), names), WINDOW)


def finest_changed(grid: np.ndarray, rng: np.random.Generator, share: float = 0.1) -> np.ndarray:
    """The grid with so many of the codes of the finest level replaced at random."""
    changed = grid.copy()
    wrong = rng.random(grid.shape[:2]) < share
    changed[..., -1] = np.where(wrong, rng.integers(0, 32, grid.shape[:2]), grid[..., -1])
    return changed


@pytest.fixture(scope="module")
def codebooks() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(3, 32, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def recorded(shared: Path) -> tuple[host_stubs.Codec, dict[str, np.ndarray]]:
    """A codec, and sitar and drum recordings by name."""
    torch.set_num_threads(1)
    codec = host_stubs.read_legacy(shared / "legacy" / "gretsch.distill").codec
    found = {}
    for folder in ("sitar", "gretsch"):
        manifest = host_stubs.build_manifest(shared / "audio" / folder).manifest
        for part in ("train", "held_out"):
            found |= {one.name: one.audio for one in manifest.recordings(part, codec.sample_rate)}
    return codec, found


def test_a_stretch_with_one_code_in_ten_of_the_finest_level_replaced_is_a_near_copy() -> None:
    learned, rng = phrases(40, 1), np.random.default_rng(0)
    sketch = sketched(learned)
    changed, total = sketch.near_counts(sketch.neighbours([finest_changed(grid, rng) for grid in learned]))
    alike, others = sketch.near_counts(sketch.neighbours(phrases(40, 2)))
    assert changed.sum() / total.sum() >= 0.95
    assert others.sum() > 100
    assert alike.sum() / others.sum() < 0.02


@pytest.mark.slow
def test_of_real_recordings_the_same_sound_is_near_and_another_one_mostly_not(
    recorded: tuple[host_stubs.Codec, dict[str, np.ndarray]],
) -> None:
    """As far from the trained start offsets as can be, or with one code in ten of the finest level replaced."""
    codec, recordings = recorded
    sitar = {name: audio for name, audio in recordings.items() if "sitar" in name}
    rng = np.random.default_rng(0)
    learned = {name: encode_variants(codec, audio, OFFSETS) for name, audio in sitar.items()}
    lead = codec.frame_samples // OFFSETS // 2
    moved = {name: codec.encode(np.pad(audio, (lead, 0))) for name, audio in sitar.items()}

    def near(names: list[str], grids: list[np.ndarray]) -> float:
        sketch = sketched([grid for name in names for grid in learned[name]])
        copies, total = sketch.near_counts(sketch.neighbours(grids))
        return float(copies.sum() / total.sum())

    every = list(sitar)
    assert near(every, [finest_changed(learned[name][0], rng) for name in every]) >= 0.95
    assert near(every, list(moved.values())) >= 0.9
    others = [near([one for one in every if one != name], [learned[name][0]]) for name in every]
    assert np.mean(others) < 0.25


def test_silence_and_sustained_sounds_are_not_compared() -> None:
    quiet = [np.zeros((20, 4, 3), np.int64)]
    sketch = sketched([*phrases(10, 1), *quiet])
    assert [len(one.shares) for one in sketch.neighbours(quiet)] == [0]


def test_what_is_near_is_where_it_is_said_to_be() -> None:
    learned = phrases(20, 1)
    sketch = sketched(learned)
    (found,) = sketch.neighbours([learned[7]])
    assert found.shares.min() == pytest.approx(1.0)
    assert (found.places - found.firsts == 7 * 12).all()
    assert sketch.near_share(learned[7]) == 1.0
    assert sketch.near_share(np.concatenate([learned[7], phrases(1, 99)[0]])) < 0.7


@pytest.mark.slow
def test_six_hours_at_eight_start_offsets_are_measured_in_no_time() -> None:
    """A quarter of that here, in a quarter of the time that it may take; the benchmark has all of it."""
    rng, frames = np.random.default_rng(0), int(6 / 4 * 3600 / (8192 / 48000)) * OFFSETS
    common = np.exp(-np.arange(128) / 9.6)
    codes = rng.choice(128, (frames, 8, 3), p=common / common.sum()).astype(np.int16)
    starts = np.linspace(0, frames, 81).astype(np.int64)
    train = CodeSequences(codes, starts, np.arange(80) // OFFSETS, tuple(map(str, range(10))))
    grids = [codes[first : first + WINDOW] for first in rng.integers(0, frames - WINDOW, 96)]
    books = rng.normal(size=(3, 128, 8)).astype(np.float32)
    held_out = [rng.choice(128, (60, 8, 3), p=common / common.sum()) for _ in range(8)]
    small = CodeCorpus.from_sequences(held_out, held_out, codebooks=books)
    CopyMeter(CodeCorpus(small.shape, books, small.train, small.held_out)).measured(grids[:4])  # compiles
    corpus = CodeCorpus(small.shape, books, train, small.held_out)
    started = time.thread_time()
    meter = CopyMeter(corpus)
    begun = time.thread_time()
    measured = meter.measured(grids)
    looked = time.thread_time()
    assert measured.exact[0].samples > 0.9
    assert begun - started < 3.0 / 4
    assert looked - begun < 0.3


def test_of_overlapping_takes_the_held_out_stretch_is_left_out_and_said(codebooks: np.ndarray) -> None:
    learned, new = phrases(30, 1), phrases(8, 2)
    overlapping = np.concatenate([new[0], finest_changed(learned[3], np.random.default_rng(0))])
    corpus = CodeCorpus.from_sequences(learned, [overlapping, *new[1:]], codebooks=codebooks)
    meter = CopyMeter(corpus)
    heard = meter.unheard.heard
    assert 10 <= heard[12:24].sum() <= 12
    assert heard[:10].sum() == heard[24:].sum() == 0
    assert meter.unheard.sentence == "2.0 of 18.4 s held out are also trained on: the prior is judged by the rest"
    assert meter.measured(learned[:8]).exact[0].natural == 0.0


def test_where_nearly_all_is_heard_it_is_said_and_copying_is_not_judged(codebooks: np.ndarray) -> None:
    learned = phrases(30, 1)
    meter = CopyMeter(CodeCorpus.from_sequences(learned, learned[:8], codebooks=codebooks))
    assert not meter.calibrated
    assert meter.unheard.judged.all()
    assert "too little is unheard" in meter.unheard.sentence


def test_a_short_recording_that_is_there_twice_is_heard(codebooks: np.ndarray) -> None:
    hits = phrases(9, 5, frames=3)
    corpus = CodeCorpus.from_sequences([*phrases(30, 1), hits[0]], hits, codebooks=codebooks)
    heard = CopyMeter(corpus).unheard.heard
    assert heard[:3].all()
    assert not heard[3:].any()


def test_bars_that_many_recordings_are_made_of_are_no_take(codebooks: np.ndarray) -> None:
    bars = phrases(4, 1, frames=6)
    orders = np.random.default_rng(3).integers(0, 4, (20, 3))
    loops = [np.concatenate([bars[one] for one in order]) for order in orders]
    meter = CopyMeter(CodeCorpus.from_sequences(loops[:12], loops[12:], codebooks=codebooks))
    assert not meter.unheard.heard.any()
    assert meter.measured(loops[12:]).exact[0].natural > 0.5


@pytest.mark.slow
def test_of_real_takes_that_overlap_the_plugin_finds_those_held_out(shared: Path) -> None:
    """`23663` lies sample for sample in `23665`; most of the others overlap with nothing."""
    torch.set_num_threads(1)
    codec = host_stubs.read_legacy(shared / "legacy" / "tabla2.distill").codec
    manifest = host_stubs.build_manifest(shared / "audio" / "tabla2").manifest
    recordings = {
        one.name: one for part in ("train", "held_out") for one in manifest.recordings(part, codec.sample_rate)
    }
    held_out = [name for name in sorted(recordings) if "23663" in name or "bahia00" in name]
    train = [name for name in sorted(recordings) if name not in held_out]
    corpus = encode_recordings(
        codec, (recordings[name] for name in train), (recordings[name] for name in held_out), start_offsets=OFFSETS
    )
    unheard = CopyMeter(corpus).unheard
    marks = dict(zip(corpus.held_out.names, np.split(unheard.heard, unheard.starts[1:-1]), strict=True))
    (twice,) = (one for name, one in marks.items() if "23663" in name)
    assert twice.mean() > 0.5
    assert unheard.heard_seconds / unheard.seconds < 0.25


@pytest.mark.slow
@pytest.mark.parametrize("recordings", [30, 6])
def test_pieces_of_few_recordings_do_not_raise_more_false_alarms(recordings: int) -> None:
    """A prior that copies exactly as much as 30 held-out pieces do, from so many recordings that each have a rate."""
    rng, alarms = np.random.default_rng(5), []
    for _ in range(150):
        rates = rng.beta(0.3, 1.2, recordings)
        whose = np.repeat(np.arange(recordings), 30 // recordings)
        counted, sounds = rng.integers(3, 6, 30), rng.integers(3, 6, 60)
        copied = rng.binomial(counted, rates[whose])
        natural = tuple(by_recording(one, whose, recordings) for one in (copied, counted))
        samples = rng.binomial(sounds, rng.beta(0.3, 1.2, 60)), sounds
        (chance,) = chances_of_more([samples], [natural])  # type: ignore[list-item]
        alarms.append(chance <= 0.05)
    assert np.mean(alarms) <= 0.08


def test_pieces_of_three_recordings_are_too_few_to_know(codebooks: np.ndarray) -> None:
    corpus = CodeCorpus.from_sequences(
        phrases(FEWEST_TRAINED - 1, 1), phrases(3, 2, frames=120), codebooks=codebooks, held_out_names=["a", "b", "c"]
    )
    assert not CopyMeter(corpus).calibrated


def spliced(natural: list[np.ndarray], learned: list[np.ndarray], share: float, seed: int) -> list[np.ndarray]:
    """Sixty sounds of a second, natural but for so many of them that are stretches of what was learned."""
    rng = np.random.default_rng(seed)
    sounds = [natural[one][first : first + WINDOW] for one, first in zip(
        rng.integers(0, len(natural), 60), rng.integers(0, 12 - WINDOW, 60), strict=True
    )]  # fmt: skip
    for index in range(round(60 * share)):
        sounds[index] = learned[rng.integers(len(learned))][1 : 1 + WINDOW]
    return sounds


@pytest.mark.parametrize("near", [False, True])
def test_copies_spliced_into_natural_sound_are_noticed_from_fifteen_percent_on(
    codebooks: np.ndarray, near: bool
) -> None:
    """The protocol of MiRA (Batlle-Roca et al. 2024); near ones have one code in ten of the finest level replaced."""
    learned, rng = phrases(60, 1), np.random.default_rng(0)
    meter = CopyMeter(CodeCorpus.from_sequences(learned, phrases(30, 2), codebooks=codebooks))
    copies = [finest_changed(grid, rng, 0.3) for grid in learned] if near else learned
    noticed = [meter.measured(spliced(phrases(30, 3 + seed), copies, 0.15, seed)).telling for seed in range(10)]
    assert sum(one is not None for one in noticed) >= 10 * 0.95
    clean = [meter.measured(spliced(phrases(30, 30 + seed), copies, 0.0, seed)).telling for seed in range(10)]
    assert sum(one is not None for one in clean) <= 1


def test_nearness_moves_before_copying_begins(codebooks: np.ndarray) -> None:
    """Sounds of which every second place is a recording's are no copies, near or exact, and lie nearer."""
    learned, rng = phrases(60, 1), np.random.default_rng(0)
    meter = CopyMeter(CodeCorpus.from_sequences(learned, phrases(30, 2), codebooks=codebooks))

    def half(grid: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.where(rng.random((len(grid), 4, 1)) < 0.5, grid, other)

    nearer = [half(grid, other) for grid, other in zip(learned, phrases(60, 3), strict=True)]
    as_near, found = (meter.nearness(meter.measured(sounds)) for sounds in (phrases(60, 4), nearer))
    assert as_near is not None
    assert found is not None
    assert as_near.nearer == pytest.approx(0.5, abs=0.15)
    assert as_near.p_value > 0.01
    assert found.nearer > 0.8
    assert found.p_value < 0.001
    assert found.samples > found.natural
    assert meter.measured(nearer).exact[0].samples < 0.05


def test_ranks_with_ties_are_those_of_the_textbook() -> None:
    found = nearness(np.array([1.0, 2.0, 2.0]), np.array([1.0, 0.0]))
    assert found is not None
    assert found.nearer == pytest.approx((0.5 + 1 + 1 + 1 + 1 + 1) / 6)
    assert nearness(np.array([1.0]), np.array([1.0, 0.0])) is None


def test_keys_do_not_say_which_codes_they_are_of() -> None:
    pairs = np.stack(np.meshgrid(np.arange(128), np.arange(128)), axis=-1).reshape(-1, 1, 2)
    grids = np.concatenate([pairs, np.zeros((len(pairs), 1, 1), np.int64)], axis=2)
    counts = np.bincount(place_keys(grids).ravel(), minlength=256)
    assert counts.min() > 30
    assert 0 < NEAR < 1
    assert len(Heard.of(CodeSequences(pairs, np.array([0, len(pairs)]), np.array([0]), ("a",))).hashes) == len(pairs)


@pytest.mark.parametrize(("levels", "coarse"), [(1, 1), (2, 1), (3, 2), (4, 2), (8, 2)])
def test_places_are_compared_by_their_coarser_levels_two_at_most(levels: int, coarse: int) -> None:
    codes = np.random.default_rng(0).integers(0, 1024, (200, 1, levels))
    for level in range(levels):
        changed = codes.copy()
        changed[..., level] = (changed[..., level] + 1) % 1024
        same = (place_keys(changed) == place_keys(codes)).mean()
        assert (same < 0.1) if level < coarse else (same == 1)
