"""How fast codes are drawn: the weights of the default middle tier, one sequence and several, beside other ways.

Beside it, in the same process and with the same threads: the existing host's way, which reads the whole prefix again
for each code; a GPT-2 of about as many parameters with its cache, as Hugging Face transformers has it; and what reading
each weight once for a code allows, at the speed at which this machine reads as much memory. Part of `make bench`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from operator import truediv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import host_stubs
from benchmarks.corpora import MADE, demo_dataset
from benchmarks.reference import Reference
from sda_prior_plugin import CodeShape, PriorSettings
from sda_prior_plugin.compiled import compiled_for_speed
from sda_prior_plugin.dataset import HOST_FRAME_SECONDS
from sda_prior_plugin.laying_out import weights_of
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.prior import network_settings
from sda_prior_plugin.sampling import Wanted, draw_grids

SHAPE = CodeShape(bands=8, levels=3, codebook_size=128)
MIDDLE_TIER_FILES = 46
SECOND = 6
"""Frames, as the reference has them."""
ROUNDS = 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What is not said otherwise runs on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def default_network(architecture: str = "transformer") -> PriorNetwork:
    """The network of the default middle tier, untrained: its speed is that of a trained one, its sounds never end."""
    settings = PriorSettings.for_size(
        file_count=MIDDLE_TIER_FILES, train_seconds=[2.0] * MIDDLE_TIER_FILES, given={"architecture": architecture}
    )
    codebooks = np.random.default_rng(0).normal(size=(SHAPE.levels, SHAPE.codebook_size, 128)).astype(np.float32)
    torch.manual_seed(0)
    network = PriorNetwork(SHAPE, codebooks, network_settings(settings, HOST_FRAME_SECONDS)).eval()
    network.end.bias.data.fill_(-1e9)
    return network


def seconds_of(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median of some runs, after one that does not count."""
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def codes_a_second(network: PriorNetwork, count: int = 1, frames: int = 100) -> float:
    """How many codes are drawn in a second, by `count` sequences side by side."""
    drawn = count * frames * SHAPE.frame_codes
    return drawn / seconds_of(lambda: draw_grids(network, count, Wanted(frames, frames, seed=0)))


@compiled_for_speed
def _sum(numbers: np.ndarray) -> np.float32:
    total = np.float32(0)
    for place in range(len(numbers)):
        total += numbers[place]
    return total


