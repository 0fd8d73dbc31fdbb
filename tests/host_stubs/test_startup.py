"""The command line starts fast: what is heavy waits until a command needs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time

HEAVY = {"torch", "numpy", "librosa", "rich", "soundfile", "soxr", "safetensors", "numba", "scipy", "sklearn"}
LOADED = "import json, sys; {}; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = LOADED.format(statement)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_the_command_line_loads_nothing_heavy() -> None:
    loaded = loaded_by(
        "from host_stubs.cli import build_cli; from host_stubs.plugins import Plugins; build_cli(Plugins())"
    )
    assert "click" in loaded
    assert loaded & HEAVY == set()


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import host_stubs, host_stubs.commands; host_stubs.Host") & HEAVY == set()


def test_the_check_sees_heavy_modules() -> None:
    assert "numpy" in loaded_by("import numpy")


def test_help_starts_in_a_third_of_a_second() -> None:
    code = "from host_stubs.cli import main; main(['--help'])"
    fastest = float("inf")
    for _ in range(15):  # other programs may be in the way; one undisturbed start is enough
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        fastest = min(fastest, time.perf_counter() - start)
        if fastest < 0.3:
            break
    assert fastest < 0.3
