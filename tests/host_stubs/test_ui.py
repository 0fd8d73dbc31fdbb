"""`host ui` and its page, without a browser: what is offered, and what goes wrong in a sentence."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pluggy
import pytest
from click.testing import CliRunner

from host_stubs.cli import build_cli
from host_stubs.host import Host
from host_stubs.model import Model, save_model
from host_stubs.plugins import Plugins
from host_stubs.ui.drops import Drops
from host_stubs.ui.jobs import Job, Jobs
from host_stubs.ui.live import Live
from host_stubs.ui.page import build_page
from host_stubs.ui.saved import SavedModels, dataset_folders
from host_stubs.ui.vqvae_job import VqvaeProgress, VqvaeWork

pytestmark = pytest.mark.usefixtures("one_thread")

WITHOUT_GRADIO = (
    "import sys, importlib.util as u\n"
    "find = u.find_spec\n"
    "u.find_spec = lambda name, package=None: None if name == 'gradio' else find(name, package)\n"
    "from host_stubs.cli import main\n"
    "main(['ui'])\n"
)


def texts(page: object) -> str:
    """All that a page's components say at first."""
    return " ".join(str(getattr(block, "value", "")) for block in page.blocks.values())  # type: ignore[attr-defined]


@pytest.fixture
def saved(model: Model, tmp_path: Path, no_plugins: Plugins) -> SavedModels:
    """A folder with one model."""
    folder = tmp_path / "models"
    folder.mkdir()
    save_model(model, folder / "tones.sda", no_plugins)
    return SavedModels(folder, Host(no_plugins))


def test_without_gradio_the_command_says_what_to_install() -> None:
    result = subprocess.run([sys.executable, "-c", WITHOUT_GRADIO], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.strip().endswith(
        "Error: The page needs Gradio, which is not installed. Run: pip install 'sda-host-stubs[ui]'"
    )


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, no_plugins: Plugins) -> None:
    result = CliRunner().invoke(build_cli(no_plugins), ["ui", "--models", str(tmp_path / "none")])
    assert (result.exit_code, result.stderr) == (1, f"Error: There is no folder {tmp_path / 'none'}.\n")


def test_a_port_that_is_taken_is_named(tmp_path: Path, no_plugins: Plugins) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = CliRunner().invoke(build_cli(no_plugins), ["ui", "--models", str(tmp_path), "--port", str(port)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: Port {port} of 127.0.0.1 is taken")
    assert "--port chooses another" in result.stderr


@pytest.mark.slow
def test_it_serves_on_this_machine_alone_says_where_and_ends_on_a_signal(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "host_stubs.cli", "ui", "--port", "0", "--models", str(tmp_path), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ},
    )  # fmt: skip
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert f"The page is at {url}" in said


def test_the_list_of_models_follows_the_folder(saved: SavedModels) -> None:
    assert [(each.name, each.has_prior, each.error) for each in saved.all()] == [("tones", False, None)]
    shutil.copy(saved.folder / "tones.sda", saved.folder / "copy.sda")
    (saved.folder / "broken.sda").write_bytes(b"nothing")
    found = saved.all()
    assert [each.path.name for each in found] == ["broken.sda", "copy.sda", "tones.sda"]
    assert "broken.sda" in (found[0].error or "")
    (saved.folder / "tones.sda").unlink()
    assert [each.path.name for each in saved.all()] == ["broken.sda", "copy.sda"]


def test_folders_with_recordings_are_offered(sounds: Path, tmp_path: Path) -> None:
    shutil.copytree(sounds, tmp_path / "tones")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").mkdir()
    assert dataset_folders(tmp_path) == [tmp_path / "tones"]
    assert dataset_folders(tmp_path / "tones" / "0")[0] == tmp_path / "tones" / "0"
    assert dataset_folders(tmp_path / "none") == []


def test_a_link_that_leads_nowhere_or_where_nobody_may_look_hides_no_other_folder(
    write_sound: Callable[..., Path], tmp_path: Path, ordinary_user: None
) -> None:
    offered = tmp_path / "offered"
    write_sound(offered / "tones" / "tone.wav")
    (tmp_path / "locked" / "inside").mkdir(parents=True)
    for name, target in {"gone": "nowhere", "circle": "circle", "forbidden": tmp_path / "locked" / "inside"}.items():
        (offered / name).symlink_to(target)
        (offered / "tones" / name).symlink_to(target)
    (tmp_path / "locked").chmod(0)
    try:
        assert dataset_folders(offered) == [offered / "tones"]
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_hidden_files_beside_models_and_recordings_are_none(saved: SavedModels, tmp_path: Path) -> None:
    (saved.folder / "._tones.sda").write_bytes(b"what macOS keeps beside a file on a foreign disk")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "._kick.wav").write_bytes(b"likewise")
    assert [each.path.name for each in saved.all()] == ["tones.sda"]
    assert dataset_folders(tmp_path) == []


