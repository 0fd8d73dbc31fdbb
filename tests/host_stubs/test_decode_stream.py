"""Decoding as the codes come: the same samples as at once, soon, without seams, and without end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from host_stubs.codec import Codec
from host_stubs.errors import HostError
from host_stubs.griffin_lim import GriffinLim
from host_stubs.mel import Mel, MelSettings

MOST_BEHIND = 10  # code frames


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """More threads give other roundings, and wait for each other where tests share their processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_codes(codec: Codec, frames: int) -> np.ndarray:
    """Random codes `[frames, bands, levels]`."""
    return np.random.default_rng(0).integers(codec.codebook_size, size=(frames, codec.bands, codec.levels))


@pytest.fixture(scope="module")
def codes(codec: Codec) -> np.ndarray:
    return some_codes(codec, 21)


@pytest.fixture(scope="module")
def at_once(codec: Codec, codes: np.ndarray) -> np.ndarray:
    return codec.decode(codes)


@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, 21), max_size=8))
def test_however_the_codes_are_cut_the_samples_are_the_same(
    codec: Codec, codes: np.ndarray, at_once: np.ndarray, cuts: list[int]
) -> None:
    audio = np.concatenate(list(codec.decode_stream(np.split(codes, sorted(cuts)))))
    np.testing.assert_array_equal(audio, at_once)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 9])
def test_the_end_gives_the_rest(codec: Codec, codes: np.ndarray, frames: int) -> None:
    one_by_one = np.concatenate(list(codec.decode_stream(codes[number : number + 1] for number in range(frames))))
    np.testing.assert_array_equal(one_by_one, codec.decode(codes[:frames]))
    assert one_by_one.shape == (frames * codec.frame_samples,)
    assert one_by_one.dtype == np.float32


def test_what_comes_later_does_not_change_what_was_given(codec: Codec, codes: np.ndarray, at_once: np.ndarray) -> None:
    first = next(codec.decode_stream([codes[:2]]))
    assert len(first) > 0.05 * codec.sample_rate
    np.testing.assert_array_equal(first, at_once[: len(first)])


def test_sound_comes_with_the_second_frame_and_within_a_tenth_of_a_second(codec: Codec, codes: np.ndarray) -> None:
    taken = []
    for _ in range(5):
        given = itertools.count(1)
        frames = (codes[next(given) - 1 :][:1] for _ in codes)
        start = time.perf_counter()
        next(codec.decode_stream(frames))
        taken.append(time.perf_counter() - start)
        assert next(given) == 3  # two were taken
    assert min(taken) < 0.1


def test_what_is_held_back_does_not_grow(codec: Codec) -> None:
    codes, taken = some_codes(codec, 60), 0

    def one_by_one() -> Iterator[np.ndarray]:
        nonlocal taken
        for frame in codes:
            taken += 1
            yield frame[None]

    given, behind = 0, []
    for audio in codec.decode_stream(one_by_one()):
        behind.append(taken - given / codec.frame_samples)  # just before these samples come
        given += len(audio)
    assert len(behind) > 8
    assert max(behind) < MOST_BEHIND


def test_there_are_no_seams() -> None:
    """A chord has no edges, so an edge in its sound would stand out; the log-mel is met there as well as elsewhere."""
    mel = Mel(MelSettings())
    times = np.arange(512 * 640) / 48_000
    chord = sum(0.12 * np.sin(2 * np.pi * pitch * times) for pitch in (220.0, 277.2, 329.6, 440.5))
    log_mel = mel.log_mel(torch.as_tensor(chord, dtype=torch.float32)[None])[0, :, :640]
    parts = list(GriffinLim(mel).stream(log_mel.split(64, dim=1)))
    audio = torch.cat(parts)
    seams = np.cumsum([len(part) for part in parts])[:-1]
    assert len(seams) == 10
    edges = audio.diff(n=3).abs().numpy()
    inside = np.quantile(edges[512:-512], 0.99)
    assert all(edges[seam - 8 : seam + 8].max() < 2 * inside for seam in seams)
    off = (mel.log_mel(audio[None])[0, :, :640] - log_mel).abs().mean(0).numpy()  # [frames]
    assert np.mean([off[seam // 512 - 2 : seam // 512 + 3].mean() for seam in seams]) < 1.25 * off.mean()


def test_no_codes_give_no_sound(codec: Codec, codes: np.ndarray) -> None:
    assert list(codec.decode_stream([])) == []
    assert list(codec.decode_stream([codes[:0], codes[:0]])) == []


def test_a_block_that_does_not_fit_is_refused_when_it_comes(codec: Codec, codes: np.ndarray) -> None:
    stream = codec.decode_stream([codes[:5], codes[5:, :1]])
    assert len(next(stream))
    with pytest.raises(HostError, match="Codes of this model"):
        list(stream)
