"""Running the host's commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from host_stubs.cli import build_cli
from host_stubs.plugins import load_plugins

QUICK = ["--epochs", "2", "--hidden-size", "16", "--heads", "2", "--layers", "1", "--start-offsets", "2"]
LONG = ["--epochs", "100000", "--hidden-size", "16", "--heads", "2", "--layers", "1", "--start-offsets", "2"]


def host(*args: object, **how: object) -> Result:
    """Run the host's command line in this process."""
    return CliRunner().invoke(build_cli(load_plugins()), [str(arg) for arg in args], **how)  # type: ignore[arg-type]


def host_process(*args: object) -> subprocess.Popen[str]:
    """Start the host's command line as a user does."""
    return subprocess.Popen(
        [sys.executable, "-m", "host_stubs.cli", *map(str, args)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def document(path: Path) -> dict:
    """What `host info --json` says of a model."""
    result = host("info", path, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read a process's stderr up to a line with `text`."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"the command ended without saying {text!r}")


def wait_for_file(process: subprocess.Popen[str], path: Path) -> None:
    """Wait until a process has made a file."""
    until = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.002)
