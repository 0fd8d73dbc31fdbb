"""The `.sda` file: reading, checking and writing it. docs/sda-format.md is its one-page specification."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from host_stubs.bundle import RESERVED, Bundle
from host_stubs.errors import HostError, shown
from host_stubs.header import LENGTH_BYTES, check_values, parsed
from host_stubs.legacy_archive import is_legacy_model
from host_stubs.replace import UNCHANGED, Expected, FileState, new_file_in_place_of
from host_stubs.serialized import holds, pieces
from host_stubs.stored import TensorFile

FORMAT = "sda"
VERSION = 2
MODEL_TYPE = "vqvae"
_ZIP = b"PK\x03\x04"
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
    return document_of(open_sda(path))


def read_sda(path: Path) -> SdaFile:
    """Read a `.sda`. Raises HostError, naming the file and what is wrong with it, for anything else."""
    return parts_of(open_sda(path))


def parts_of(file: TensorFile) -> SdaFile:
    """What is in an open `.sda`. Raises HostError if its document is not what it should be.

    A tensor is read from the file when it is asked for: the codec's, and those of the bundle.
    """
    document = document_of(file)
    texts = _member_texts(file.header.metadata[FORMAT])
    return SdaFile(
        name=document["name"],
        codec=document["codec"],
        codec_tensors=file.tensors("codec."),
        training=document.get("training") or {},
        dataset=document.get("dataset"),
        bundle=Bundle(
            has_prior=document["has_prior"],
            texts={name: text for name, text in texts.items() if name not in RESERVED},
            tensors=file.tensors("codec.", inside=False),
            metadata={name: text for name, text in file.header.metadata.items() if name != FORMAT},
        ),
    )


def open_sda(path: Path) -> TensorFile:
    """An open file that is whole, and a `.sda` by its header. Raises HostError for anything else."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise HostError(f"{path} is a folder, not a .sda file.")
        if not stat.S_ISREG(mode):
            raise HostError(f"{path} is no file that can be opened as a .sda.")  # a pipe might never end
        file = path.open("rb", buffering=0)
        start = file.read(LENGTH_BYTES + 1)
        size = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise HostError(f"There is no file {path}.") from error
    except OSError as error:
        raise HostError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:  # such as a zero in it
        raise HostError(f"{shown(str(path))} cannot be the name of a file.") from error
    if start[LENGTH_BYTES:] != b"{" or start.startswith(_ZIP):
        file.close()
        raise HostError(_what_it_is_instead(path, start, size))
    opened = TensorFile(file, path)
    if FORMAT not in opened.header.metadata:
        raise HostError(f"{path} is another program's safetensors file, not a .sda: it has no 'sda' metadata.")
    return opened


def document_of(file: TensorFile) -> dict[str, Any]:
    """The JSON document of an open `.sda`, the host's own members being what they should be; HostError otherwise."""
    path = file.path
    document = parsed(file.header.metadata[FORMAT], "document", path, file.header.size)
    check_values(document, "document", path)
    if document.get("format") != FORMAT:
        raise HostError(f"{path} is not a .sda: its metadata says format {shown(document.get('format'))}.")
    version = document.get("version")
    if type(version) is not int or version < VERSION:
        raise HostError(f"{path} claims .sda version {shown(version)}, which never existed; this host reads {VERSION}.")
    if version > VERSION:
        raise HostError(
            f"{path} is of .sda version {shown(version)}; this host reads up to {VERSION}. Update it to open it."
        )
    if document.get("model_type") != MODEL_TYPE:
        raise HostError(
            f"{path} holds a model of type {shown(document.get('model_type'))}; this host knows '{MODEL_TYPE}'."
        )
    for required, kind in {"name": str, "has_prior": bool, "codec": dict}.items():
        if not isinstance(document.get(required), kind):
            raise HostError(f"{path} is damaged: its '{required}' is missing or not what it should be.")
    for optional in ("training", "dataset"):
        if not isinstance(document.get(optional), dict | None):
            raise HostError(f"{path} is damaged: its '{optional}' is not what it should be.")
    return document


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


def _what_it_is_instead(path: Path, start: bytes, size: int) -> str:
    """One sentence for a file that is no safetensors file. Looks at its bytes only: nothing in it is executed."""
    if size == 0:
        return f"{path} is empty (0 bytes)."
    if start.startswith(_ZIP):
        if is_legacy_model(path):
            return f"{path} is a model of the existing host, not a .sda. Convert it with: host import {path}"
        return f"{path} is a zip archive (torch.save writes such pickles), not a .sda; it was not opened."
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"{path} is a Python pickle, not a .sda; pickles can run code, so it was not opened."
    if size < LENGTH_BYTES:
        return f"{path} is truncated: only {size} bytes are left of it."
    return f"{path} is not a .sda file."


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
