"""Models of the existing host: read exactly, and one clear line for each file that is not one."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from host_stubs.cli import build_cli
from host_stubs.codec import Codec
from host_stubs.commands.card import PRIOR_LEFT_BEHIND
from host_stubs.errors import HostError
from host_stubs.legacy import read_legacy
from host_stubs.mel import Mel
from host_stubs.plugins import Plugins

SHARED = Path(__file__).parents[2].parent / "shared"
needs_models = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the existing host's models are not beside the repository"
)


@pytest.fixture
def content(codec: Codec) -> dict[str, Any]:
    """What a version-2 file holds, with a small network."""
    state = codec.tensors()
    for level in range(codec.levels):
        prefix = f"quantizer.rvq.layers.{level}._codebook"
        state[f"{prefix}.initted"] = torch.tensor(True)
        state[f"{prefix}.cluster_size"] = torch.ones(1, codec.codebook_size)
        state[f"{prefix}.embed_avg"] = torch.ones(1, codec.codebook_size, codec.dim)
    return {
        "format": "distill_model",
        "version": 2,
        "model_type": "vqvae",
        "model_state_dict": state,
        "vqvae_config": {
            "codebook_dim": codec.dim,
            "codebook_size": codec.codebook_size,
            "num_quantizers": codec.levels,
            "dropout": 0.2,
        },
        "spectrogram_config": codec.settings()["mel"],
        "training_config": {"learning_rate": 0.001},
        "codebook_health_snapshot": {"level_0": {"utilization": 0.5, "perplexity": float("nan"), "dead_codes": 16}},
        "loss_curve_history": {"train_losses": [1.0, 0.5]},
        "metadata": {"name": "tones", "training_epochs": 60, "final_val_loss": 0.25, "dataset_file_count": 6},
    }


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@needs_models
def test_a_model_gives_the_codes_and_spectrograms_that_its_own_host_gives() -> None:
    model = read_legacy(SHARED / "legacy" / "tabla2.distill")
    with np.load(SHARED / "legacy" / "tabla2_chunks.npz") as chunks:
        audio, log_mel, codes, decoded = (chunks[name] for name in ("audio", "log_mel", "codes", "decoded_log_mel"))
    assert (np.stack(model.codec.encode_many(list(audio))) == codes).mean() >= 0.999
    assert (np.stack([model.codec.encode(one) for one in audio]) == codes).mean() >= 0.999
    mel = Mel(model.codec.mel_settings)
    assert np.abs(mel.log_mel(torch.from_numpy(audio)).numpy() - log_mel).max() < 1e-3
    found = np.stack([model.codec.decoded_log_mel(one)[:, : decoded.shape[2]] for one in codes])
    assert np.abs(found - decoded).max() < 1e-3


@needs_models
@pytest.mark.parametrize(("name", "files"), [("tabla2", 46), ("gretsch", 24)])
def test_a_model_brings_its_name_and_how_it_was_trained(name: str, files: int) -> None:
    model = read_legacy(SHARED / "legacy" / f"{name}.distill")
    assert model.name == name
    assert (model.codec.bands, model.codec.levels, model.codec.codebook_size) == (8, 3, 128)
    assert model.codec.frame_samples == 8_192
    assert model.report["epochs_trained"] == 60
    assert model.report["imported_from"]["dataset_file_count"] == files
    assert len(model.report["codebook_health"]) == 3


def test_a_model_is_read_whole(content: dict[str, Any], codec: Codec, tmp_path: Path) -> None:
    model = read_legacy(saved(content, tmp_path / "some.distill"))
    assert model.name == "tones"
    assert all(torch.equal(tensor, codec.tensors()[name]) for name, tensor in model.codec.tensors().items())
    assert model.report["held_out_loss"] == 0.25
    assert model.report["codebook_health"][0]["perplexity"] is None
    json.dumps(model.report, allow_nan=False)  # it goes into a .sda


def test_what_json_cannot_hold_is_left_out_of_the_report(content: dict[str, Any], tmp_path: Path) -> None:
    itself: dict[str, Any] = {}
    itself["itself"] = itself
    content["training_config"] = {"itself": itself, "tensor": torch.zeros(1), "batch_size": 32}
    report = read_legacy(saved(content, tmp_path / "some.distill")).report
    assert report["settings"]["batch_size"] == 32
    assert report["settings"]["tensor"] is None
    json.dumps(report, allow_nan=False)


OWN_PRIOR = {
    "has_prior": True,
    "prior_state_dict": {"token_embedding.weight": torch.ones(96, 8), "output.bias": torch.zeros(96)},
    "prior_config": {"hidden_size": 8, "num_layers": 1},
    "prior_metadata": {"epochs_trained": 100, "final_perplexity": 10.45},
}


@pytest.mark.parametrize(
    ("own", "left_behind"),
    [
        ({}, False),
        (dict.fromkeys(OWN_PRIOR), False),
        ({"has_prior": False, "prior_state_dict": {}}, False),
        ({"prior_state_dict": OWN_PRIOR["prior_state_dict"]}, True),
        (OWN_PRIOR, True),
    ],
)
def test_a_prior_of_its_own_is_left_behind_and_that_is_said(
    content: dict[str, Any], own: dict[str, Any], left_behind: bool, tmp_path: Path, no_plugins: Plugins
) -> None:
    """On the console, in the result for programs, and on the card of the model then and later."""
    old, new = saved(content | own, tmp_path / "own.distill"), tmp_path / "new.sda"

    def host(*arguments: object) -> Result:
        result = CliRunner().invoke(build_cli(no_plugins), [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result

    imported = host("import", old, "-o", new)
    assert (f"{old}: {PRIOR_LEFT_BEHIND}\n" in imported.stderr) is left_behind
    document = json.loads(host("import", old, "-o", new, "--overwrite", "--json").stdout)
    assert document["notes"] == ([PRIOR_LEFT_BEHIND] if left_behind else [])
    assert document["training"]["imported_from"]["prior_left_behind"] is left_behind
    assert document["has_prior"] is False
    for card in (imported.stdout, host("info", new).stdout):
        assert (PRIOR_LEFT_BEHIND in card) is left_behind


def test_nothing_in_a_prior_is_run(content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HostError, match="nothing of it was run"):
        read_legacy(saved(content | OWN_PRIOR | {"prior_state_dict": {"trap": _Trap()}}, tmp_path / "bad.distill"))
    assert not (tmp_path / "sprung").exists()


def test_a_model_without_a_name_takes_its_files(content: dict[str, Any], tmp_path: Path) -> None:
    content["metadata"] = {}
    assert read_legacy(saved(content, tmp_path / "drums.distill")).name == "drums"


def _without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {name: value for name, value in content.items() if name != key}


def _changed(part: str, key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content | {part: content[part] | {key: value}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: [content], "not a model"),
        (_without("format"), "not a model"),
        (lambda content: content | {"model_type": "gan"}, "not a model"),
        (lambda content: content | {"version": 3}, "version 3"),
        (_without("metadata"), "metadata"),
        (_without("model_state_dict"), "model_state_dict"),
        (_without("spectrogram_config"), "spectrogram_config"),
        (lambda content: content | {"vqvae_config": "small"}, "vqvae_config"),
        (_changed("vqvae_config", "codebook_size", 128), "embed"),
        (_changed("vqvae_config", "num_quantizers", 4), "embed"),
        (_changed("vqvae_config", "codebook_dim", 10**9), "dim"),
        (_changed("spectrogram_config", "n_fft", "2048"), "n_fft"),
        (_changed("spectrogram_config", "hop_length", -1), "make no sense"),
        (_changed("model_state_dict", "encoder.proj.bias", "zeros"), "not a tensor"),
        (_changed("model_state_dict", "encoder.proj.bias", torch.zeros(3)), r"encoder\.proj\.bias"),
        (_changed("model_state_dict", "encoder.proj.bias", torch.full((16,), torch.nan)), "not finite"),
        (_changed("model_state_dict", "encoder.proj.bias", torch.zeros(16).to_sparse()), "more than tensors"),
        (_changed("model_state_dict", "encoder.proj.bias", torch.zeros(16, device="meta")), "more than tensors"),
        (_changed("model_state_dict", "stranger", torch.zeros(3)), "stranger"),
    ],
)
def test_a_file_with_something_wrong_in_it_says_what(
    content: dict[str, Any], change: Callable[[dict[str, Any]], Any], said: str, tmp_path: Path
) -> None:
    path = saved(change(content), tmp_path / "bad.distill")
    with pytest.raises(HostError, match=said) as caught:
        read_legacy(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "empty", "text", "pickle", "zip", "compressed", "half", "flipped"]
)
def test_what_is_not_a_model_at_all_is_one_line(content: dict[str, Any], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.distill"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("distill_model, version 2")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"format": "distill_model"}))
    elif kind in ("zip", "compressed"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if kind == "zip" else zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", "x" * 1_000)
    elif kind in ("half", "flipped"):
        whole = bytearray(saved(content, path).read_bytes())
        if kind == "flipped":
            whole[60:500] = bytes(byte ^ 0xFF for byte in whole[60:500])
        path.write_bytes(whole[: len(whole) // 2] if kind == "half" else whole)
    with pytest.raises(HostError) as caught:
        read_legacy(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_in_a_file_is_run(content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HostError, match="nothing of it was run"):
        read_legacy(saved(content | {"trap": _Trap()}, tmp_path / "bad.distill"))
    assert not (tmp_path / "sprung").exists()
