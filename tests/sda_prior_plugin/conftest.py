"""Small real material for the plugin's tests: codes with something to learn in them, and a prior that has learned."""

from __future__ import annotations

import copy
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from host_stubs.codec import Codec
from host_stubs.mel import MelSettings
from host_stubs.network import Decoder, Encoder
from sda_prior_plugin import (
    CodeCorpus,
    EpochDone,
    PriorRun,
    PriorSettings,
    TrainingEvent,
    TrainingState,
    train_prior,
)
from sda_prior_plugin.run import Run
from sda_prior_plugin.training import train

BANDS, LEVELS, SIZE = 4, 2, 16
FRAME = 8


def phrases(count: int, seed: int, frames: int = 12) -> list[np.ndarray]:
    """Grids `[frames, 4, 3]` in which each place holds a code for a while, the common ones more often."""
    rng = np.random.default_rng(seed)
    common = 1 / np.arange(1, 33) ** 1.2
    grids = []
    for _ in range(count):
        grid = rng.choice(32, (frames, 4, 3), p=common / common.sum())
        for frame in range(1, frames):
            stays = rng.random((4, 1)) < 0.4
            grid[frame] = np.where(stays, grid[frame - 1], grid[frame])
        grids.append(grid)
    return grids


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Networks this small are fastest, and other work beside the tests does least harm, with one thread."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and codes beside the repository; tests that need it are skipped without it."""
    folder = Path(__file__).parents[2].parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder shared, with real recordings and codes, is not beside the repository")
    return folder


