"""How fast sound becomes codes and codes sound, and how close the sound comes. Part of `make bench`.

With the recordings and the model of the existing host that stand beside the repository, or else with the demo's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.corpora import Dataset, demo_dataset, legacy_datasets
from host_stubs.mel import Mel
from sda_prior_plugin.encoding import encode_variants

THREADS = (1, 2)
OFFSETS = 8
ROUNDS = 5
MINUTE = 60.0


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return next((each for each in legacy_datasets() if each.name == "tabla2"), None) or demo_dataset()


@pytest.fixture(scope="module")
def recordings(dataset: Dataset) -> list[np.ndarray]:
    """Float `[samples]` each."""
    rate = dataset.codec.sample_rate
    return [recording.audio for part in ("train", "held_out") for recording in dataset.manifest.recordings(part, rate)]


@pytest.fixture(scope="module")
def minute(dataset: Dataset, recordings: list[np.ndarray]) -> np.ndarray:
    """Codes of a minute of the recordings, one after another, int `[frames, bands, levels]`."""
    frames = round(MINUTE * dataset.codec.sample_rate / dataset.codec.frame_samples)
    codes = np.concatenate([dataset.codec.encode(audio) for audio in recordings])
    return np.resize(codes, (frames, *codes.shape[1:]))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """As many threads as there were, afterwards."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def seconds_in_turn(work: Callable[[], object], rounds: int) -> dict[int, float]:
    """Median seconds of some work with each number of threads, in turn, after one run that does not count."""
    work()
    taken: dict[int, list[float]] = {count: [] for count in THREADS}
    for _ in range(rounds):
        for count in THREADS:
            torch.set_num_threads(count)
            started = time.perf_counter()
            work()
            taken[count].append(time.perf_counter() - started)
    return {count: float(np.median(times)) for count, times in taken.items()}


def times_real_time(seconds: float, work: Callable[[], object], rounds: int = ROUNDS) -> dict[str, float]:
    """How much faster than its sound, of so many seconds, some work is."""
    taken = seconds_in_turn(work, rounds)
    return {
        f"times real time, {count} {'thread' if count == 1 else 'threads'}": seconds / taken[count] for count in taken
    }


def off(dataset: Dataset, audio: np.ndarray) -> float:
    """Mean absolute difference between the log-mel of a decoded recording and the one that the decoder asked for."""
    codes = dataset.codec.encode(audio)
    wanted = dataset.codec.decoded_log_mel(codes)
    found = Mel(dataset.codec.mel_settings).log_mel(torch.from_numpy(dataset.codec.decode(codes))[None])[0]
    return float(np.abs(found.numpy()[:, : wanted.shape[1]] - wanted).mean())


def test_codes_to_sound(benchmark: Any, dataset: Dataset, recordings: list[np.ndarray], minute: np.ndarray) -> None:
    """A minute: 25 times faster than real time on 2 threads; log-mels that are as close as ever, 0.05 at worst."""
    speeds = times_real_time(MINUTE, lambda: dataset.codec.decode(minute))
    errors = [off(dataset, audio) for audio in recordings]
    benchmark.extra_info |= {name: round(speed, 1) for name, speed in speeds.items()}
    benchmark.extra_info |= {
        "log-mel off by, mean recording": round(float(np.mean(errors)), 4),
        "log-mel off by, worst recording": round(max(errors), 4),
    }
    benchmark.pedantic(dataset.codec.decode, (minute,), rounds=3, warmup_rounds=0)


def test_the_first_sound_of_codes(benchmark: Any, dataset: Dataset, minute: np.ndarray) -> None:
    """Within 100 ms of the first codes, on one thread."""
    torch.set_num_threads(1)

    def first_sound() -> np.ndarray:
        return next(dataset.codec.decode_stream(minute[frame : frame + 1] for frame in range(len(minute))))

    benchmark.extra_info["milliseconds of sound"] = round(1000 * len(first_sound()) / dataset.codec.sample_rate)
    benchmark.pedantic(first_sound, rounds=15, warmup_rounds=2)
    benchmark.extra_info["milliseconds"] = round(1000 * benchmark.stats.stats.median, 1)


def test_sound_to_codes_for_each_start_offset(benchmark: Any, dataset: Dataset, recordings: list[np.ndarray]) -> None:
    """A dataset as a prior's training encodes it: 100 times faster than real time for each offset, on 2 threads."""
    seconds = OFFSETS * sum(map(len, recordings)) / dataset.codec.sample_rate

    def encode() -> None:
        for audio in recordings:
            encode_variants(dataset.codec, audio, OFFSETS)

    speeds = times_real_time(seconds, encode)
    benchmark.extra_info |= {name: round(speed) for name, speed in speeds.items()}
    benchmark.pedantic(encode, rounds=3, warmup_rounds=0)
