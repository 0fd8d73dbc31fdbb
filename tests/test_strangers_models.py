"""A model from a stranger, whose manifest names what is no recording, is opened, shown and checked at once."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import host_stubs
from host_stubs import dataset_check
from host_stubs.cli import build_cli
from host_stubs.errors import HostError
from host_stubs.host import Host
from host_stubs.manifest import MOST_FILES
from host_stubs.plugins import Plugins
from host_stubs.ui import Jobs, SavedModels
from sda_prior_plugin.edge import plugin as prior_plugin
from sda_prior_plugin.edge.tab import model as tab_model
from sda_prior_plugin.edge.tab.page import PriorPage
from sda_prior_plugin.errors import PriorError

AT_ONCE, BUSY_MACHINE = 1.0, 30.0
"""Seconds."""
MANY = 100_000
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
NOT_FROM_HERE = "not from this machine"

Done = Callable[..., None]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "demo"
    host_stubs.write_demo_recordings(folder, seed=3, count=3)
    return folder


@pytest.fixture(scope="module")
def own(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was saved here, with a codec that was trained for an epoch."""
    manifest = host_stubs.build_manifest(recordings).manifest
    parts = [[each.audio for each in manifest.recordings(part, 48_000)] for part in ("train", "held_out")]
    run = host_stubs.train_vqvae(*parts, host_stubs.VqvaeSettings(codebook_size=16, epochs=1, batch_size=4))
    path = tmp_path_factory.mktemp("own") / "own.sda"
    host_stubs.save_model(host_stubs.Model("own", run.codec, manifest, report=run.report), path, Plugins())
    return path


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with very many files."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(MANY):
        os.close(os.open(folder / f"{number}.wav", os.O_CREAT))
    return folder


def names(*paths: str, size: int = 0) -> list[dict[str, Any]]:
    entry = {"bytes": size, "sha256": EMPTY, "seconds": 1.0, "train": [0, 1], "held_out": None}
    return [{"path": path, **entry} for path in paths]


