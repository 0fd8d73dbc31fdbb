"""No prior and no file is replaced unasked, and what changes or goes meanwhile is kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import host_stubs
from host_stubs.host import Host
from host_stubs.plugins import load_plugins
from sda_prior_plugin import (
    PriorRun,
)
from sda_prior_plugin.edge import prepare_job

from .running import LONG, QUICK, document, host, host_process, wait_for


def test_a_prior_is_not_replaced_unasked_without_a_terminal(trained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(trained, tmp_path / "m.sda"))
    before = copy.read_bytes()
    result = host("train-prior", copy, *QUICK)
    assert result.exit_code == 1
    assert "has a prior already" in result.stderr
    assert "--overwrite" in result.stderr
    assert copy.read_bytes() == before


def test_overwrite_replaces_the_prior(trained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(trained, tmp_path / "m.sda"))
    before = document(copy)["prior"]
    assert host("train-prior", copy, *QUICK, "--seed", "9", "--overwrite").exit_code == 0
    assert document(copy)["prior"]["settings"] != before["settings"]


def test_another_file_is_not_replaced_unasked(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sda"
    other.write_text("precious")
    result = host("train-prior", model, *QUICK, "--output", other)
    assert result.exit_code == 1
    assert other.read_text() == "precious"


def test_output_leaves_the_model_as_it_is(model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    assert host("train-prior", model, *QUICK, "--output", tmp_path / "new.sda").exit_code == 0
    assert model.read_bytes() == before
    assert document(tmp_path / "new.sda")["has_prior"] is True


def test_a_model_that_changed_during_the_training_gets_the_prior_and_keeps_the_change(model: Path) -> None:
    process = host_process("train-prior", model, *LONG)
    wait_for(process, "epoch 1/")
    opened = host_stubs.open_model(model)
    opened.name = "changed meanwhile"
    host_stubs.save_model(opened, model)
    second = host("train-prior", model, *QUICK)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert second.exit_code == 1
    assert f"small.sda is being trained already, by process {process.pid} (" in second.output
    assert process.returncode == 0, err
    assert "small.sda was changed by something else meanwhile; the prior was put into what it is now." in err
    assert document(model)["name"] == "changed meanwhile"
    assert document(model)["has_prior"] is True
    assert sorted(path.name for path in model.parent.iterdir()) == ["small.sda"]


@pytest.mark.parametrize("change", ["another codec", "another prior", "no model"])
def test_what_a_prior_is_not_for_is_left_alone_and_the_prior_saved_beside_it(
    trained_codec: Path, trained: Path, tmp_path: Path, change: str
) -> None:
    model = Path(shutil.copy(trained if change == "another prior" else trained_codec, tmp_path / "small.sda"))
    opened = host_stubs.open_model(trained)
    run = PriorRun(opened.prior)
    job = prepare_job(Host(load_plugins()), model, {}, cache=False)
    if change == "no model":
        model.write_bytes(b"something else")
    else:
        newer = host_stubs.open_model(model)
        if change == "another codec":
            newer.codec._codebooks[0, 0, 0] += 1
        else:
            newer.prior, entry = None, newer.bundle.get("prior")
            newer.bundle.put("prior", entry.facts | {"training_date": "2001-01-01"}, entry.tensors)
        host_stubs.save_model(newer, model)
    before = model.read_bytes()
    saved = job.save(run, model)
    assert model.read_bytes() == before
    assert saved.path == tmp_path / "small-2.sda"
    assert saved.note == (
        f"small.sda was changed by something else meanwhile, and is left alone. It is saved in {saved.path} instead."
    )
    assert host_stubs.open_model(saved.path).prior.report == run.report


def test_a_prior_whose_folder_is_gone_is_saved_elsewhere_and_said(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, folder = tmp_path / "home", tmp_path / "disk"
    for each in (home, folder):
        each.mkdir()
    monkeypatch.setenv("HOME", str(home))
    process = host_process("train-prior", model, "--output", folder / "new.sda", "--json", *LONG)
    wait_for(process, "epoch 1/")
    folder.rename(tmp_path / "elsewhere")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    result = json.loads(out)
    assert result["model"] == str(home / "new.sda")
    for said in (err, result["saved_elsewhere"]):
        assert f"The folder {folder} does not exist" in said
        assert f"It is saved in {home / 'new.sda'} instead." in said
    assert document(home / "new.sda")["prior"]["ended"] == "stopped"


def test_a_file_with_a_prior_is_asked_about_on_a_terminal(trained: Path, tmp_path: Path) -> None:
    """With a terminal the command asks, and "no" leaves the file as it was."""
    copy = Path(shutil.copy(trained, tmp_path / "m.sda"))
    before = copy.read_bytes()
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "host_stubs.cli", "train-prior", str(copy), *QUICK],
        stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.write(leader, b"n\n")
    _, err = process.communicate(timeout=60)
    os.close(leader)
    os.close(follower)
    assert "Replace it once the new one is complete?" in err
    assert process.returncode == 1
    assert copy.read_bytes() == before


def test_two_processes_do_not_train_for_one_file(model: Path) -> None:
    with host_stubs.claimed(model, "trained"):
        result = host("train-prior", model, *QUICK)
    assert result.exit_code == 1
    assert "small.sda is being trained already, by " in result.stderr