def bytes_a_second(size: int) -> float:
    """How fast one thread reads as many bytes again and again."""
    numbers = np.ones(size // 4, np.float32)
    return 20 * numbers.nbytes / seconds_of(lambda: [_sum(numbers) for _ in range(20)], rounds=9)


@torch.no_grad()
def reference_codes_a_second() -> float:
    """The existing host's prior: for each code of one second, the whole prefix again."""
    length = SECOND * SHAPE.frame_codes
    model = Reference(SHAPE.codebook_size, length).eval()

    def second() -> None:
        codes = torch.zeros(1, 1, dtype=torch.long)
        while codes.shape[1] < length:
            p = model(codes)[:, -1].softmax(-1)
            codes = torch.cat([codes, torch.multinomial(p, 1)], dim=1)

    return length / seconds_of(second, rounds=3)


def transformers_codes_a_second(parameters: int) -> tuple[float, int]:
    """GPT-2 with about as many parameters, drawing with its key-value cache; and how many it has."""
    transformers = pytest.importorskip("transformers", reason="pip install '.[bench]' brings the library compared with")
    length, layers, size = SECOND * SHAPE.frame_codes, 2, 192
    config = transformers.GPT2Config(
        vocab_size=SHAPE.levels * SHAPE.codebook_size + 2, n_positions=2 * length, n_embd=size, n_layer=layers,
        n_head=4, bos_token_id=0, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    count = sum(weights.numel() for weights in model.parameters())
    assert abs(count / parameters - 1) < 0.15, f"{count} against {parameters}"
    start = torch.zeros(1, 1, dtype=torch.long)
    how = {"do_sample": True, "max_new_tokens": length, "min_new_tokens": length, "use_cache": True}
    return length / seconds_of(lambda: model.generate(start, attention_mask=torch.ones_like(start), **how), 3), count


def test_one_sequence_on_one_thread(benchmark: Any) -> None:
    """15 000 codes a second; 50 times the reference's way, 20 times transformers, half of what memory allows."""
    network = default_network()
    parameters = sum(weights.numel() for weights in network.parameters())
    weights = weights_of(network)
    needed = weights.read_for_a_frame / SHAPE.frame_codes
    reference, (gpt2, gpt2_parameters) = reference_codes_a_second(), transformers_codes_a_second(parameters)
    limits, speeds = [], []
    for _ in range(3):  # in turn, for the machine may be busy with other things
        limits.append(bytes_a_second(weights.read_for_a_frame // SHAPE.bands) / needed)
        speeds.append(codes_a_second(network))
    ours = statistics.median(speeds)
    benchmark.extra_info |= {
        "codes/s, 1 thread": round(ours),
        "parameters": parameters,
        "times the reference's way": round(ours / reference, 1),
        "times transformers with its cache": round(ours / gpt2, 1),
        "parameters of that": gpt2_parameters,
        "of the codes/s at memory speed": round(statistics.median(map(truediv, speeds, limits)), 2),
    }
    benchmark.pedantic(lambda: draw_grids(network, 1, Wanted(100, 100, seed=0)), rounds=ROUNDS, warmup_rounds=1)


def test_one_sequence_of_a_gru(benchmark: Any) -> None:
    network = default_network("gru")
    benchmark.extra_info["codes/s, 1 thread"] = round(codes_a_second(network))
    benchmark.pedantic(lambda: draw_grids(network, 1, Wanted(100, 100, seed=0)), rounds=ROUNDS, warmup_rounds=1)


def test_sixteen_sequences_on_two_threads(benchmark: Any) -> None:
    """At least three times the codes of one sequence."""
    network, ratios, speeds = default_network(), [], []
    for _ in range(3):
        torch.set_num_threads(1)
        one = codes_a_second(network)
        torch.set_num_threads(2)
        speeds.append(codes_a_second(network, count=16))
        ratios.append(speeds[-1] / one)
    benchmark.extra_info |= {
        "codes/s, 2 threads": round(statistics.median(speeds)),
        "times one sequence on one thread": round(statistics.median(ratios), 1),
    }
    benchmark.pedantic(lambda: draw_grids(network, 16, Wanted(100, 100, seed=0)), rounds=ROUNDS, warmup_rounds=1)


@pytest.fixture(scope="module")
def model_path() -> Path:
    """A `.sda` with the prior of the default middle tier: the demo's codec, and two epochs of training."""
    path = MADE / "demo-prior.sda"
    if not path.exists():
        demo_dataset()
        run_host("train-prior", MADE / "demo-32" / "demo.sda", "--output", path, "--epochs", "2")
    return path


def run_host(*arguments: object) -> None:
    """Run the command `host` on two threads."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-m", "host_stubs.cli", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, env=environment)


def test_a_minute_of_sound_from_the_command_line(benchmark: Any, model_path: Path, tmp_path: Path) -> None:
    """Under 6 s on 2 cores, start, decoding and all."""
    arguments = ("generate", model_path, "--seconds", 60, "--seed", 1, "-o", tmp_path / "new.wav", "--overwrite")
    benchmark.pedantic(run_host, arguments, rounds=3, warmup_rounds=1)
    benchmark.extra_info["seconds"] = round(benchmark.stats.stats.median, 2)


def test_the_start_of_the_command_line(benchmark: Any) -> None:
    """Under 0.3 s."""
    benchmark.pedantic(run_host, ("--help",), rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info["seconds"] = round(benchmark.stats.stats.median, 3)


def test_the_first_sound_of_a_stream(benchmark: Any, model_path: Path) -> None:
    """Within 100 ms of asking."""
    model = host_stubs.open_model(model_path)

    def first_sound() -> None:
        next(iter(model.codec.decode_stream(model.prior.stream(600, seed=1))))

    benchmark.pedantic(first_sound, rounds=9, warmup_rounds=2)
    benchmark.extra_info["milliseconds"] = round(1000 * benchmark.stats.stats.median, 1)
