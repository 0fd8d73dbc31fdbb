"""A model in memory, and its way out of and into a `.sda` file."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host_stubs.bundle import Bundle
from host_stubs.codec import Codec, checked_parts
from host_stubs.errors import FileChanged, HostError
from host_stubs.known_datasets import note_dataset
from host_stubs.manifest import DatasetManifest
from host_stubs.names import shortened
from host_stubs.plugins import Plugins, invoke, load_plugins
from host_stubs.replace import Expected, FileState, file_state
from host_stubs.sda import SdaFile, read_sda, write_sda
from host_stubs.stored import StoredTensors

_TRIES = 1000  # to read a file that is replaced while it is read


@dataclass(eq=False)
class Model:
    """A trained codec, the dataset it was trained on, and what plugins have added.

    `report` is the VQ-VAE's training report, `path` the file the model was opened from or saved to, `state` what that
    file was then, `prior` whatever a plugin's `model_opened` hook (or training command) puts there: something that can
    make new codes.
    """

    name: str
    codec: Codec
    manifest: DatasetManifest | None = None
    bundle: Bundle = field(default_factory=Bundle)
    report: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    state: FileState | None = None
    prior: Any = None


def open_model(path: str | Path, plugins: Plugins | None = None) -> Model:
    """Open a `.sda` and let the plugins (the installed ones if None) attach what it holds for them.

    A plugin that fails is named in a warning; the model opens all the same, and its bundle keeps that plugin's entry.
    Raises HostError for a file that cannot be opened, naming it and saying why.
    """
    path = Path(path)
    plugins = load_plugins() if plugins is None else plugins
    sda, state = _read(path)
    try:
        manifest = None if sda.dataset is None else DatasetManifest.from_json(sda.dataset)
        codec = stored_codec(sda)
    except HostError as error:
        raise HostError(f"{path} cannot be opened. {error}") from error
    model = Model(sda.name, codec, manifest, sda.bundle, sda.training, path, state)
    for implementation in plugins.implementations("model_opened"):
        before = model.bundle.copy()
        try:
            invoke(implementation, {"model": model, "bundle": model.bundle})
        except Exception as error:
            model.bundle = before
            plugins.failed(implementation.plugin_name, "model_opened", error)
    return model


def stored_codec(sda: SdaFile) -> Codec:
    """The codec of a file; its tensors are read once they are known to fit its settings. Raises HostError."""
    if isinstance(sda.codec_tensors, StoredTensors):
        checked_parts(sda.codec, sda.codec_tensors.kinds())
    return Codec.from_parts(sda.codec, dict(sda.codec_tensors))


def save_model(
    model: Model,
    path: str | Path,
    plugins: Plugins | None = None,
    *,
    replacing: Expected = ...,
) -> None:
    """Let the plugins put what they have into the bundle, then write the `.sda` in one step.

    An older copy does not overwrite a newer one: the file that the model was opened from or saved to is replaced only
    as long as it is what it was then. `replacing` is the state of another file that may be replaced, or None if
    there must be none; not given, whatever has the name `path` may be.

    A plugin that fails is named in a warning; for its part the file then holds what the bundle held before. Raises
    HostError when the file cannot be written, FileChanged when it is not what it was; an old file of that name, and the
    model, are then as they were.
    """
    path = Path(path)
    if replacing is ... and model.state is not None and _are_one(path, model.path):
        replacing = model.state
    plugins = load_plugins() if plugins is None else plugins
    bundle = model.bundle
    for implementation in plugins.implementations("model_saving"):
        draft = bundle.copy()
        try:
            invoke(implementation, {"model": model, "bundle": draft})
        except Exception as error:
            plugins.failed(implementation.plugin_name, "model_saving", error)
        else:
            bundle = draft
    state = write_sda(
        path,
        SdaFile(
            name=model.name,
            codec=model.codec.settings(),
            codec_tensors=model.codec.tensors(),
            training=model.report,
            dataset=None if model.manifest is None else model.manifest.to_json(),
            bundle=bundle,
        ),
        replacing,
    )
    model.bundle = bundle
    model.path, model.state = path, state
    if model.manifest is not None:
        note_dataset(model.manifest)


def save_model_beside(model: Model, path: str | Path, plugins: Plugins | None = None) -> Path:
    """Save a model under a free name like that of `path`, in its folder; where that is. Raises HostError."""
    path = Path(path)
    for number in itertools.count(1):
        free = path.with_name(f"{shortened(path.stem)}-{number}{path.suffix}") if number > 1 else path
        if not os.path.lexists(free):
            with suppress(FileChanged):  # somebody else was quicker
                save_model(model, free, plugins, replacing=None)
                return free
    raise AssertionError("there is always a next number")


def _read(path: Path) -> tuple[SdaFile, FileState | None]:
    """A file's contents and its state, which belong together though the file may be replaced at any moment."""
    for _ in range(_TRIES):
        state = file_state(path)
        try:
            sda = read_sda(path)
        except HostError:
            if file_state(path) == state:
                raise
            continue
        if file_state(path) == state:
            return sda, state
    raise HostError(f"{path} is being written again and again and could not be read. Try again.")


def _are_one(path: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(path) == os.path.realpath(other)