@pytest.fixture
def from_a_stranger(own: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a file like `own`, as another program could write it: with a folder and files of its choice."""

    def make(folder: str, files: list[dict[str, Any]], **more: Any) -> Path:
        document = host_stubs.read_document(own) | {"dataset": {"folder": folder, "files": files}, **more}
        path = tmp_path / "models" / "stranger.sda"
        path.parent.mkdir(exist_ok=True)
        tensors: dict[str, torch.Tensor] = load_file(own)
        save_file(tensors, path, {"sda": json.dumps(document)})
        return path

    return make


@pytest.fixture
def plugins() -> Plugins:
    loaded = Plugins()
    loaded.add(prior_plugin, "prior")
    return loaded


@pytest.fixture
def page(plugins: Plugins, tmp_path: Path) -> PriorPage:
    host = Host(plugins)
    (tmp_path / "models").mkdir(exist_ok=True)
    return PriorPage(host, SavedModels(tmp_path / "models", host), Jobs(), WeakValueDictionary())


@contextmanager
def at_once() -> Iterator[None]:
    """What happens inside takes less than `AT_ONCE` of a processor, and ends whatever else the machine does."""
    began, by_the_clock = time.process_time(), time.monotonic()
    yield
    assert time.process_time() - began < AT_ONCE
    assert time.monotonic() - by_the_clock < BUSY_MACHINE


def asked(plugins: Plugins, *arguments: str | Path) -> tuple[int, str]:
    """Exit code of a command, and all that it says."""
    result = CliRunner().invoke(build_cli(plugins), [str(each) for each in arguments])
    return result.exit_code, result.output


@pytest.fixture(params=["/dev/zero", "a pipe", "the whole disk", "a place in the network", "very many files"])
def named(request: pytest.FixtureRequest, tmp_path: Path, many: Path) -> tuple[str, list[dict[str, Any]]]:
    """A folder and files that a manifest could name."""
    os.mkfifo(tmp_path / "pipe.wav")
    return {
        "/dev/zero": ("/dev", names("zero")),
        "a pipe": (str(tmp_path), names("pipe.wav")),
        "the whole disk": ("/", names("etc/passwd")),
        "a place in the network": ("//host.example/share", names("a.wav")),
        "very many files": (str(many), names("1.wav")),
    }[request.param]


@pytest.mark.slow
def test_nothing_that_it_names_is_looked_at_until_the_user_says_where_it_is(
    named: tuple[str, list[dict[str, Any]]],
    from_a_stranger: Callable[..., Path],
    page: PriorPage,
    plugins: Plugins,
    done: Done,
) -> None:
    path = from_a_stranger(*named)
    with at_once():
        page.open()
        done(page.look_at_recordings())
    assert page.chosen is not None
    assert page.chosen.problem == ""
    assert page.recordings is not None
    assert NOT_FROM_HERE in page.recordings.sentence
    assert "Say where they are:" in page.recordings.sentence
    assert not page.recordings.usable
    with at_once():
        code, said = asked(plugins, "info", path)
    assert code == 0
    assert re.search(f"Dataset now +not looked at: the file is {NOT_FROM_HERE}", said)
    with at_once():
        assert asked(plugins, "check", path)[0] == 0


@pytest.mark.slow
def test_once_the_user_says_so_it_is_looked_at_with_bounds(
    named: tuple[str, list[dict[str, Any]]], from_a_stranger: Callable[..., Path], page: PriorPage, plugins: Plugins,
    monkeypatch: pytest.MonkeyPatch, done: Done
) -> None:  # fmt: skip
    monkeypatch.setattr(tab_model, "SECONDS_TO_LOOK", 0.4)
    path = from_a_stranger(*named)
    page.open()
    problem = ""
    with at_once():
        try:
            done(page.say_where(named[0]))
        except PriorError as error:
            problem = str(error)
        done(page.look_at_recordings())
    assert page.recordings is not None
    asked_where = NOT_FROM_HERE in page.recordings.sentence
    assert problem.startswith("There is no folder") if asked_where else problem == ""
    with at_once():
        assert asked(plugins, "info", path)[0] == 0


def test_a_device_or_a_pipe_is_no_recording(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "folder.wav").mkdir()
    files = names("pipe.wav", "zero.wav", "folder.wav")
    manifest = host_stubs.DatasetManifest.from_json({"folder": str(tmp_path), "files": files})
    with at_once():
        check = manifest.check()
    assert check.missing == ["pipe.wav", "zero.wav", "folder.wav"]
    assert (check.changed, check.added) == ([], [])


def test_a_look_ends_when_its_time_is_over_and_says_so(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_check, "PATIENCE", 60.0)  # whatever else the machine does
    manifest = host_stubs.DatasetManifest.from_json({"folder": str(many), "files": names("0.wav")})
    check = manifest.check(seconds=0.01)
    assert not check.complete
    assert "not all of it was looked at" in check.summary()


def test_what_does_not_answer_is_given_up_to(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a network's folder may not; here, because finding a name among very many takes longer than there is time."""
    monkeypatch.setattr(dataset_check, "PATIENCE", 0.0)
    manifest = host_stubs.DatasetManifest.from_json({"folder": str(many), "files": names("another name.wav")})
    with at_once(), pytest.raises(HostError, match="does not answer"):
        manifest.check(seconds=0.001)


@pytest.mark.parametrize(
    ("folder", "files", "says"),
    [
        ("/x", [f"{number}.wav" for number in range(MANY)], "would take .* bytes of memory"),
        ("/x", ["a" * 1_000_000], "'a{59}… cannot be a path"),
        ("/" + "x" * 1_000_000, ["a"], "its folder cannot be one"),
        ("/x", ["../../etc/passwd"], "leads out of the dataset's folder"),
        ("/x", ["/etc/passwd"], "leads out of the dataset's folder"),
    ],
    ids=["100,000 files", "a long name", "a long folder", "upwards", "absolute"],
)
def test_what_cannot_be_a_dataset_is_refused_in_a_sentence(
    folder: str, files: list[str], says: str, from_a_stranger: Callable[..., Path], page: PriorPage, plugins: Plugins
) -> None:
    path = from_a_stranger(folder, names(*files))
    with at_once(), pytest.raises(HostError, match=says) as refused:
        host_stubs.open_model(path, plugins)
    assert len(str(refused.value)) < 500 + len(str(path))
    with at_once():
        page.open()
    assert page.chosen is not None
    assert page.chosen.problem == str(refused.value)
    with at_once():
        assert asked(plugins, "info", path) == (1, f"Error: {refused.value}\n")


def test_more_files_than_a_folder_may_have_are_refused() -> None:
    files = names(*(f"{number}.wav" for number in range(MOST_FILES + 1)))
    with pytest.raises(HostError, match="it names more than 16,384 files"):
        host_stubs.DatasetManifest.from_json({"folder": "/x", "files": files})


def test_a_name_of_a_million_characters_is_cut(
    from_a_stranger: Callable[..., Path], page: PriorPage, plugins: Plugins, recordings: Path
) -> None:
    path = from_a_stranger(str(recordings), names("a.wav"), name="n" * 1_000_000)
    with at_once():
        page.open()
    assert page.chosen is not None
    assert max(len(text) for _, text in page.chosen.card) <= 10_000
    with at_once():
        code, said = asked(plugins, "info", path)
    assert (code, len(said) < 20_000) == (0, True)


def test_a_model_that_was_saved_here_is_looked_at_unasked_wherever_its_file_is(
    own: Path, page: PriorPage, recordings: Path, tmp_path: Path, done: Done
) -> None:
    (tmp_path / "models" / "moved.sda").write_bytes(own.read_bytes())
    page.open()
    done(page.look_at_recordings())
    assert page.recordings is not None
    assert page.recordings.sentence == f"It learns from the recordings of this model: 3 recordings in {recordings}."


def test_a_folder_that_the_user_has_named_is_not_asked_for_again(
    own: Path,
    page: PriorPage,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    done: Done,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
    (tmp_path / "models" / "from-elsewhere.sda").write_bytes(own.read_bytes())
    for usable in (False, True):
        page.open()
        done(page.look_at_recordings())
        assert page.recordings is not None
        assert page.recordings.usable is usable
        done(page.say_where(str(recordings)))


@pytest.mark.parametrize("value", ["/etc/passwd", "/dev/zero", "", "../own.sda", "a\0b"])
def test_only_the_models_of_the_list_can_be_chosen(value: str, own: Path, page: PriorPage, tmp_path: Path) -> None:
    (tmp_path / "own.sda").write_bytes(own.read_bytes())
    with at_once(), pytest.raises(PriorError, match="That model is not there any more"):
        page.choose(value)
    assert page.chosen is None


def test_a_pipe_in_the_folder_of_models_is_not_waited_for(page: PriorPage, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "models" / "pipe.sda")
    with at_once():
        page.open()
    assert page.chosen is not None
    assert "no file that can be opened" in page.chosen.problem


def test_where_nothing_can_be_noted_the_users_word_counts_for_the_page(
    own: Path,
    page: PriorPage,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    done: Done,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    (tmp_path / "models" / "own.sda").write_bytes(own.read_bytes())
    page.open()
    done(page.look_at_recordings())
    assert page.recordings is not None
    assert not page.recordings.usable
    done(page.say_where(str(recordings)))
    done(page.look_at_recordings())
    assert page.recordings is not None
    assert page.recordings.usable
