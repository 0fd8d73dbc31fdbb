"""Compiling in a process of its own: what is missing is there when it was asked for, and nothing stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sda_prior_plugin.machine_code import PACKAGE

HASH = """
import os, sys, time
import numpy as np
from sda_prior_plugin.compiled import compile_time
from sda_prior_plugin.compiler_process import compiled_aside
from sda_prior_plugin.window_hashes import _hash_frames

def hash_frames():
    hashes = np.empty(3, np.uint64)
    _hash_frames(np.arange(6).reshape(3, 2), hashes)
    return hashes

def children():
    return open(f"/proc/self/task/{os.getpid()}/children").read().split()

def compiled_here():
    return sum(_hash_frames.stats.cache_misses.values())
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


def printed(program: str, cache: Path, **environment: str) -> list[str]:
    """What a fresh process prints that has a function to hash frames, with this folder for its machine code."""
    done = subprocess.run(
        [sys.executable, "-c", HASH + program],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.splitlines()


def until(is_so: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether it comes to be so in time."""
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    return is_so()


@pytest.mark.slow
def test_what_is_missing_is_compiled_elsewhere_told_of_and_measured(tmp_path: Path) -> None:
    program = """
with compile_time(lambda: print("compiling")) as compiling, compiled_aside():
    aside = hash_frames()
print(compiled_here(), compiling.seconds > 0.05)
print(hash_frames().tolist() == aside.tolist() == [int(x) for x in np.asarray(aside)], len(set(aside.tolist())))
"""
    assert printed(program, tmp_path / "code") == ["compiling", "0 True", "True 3"]
    assert printed(program, tmp_path / "code") == ["0 False", "True 3"]  # kept: there is nothing to compile


def test_what_the_other_process_imports_does_not_take_torch_along() -> None:
    """Torch would be most of its memory, and of the time that it takes to begin."""
    sources = {path.stem: path.read_text() for path in PACKAGE.glob("*.py")}
    modules = [name for name, source in sources.items() if "\n@compiled_" in source]
    assert {"kernels", "sequences", "filling", "near_copies"} <= {*modules}
    imported = "\n".join(f"import sda_prior_plugin.{name}" for name in ["compiler_process", *modules])
    subprocess.run([sys.executable, "-c", f"import sys\n{imported}\nassert 'torch' not in sys.modules"], check=True)


@pytest.mark.slow
def test_what_is_compiled_elsewhere_computes_the_same(tmp_path: Path) -> None:
    here = printed("print(hash_frames().tolist(), compiled_here())", tmp_path / "here")
    aside = "with compiled_aside():\n    print(hash_frames().tolist(), compiled_here())"
    there = printed(aside, tmp_path / "aside")
    assert here[0].removesuffix(" 1") == there[0].removesuffix(" 0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("breaks", "cache"),
    [
        ("sys.executable = '/nowhere/python'", "code"),
        ("sys.executable = None", "code"),
        ("sys.executable = '/bin/false'", "code"),
        ("", "/dev/null/code"),
    ],
    ids=["no-python", "a-python-that-is-not-known", "a-python-that-fails", "no-folder"],
)
def test_where_it_cannot_be_compiled_elsewhere_it_is_compiled_as_ever(tmp_path: Path, breaks: str, cache: str) -> None:
    program = f"{breaks}\nwith compiled_aside():\n    print(len(set(hash_frames().tolist())), compiled_here())"
    assert printed(program, tmp_path / cache) == ["3 1"]


@pytest.mark.slow
def test_a_file_in_the_folder_at_hand_is_not_taken_for_a_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("open('taken', 'w').close()\nraise SystemExit")
    program = f"os.chdir({str(tmp_path)!r})\nwith compiled_aside():\n    hash_frames()\nprint(compiled_here())"
    assert printed(program, tmp_path / "code") == ["0"]
    assert not (tmp_path / "taken").exists()


@linux
@pytest.mark.slow
def test_the_other_process_ends_with_the_block_and_when_it_has_nothing_to_do(tmp_path: Path) -> None:
    program = """
with compiled_aside():
    print(len(children()))
    hash_frames()
    print(len(children()))
    end = time.monotonic() + 20
    while children() and time.monotonic() < end:
        time.sleep(0.05)
    print(len(children()))
    _hash_frames(np.arange(6, dtype=np.int8).reshape(3, 2), np.empty(3, np.uint64))
    print(len(children()), compiled_here())
print(len(children()))
"""
    assert printed(program, tmp_path / "code") == ["0", "1", "0", "1 0", "0"]


@linux
@pytest.mark.slow
def test_the_other_process_does_not_outlive_a_process_that_is_killed(tmp_path: Path) -> None:
    program = """
with compiled_aside():
    hash_frames()
    print(children()[0], flush=True)
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run(
        [sys.executable, "-c", HASH + program],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "code")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    number = int(done.stdout)
    assert until(lambda: not Path(f"/proc/{number}").exists())


@pytest.mark.slow
def test_what_is_called_ahead_is_compiled_elsewhere_while_the_block_goes_on(tmp_path: Path) -> None:
    program = """
with compile_time(lambda: print("compiling")) as compiling, compiled_aside(hash_frames):
    end = time.monotonic() + 60
    while not compiling.seconds and time.monotonic() < end:
        time.sleep(0.05)
    print(len(set(hash_frames().tolist())), compiled_here())
"""
    assert printed(program, tmp_path / "code") == ["compiling", "3 0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("breaks", "cache"),
    [("", "code"), ("sys.executable = '/nowhere/python'", "code"), ("", "/dev/null/code")],
    ids=["elsewhere", "no-python", "no-folder"],
)
def test_a_block_does_not_wait_for_what_is_called_ahead(tmp_path: Path, breaks: str, cache: str) -> None:
    program = f"""
from sda_prior_plugin.compiling_ahead import compile_drawing
{breaks}
begun = time.monotonic()
with compiled_aside(lambda: compile_drawing("transformer")):
    time.sleep(1)
print(time.monotonic() - begun < 4)
from sda_prior_plugin.sequences import draw_frames
print(len(draw_frames.overloads))
"""
    assert printed(program, tmp_path / cache) == ["True", "0"]


def test_what_is_called_ahead_and_fails_is_not_heard_of(tmp_path: Path) -> None:
    program = """
def fails():
    raise OSError("no")
with compiled_aside(fails):
    print(len(set(hash_frames().tolist())))
"""
    assert printed(program, tmp_path / "code") == ["3"]
