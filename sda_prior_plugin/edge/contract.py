"""What the plugin asks of its host, as types; docs/hooks.md is the whole contract."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from sda_prior_plugin.encoding import Codec, Recording

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class Entry(Protocol):
    """One namespace of a bundle."""

    @property
    def facts(self) -> dict[str, Any]: ...
    @property
    def tensors(self) -> dict[str, Tensor]: ...


class Bundle(Protocol):
    """What a file holds beside the codec."""

    has_prior: bool

    def names(self) -> Sequence[str]: ...
    def get(self, name: str) -> Entry | None: ...
    def put(self, name: str, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None: ...


class ManifestEntry(Protocol):
    """One file of a dataset; `path` is relative to its folder, `train` and `held_out` are spans in seconds, or None."""

    @property
    def path(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def train(self) -> tuple[float, float] | None: ...
    @property
    def held_out(self) -> tuple[float, float] | None: ...


class Manifest(Protocol):
    """Which recordings a model was trained on."""

    @property
    def folder(self) -> str: ...
    @property
    def files(self) -> Sequence[ManifestEntry]: ...


class Model(Protocol):
    """A model in memory."""

    name: str
    prior: Any

    @property
    def codec(self) -> Codec: ...
    @property
    def manifest(self) -> Manifest | None: ...
    @property
    def bundle(self) -> Bundle: ...


class DatasetCheck(Protocol):
    """How a model's recordings differ from what it was trained on, by relative path."""

    @property
    def missing(self) -> Sequence[str]: ...
    @property
    def changed(self) -> Sequence[str]: ...


class SavedModel(Protocol):
    """A model file, as far as a list shows it."""

    @property
    def path(self) -> Path: ...
    @property
    def name(self) -> str: ...
    @property
    def has_prior(self) -> bool: ...


class SavedModels(Protocol):
    """The model files that the host's page offers."""

    def all(self) -> Sequence[SavedModel]: ...
    def card(self, model: Model) -> Sequence[tuple[str, str]]: ...


class Job(Protocol):
    """A training in the background."""

    progress: Any

    @property
    def path(self) -> Path: ...
    @property
    def state(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def started(self) -> datetime.datetime: ...
    @property
    def over(self) -> bool: ...
    @property
    def stop_requested(self) -> threading.Event: ...
    @property
    def cancel_requested(self) -> threading.Event: ...
    def stop(self) -> None: ...
    def cancel(self) -> None: ...
    def go_on(self) -> None: ...


class Jobs(Protocol):
    """The host's runner of jobs."""

    def start(self, path: Path, title: str, work: Callable[[Any], str], progress: Any = None) -> Job: ...
    def of(self, path: Path) -> Job | None: ...
    def all(self) -> Sequence[Job]: ...


class Host(Protocol):
    """What the host does for a plugin."""

    def open_model(self, path: str | Path) -> Model: ...
    def save_model(self, model: Model, path: str | Path) -> None: ...
    def set_dataset(self, model: Model, folder: str | Path) -> None: ...
    def check_dataset(self, model: Model) -> DatasetCheck: ...
    def recordings(self, model: Model, part: str) -> Iterable[Recording]: ...
    def check_writable(self, path: str | Path) -> None: ...
    def stop_on_interrupt(self) -> AbstractContextManager[threading.Event]: ...
