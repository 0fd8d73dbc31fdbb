"""`make` takes the newest Python that works, or says that there is none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="there is no make here")

WORKS, FAILS = "#!/bin/sh\nexit 0\n", "#!/bin/sh\necho 'command not found' >&2\nexit 127\n"


def setting_up(folder: Path, pythons: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make setup` in a copy of what it needs, with only these programs on the path."""
    assert MAKE is not None
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "host_stubs/pyproject.toml"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    path = folder / "path"
    path.mkdir()
    for name, script in pythons.items():
        (path / name).write_text(script)
        (path / name).chmod(0o755)
    return subprocess.run(
        [MAKE, *arguments, "setup"], cwd=folder, env={"PATH": str(path)}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("pythons", "taken"),
    [
        ({"python3.11": WORKS}, "python3.11"),
        ({"python3.11": WORKS, "python3.12": WORKS, "python3.14": WORKS}, "python3.14"),
        ({"python3.11": WORKS, "python3.12": WORKS, "python3.13": FAILS}, "python3.12"),
    ],
)
def test_the_newest_python_that_works_is_taken(pythons: dict[str, str], taken: str, tmp_path: Path) -> None:
    done = setting_up(tmp_path, pythons, "--dry-run")
    assert f"\n{taken} -m venv .venv\n" in done.stdout, done.stderr


def test_a_python_that_is_named_is_taken(tmp_path: Path) -> None:
    assert "\nmine -m venv .venv\n" in setting_up(tmp_path, {"python3.14": WORKS}, "--dry-run", "PYTHON=mine").stdout


@pytest.mark.parametrize("pythons", [{}, {"python3.10": WORKS, "python3.12": FAILS}])
def test_without_a_python_that_works_there_is_one_sentence(pythons: dict[str, str], tmp_path: Path) -> None:
    done = setting_up(tmp_path, pythons)
    assert done.returncode != 0
    assert done.stderr.startswith("There is no Python from 3.11 to 3.14 here that can make a virtual environment.")
    assert not (tmp_path / ".venv").exists()
