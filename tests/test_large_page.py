"""The commands of docs/large.md, run as they stand there, but for the model, which is small, and its settings."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import host_stubs
from host_stubs.host import Host
from host_stubs.plugins import load_plugins

PAGE = (Path(__file__).parents[1] / "docs" / "large.md").read_text("utf-8")
QUICK = ["--epochs", "4", "--hidden-size", "16", "--heads", "2", "--layers", "1", "--start-offsets", "2"]
FIRST, SECOND = "sda-first", "sda-second"
MOST_SECONDS = 240

pytestmark = pytest.mark.slow


def commands(section: str) -> list[list[str]]:
    """The commands in a section of the page, as words."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert text is not None
    return [shlex.split(line) for line in re.findall(r"^\$ (torchrun .*)$", text[1], re.MULTILINE)]


def as_here(command: list[str], path: Path, *more: str) -> list[str]:
    """A command of the page for the programs of this environment and a model."""
    here = {
        "torchrun": [sys.executable, "-m", "torch.distributed.run"],
        "host": [sys.executable, "-m", "host_stubs.cli"],
        "tabla.sda": [str(path)],
    }
    return [word for given in command for word in here.get(given, [given])] + [*QUICK, *more]


@pytest.fixture(scope="module")
def new_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a prior."""
    folder = tmp_path_factory.mktemp("large")
    host_stubs.write_demo_recordings(folder / "recordings", seed=3, count=6)
    manifest = host_stubs.build_manifest(folder / "recordings").manifest
    heard, unheard = ([each.audio for each in manifest.recordings(part, 48_000)] for part in ("train", "held_out"))
    run = host_stubs.train_vqvae(heard, unheard, host_stubs.VqvaeSettings(codebook_size=32, epochs=1, batch_size=8))
    host_stubs.save_model(host_stubs.Model("new", run.codec, manifest, report=run.report), folder / "new.sda")
    return folder / "new.sda"


def started(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """A process that has begun with a command, with a cache of its own."""
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")},
    )  # fmt: skip


def prior_of(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a model's prior."""
    prior = Host(load_plugins()).open_model(path).prior
    assert prior is not None
    return prior.weights


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, weights in one.items():
        assert torch.equal(weights, other[name]), name


@pytest.fixture(scope="module")
def by_two(new_model: Path) -> dict[str, torch.Tensor]:
    """The prior of two processes, whose command says everything once."""
    path = Path(shutil.copy(new_model, new_model.with_name("two.sda")))
    (command,) = commands("Two processes of one machine")
    run = started(as_here(command, path), new_model.parent)
    said, _ = run.communicate(timeout=MOST_SECONDS)
    assert run.returncode == 0, said
    for line in ("opening ", "encoded 6 of 6", "epoch 4/4", "The prior is saved in", "Prior: transformer"):
        assert said.count(line) == 1, said
    return prior_of(path)


def test_a_team_that_loses_a_member_goes_on_and_comes_to_the_prior_of_the_unbroken_one(
    new_model: Path, by_two: dict[str, torch.Tensor]
) -> None:
    path = Path(shutil.copy(new_model, new_model.with_name("lost.sda")))
    (command,) = commands("When one is lost")
    run = started(as_here(command, path), new_model.parent)
    state = path.with_name("lost.sda.training")
    until = time.monotonic() + MOST_SECONDS
    while not state.exists():
        assert run.poll() is None
        assert time.monotonic() < until
        time.sleep(0.002)
    member = int(Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()[-1])
    os.kill(member, signal.SIGKILL)
    said, _ = run.communicate(timeout=MOST_SECONDS)
    assert run.returncode == 0, said
    assert "It is continued." in said
    assert_same(prior_of(path), by_two)
    assert not state.exists()


@pytest.fixture
def two_machines() -> Iterator[None]:
    """Two network namespaces with a cable between them, of which the first has the page's address."""
    steps = [
        f"ip netns add {FIRST}", f"ip netns add {SECOND}",
        f"ip link add sda-one netns {FIRST} type veth peer name sda-two netns {SECOND}",
        f"ip -n {FIRST} addr add 10.0.0.1/24 dev sda-one", f"ip -n {SECOND} addr add 10.0.0.2/24 dev sda-two",
        f"ip -n {FIRST} link set sda-one up", f"ip -n {SECOND} link set sda-two up",
        f"ip -n {FIRST} link set lo up", f"ip -n {SECOND} link set lo up",
    ]  # fmt: skip
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("network namespaces are Linux's, and are made with the program ip")
    try:
        for step in steps:
            made = subprocess.run(step.split(), capture_output=True, text=True)
            if made.returncode:
                pytest.skip(f"network namespaces cannot be made here ({made.stderr.strip()})")
        yield
    finally:
        for name in (FIRST, SECOND):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def test_two_machines_come_to_the_prior_of_two_processes_of_one(
    new_model: Path, by_two: dict[str, torch.Tensor], two_machines: None
) -> None:
    path = Path(shutil.copy(new_model, new_model.with_name("machines.sda")))
    runs = [
        started(["ip", "netns", "exec", where, *as_here(command, path)], new_model.parent / where)
        for where, command in zip((FIRST, SECOND), commands("Two machines"), strict=True)
    ]
    for run in runs:
        said, _ = run.communicate(timeout=MOST_SECONDS)
        assert run.returncode == 0, said
    assert_same(prior_of(path), by_two)


def test_the_job_file_is_a_script_that_a_shell_can_read() -> None:
    (script,) = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
