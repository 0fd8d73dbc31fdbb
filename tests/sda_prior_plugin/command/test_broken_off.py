"""A training that is stopped, killed or cut off, and goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

import host_stubs
from host_stubs.host import Host
from host_stubs.plugins import load_plugins
from sda_prior_plugin import (
    BatchDone,
    TrainingEvent,
)
from sda_prior_plugin.edge import prepare_job
from sda_prior_plugin.edge.resumable import StateFile

from .running import LONG, QUICK, document, host, host_process, wait_for, wait_for_file


def test_ctrl_c_keeps_the_best_checkpoint_so_far(model: Path) -> None:
    process = host_process("train-prior", model, *LONG)
    wait_for(process, "epoch 1/")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "the best checkpoint so far is kept" in err
    assert document(model)["prior"]["ended"] == "stopped"
    assert os.listdir(model.parent) == [model.name]


def test_ctrl_c_before_the_first_validation_leaves_the_file_as_it_was_and_says_so(model: Path) -> None:
    before = model.read_bytes()
    process = host_process("train-prior", model, *LONG, "--start-offsets", "256", "--batch-size", "1")
    wait_for(process, "M parameters")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "exactly as it was" in err
    assert "Traceback" not in err
    assert model.read_bytes() == before


def test_a_second_ctrl_c_leaves_the_file_as_it_was_though_there_was_a_checkpoint(model: Path) -> None:
    """An epoch is one batch here, slow enough for a second Ctrl-C to come before it ends."""
    before, state = model.read_bytes(), StateFile(model).path
    slow = ["--hidden-size", "64", "--layers", "48", "--heads", "4", "--batch-size", "64", "--start-offsets", "4"]
    process = host_process("train-prior", model, *slow, "--epochs", "1000")
    wait_for_file(process, state)
    time.sleep(2)  # the file is there, but its folder may not be flushed yet: only then is it counted on
    process.send_signal(signal.SIGINT)
    wait_for(process, "Ctrl-C again")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Stopped at once" in err
    assert "exactly as it was" in err
    assert f"To continue it: host train-prior {model} --resume" in err
    assert model.read_bytes() == before
    assert state.is_file()


class PowerCut(Exception):  # noqa: N818 - no error of anybody's
    """What breaks a training off in the tests that need no real one."""


def broken_off(model: Path) -> Path:
    """Break a training with the settings of `QUICK` off in its second epoch; its state's file."""
    knobs = {"epochs": 2, "hidden_size": 16, "heads": 2, "layers": 1, "start_offsets": 2}
    job = prepare_job(Host(load_plugins()), model, knobs)

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, BatchDone) and event.epoch == 2:
            raise PowerCut

    with pytest.raises(PowerCut):
        job.train(on_event=on_event, keeper=job.keeper(print))
    return job.states.path


def same_prior(one: Path, other: Path) -> bool:
    """Whether two files hold the same prior, bit for bit, and tell the same of it but for times."""
    first, second = (host_stubs.open_model(path).prior for path in (one, other))
    timeless = [
        replace(
            prior.report,
            seconds=0,
            best_seconds=0,
            training_date="",
            memorization=replace(prior.report.memorization, seconds=0),
        )
        for prior in (first, second)
    ]
    weights = [{name: tensor.numpy().tobytes() for name, tensor in prior.weights.items()} for prior in (first, second)]
    return timeless[0] == timeless[1] and weights[0] == weights[1]


def test_a_training_that_is_killed_is_continued_to_the_prior_of_one_that_was_not(
    model: Path, trained_codec: Path, tmp_path: Path
) -> None:
    unbroken = tmp_path / "unbroken.sda"
    longer = [*QUICK, "--epochs", "60"]
    assert host("train-prior", trained_codec, "--output", unbroken, *longer).exit_code == 0
    before = model.read_bytes()
    process = host_process("train-prior", model, *longer)
    wait_for_file(process, StateFile(model).path)
    process.kill()
    process.communicate()
    assert model.read_bytes() == before
    listed = host("models", tmp_path, "--json")
    assert sorted(Path(each["path"]).name for each in json.loads(listed.stdout)) == ["small.sda", "unbroken.sda"]
    result = host("train-prior", model, "--resume")
    assert result.exit_code == 0, result.output
    assert re.search(
        r"small\.sda has an unfinished training, kept .*, after epoch \d+ of 60\. It is continued\.", result.stderr
    )
    assert "hidden size      16 (set)" in result.stderr
    assert "dropout          0.0 (auto)" in result.stderr
    assert "going on after epoch" in result.stderr
    assert "not the same bit for bit" not in result.stderr
    assert same_prior(model, unbroken)
    assert sorted(os.listdir(tmp_path)) == ["small.sda", "unbroken.sda"]


