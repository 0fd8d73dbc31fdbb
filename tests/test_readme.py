"""README and the pages for users keep their word: commands run, links lead somewhere, make targets exist."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import host_stubs
from sda_prior_plugin import KNOBS, Knob

ROOT = Path(__file__).parents[1]
README, *DOCS = "README.md", *(f"docs/{name}.md" for name in ("commands", "settings", "python", "reciting", "page"))
"""The front door, and where the rest of what a user needs stands; in the order in which their commands are tried."""
TEXTS = {page: (ROOT / page).read_text("utf-8") for page in (README, *DOCS)}
COMMANDS = list(dict.fromkeys(command for text in TEXTS.values() for command in re.findall(r"^\$ (.+)$", text, re.M)))
HOST = [command for command in COMMANDS if command.startswith("host ")]
SERVES = "ui"  # it goes on until it is told to end
QUICKER = {"train": ["--epochs", "1"], "train-prior": ["--epochs", "1"], "demo": ["--epochs", "1"]}


@pytest.mark.slow
def test_every_host_command_runs_as_written_one_after_another(tmp_path: Path) -> None:
    """Each once, as written but for `--epochs 1` added to what trains; `~` is a folder with five short recordings."""
    host_stubs.write_demo_recordings(tmp_path / "recordings" / "tabla", seed=1, count=5)
    environment = {**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    legacy = ROOT.parent / "shared" / "legacy" / "tabla2.distill"
    for command in HOST:
        arguments = [word.replace("~", str(tmp_path)) for word in shlex.split(command)[1:]]
        if arguments[0] == "import":
            if not legacy.is_file():
                continue
            arguments = [str(legacy) if word.endswith(".distill") else word for word in arguments]
        if arguments[0] == SERVES:
            serve_and_end([*arguments, "--port", "0"], tmp_path, environment)
            continue
        ran = subprocess.run(
            [sys.executable, "-m", "host_stubs.cli", *arguments, *QUICKER.get(arguments[0], [])],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert ran.returncode == 0, f"{command}\n{ran.stderr}"
    assert (tmp_path / "new.wav").stat().st_size > 10 * 48_000


def serve_and_end(arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command that serves until it has said where, then end it as a user does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "host_stubs.cli", *arguments],
        cwd=folder, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert "The page is at http://127.0.0.1:" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_front_door_is_short_and_leads_to_every_page() -> None:
    assert len(TEXTS[README].splitlines()) < 150
    for page in [*DOCS, *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]:
        assert f"]({page})" in TEXTS[README] or page == "docs/dependencies.md", page


def test_the_pages_show_every_command_of_the_host() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "host_stubs.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    names = re.findall(r"^  ([a-z][a-z-]+)  ", text.partition("Commands:")[2], re.MULTILINE)
    assert set(names) <= {shlex.split(command)[1] for command in HOST}


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = {shlex.split(command)[1] for command in COMMANDS if command.startswith("make ")}
    targets |= {target for text in TEXTS.values() for target in re.findall(r"`make ([a-z-]+)`", text)}
    assert {"demo", "test", "screenshots"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in COMMANDS
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize(
    "page",
    [
        *TEXTS,
        "CONTRIBUTING.md",
        "docs/hooks.md",
        "docs/sda-format.md",
        "docs/safety.md",
        "docs/training-state.md",
        "docs/dependencies.md",
    ],
)
def test_links_lead_to_files_that_are_there(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
        if "://" not in link:
            assert (path.parent / link).exists(), f"{page}: {link}"


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_every_knob_stands_among_the_settings_with_its_help_and_bounds(knob: Knob) -> None:
    values = " or ".join(knob.choices) if knob.choices else knob.bounds
    assert f"| `{knob.flag}` | {knob.help} | {values} |" in TEXTS["docs/settings.md"]
