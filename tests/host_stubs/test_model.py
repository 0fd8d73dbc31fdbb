"""Opening and saving models, with plugins that behave and plugins that do not; and what a Host offers a plugin."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
import pytest
import torch
from safetensors.torch import load_file, save_file

import host_stubs
from host_stubs.bundle import Bundle
from host_stubs.codec import Codec
from host_stubs.errors import HostError
from host_stubs.host import Host
from host_stubs.model import Model, open_model, save_model
from host_stubs.plugins import Plugins
from host_stubs.sda import read_document

hookimpl = pluggy.HookimplMarker("sda_host")


class PriorPlugin:
    """Keeps a number beside the model, the way the prior plugin keeps a prior."""

    @hookimpl
    def model_saving(self, model: Model, bundle: Bundle) -> None:
        if model.prior is not None:
            bundle.put("prior", {"answer": model.prior}, {"weights": torch.arange(4, dtype=torch.bfloat16)})
            bundle.has_prior = True

    @hookimpl
    def model_opened(self, model: Model, bundle: Bundle) -> None:
        entry = bundle.get("prior")
        model.prior = None if entry is None else entry.facts["answer"]


class BadPlugin:
    """Ruins what it can reach, then fails."""

    @hookimpl
    def model_saving(self, bundle: Bundle) -> None:
        bundle.remove("prior")
        bundle.has_prior = False
        raise RuntimeError("while saving")

    @hookimpl
    def model_opened(self, model: Model, bundle: Bundle) -> None:
        bundle.remove("prior")
        raise HostError("The prior is for another codec.")

    @hookimpl
    def model_facts(self) -> list[Any]:
        return ["not", "pairs"]


def having(*plugins: object) -> Plugins:
    loaded = Plugins()
    for plugin in plugins:
        loaded.add(plugin, type(plugin).__name__)
    return loaded


def raw(tensor: torch.Tensor) -> torch.Tensor:
    """Its bytes."""
    return tensor.reshape(-1).view(torch.uint8)


def test_comes_back_as_it_was_saved(model: Model, tmp_path: Path, no_plugins: Plugins) -> None:
    path = tmp_path / "a.sda"
    save_model(model, path, no_plugins)
    back = open_model(str(path), no_plugins)
    assert (back.name, back.manifest, back.report, back.path) == ("tones", model.manifest, model.report, path)
    assert back.prior is None
    assert not back.bundle.has_prior
    sound = np.sin(np.arange(20_000) / 20).astype(np.float32)
    np.testing.assert_array_equal(back.codec.encode(sound), model.codec.encode(sound))


def test_a_plugin_finds_again_what_it_kept(model: Model, tmp_path: Path) -> None:
    path, plugins = tmp_path / "a.sda", having(PriorPlugin())
    model.prior = 42
    save_model(model, path, plugins)
    assert read_document(path)["has_prior"] is True
    assert open_model(path, plugins).prior == 42


def test_a_prior_survives_a_host_without_the_plugin(model: Model, tmp_path: Path, no_plugins: Plugins) -> None:
    path, again = tmp_path / "a.sda", tmp_path / "b.sda"
    model.prior = 42
    save_model(model, path, having(PriorPlugin()))
    stranger = open_model(path, no_plugins)
    assert stranger.prior is None
    stranger.name = "renamed"
    save_model(stranger, again, no_plugins)
    before, after = load_file(path), load_file(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(raw(before[name]), raw(after[name])) for name in before)
    assert json.dumps(read_document(path)["prior"]) == json.dumps(read_document(again)["prior"])
    back = open_model(again, having(PriorPlugin()))
    assert (back.prior, back.name) == (42, "renamed")


def test_a_plugin_that_fails_on_opening_costs_nothing(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.sda"
    model.prior = 42
    save_model(model, path, having(PriorPlugin()))
    bad = having(BadPlugin())
    opened = open_model(path, bad)
    assert "plugin 'BadPlugin', in model_opened: The prior is for another codec." in caplog.text
    assert opened.prior is None
    assert opened.bundle.names() == ["prior"]
    save_model(opened, path, bad)
    assert "while saving" in caplog.text
    assert open_model(path, having(PriorPlugin())).prior == 42


def test_a_plugin_that_fails_on_saving_does_not_undo_the_others(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "a.sda"
    model.prior = 42
    save_model(model, path, having(BadPlugin(), PriorPlugin(), type("Other", (BadPlugin,), {})()))
    assert read_document(path)["has_prior"] is True
    assert model.bundle.names() == ["prior"]


def test_a_save_that_fails_changes_nothing(model: Model, tmp_path: Path) -> None:
    model.prior = 42
    with pytest.raises(HostError, match="does not exist"):
        save_model(model, tmp_path / "nowhere" / "a.sda", having(PriorPlugin()))
    assert model.path is None
    assert model.bundle.names() == []


def test_the_error_names_the_file(model: Model, tmp_path: Path, no_plugins: Plugins) -> None:
    path = tmp_path / "a.sda"
    save_model(model, path, no_plugins)
    document = read_document(path)
    tensors = load_file(path)
    missing = {name: tensor for name, tensor in tensors.items() if "encoder.proj" not in name}
    save_file(missing, path, metadata={"sda": json.dumps(document)})
    with pytest.raises(HostError, match=r"a\.sda cannot be opened.*encoder\.proj"):
        open_model(path, no_plugins)
    document["dataset"]["files"][0]["path"] = "../../secret.wav"
    save_file(tensors, path, metadata={"sda": json.dumps(document)})
    with pytest.raises(HostError, match=r"a\.sda cannot be opened.*leads out"):
        open_model(path, no_plugins)


def test_the_package_is_its_face(model: Model, tmp_path: Path) -> None:
    host_stubs.save_model(model, tmp_path / "a.sda")
    assert host_stubs.open_model(tmp_path / "a.sda").name == "tones"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = host_stubs.nonsense
    try:
        assert all(getattr(host_stubs, name) is not None for name in host_stubs.__all__)
    except OSError as error:
        if "PortAudio" not in str(error):
            raise
        pytest.skip("PortAudio is not here, which two of its names need: apt install libportaudio2")


def test_a_host_gives_the_recordings_of_a_model(model: Model, no_plugins: Plugins) -> None:
    host = Host(no_plugins)
    held_out = list(host.recordings(model, "held_out"))
    train = list(host.recordings(model, "train"))
    assert len(held_out) == 1
    assert len(train) == 5
    assert not {r.name for r in train} & {r.name for r in held_out}
    assert host.check_dataset(model).missing == []


def test_a_model_without_a_dataset_says_what_to_give(codec: Codec, no_plugins: Plugins) -> None:
    host, imported = Host(no_plugins), Model("old", codec)
    with pytest.raises(HostError, match="--dataset"):
        host.check_dataset(imported)
    with pytest.raises(HostError, match="--dataset"):
        host.recordings(imported, "train")


def test_a_dataset_can_be_given_once(
    codec: Codec, own_sounds: Path, no_plugins: Plugins, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host, imported = Host(no_plugins), Model("old", codec)
    (own_sounds / "broken.wav").touch()
    with caplog.at_level(logging.WARNING, "sda_host"):
        host.set_dataset(imported, own_sounds)
    assert "broken.wav" in caplog.text
    host.save_model(imported, tmp_path / "a.sda")
    assert len(list(host.recordings(host.open_model(tmp_path / "a.sda"), "train"))) == 5


def test_a_dataset_that_moved_keeps_its_split(
    model: Model, own_sounds: Path, no_plugins: Plugins, tmp_path: Path, write_sound: Any
) -> None:
    host = Host(no_plugins)
    assert model.manifest is not None
    before = model.manifest.files
    moved = Path(shutil.move(own_sounds, tmp_path / "moved"))
    write_sound(moved / "a-later-one.wav")
    host.set_dataset(model, moved)
    assert model.manifest.files == before
    assert model.manifest.folder == str(moved.resolve())
    assert host.check_dataset(model).missing == []
    with pytest.raises(HostError, match="There is no folder"):
        host.set_dataset(model, tmp_path / "missing")


def test_facts_come_from_plugins_that_keep_to_the_contract(model: Model) -> None:
    class Good:
        @hookimpl
        def model_facts(self, model: Model) -> list[tuple[str, str]]:
            return [("Levels", str(model.codec.levels))]

    plugins = having(Good(), BadPlugin())
    assert Host(plugins).facts(model) == [("Levels", "2")]
    assert [failure.where for failure in plugins.failures] == ["model_facts"]