def test_without_an_unfinished_training_there_is_nothing_to_continue(model: Path) -> None:
    result = host("train-prior", model, "--resume")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: There is no unfinished training of small.sda to continue; leave out --resume to start anew."
    )


def test_an_unfinished_training_is_not_lost_unasked(model: Path) -> None:
    state = broken_off(model)
    before = state.read_bytes()
    result = host("train-prior", model, *QUICK)
    assert result.exit_code == 1
    assert re.search(
        r"small\.sda has an unfinished training, kept \d+ \w+ 20\d\d, \d\d:\d\d, after epoch 1 of 2\. "
        r"--resume continues it; --overwrite starts anew in its place\.$",
        result.stderr,
    )
    assert state.read_bytes() == before
    assert host("train-prior", model, *QUICK, "--overwrite").exit_code == 0
    assert not state.exists()


@pytest.mark.parametrize(
    ("knob", "message"),
    [
        (["--epochs", "9"], "--epochs is 9, but the unfinished training has 2"),
        (["--seed", "7"], "--seed is 7, but the unfinished training has 0"),
        (["--config", "own.toml"], "--dropout is 0.5, but the unfinished training has 0.0"),
    ],
)
def test_a_setting_cannot_change_on_the_way(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knob: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text("[every]\ndropout = 0.5\n")
    state = broken_off(model)
    result = host("train-prior", model, "--resume", *knob)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (f"Error: {message}; leave it out, or leave out --resume to start anew.")
    assert state.exists()


def test_a_setting_that_is_as_it_was_may_be_given(model: Path) -> None:
    broken_off(model)
    assert host("train-prior", model, "--resume", *QUICK).exit_code == 0


@pytest.mark.parametrize("what", ["another codec", "another file", "damage"])
def test_a_training_of_something_else_is_not_continued_and_starting_anew_says_so(model: Path, what: str) -> None:
    state = broken_off(model)
    states = StateFile(model)
    unfinished = states.read()
    assert unfinished is not None
    if what == "another codec":
        states.write(replace(unfinished, codebooks="0" * 64))
        reason = "it has learned the codes of another codec than small.sda has now"
    elif what == "another file":
        states.write(replace(unfinished, output="other.sda"))
        reason = "it is that of other.sda"
    else:
        state.write_bytes(state.read_bytes()[:-1])
        reason = "it is damaged ("
    result = host("train-prior", model, "--resume")
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"Error: The training in {state} cannot be continued: {reason}")
    assert last.endswith("; leave out --resume to start anew.")
    assert state.exists()
    result = host("train-prior", model, *QUICK)
    assert result.exit_code == 0, result.output
    assert f"small.sda.training is of no use, and will be replaced: {reason}" in result.stderr
    assert not state.exists()


def test_a_training_on_other_recordings_is_not_continued(model: Path, recordings: Path, tmp_path: Path) -> None:
    state = broken_off(model)
    changed = Path(shutil.copytree(recordings, tmp_path / "changed"))
    victim = sorted(changed.glob("*.wav"))[0]
    audio, rate = soundfile.read(victim)
    soundfile.write(victim, audio[::-1], rate)
    result = host("train-prior", model, "--resume", "--dataset", changed)
    assert result.exit_code == 1
    assert "it has learned from other codes than those of these recordings" in result.stderr.splitlines()[-1]
    assert "To continue it" not in result.stderr
    assert state.exists()


def test_continuing_may_replace_the_prior_that_it_began_to_replace_and_no_other(trained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(trained, tmp_path / "small.sda"))
    broken_off(copy)
    other = tmp_path / "written-meanwhile.sda"
    shutil.copy(copy, other)
    kept = copy.rename(tmp_path / "kept.sda")
    other.rename(copy)
    result = host("train-prior", copy, "--resume")
    assert result.exit_code == 1
    assert "has a prior already" in result.stderr
    kept.rename(copy)
    assert host("train-prior", copy, "--resume").exit_code == 0
