"""A short run of what `make bench-files` and `make kill-and-resume` do at length.

Killed processes, failing system calls, a crowd, and trainings that go on after a kill. `make fuzz` has its short run in
test_kept_files.py.
"""

from __future__ import annotations

import os
import re
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
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_file_survives_killed_saves_and_failing_system_calls() -> None:
    short = ["--saves", 20, "--trainings", 3, "--calls", 25, "--slow", 1, "--seed", 7]
    said = run("crashes", "--print-only", *short)
    assert "saves killed | 20 |" in said
    assert "`host train-prior` killed | 3 |" in said
    if shutil.which("strace"):
        assert "a system call failed, or was the last | 25 |" in said
        assert "saves killed that took 20ms for each system call | 1 |" in said


def test_ten_processes_that_open_save_and_train_one_file_lose_nothing() -> None:
    said = run("crowd", "--print-only", "--seconds", 3)
    assert "saved by 4 processes, all found in the end | 0" not in said
    assert "opened by 4 processes, always whole | 0" not in said


def test_what_saving_costs_can_be_measured() -> None:
    said = run("saving", "--print-only", "--pairs", 1)
    assert re.search(r"^\| 8\.\d MB \| [\d.]+ ms \| [\d.]+ ms \| [\d.]+ \|$", said, flags=re.MULTILINE)


def test_trainings_that_are_killed_and_go_on_give_the_prior_of_the_unbroken_one() -> None:
    said = run("kill_and_resume", "--runs", 3, "--seed", 3)
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", said)}
    assert counts["runs"] == counts["equal"] == 3
    assert counts["kills"] >= 3
