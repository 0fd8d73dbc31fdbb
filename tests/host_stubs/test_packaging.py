"""What pip makes of the two distributions: a host that is whole without the plugin, and a plugin that needs no more
than to be installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from host_stubs.model import Model, open_model, save_model
from host_stubs.plugins import Plugins
from sda_prior_plugin import CodeCorpus, PriorSettings, train_prior
from sda_prior_plugin.edge import plugin as prior_plugin

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NOT_SOURCE = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")
KNOBS = ("--epochs", "--hidden-size", "--layers", "--heads")


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own, with the libraries of the one that runs the tests."""

    folder: Path

    def run(self, *command: str | Path) -> str:
        """What a program of this environment writes to stdout; it must succeed."""
        program, *arguments = command
        done = subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=self.folder,  # not the repository, whose packages would be found there
            env={name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SDA_"))}
            | {"OMP_NUM_THREADS": "1"},  # threads that wait for each other on a busy machine take five times as long
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, wheel: Path) -> None:
        """`pip install` of a wheel whose dependencies are there."""
        _pip("--python", self.folder / "bin" / "python", "install", "--no-index", "--no-deps", wheel)

    def host_files(self) -> dict[str, bytes]:
        """The installed host, file by file."""
        (package,) = self.folder.glob("lib/python*/site-packages/host_stubs")
        return {str(path.relative_to(package)): path.read_bytes() for path in package.rglob("*.py")}


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, by distribution, built from a copy, so that building leaves nothing in the repository."""
    copy, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    for package in ("sda_prior_plugin", "host_stubs"):
        shutil.copytree(ROOT / package, copy / package, ignore=NOT_SOURCE)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", target, copy / "host_stubs", copy)
    return {path.name.split("-")[0]: path for path in target.iterdir()}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Environment:
    """A new environment with the host installed from its wheel, and nothing of the plugin.

    The libraries are not installed again: a folder of links to them is put on the path. Links to single packages, for
    the folder that they are in also holds the two packages under test, or the hooks of their editable installation.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    libraries = folder / "libraries"
    libraries.mkdir()
    ours = ("sda_host_stubs", "sda_prior_plugin", "host_stubs", "__editable__", "__pycache__")
    for site in (Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")):
        for path in site.iterdir():
            if not path.name.startswith(ours) and path.suffix != ".pth" and not (libraries / path.name).exists():
                (libraries / path.name).symlink_to(path)
    (own_site,) = folder.glob("lib/python*/site-packages")
    (own_site / "libraries.pth").write_text(f"{libraries}\n")
    environment = Environment(folder)
    environment.install(wheels["sda_host_stubs"])
    return environment


def prior_text(path: Path) -> str:
    """The prior's object in a `.sda`'s document, the very characters."""
    data = path.read_bytes()
    document = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["sda"]
    start = document.index('"prior": ') + len('"prior": ')
    _, end = json.JSONDecoder().raw_decode(document, start)
    return document[start:end]


def prior_tensors(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Type, shape and bytes of each tensor of the prior in a `.sda`."""
    data = path.read_bytes()
    base = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:base])
    return {
        name: (
            tensor["dtype"],
            tensor["shape"],
            data[base + tensor["data_offsets"][0] : base + tensor["data_offsets"][1]],
        )
        for name, tensor in header.items()
        if name.startswith("prior.")
    }


@pytest.fixture
def with_prior(model: Model, tmp_path: Path) -> Path:
    """A saved model with a prior that was trained, if only for a moment."""
    assert model.manifest is not None
    parts = [
        [model.codec.encode(recording.audio) for recording in model.manifest.recordings(part, model.codec.sample_rate)]
        for part in ("train", "held_out")
    ]
    corpus = CodeCorpus.from_sequences(*parts, codebooks=model.codec.codebooks)
    settings = PriorSettings.for_corpus(corpus, file_count=6, epochs=1, hidden_size=16, layers=1, heads=2)
    model.prior = train_prior(corpus, settings).prior
    path = tmp_path / "with-prior.sda"
    save_model(model, path, _plugins())
    return path


def _plugins() -> Plugins:
    plugins = Plugins()
    plugins.add(prior_plugin, "prior")
    return plugins


def test_the_plugin_appears_when_it_is_installed_and_not_before(
    environment: Environment, wheels: dict[str, Path], sounds: Path, with_prior: Path, tmp_path: Path
) -> None:
    """One test, for the two halves are about the same environment, before and after."""
    # Without the plugin: the host is whole.
    assert "train-prior" not in environment.run("host", "--help")
    assert json.loads(environment.run("host", "plugins", "--json")) == {"plugins": [], "failures": []}
    two, trained = tmp_path / "two", tmp_path / "two.sda"
    for recording in sorted(sounds.rglob("*.wav"))[:2]:
        two.mkdir(exist_ok=True)
        shutil.copy(recording, two)
    result = json.loads(environment.run("host", "train", two, "-o", trained, "--epochs", "1", "--json"))
    assert (result["name"], result["has_prior"], len(result["dataset"]["files"])) == ("two", False, 2)
    assert "pip install sda-prior-plugin" in environment.run("host", "info", trained)

    # Without the plugin: opening, changing and saving a model keeps its prior, byte for byte.
    again = tmp_path / "again.sda"
    change = (
        "import sys, host_stubs as h; m = h.open_model(sys.argv[1]); m.name = 'renamed'; h.save_model(m, sys.argv[2])"
    )
    environment.run("python", "-c", change, with_prior, again)
    assert prior_tensors(with_prior)
    assert prior_tensors(again) == prior_tensors(with_prior)
    assert prior_text(again) == prior_text(with_prior)
    after = open_model(again, _plugins())
    assert after.name == "renamed"
    assert after.prior is not None

    # With the plugin: its parts are there, and the host is the same, file for file.
    host = environment.host_files()
    environment.install(wheels["sda_prior_plugin"])
    assert environment.host_files() == host
    assert "train-prior" in environment.run("host", "--help")
    usage = environment.run("host", "train-prior", "--help")
    assert all(f"{knob} " in usage for knob in KNOBS)
    (plugin,) = json.loads(environment.run("host", "plugins", "--json"))["plugins"]
    assert plugin["distribution"] == "sda-prior-plugin"
    assert {"register_commands", "model_saving", "model_opened", "generate_codes", "model_facts"} <= {*plugin["hooks"]}
