"""Compiling the hot loops: once, told of, and measured apart."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from numba import njit

from sda_prior_plugin.compiled import compile_time

READ_BATCHES = """
import numpy as np
from sda_prior_plugin import CodeBatches, CodeCorpus
from sda_prior_plugin.compiled import compile_time
with compile_time(lambda: print("compiling")) as compiling:
    grids = [np.ones((5, 2, 1), int)] * 3
    corpus = CodeCorpus.from_sequences(grids, grids, codebooks=np.ones((1, 4, 2)))
    print(sum(int(batch.lengths.sum()) for batch in CodeBatches(corpus, context=8, batch_size=2, seed=0)), "frames")
print("compiled" if compiling.seconds > 0 else "nothing to compile")
"""

DRAW = """
import numpy as np
from sda_prior_plugin import CodeShape
from sda_prior_plugin.cores import NetworkSettings
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.sampling import Wanted, draw_grids
settings = NetworkSettings("transformer", hidden_size=32, layers=2, heads=2, context_frames=8)
network = PriorNetwork(CodeShape(2, 2, 16), np.ones((2, 16, 4), np.float32), settings).eval()
draw_grids(network, 1, Wanted(4, 4, seed=0))
"""


def printed(cache: Path) -> list[str]:
    """What a fresh process prints that reads batches, with this folder for its machine code."""
    done = subprocess.run(
        [sys.executable, "-c", READ_BATCHES],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_compiling_is_told_of_once_and_measured() -> None:
    @njit
    def inner(number: int) -> int:
        return number + 1

    @njit
    def outer(number: int) -> int:
        return inner(number) * 2

    told: list[str] = []
    with compile_time(lambda: told.append("compiling")) as first:
        assert outer(3) == 8
        assert outer(3.0) == 8
    assert told == ["compiling"]
    assert first.seconds > 0
    with compile_time(lambda: told.append("compiling")) as second:
        assert outer(4) == 10
    assert told == ["compiling"]
    assert second.seconds == 0


@pytest.mark.slow
def test_a_second_process_has_nothing_to_compile(tmp_path: Path) -> None:
    first, second = (printed(tmp_path / "loops") for _ in range(2))
    assert first == ["compiling", "15 frames", "compiled"]
    assert second == ["15 frames", "nothing to compile"]


@pytest.mark.slow
def test_the_first_sound_on_a_machine_takes_little_compiling(tmp_path: Path) -> None:
    """Processor time of a fresh process with nothing kept, most of it compiling, and what it keeps."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", DRAW],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 25
    kept = [path.stat().st_size for path in tmp_path.glob("compiled-*/*/*")]
    assert len(kept) <= 30
    assert sum(kept) < 2**21
