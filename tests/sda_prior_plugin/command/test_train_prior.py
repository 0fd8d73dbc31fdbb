"""`host train-prior`: from recordings to a prior in the file, with settings and sentences."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import click
import pytest
from rich.console import Console

import host_stubs
from host_stubs.cli import build_cli
from host_stubs.host import Host
from host_stubs.plugins import load_plugins
from sda_prior_plugin import (
    KNOBS,
    EpochDone,
    TrainingResumed,
)
from sda_prior_plugin.edge import ConsoleProgress, prepare_job

from .running import QUICK, document, host


def test_help_names_every_knob_with_its_help(model: Path) -> None:
    text = " ".join(host("train-prior", "--help").output.split())
    for knob in KNOBS:
        assert knob.flag in text
        assert knob.help in text


def test_five_files_are_enough(model: Path) -> None:
    result = host("train-prior", model, *QUICK)
    assert result.exit_code == 0, result.output
    facts = document(model)
    assert facts["has_prior"] is True
    prior = facts["prior"]
    assert prior["epochs_trained"] == 2
    assert prior["best_epoch"] in (1, 2)
    assert prior["final_perplexity"] == min(prior["held_out_perplexities"])
    assert prior["training_date"].startswith("20")
    assert len(prior["held_out"]) >= 1


def test_training_again_starts_from_the_codes_of_the_first_time_and_gives_the_same_prior(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = host("train-prior", model, *QUICK)
    assert "encoded 5 of 5" in first.stderr
    perplexities = document(model)["prior"]["held_out_perplexities"]
    again = host("train-prior", model, *QUICK, "--overwrite")
    assert "codes of 5 recordings found from an earlier training" in again.stderr
    assert "encoded" not in again.stderr
    assert document(model)["prior"]["held_out_perplexities"] == perplexities


def test_no_cache_neither_reads_nor_writes_the_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        result = host("train-prior", model, *QUICK, "--overwrite", "--no-cache")
        assert "encoded 5 of 5" in result.stderr
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_every_setting_is_shown_with_where_it_comes_from(model: Path) -> None:
    shown = host("train-prior", model, *QUICK).stderr
    assert "hidden size      16 (set)" in shown
    assert "dropout          0.0 (auto)" in shown


def test_the_json_result_has_settings_and_report_and_stands_alone_on_stdout(model: Path) -> None:
    result = json.loads(host("train-prior", model, *QUICK, "--json").stdout)
    assert result["model"] == str(model)
    assert result["settings"]["layers"] == {"value": 1, "origin": "set"}
    assert result["settings"]["dropout"]["origin"] == "auto"
    assert result["epochs_trained"] == 2
    assert result["compiling_seconds"] >= 0


def test_a_prior_of_recordings_alone_is_told_of_no_kinds(model: Path) -> None:
    assert host("train-prior", model, *QUICK, "--augmented-share", 0).exit_code == 0
    prior = host_stubs.open_model(model).prior
    assert prior.kinds == ("as-recorded",)
    assert "kind" not in prior.weights
    assert "kinds" not in document(model)["prior"]


@pytest.mark.parametrize(("rate", "batch"), [("1", "1"), ("1", "2"), ("0.4", "1")])
def test_a_training_that_diverges_leaves_the_file_and_nothing_to_continue(model: Path, rate: str, batch: str) -> None:
    """In its first epoch, after a first one that is finite and of no use, and where no batch is finite any more."""
    before = model.read_bytes()
    absurd = ["--learning-rate", rate, "--weight-decay", "20", "--batch-size", batch, "--context-seconds", "0.2"]
    absurd += ["--augmented-share", "0"]
    result = host("train-prior", model, *QUICK, *absurd, "--epochs", "40")
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert f"Try again with a smaller --learning-rate than {rate}." in last
    assert "is exactly as it was" in last
    assert "continue" not in last
    assert model.read_bytes() == before
    assert [path.name for path in model.parent.iterdir() if "training" in path.name] == []


def test_epochs_that_are_not_finite_are_told_drawn_and_kept_as_such(trained: Path, tmp_path: Path) -> None:
    """A real report, changed by hand."""
    opened = host_stubs.open_model(trained)
    report = replace(opened.prior.report, held_out_perplexities=(math.inf, opened.prior.report.final_perplexity))
    opened.prior.report = replace(report, train_perplexities=(1e90, 5.0), best_epoch=2)
    host_stubs.save_model(opened, tmp_path / "gap.sda")
    assert document(tmp_path / "gap.sda")["prior"]["held_out_perplexities"][0] is None
    assert host_stubs.open_model(tmp_path / "gap.sda").prior.report == opened.prior.report
    result = host("info", tmp_path / "gap.sda", "--plot", tmp_path / "gap.png")
    assert result.exit_code == 0, result.output

    text = io.StringIO()
    with ConsoleProgress(prepare_job(Host(load_plugins()), trained, {}), Console(file=text, width=200)) as progress:
        progress.on_event(TrainingResumed((math.inf,), (math.inf,), (False,), (), 0, ()))
        progress.on_event(
            EpochDone(
                1,
                2,
                2,
                0,
                1e90,
                math.inf,
                0,
                math.inf,
                False,
                (),
                3,
                1.0,
                (1.0, 1.0),
                draw=lambda *_: None,
                state=lambda: None,
            )  # type: ignore[arg-type, return-value]  # neither is called
        )
    assert "going on after epoch 1, perplexity: best: none yet" in text.getvalue()
    assert "perplexity: train 1e+90, held out not finite, best: none yet, 3 batches skipped" in text.getvalue()


def test_a_config_file_changes_the_defaults(model: Path, tmp_path: Path) -> None:
    config = tmp_path / "prior.toml"
    config.write_text("[every]\nhidden_size = 24\nheads = 2\nlayers = 1\nepochs = 1\nstart_offsets = 1\n")
    result = host("train-prior", model, "--config", config)
    assert result.exit_code == 0, result.output
    assert "hidden size      24 (set)" in result.stderr
    assert "dropout          0.0 (auto)" in result.stderr
    assert document(model)["prior"]["settings"]["hidden_size"] == 24


def test_both_architectures_train_save_open_and_generate(model: Path, tmp_path: Path) -> None:
    quick = ["--epochs", "1", "--hidden-size", "16", "--layers", "1", "--start-offsets", "1"]
    assert host("train-prior", model, "--architecture", "gru", *quick).exit_code == 0
    assert host("generate", model, "--seconds", "1", "-o", tmp_path / "gru.wav").exit_code == 0
    assert document(model)["prior"]["settings"]["architecture"] == "gru"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--epochs", "0"], "--epochs"),
        (["--layers", "-2"], "--layers"),
        (["--hidden-size", "many"], "--hidden-size"),
        (["--hidden-size", "100", "--heads", "3"], "cannot be shared by 3 heads"),
        (["--architecture", "gru", "--heads", "2"], "--heads means nothing to a gru"),
        (["--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--dataset", "nowhere"], "nowhere"),
        (["--output", "nowhere/new.sda"], "nowhere"),
        (["--output", "precious.wav", "--overwrite"], "must end in .sda"),
    ],
)
def test_a_mistake_ends_with_one_clear_line_and_loses_nothing(model: Path, wrong: list[str], message: str) -> None:
    before = model.read_bytes()
    result = host("train-prior", model, *wrong)
    assert result.exit_code in (1, 2)
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert model.read_bytes() == before
    assert not Path("nowhere").exists(), "no folder is made"


@pytest.mark.parametrize("what", ["missing", "truncated", "not a model"])
def test_a_file_that_is_no_model_ends_with_one_clear_line(model: Path, what: str) -> None:
    if what == "missing":
        model.unlink()
    else:
        model.write_bytes(model.read_bytes()[:1000] if what == "truncated" else b"hello")
    result = host("train-prior", model, *QUICK)
    assert result.exit_code == 1
    assert model.name in result.stderr
    assert "Traceback" not in result.stderr


def test_the_command_is_a_click_command_of_the_hosts_group() -> None:
    assert isinstance(build_cli(load_plugins()).commands["train-prior"], click.Command)
