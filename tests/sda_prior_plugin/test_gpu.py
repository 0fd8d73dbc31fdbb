"""Training on an NVIDIA GPU; skipped where there is none."""

from __future__ import annotations

import copy
import os
import pickle
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from sda_prior_plugin import BatchDone, CodeCorpus, EpochDone, TrainingEvent, TrainingState, train_prior

from .conftest import assert_same, small_settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no NVIDIA GPU")

MEMBER = """
import hashlib, pickle, sys
from sda_prior_plugin import train_prior
with open(sys.argv[1], "rb") as file:
    corpus, settings = pickle.load(file)
run = train_prior(corpus, settings)
bits = hashlib.sha256(b"".join(weights.numpy().tobytes() for weights in run.prior.weights.values())).hexdigest()
print(bits, run.report.final_perplexity)
"""


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_a_training_has_the_same_bits_every_time_and_goes_on_bit_for_bit_without_a_warning(
    corpus: CodeCorpus, architecture: str, dropout: float
) -> None:
    settings = small_settings(corpus, architecture=architecture, dropout=dropout, epochs=3, device="cuda")
    states: list[TrainingState] = []

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, BatchDone | EpochDone):
            states.append(copy.deepcopy(event.state()))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = train_prior(corpus, settings, on_event=on_event)
        assert_same(train_prior(corpus, settings), run)
        for state in states[:: max(1, len(states) // 4)]:
            assert_same(train_prior(corpus, settings, resume_from=state), run)


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_it_learns_what_is_learned_on_the_processor(corpus: CodeCorpus, architecture: str) -> None:
    here, there = (
        train_prior(corpus, small_settings(corpus, architecture=architecture, epochs=8, device=device)).report
        for device in ("cpu", "cuda")
    )
    assert there.held_out_perplexities == pytest.approx(here.held_out_perplexities, rel=0.05)


def test_processes_that_share_a_gpu_train_one_prior(corpus: CodeCorpus, tmp_path: Path) -> None:
    settings = small_settings(corpus, epochs=2, device="cuda")
    (tmp_path / "wanted").write_bytes(pickle.dumps((corpus, settings)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    size = torch.cuda.device_count() + 1
    members = [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(tmp_path / "wanted")],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            | dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(size)),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    found = {member.communicate(timeout=120)[0].strip() for member in members}
    assert len(found) == 1
    alone = train_prior(corpus, settings).report.final_perplexity
    assert float(found.pop().split()[1]) == pytest.approx(alone, rel=0.02)
