"""The `.sda` file: reading, checking and writing it. docs/sda-format.md is its one-page specification."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from host_stubs.bundle import RESERVED, Bundle
from host_stubs.errors import HostError
from host_stubs.replace import UNCHANGED, Expected, FileState, new_file_in_place_of
from host_stubs.serialized import holds, pieces

FORMAT = "sda"
VERSION = 2
MODEL_TYPE = "vqvae"
MAX_HEADER_BYTES = 100_000_000  # the limit of safetensors itself
_LENGTH_BYTES = 8
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class SdaFile:
    """A `.sda` in parts: `codec` and `codec_tensors` are what `Codec.settings()` and `.tensors()` gave, `training`
    the VQ-VAE's training report, `dataset` the manifest as JSON."""

    name: str
    codec: dict[str, Any]
    codec_tensors: Mapping[str, torch.Tensor]
    training: dict[str, Any]
    dataset: dict[str, Any] | None
    bundle: Bundle


def read_document(path: Path) -> dict[str, Any]:
    """The JSON document of a `.sda`: everything but the tensors. Raises HostError for what is not a `.sda`."""
    document: dict[str, Any] = json.loads(_checked_metadata(path)[FORMAT])
    return document


def read_sda(path: Path) -> SdaFile:
    """Read a `.sda`. Raises HostError, naming the file and what is wrong with it, for anything else."""
    metadata = _checked_metadata(path)
    texts = _member_texts(metadata.pop(FORMAT))
    document = {name: json.loads(texts[name]) for name in RESERVED if name in texts}
    for required, kind in {"name": str, "has_prior": bool, "codec": dict}.items():
        if not isinstance(document.get(required), kind):
            raise HostError(f"{path} is damaged: its '{required}' is missing or not what it should be.")
    for optional in ("training", "dataset"):
        if not isinstance(document.get(optional) or {}, dict):
            raise HostError(f"{path} is damaged: its '{optional}' is not what it should be.")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is not a mapping
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise HostError(f"{path} is damaged or holds tensors that this host cannot read ({error}).") from error
    prefix = "codec."
    return SdaFile(
        name=document["name"],
        codec=document["codec"],
        codec_tensors={name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)},
        training=document.get("training") or {},
        dataset=document.get("dataset"),
        bundle=Bundle(
            has_prior=document["has_prior"],
            texts={name: text for name, text in texts.items() if name not in RESERVED},
            tensors={name: t for name, t in tensors.items() if not name.startswith(prefix)},
            metadata=metadata,
        ),
    )


def write_sda(path: Path, sda: SdaFile, replacing: Expected = ...) -> FileState | None:
    """Write a `.sda` so that `path` holds either the old file or the whole new one, never less; the new file's state.

    The new file is read again, and is what was to be written, before it takes the old one's place. Raises HostError
    where that cannot be, and FileChanged where another file is there than the one with the state `replacing`; the old
    file is then untouched. What else holds for permissions, links and other processes stands with
    `new_file_in_place_of`.
    """
    own: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "model_type": MODEL_TYPE,
        "name": sda.name,
        "has_prior": sda.bundle.has_prior,
        "codec": sda.codec,
        "training": sda.training,
    }
    if sda.dataset is not None:
        own["dataset"] = sda.dataset
    texts = {name: json.dumps(_finite(value), allow_nan=False) for name, value in own.items()} | sda.bundle.texts
    document = "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "}"
    tensors = {f"codec.{name}": tensor for name, tensor in sda.codec_tensors.items()} | sda.bundle.tensors
    content = pieces(tensors, sda.bundle.metadata | {FORMAT: document})
    with new_file_in_place_of(path, replacing) as new:
        with new.path.open("wb") as file:
            file.writelines(content)
        read_sda(new.path)
        with new.path.open("rb", buffering=0) as file:
            if not holds(file, content):
                raise HostError(f"{path} was not written well: reading it again gave something else. {UNCHANGED}")
    return new.state


