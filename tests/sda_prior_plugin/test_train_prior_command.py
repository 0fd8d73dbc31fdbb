"""`host train-prior` and what follows from it, with the real host: from recordings on disk to new sound."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from numba import njit
from rich.console import Console

import host_stubs
from host_stubs.cli import build_cli
from host_stubs.host import Host
from host_stubs.plugins import load_plugins
from sda_prior_plugin import (
    KNOBS,
    BatchDone,
    ChoosingStarted,
    EpochDone,
    MemorizingFound,
    Prior,
    PriorRun,
    TrainingEvent,
    TrainingResumed,
)
from sda_prior_plugin.edge import ConsoleProgress, prepare_job
from sda_prior_plugin.edge.resumable import StateFile
from sda_prior_plugin.encoding import encode_long, encode_variants, is_long
from sda_prior_plugin.kinds import KINDS, LATER
from sda_prior_plugin.memorization import CopyRate
from sda_prior_plugin.watch import Finding

QUICK = ["--epochs", "2", "--hidden-size", "16", "--heads", "2", "--layers", "1", "--start-offsets", "2"]


def host(*args: object, **how: object) -> Result:
    """Run the host's command line in this process."""
    return CliRunner().invoke(build_cli(load_plugins()), [str(arg) for arg in args], **how)  # type: ignore[arg-type]


