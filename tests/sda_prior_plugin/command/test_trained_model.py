"""A model with a prior in it: opened, drawn from, shown, and what damage does to it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import host_stubs
from host_stubs.plugins import load_plugins
from sda_prior_plugin import (
    Prior,
)
from sda_prior_plugin.kinds import KINDS, LATER

from .running import document, host


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


def test_a_model_without_a_prior_says_what_to_run(model: Path, tmp_path: Path) -> None:
    result = host("generate", model, "-o", tmp_path / "x.wav")
    assert result.exit_code == 1
    assert "host train-prior" in result.stderr
    assert not (tmp_path / "x.wav").exists()


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