@dataclass
class LevelCodec:
    """A real, if humble, codec: each frame's loudest sample in sixteenths, in two steps of a quarter."""

    sample_rate: int = 80
    frame_samples: int = FRAME
    bands: int = 1
    levels: int = 2
    codebook_size: int = 4

    @property
    def codebooks(self) -> np.ndarray:
        steps = np.arange(4, dtype=np.float32)[:, None]
        return np.stack([steps / 4, steps / 16])

    def encode(self, audio: np.ndarray) -> np.ndarray:
        padded = np.pad(audio, (0, -len(audio) % FRAME))
        level = np.minimum(padded.reshape(-1, FRAME).max(1) * 16, 15).astype(np.int64)
        return np.stack([level // 4, level % 4], axis=-1)[:, None, :]


@dataclass
class Recording:
    """A named ramp."""

    name: str
    audio: np.ndarray


def loops(count: int, seed: int, frames: tuple[int, int] = (3, 20)) -> list[np.ndarray]:
    """Code grids of some length, each one of four bars of three frames over and over, one code in 20 being wrong."""
    bars = np.random.default_rng(0).integers(0, SIZE, (4, 3, BANDS, LEVELS))
    rng = np.random.default_rng(seed)
    grids = []
    for _ in range(count):
        length = int(rng.integers(*frames))
        grid = bars[rng.integers(4), np.arange(length) % 3]
        wrong = rng.random(grid.shape) < 0.05
        grids.append(np.where(wrong, rng.integers(0, SIZE, grid.shape), grid))
    return grids


def counting_grids(lengths: list[int]) -> list[np.ndarray]:
    """Grids of these lengths, of 2 bands and 2 levels, whose codes count on to 299 and over again."""
    codes = np.arange(sum(lengths) * 4).reshape(-1, 2, 2) % 300
    return np.split(codes, np.cumsum(lengths)[:-1])


@pytest.fixture(scope="session")
def codebooks() -> np.ndarray:
    """Float `[levels, size, dim]`."""
    return np.random.default_rng(1).normal(size=(LEVELS, SIZE, 8)).astype(np.float32)


@pytest.fixture(scope="session")
def corpus(codebooks: np.ndarray) -> CodeCorpus:
    """A small corpus of loops."""
    return CodeCorpus.from_sequences(loops(40, seed=1), loops(10, seed=2), codebooks=codebooks)


def small_settings(corpus: CodeCorpus, **given: object) -> PriorSettings:
    """Settings of a prior that trains in a second or two, on the processor also where there is a GPU."""
    small: dict[str, object] = {
        "device": "cpu",
        "epochs": 3,
        "hidden_size": 32,
        "layers": 2,
        "context_seconds": 1.5,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "weight_decay": 0.1,
    }
    if given.get("architecture") != "gru":
        small["heads"] = 2
    return PriorSettings.for_corpus(corpus, file_count=50, **{**small, **given})  # type: ignore[arg-type]


def what_remains(run: PriorRun) -> dict[str, Any]:
    """A report without what the clock says."""
    facts = run.report.as_dict()
    del facts["seconds"], facts["best_seconds"], facts["training_date"], facts["memorization"]["seconds"]
    return facts


def assert_same(run: PriorRun, other: PriorRun) -> None:
    """Two runs gave the same prior bit for bit, and tell the same of it."""
    mine, theirs = run.prior.weights, other.prior.weights
    assert mine.keys() == theirs.keys()
    assert all(mine[name].numpy().tobytes() == theirs[name].numpy().tobytes() for name in mine)
    assert what_remains(run) == what_remains(other)


@dataclass
class Recovering:
    """A run, what it told, and its state after each epoch, as it would come from a file."""

    corpus: CodeCorpus
    settings: PriorSettings
    run: PriorRun
    epochs: list[EpochDone]
    states: list[TrainingState]


@pytest.fixture(scope="session")
def noise() -> CodeCorpus:
    """Recordings in which there is nothing to learn but themselves."""
    rng = np.random.default_rng(3)
    grids = [rng.integers(0, SIZE, (int(rng.integers(10, 20)), 4, LEVELS)) for _ in range(18)]
    return CodeCorpus.from_sequences(grids[:6], grids[6:], codebooks=rng.normal(size=(LEVELS, SIZE, 8)))


@pytest.fixture(scope="session")
def recovering(codebooks: np.ndarray) -> Recovering:
    """A training whose first epochs are not finite.

    The codes that half of what is held out consists of, and that nothing is trained on, are impossible to begin with;
    weight decay takes that back.
    """
    impossible = SIZE - 1
    recordings, held_out = ([grid % impossible for grid in loops(*which)] for which in ((40, 1), (10, 2)))
    for grid in held_out:
        grid[::2] = impossible
    corpus = CodeCorpus.from_sequences(recordings, held_out, codebooks=codebooks)
    epochs: list[EpochDone] = []
    states: list[TrainingState] = []

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, EpochDone):
            epochs.append(event)
            state = copy.deepcopy(event.state())
            facts = json.loads(json.dumps(state.as_dict(), allow_nan=False))
            states.append(TrainingState.from_parts(facts, state.tensors))

    settings = small_settings(corpus, epochs=12, weight_decay=20.0)
    run = Run(corpus, settings, torch.device("cpu"))
    with torch.no_grad():
        for bias in (run.optimizer.ahead["logits.bias"], run.average.logits.bias):
            bias[:, impossible] = -4_000
    return Recovering(corpus, settings, train(run, on_event, threading.Event()), epochs, states)


@pytest.fixture(scope="session", params=["transformer", "gru"])
def run(request: pytest.FixtureRequest, corpus: CodeCorpus) -> PriorRun:
    """A trained prior of each architecture."""
    return train_prior(corpus, small_settings(corpus, architecture=request.param, epochs=25))


def untrained_codec(seed: int) -> Codec:
    """A codec whose network depends on `seed` and whose codebooks do not."""
    torch.manual_seed(seed)
    tensors = {f"encoder.{name}": tensor for name, tensor in Encoder(8).state_dict().items()}
    tensors |= {f"decoder.{name}": tensor for name, tensor in Decoder(8).state_dict().items()}
    torch.manual_seed(0)
    tensors |= {"quantizer.rvq.layers.0._codebook.embed": torch.randn(1, 32, 8)}
    return Codec.from_parts({"mel": vars(MelSettings()), "dim": 8, "levels": 1, "codebook_size": 32}, tensors)
