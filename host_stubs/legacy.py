"""Reading a version-2 model of the existing host, without executing anything in it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from host_stubs.codec import Codec
from host_stubs.errors import HostError, shown
from host_stubs.legacy_archive import checked_pickle

# What only training needs of a quantizer; a codec needs its vectors (`embed`).
_TRAINING_STATE = ("._codebook.initted", "._codebook.cluster_size", "._codebook.embed_avg")


@dataclasses.dataclass(frozen=True)
class LegacyModel:
    """What the host takes over from a version-2 model; a prior of its own is left behind, which the report says."""

    name: str
    codec: Codec
    report: dict[str, Any]  # how it was trained, in the form of training.py's report as far as it is known


def read_legacy(path: Path) -> LegacyModel:
    """The model in a version-2 file. Raises HostError, one sentence, if the file is not one or is damaged."""
    content = _read_plain(path)
    if content.get("format") != "distill_model" or content.get("model_type") != "vqvae":
        raise HostError(f"{path} is not a model of the existing host.")
    version = content.get("version")
    if type(version) is not int or version != 2:
        raise HostError(f"{path} is a model of version {shown(version)}; only version 2 can be imported.")
    network, mel, state = (
        _part(content, key, path) for key in ("vqvae_config", "spectrogram_config", "model_state_dict")
    )
    settings = {
        "mel": mel,
        "dim": network.get("codebook_dim"),
        "levels": network.get("num_quantizers"),
        "codebook_size": network.get("codebook_size"),
    }
    if not all(isinstance(name, str) for name in state):
        raise HostError(f"{path} is damaged: its network holds something that has no name.")
    tensors = {name: value for name, value in state.items() if not name.endswith(_TRAINING_STATE)}
    if not all(_is_dense(value) for value in tensors.values()):
        raise HostError(f"{path} is damaged: its network holds something that is not a tensor of plain numbers.")
    if sum(tensor.nbytes for tensor in tensors.values()) > path.stat().st_size:
        raise HostError(f"{path} is damaged: its network is larger than the file.")
    try:
        codec = Codec.from_parts(settings, tensors)
    except HostError as error:
        raise HostError(f"{path} does not fit its own settings: {error}") from error
    name = _part(content, "metadata", path).get("name")
    return LegacyModel(_plain(name) if isinstance(name, str) and name.strip() else path.stem, codec, _report(content))


def _read_plain(path: Path) -> dict[str, Any]:
    """The dictionary in a zip made by `torch.save`. `weights_only` reads tensors and plain values, nothing else."""
    if not path.is_file():
        raise HostError(f"There is no file {path}.")
    try:
        checked_pickle(path)
    except OSError as error:
        raise HostError(f"{path} cannot be read ({error.strerror}).") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever the reader trips over
        raise HostError(
            f"{path} is damaged, or holds more than tensors and plain values; nothing of it was run."
        ) from error
    if not isinstance(content, dict):
        raise HostError(f"{path} is not a model of the existing host.")
    return content


def _part(content: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    part = content.get(key)
    if not isinstance(part, dict):
        raise HostError(f"{path} is damaged: it has no {key}.")
    return part


def _report(content: dict[str, Any]) -> dict[str, Any]:
    def given(key: str) -> dict[str, Any]:
        return content[key] if isinstance(content.get(key), dict) else {}

    metadata = given("metadata")
    known = {
        "epochs_trained": metadata.get("training_epochs"),
        "train_loss": metadata.get("final_train_loss"),
        "held_out_loss": metadata.get("final_val_loss"),
        "codebook_health": [*given("codebook_health_snapshot").values()],
        "settings": given("training_config"),
        "imported_from": {
            key: metadata.get(key) for key in ("model_id", "dataset_name", "dataset_file_count", "save_date")
        }
        | {"prior_left_behind": content.get("has_prior") is True or bool(given("prior_state_dict"))},
    }
    return _plain(known)


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _plain(value: Any, depth: int = 4) -> Any:
    """`value` with what JSON cannot hold (tensors, NaN, numbers without end, other objects) replaced by None.

    Below `depth` everything is: a pickle can hold a dictionary that holds itself.
    """
    if isinstance(value, dict | list | tuple) and not depth:
        return None
    if isinstance(value, dict):
        named = {str(key): inner for key, inner in value.items() if isinstance(key, str | int)}
        return {_plain(key): _plain(inner, depth - 1) for key, inner in named.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, depth - 1) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")  # half a character is none
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None