def _finite(value: Any) -> Any:
    """The same JSON with null for numbers that JSON cannot say: a loss that was NaN must not cost the whole model."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def _checked_metadata(path: Path) -> dict[str, str]:
    """The safetensors metadata of a file that is whole and a `.sda` this host can read; HostError otherwise."""
    header = _header(path)
    metadata = header.get("__metadata__")
    text = metadata.get(FORMAT) if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(text, str):
        raise HostError(f"{path} is another program's safetensors file, not a .sda: it has no 'sda' metadata.")
    document = _parsed(path, text)
    if document.get("format") != FORMAT:
        raise HostError(f"{path} is not a .sda: its metadata says format {document.get('format')!r}.")
    version = document.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < VERSION:
        raise HostError(f"{path} claims .sda version {version!r}, which never existed; this host reads {VERSION}.")
    if version > VERSION:
        raise HostError(f"{path} is of .sda version {version}; this host reads up to {VERSION}. Update it to open it.")
    if document.get("model_type") != MODEL_TYPE:
        raise HostError(f"{path} holds a model of type {document.get('model_type')!r}; this host knows '{MODEL_TYPE}'.")
    return dict(metadata)


def _header(path: Path) -> dict[str, Any]:
    """The safetensors header of a file that is as long as the header says."""
    if path.is_dir():
        raise HostError(f"{path} is a folder, not a .sda file.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_LENGTH_BYTES + 1)
            length = int.from_bytes(start[:_LENGTH_BYTES], "little")
            is_safetensors = start[_LENGTH_BYTES:] == b"{" and length <= MAX_HEADER_BYTES
            body = b"{" + file.read(length - 1) if is_safetensors else b""
    except FileNotFoundError as error:
        raise HostError(f"There is no file {path}.") from error
    except OSError as error:
        raise HostError(f"{path} cannot be read ({error.strerror}).") from error
    if size == 0:
        raise HostError(f"{path} is empty (0 bytes).")
    if not is_safetensors:
        raise HostError(_what_it_is_instead(path, start, size))
    if len(body) < length:
        raise HostError(f"{path} is truncated: it ends inside its header.")
    header = _parsed(path, body)
    tensors = [value for name, value in header.items() if name != "__metadata__"]
    try:
        end = _LENGTH_BYTES + length + max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise HostError(f"{path} is damaged: its header does not describe tensors.") from error
    if size < end:
        raise HostError(f"{path} is truncated: {end - size:,} of {end:,} bytes are missing.")
    return header


def _parsed(path: Path, text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HostError(f"{path} is damaged: its header is not readable JSON.") from error
    if not isinstance(value, dict):
        raise HostError(f"{path} is damaged: its header is not a JSON object.")
    return value


def _what_it_is_instead(path: Path, start: bytes, size: int) -> str:
    """One sentence for a file that is no safetensors file. Looks at its bytes only: nothing in it is executed."""
    if start.startswith(b"PK\x03\x04"):
        if _is_legacy_model(path):
            return f"{path} is a model of the existing host, not a .sda. Convert it with: host import {path}"
        return f"{path} is a zip archive (torch.save writes such pickles), not a .sda; it was not opened."
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"{path} is a Python pickle, not a .sda; pickles can run code, so it was not opened."
    if size < _LENGTH_BYTES:
        return f"{path} is truncated: only {size} bytes are left of it."
    return f"{path} is not a .sda file."


def _is_legacy_model(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            return any(info.file_size < MAX_HEADER_BYTES and b"distill_model" in archive.read(info) for info in pickles)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError):
        return False


def _member_texts(text: str) -> dict[str, str]:
    """The members of a JSON object, each as the very text it has there. `text` is known to be a valid object."""
    decoder = json.JSONDecoder()
    texts: dict[str, str] = {}
    position = _after_space(text, text.index("{") + 1)
    while text[position] != "}":
        name, position = decoder.raw_decode(text, position)
        start = _after_space(text, _after_space(text, position) + 1)  # behind the colon
        _, end = decoder.raw_decode(text, start)
        texts[name] = text[start:end]
        position = _after_space(text, end)
        if text[position] == ",":
            position = _after_space(text, position + 1)
    return texts


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