def host_process(*args: object) -> subprocess.Popen[str]:
    """Start the host's command line as a user does."""
    return subprocess.Popen(
        [sys.executable, "-m", "host_stubs.cli", *map(str, args)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five short synthesized recordings."""
    folder = tmp_path_factory.mktemp("recordings")
    host_stubs.write_demo_recordings(folder, seed=3, count=5)
    return folder


@pytest.fixture(scope="session")
def trained_codec(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a codec trained for an epoch and no prior."""
    path = tmp_path_factory.mktemp("model") / "small.sda"
    result = host("train", recordings, "-o", path, "--epochs", 1)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def model(trained_codec: Path, tmp_path: Path) -> Path:
    """A copy of the model without a prior, for one test alone."""
    return Path(shutil.copy(trained_codec, tmp_path / "small.sda"))


@pytest.fixture(scope="session")
def trained(trained_codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a prior."""
    path = tmp_path_factory.mktemp("trained") / "with-prior.sda"
    result = host("train-prior", trained_codec, "--output", path, *QUICK)
    assert result.exit_code == 0, result.output
    return path


def document(path: Path) -> dict:
    """What `host info --json` says of a model."""
    result = host("info", path, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


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


def test_an_opened_model_has_its_prior_ready_in_eval_mode(trained: Path) -> None:
    opened = host_stubs.open_model(trained)
    assert isinstance(opened.prior, Prior)
    assert not opened.prior.network.training
    codes = opened.prior.sample(frames=6, seed=7)
    assert codes.shape == (6, opened.codec.bands, opened.codec.levels)
    assert len(opened.codec.decode(codes)) == 6 * opened.codec.frame_samples


def test_a_recording_is_continued_by_the_prior(trained: Path, recordings: Path, tmp_path: Path) -> None:
    recording, wav = sorted(recordings.glob("*.wav"))[0], tmp_path / "longer.wav"
    result = host("generate", trained, "--continue", recording, "--seconds", 1, "--seed", 7, "-o", wav, "--json")
    assert result.exit_code == 0, result.output
    (sound,) = json.loads(result.stdout)["sounds"]
    opened = host_stubs.open_model(trained)
    start = host_stubs.read_start(recording, opened.codec)
    new = opened.prior.sample(frames=6, seed=7, start=start.codes)
    assert not np.array_equal(new, opened.prior.sample(frames=6, seed=7))
    expected = opened.codec.decode(np.concatenate([start.codes, new]))[start.lead :][: start.samples + 48_000]
    written, _ = soundfile.read(wav, dtype="float32")
    assert len(written) == len(expected)
    np.testing.assert_allclose(written, expected, atol=1e-3)
    assert sound["given_seconds"] == pytest.approx(soundfile.info(recording).duration, abs=1e-3)
    assert (sound["new_seconds"], sound["frames"]) == (1.0, 6)
    assert sound["verbatim"]["share"] <= 1


def test_what_a_prior_was_told_it_can_be_asked_for(trained: Path, tmp_path: Path) -> None:
    """By its name, which the file keeps; without one it draws as recorded."""
    prior = host_stubs.open_model(trained).prior
    assert prior.kinds == (*(kind.name for kind in KINDS), LATER)
    wav, asked = tmp_path / "new.wav", ("generate", trained, "--seconds", 1, "--seed", 7, "--json", "--overwrite")
    written = {}
    for kind in (None, *prior.kinds[:2]):
        result = host(*asked, "-o", wav, *(() if kind is None else ("--as", kind)))
        assert result.exit_code == 0, result.output
        written[kind] = wav.read_bytes()
    assert written[None] == written["as-recorded"]
    assert written[None] != written[prior.kinds[1]]
    other = host(*asked, "-o", wav, "--as", "sideways")
    assert (other.exit_code, other.stdout) == (1, "")
    assert "does not know 'sideways'; what it can be asked for: as-recorded, slower-1," in other.stderr


def test_a_prior_of_recordings_alone_is_told_of_no_kinds(model: Path) -> None:
    assert host("train-prior", model, *QUICK, "--augmented-share", 0).exit_code == 0
    prior = host_stubs.open_model(model).prior
    assert prior.kinds == ("as-recorded",)
    assert "kind" not in prior.weights
    assert "kinds" not in document(model)["prior"]


def test_a_fresh_process_samples_the_same_codes(model: Path) -> None:
    """The training process prints what it draws; another one that opens the file draws the same."""
    train = (
        "import sys, torch; torch.set_num_threads(1); import host_stubs\n"
        "from host_stubs.host import Host\n"
        "from host_stubs.plugins import load_plugins\n"
        "from pathlib import Path\n"
        "from sda_prior_plugin import edge\n"
        f"knobs = dict(epochs=1, hidden_size=16, heads=2, layers=1, start_offsets=2)\n"
        f"job = edge.prepare_job(Host(load_plugins()), Path({str(model)!r}), knobs)\n"
        f"run = job.train(); job.save(run, Path({str(model)!r}))\n"
        "print(run.prior.sample(frames=20, seed=7).ravel().tolist())"
    )
    again = (
        "import torch; torch.set_num_threads(1); import host_stubs\n"
        f"print(host_stubs.open_model({str(model)!r}).prior.sample(frames=20, seed=7).ravel().tolist())"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        for code in (train, again)
    )
    assert first == second
    assert len(json.loads(first)) == 20 * 8 * 3


def test_generated_sound_has_the_length_asked_for_and_the_same_seed_gives_the_same_file(
    trained: Path, tmp_path: Path
) -> None:
    for name in ("a.wav", "b.wav"):
        made = host("generate", trained, "--seconds", "1.5", "--seed", 5, "-o", tmp_path / name)
        assert made.exit_code == 0, made.output
    audio, rate = soundfile.read(tmp_path / "a.wav")
    assert len(audio) == round(1.5 * rate)
    assert np.abs(audio).max() > 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_command_and_python_draw_by_the_same_defaults_and_those_are_said(trained: Path, tmp_path: Path) -> None:
    model = host_stubs.open_model(trained)
    frames = math.ceil(1.5 * model.codec.sample_rate / model.codec.frame_samples)
    for name, top_p in (("as-it-is.wav", []), ("said.wav", ["--top-p", "0.9"]), ("all.wav", ["--top-p", "1"])):
        made = host("generate", trained, "--seconds", "1.5", "--seed", 5, *top_p, "-o", tmp_path / name)
        assert made.exit_code == 0, made.output
    as_it_is, said, drawn_from_all = (
        (tmp_path / name).read_bytes() for name in ("as-it-is.wav", "said.wav", "all.wav")
    )
    assert as_it_is == said != drawn_from_all
    audio = np.concatenate([*model.codec.decode_stream([model.prior.sample(frames, seed=5)])])
    written, _ = soundfile.read(tmp_path / "as-it-is.wav")
    np.testing.assert_allclose(written, audio[: len(written)], atol=2**-14)
    assert "default: 0.9" in " ".join(host("generate", "--help").stdout.split())


def test_the_model_card_shows_the_prior(trained: Path) -> None:
    card = host("info", trained).stdout
    assert "Held-out perplexity" in card
    assert "transformer, 1 layer of 16, 2 heads" in card


def test_the_model_card_and_its_json_say_what_the_prior_has_memorized(trained: Path) -> None:
    text = host("info", trained).stdout
    assert "Memorization " in text
    memorization = document(trained)["prior"]["memorization"]
    assert {"verdict", "basis", "rates", "longest", "memorizing_epochs"} <= memorization.keys()
    assert memorization["verdict"] in text


def test_generating_says_how_much_is_verbatim_and_from_where(trained: Path, tmp_path: Path) -> None:
    """The training codes themselves, given for new ones, are verbatim from one recording."""
    result = host("generate", trained, "--seconds", 2, "--seed", 1, "-o", tmp_path / "a.wav", "--json")
    (sound,) = json.loads(result.stdout)["sounds"]
    assert 0 <= sound["verbatim"]["share"] <= 1
    model = host_stubs.open_model(trained)
    assert model.manifest is not None
    recording = next(iter(model.manifest.recordings("train", model.codec.sample_rate)))
    ((text, facts),) = load_plugins().call("codes_facts", model=model, codes=model.codec.encode(recording.audio))
    assert recording.name in text
    assert facts["verbatim"]["passages"][0]["file"] == recording.name
    assert facts["near"]["share"] >= facts["verbatim"]["share"]
    assert "is verbatim from the recordings" in host("generate", trained, "-o", tmp_path / "b.wav").stdout


def test_max_copy_limits_what_is_copied(trained: Path, tmp_path: Path) -> None:
    arguments = ["generate", trained, "--seconds", 3, "--seed", 1, "--max-copy", 0, "-o", tmp_path / "a.wav", "--json"]
    (sound,) = json.loads(host(*arguments).stdout)["sounds"]
    assert sound["verbatim"] == {"share": 0.0, "passages": []}
    assert 0 <= sound["near"]["share"] <= 1


def test_an_older_prior_that_does_not_say_what_it_heard_still_generates(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "older.sda"
    model = host_stubs.open_model(trained)
    entry = model.bundle.get("prior")
    assert entry is not None
    facts = {name: fact for name, fact in entry.facts.items() if name not in ("heard", "memorization")}
    tensors = {name: tensor for name, tensor in entry.tensors.items() if not name.startswith("heard.")}
    model.bundle.put("prior", facts, tensors)
    model.prior = None
    host_stubs.save_model(model, path)
    assert host("generate", path, "--seconds", 1, "-o", tmp_path / "a.wav").exit_code == 0
    refused = host("generate", path, "--max-copy", 1, "-o", tmp_path / "b.wav")
    assert refused.exit_code == 1
    assert "does not say what it was trained on" in refused.stderr
    assert "Memorization" not in host("info", path).stdout


@pytest.mark.parametrize("tensor", ["hashes", "ends", "recordings", "keys"])
def test_damage_to_what_was_heard_is_named_and_the_file_still_opens(
    trained: Path, tensor: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = host_stubs.open_model(trained)
    entry = model.bundle.get("prior")
    assert entry is not None
    model.bundle.put("prior", entry.facts, entry.tensors | {f"heard.{tensor}": torch.tensor([-1, 10**9])})
    model.prior = None
    load_plugins().call("model_opened", model=model, bundle=model.bundle)
    assert "What the prior in this file was trained on is damaged" in caplog.text


def test_info_draws_the_training(trained: Path, tmp_path: Path) -> None:
    picture = tmp_path / "training.png"
    result = host("info", trained, "--plot", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "exists already" in host("info", trained, "--plot", picture).stderr
    assert "must end in .png or .svg" in host("info", trained, "--plot", tmp_path / "training.gif").stderr


@pytest.mark.parametrize("name", [r"a $\foo$ b", "$", "n" * 1_000_000, "a\x1b\nb"], ids=lambda name: repr(name[:12]))
def test_a_model_may_be_called_anything_on_its_picture(trained: Path, tmp_path: Path, name: str) -> None:
    model = host_stubs.open_model(trained)
    model.name = name
    host_stubs.save_model(model, tmp_path / "named.sda")
    picture = tmp_path / "training.png"
    result = host("info", tmp_path / "named.sda", "--plot", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_warning_names_the_key_that_stops(trained_codec: Path) -> None:
    job = prepare_job(Host(load_plugins()), trained_codec, {})
    text = io.StringIO()
    progress = ConsoleProgress(job, Console(file=text, width=200))
    finding = Finding(CopyRate(1 / 3, 2, 0.52, 900, 0.11, 120, 0.001), 0.5, 3.0, 2.0)
    progress.on_event(MemorizingFound(epoch=30, best_epoch=20, finding=finding))
    assert "52% of the 0.3 s stretches that this prior generates now are verbatim" in text.getvalue()
    assert "recordings share 11% with each other; best checkpoint: epoch 20." in text.getvalue()
    assert "Press Ctrl-C once to stop and use the best checkpoint" in text.getvalue()


def test_the_look_at_the_end_is_told_of(trained_codec: Path) -> None:
    job = prepare_job(Host(load_plugins()), trained_codec, {})
    text = io.StringIO()
    progress = ConsoleProgress(job, Console(file=text, width=200))
    progress.on_event(ChoosingStarted(9.0))
    progress.on_event(ChoosingStarted(0.0))
    sentence = "looking for copies in what the best checkpoint draws"
    assert text.getvalue() == f"{sentence}, 0:09 left\n{sentence}\n"


def test_compiling_is_told_of_and_its_time_is_apart(trained_codec: Path) -> None:
    job = prepare_job(Host(load_plugins()), trained_codec, {})
    text = io.StringIO()
    with ConsoleProgress(job, Console(file=text, width=200)) as progress:
        assert text.getvalue() == ""
        njit(lambda number: number + 1)(1)
        assert text.getvalue() == "compiling the fast loops for this machine, once\n"
    assert progress.compiling.seconds > 0
    assert f"compiling took {progress.compiling.seconds:.1f} s, beside the rest where it could; it" in text.getvalue()
    with ConsoleProgress(job, Console(file=text, width=200)) as progress:
        pass
    assert progress.compiling.seconds == 0
    assert text.getvalue().count("compiling took") == 1


def test_a_model_without_a_prior_says_what_to_run(model: Path, tmp_path: Path) -> None:
    result = host("generate", model, "-o", tmp_path / "x.wav")
    assert result.exit_code == 1
    assert "host train-prior" in result.stderr
    assert not (tmp_path / "x.wav").exists()


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


def test_missing_recordings_are_listed_and_dataset_finds_them(model: Path, recordings: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(recordings, tmp_path / "moved"))
    opened = host_stubs.open_model(model)
    host_stubs.Host(load_plugins()).set_dataset(opened, moved)
    host_stubs.save_model(opened, model)
    found = Path(shutil.move(moved, tmp_path / "found"))
    moved.mkdir()
    result = host("train-prior", model, *QUICK)
    assert result.exit_code == 1
    assert "5 of 5 recordings are missing" in result.stderr
    assert next(found.glob("*.wav")).name in result.stderr
    assert "--dataset" in result.stderr
    assert host("train-prior", model, *QUICK, "--dataset", found).exit_code == 0


def test_an_imported_model_is_told_its_dataset_once(recordings: Path, shared: Path, tmp_path: Path) -> None:
    imported = tmp_path / "imported.sda"
    assert host("import", shared / "legacy" / "tabla2.distill", "-o", imported).exit_code == 0
    result = host("train-prior", imported, *QUICK)
    assert result.exit_code == 1
    assert "--dataset" in result.stderr
    assert host("train-prior", imported, *QUICK, "--dataset", recordings).exit_code == 0
    assert document(imported)["dataset"]["folder"] == str(recordings)
    assert host("train-prior", imported, *QUICK, "--overwrite").exit_code == 0


@pytest.mark.parametrize("seconds", [0.01, 0.1, 3.0])
def test_one_recording_however_short_is_enough(tmp_path: Path, seconds: float) -> None:
    """The head is trained on, the tail held out."""
    folder = tmp_path / "one"
    folder.mkdir()
    time = np.arange(round(seconds * 48_000)) / 48_000
    soundfile.write(folder / "one.wav", 0.5 * np.sin(2 * np.pi * (300 + 100 * time) * time), 48_000)
    path = tmp_path / "one.sda"
    assert host("train", folder, "-o", path, "--epochs", 1).exit_code == 0
    result = host("train-prior", path, *QUICK)
    assert result.exit_code == 0, result.output
    assert document(path)["prior"]["held_out"] == ["one.wav"]
    assert host("generate", path, "--seconds", "1", "-o", tmp_path / "one-new.wav").exit_code == 0


def test_changed_recordings_are_named_in_a_warning(model: Path, recordings: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(recordings, tmp_path / "changed"))
    victim = sorted(changed.glob("*.wav"))[0]
    audio, rate = soundfile.read(victim)
    soundfile.write(victim, audio * 0.5, rate)
    shutil.copy(victim, changed / "one more.wav")
    result = host("train-prior", model, *QUICK, "--dataset", changed, "--json")
    assert result.exit_code == 0
    assert "1 recording changed" in result.stderr
    assert victim.name in result.stderr
    assert "1 recording in that folder not used, for the codec was not trained on them: one more.wav" in result.stderr
    dataset = json.loads(result.stdout)["dataset"]
    assert (dataset["changed"], dataset["added"]) == ([victim.name], ["one more.wav"])
    assert dataset["account"]["used"] == 5
    assert "1 new (one more.wav)" in host("info", model).stdout


def test_renamed_recordings_are_found_by_their_contents(model: Path, recordings: Path, tmp_path: Path) -> None:
    renamed = Path(shutil.copytree(recordings, tmp_path / "renamed"))
    first = sorted(renamed.glob("*.wav"))[0]
    first.rename(renamed / "other.wav")
    result = host("train-prior", model, *QUICK, "--dataset", renamed)
    assert result.exit_code == 1
    assert f"Renamed, it seems: {first.name} is now other.wav." in result.stderr


def test_a_long_recording_is_encoded_as_it_is_read_with_the_codes_of_the_whole(
    model: Path, recordings: Path, tmp_path: Path
) -> None:
    """Two minutes and a little more; where it is, is told on the way."""
    short = soundfile.read(sorted(recordings.glob("*.wav"))[0])[0]
    soundfile.write(tmp_path / "long.wav", np.resize(short, 125 * 44_100), 44_100)
    opened = host_stubs.open_model(model)
    opened.manifest = host_stubs.build_manifest(tmp_path).manifest
    (recording,) = (replace(each, span=(0.0, 125.0)) for each in opened.manifest.recordings("train", 48_000))
    told: list[float] = []
    assert is_long(opened.codec, recording)
    grids = encode_long(opened.codec, recording, 2, lambda name, share: told.append(share))
    whole = encode_variants(opened.codec, recording.audio, 2)
    assert all((one == other).all() for one, other in zip(grids, whole, strict=True))
    assert told == sorted(told)
    assert 0 < told[0] < 0.1
    assert told[-1] == pytest.approx(1, abs=0.01)


@dataclass
class InBlocks:
    """A recording that comes in blocks of an odd number of samples."""

    audio: np.ndarray
    name: str = "in blocks"

    @property
    def seconds(self) -> float:
        return len(self.audio) / 48_000

    def blocks(self) -> Iterator[np.ndarray]:
        for first in range(0, len(self.audio), 9_999):
            yield self.audio[first : first + 9_999]


@pytest.mark.parametrize("samples", [1, 700, 1_500, 8_191, 8_192, 8_192 * 3 - 100, 60_000, 8_192 * 40 + 5_000])
def test_each_variant_has_the_codes_that_the_codec_gives_for_that_sound_alone(
    trained_codec: Path, recordings: Path, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end too, which the codec mirrors; several at once, some at once, or as the sound is read."""
    codec, offsets = host_stubs.open_model(trained_codec).codec, 8
    audio = np.resize(soundfile.read(sorted(recordings.glob("*.wav"))[1], dtype="float32")[0], samples)
    leads = [number * codec.frame_samples // offsets for number in range(offsets)]
    alone = [codec.encode(np.concatenate([np.zeros(lead, np.float32), audio])) for lead in leads]
    together = encode_variants(codec, audio, offsets)
    monkeypatch.setattr("sda_prior_plugin.encoding.SAMPLES_PER_CALL", 3 * (samples + codec.frame_samples))
    for variants in (together, encode_variants(codec, audio, offsets), encode_long(codec, InBlocks(audio), offsets)):
        assert len(variants) == offsets
        for variant, wanted in zip(variants, alone, strict=True):
            np.testing.assert_array_equal(variant, wanted)


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


def test_a_prior_whose_shapes_do_not_fit_is_named_and_the_file_still_opens(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = host_stubs.open_model(trained)
    entry = opened.bundle.get("prior")
    opened.bundle.put("prior", entry.facts, {**entry.tensors, "logits.bias": torch.zeros(3, 5)})
    opened.prior = None
    broken = tmp_path / "broken.sda"
    host_stubs.save_model(opened, broken)
    again = host_stubs.open_model(broken)
    assert again.prior is None
    assert "logits.bias" in caplog.text
    assert again.bundle.has_prior, "what could not be used is not thrown away"


def test_a_prior_of_another_codec_is_refused(trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened = host_stubs.open_model(trained)
    entry = opened.bundle.get("prior")
    opened.bundle.put("prior", {**entry.facts, "codebooks_sha256": "0" * 64}, entry.tensors)
    opened.prior = None
    host_stubs.save_model(opened, tmp_path / "other.sda")
    assert host_stubs.open_model(tmp_path / "other.sda").prior is None
    assert "another codec" in caplog.text


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read a process's stderr up to a line with `text`."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"the command ended without saying {text!r}")


def wait_for_file(process: subprocess.Popen[str], path: Path) -> None:
    """Wait until a process has made a file."""
    until = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.002)


LONG = ["--epochs", "100000", "--hidden-size", "16", "--heads", "2", "--layers", "1", "--start-offsets", "2"]


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


def test_two_processes_do_not_train_for_one_file(model: Path) -> None:
    with host_stubs.claimed(model, "trained"):
        result = host("train-prior", model, *QUICK)
    assert result.exit_code == 1
    assert "small.sda is being trained already, by " in result.stderr


def test_the_command_is_a_click_command_of_the_hosts_group() -> None:
    assert isinstance(build_cli(load_plugins()).commands["train-prior"], click.Command)
