"""Compiling the hot loops: once, told of, measured apart, and never a reason not to run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba import njit

from sda_prior_plugin.compiled import compile_time

ROOT = Path(__file__).parents[2]
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


def printed(folder: Path, **environment: Path) -> list[str]:
    """What a fresh process prints that reads batches with the package that is in `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", READ_BATCHES],
        env={**os.environ, "PYTHONPATH": str(folder), **{name: str(path) for name, path in environment.items()}},
        cwd=folder,
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
    first, second = (printed(ROOT, NUMBA_CACHE_DIR=tmp_path / "loops") for _ in range(2))
    assert first == ["compiling", "20 frames", "compiled"]
    assert second == ["20 frames", "nothing to compile"]


@pytest.mark.slow
def test_without_any_folder_to_keep_machine_code_in_it_runs_all_the_same(tmp_path: Path) -> None:
    """A file stands where each folder would be that could be written to."""
    shutil.copytree(ROOT / "sda_prior_plugin", tmp_path / "sda_prior_plugin", ignore=shutil.ignore_patterns("__pyc*"))
    (tmp_path / "sda_prior_plugin" / "__pycache__").write_text("a file")
    (tmp_path / "file").write_text("a file")
    folders = dict.fromkeys(("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"), tmp_path / "file")
    assert printed(tmp_path, **folders) == ["compiling", "20 frames", "compiled"]