def test_without_a_plugin_the_page_has_the_hosts_own_section_alone(saved: SavedModels, no_plugins: Plugins) -> None:
    page = build_page(Host(no_plugins), saved, saved.folder, Jobs(), Live(), Drops(saved.folder / "dropped"))
    assert "Train a model" in texts(page)
    assert "pip install sda-prior-plugin" in texts(page)
    assert "listen" not in [block.elem_id for block in page.blocks.values()], "there is nothing that draws"


def test_a_plugin_whose_section_fails_is_named_and_takes_nothing_down(saved: SavedModels, no_plugins: Plugins) -> None:
    class Bad:
        @pluggy.HookimplMarker("sda_host")
        def training_tab(self, page: object) -> None:
            raise RuntimeError("no section today")

    no_plugins.add(Bad(), "bad")
    page = build_page(Host(no_plugins), saved, saved.folder, Jobs(), Live(), Drops(saved.folder / "dropped"))
    assert "Train a model" in texts(page)
    assert "The plugin bad could not add its section" in texts(page)
    assert [(each.plugin, each.where) for each in no_plugins.failures] == [("bad", "training_tab")]


def vqvae_job(sounds: Path, path: Path, epochs: int) -> tuple[VqvaeWork, Job]:
    return VqvaeWork(Host(Plugins()), sounds, "tones", epochs), Job(path, "training", VqvaeProgress())


@pytest.mark.slow
def test_training_a_vqvae_shows_its_codebooks_and_saves_the_model(sounds: Path, tmp_path: Path) -> None:
    work, job = vqvae_job(sounds, tmp_path / "tones.sda", epochs=1)
    assert work(job) == "The best of 1 epochs (epoch 1) is saved in tones.sda."
    assert [event.epoch for event in job.progress.epochs] == [1]
    assert len(job.progress.epochs[-1].levels) == 3
    assert [each.name for each in SavedModels(tmp_path, Host(Plugins())).all()] == ["tones"]


@pytest.mark.slow
def test_a_vqvae_that_cannot_be_saved_where_it_was_wanted_is_saved_elsewhere_and_said_on_the_page(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    work, job = vqvae_job(sounds, tmp_path / "models" / "tones.sda", epochs=1)

    class RemovesTheFolder(list[object]):
        def append(self, event: object) -> None:
            (tmp_path / "models").rmdir()

    job.progress.epochs = RemovesTheFolder()
    said = work(job)
    assert "does not exist" in said
    assert said.endswith(f"It is saved in {tmp_path / 'home' / 'tones.sda'} instead.")
    assert [each.name for each in SavedModels(tmp_path / "home", Host(Plugins())).all()] == ["tones"]


def test_a_vqvae_that_is_stopped_before_its_first_epoch_writes_nothing(sounds: Path, tmp_path: Path) -> None:
    work, job = vqvae_job(sounds, tmp_path / "tones.sda", epochs=2)
    job.stop()
    assert work(job).startswith("Training was stopped before its first epoch was over")
    assert list(tmp_path.iterdir()) == []
