"""What is compiled ahead is what a training calls, and nothing else is touched by it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sda_prior_plugin.compiling_ahead import compile_for_training
from sda_prior_plugin.dataset import CodeCorpus

TRAINING = """
import sys
import numpy as np
from numba.core.event import Listener, install_listener
from sda_prior_plugin import CodeCorpus, PriorSettings, train_prior
from sda_prior_plugin.compiling_ahead import compile_for_training
from sda_prior_plugin.machine_code import MISSING

class Missing(Listener):
    def on_start(self, event):
        print(event.data["function"].__qualname__)
    def on_end(self, event):
        pass

architecture, size = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
grids = list(rng.integers(0, size, (16, 30, 3, 2)))
corpus = CodeCorpus.from_sequences(grids[:10], grids[10:], codebooks=rng.normal(size=(2, size, 4)))
compile_for_training(architecture, corpus.shape)
sizes = {"architecture": architecture, "epochs": 2, "hidden_size": 8}
settings = PriorSettings.for_corpus(corpus, file_count=16, **sizes)
with install_listener(MISSING, Missing()):
    train_prior(corpus, settings)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "size"), [("transformer", 64), ("gru", 1024)])
def test_a_training_after_it_waits_for_next_to_nothing(tmp_path: Path, architecture: str, size: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, architecture, str(size)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert set(done.stdout.split()) <= {"fill"}, "which makes a batch, in a third of a second"


def test_random_numbers_are_left_to_others(corpus: CodeCorpus) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    compile_for_training("transformer", corpus.shape)
    assert torch.equal(torch.random.get_rng_state(), before)
