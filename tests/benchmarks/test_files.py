"""A short run of what `make bench-files` does at length: killed processes, failing system calls, and a crowd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here"),
]


def run(module: str, *arguments: object) -> str:
    """What a benchmark prints. Fails where it does."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", "--print-only", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_file_survives_killed_saves_and_failing_system_calls() -> None:
    said = run("crashes", "--saves", 20, "--trainings", 0, "--calls", 25, "--slow", 0, "--seed", 7)
    assert "saves killed | 20 |" in said
    if shutil.which("strace"):
        assert "a system call failed, or was the last | 25 |" in said


def test_ten_processes_that_open_save_and_train_one_file_lose_nothing() -> None:
    said = run("crowd", "--seconds", 3)
    assert "saved by 4 processes, all found in the end | 0" not in said
    assert "opened by 4 processes, always whole | 0" not in said
