"""The command line starts fast: what is heavy waits until a command needs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

HEAVY = {"torch", "numpy", "librosa", "rich", "soundfile", "soxr", "safetensors", "numba", "scipy", "sklearn", "gradio"}
HEAVY |= {"av"}
LOADED = "import json, sys; {}; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = LOADED.format(statement)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("plugins", ["Plugins()", "load_plugins()"], ids=["alone", "with what is installed"])
def test_the_command_line_loads_nothing_heavy(plugins: str) -> None:
    loaded = loaded_by(f"from host_stubs.cli import build_cli; from host_stubs.plugins import *; build_cli({plugins})")
    assert "click" in loaded
    assert loaded & HEAVY == set()


def test_the_prior_plugin_loads_nothing_heavy() -> None:
    """Whether or not it is installed where the tests run."""
    assert loaded_by("import sda_prior_plugin.edge.plugin") & HEAVY == set()


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import host_stubs, host_stubs.commands; host_stubs.Host") & HEAVY == set()


def test_ffmpeg_is_loaded_by_what_needs_it_alone() -> None:
    assert "av" not in loaded_by("import host_stubs.reading, host_stubs.manifest")


def test_the_check_sees_heavy_modules() -> None:
    assert "numpy" in loaded_by("import numpy")


def test_help_starts_at_once() -> None:
    """With a bound for a busy machine. Undisturbed it takes less than a third of that."""
    code = "from host_stubs.cli import main; main(['--help'])"
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 1
