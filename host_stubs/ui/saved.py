"""The models and the datasets that the page offers: what is in two folders, looked at again and again."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import host_stubs
from host_stubs.commands.card import card_lines
from host_stubs.errors import HostError
from host_stubs.folder import holds_recordings
from host_stubs.host import Host
from host_stubs.model import Model
from host_stubs.names import model_files

_State = tuple[int, int, int]


@dataclass(frozen=True)
class SavedModel:
    """A `.sda` file, as far as a list shows it; `error` says why it cannot be opened, if so."""

    path: Path
    name: str
    has_prior: bool
    error: str | None = None


class SavedModels:
    """The `.sda` files of a folder."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.folder = folder
        self._host = host
        self._known: dict[Path, tuple[_State, SavedModel]] = {}
        self._lock = threading.Lock()

    def all(self) -> list[SavedModel]:
        """What is in the folder now, by name. Quick: a file is only read again once it has changed."""
        with self._lock:
            self._known = {path: self._looked_at(path) for path in model_files(self.folder)}
            return [model for _, model in self._known.values()]

    def card(self, model: Model) -> list[tuple[str, str]]:
        """The model card: lines `(label, text)`, the plugins' among them."""
        return card_lines(self._host, model)

    def _looked_at(self, path: Path) -> tuple[_State, SavedModel]:
        try:
            status = path.stat()
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError as error:
            return (0, 0, 0), SavedModel(path, path.stem, False, f"{path.name} cannot be read ({error.strerror}).")
        known = self._known.get(path)
        if known is not None and known[0] == state:
            return known
        try:
            document = host_stubs.read_document(path)
        except HostError as error:
            return state, SavedModel(path, path.stem, False, str(error))
        return state, SavedModel(path, str(document["name"]), bool(document["has_prior"]))


def dataset_folders(folder: Path) -> list[Path]:
    """`folder` and the folders right below it, by name, as far as they hold recordings.

    It looks no deeper than one folder further down: below may lie a whole disk.
    """
    try:
        below = sorted(path for path in folder.iterdir() if os.path.isdir(path) and not path.name.startswith("."))
    except OSError:
        return []
    own = [folder] if holds_recordings(folder, deeper=False) else []
    return own + [path for path in below if holds_recordings(path, deeper=True)]
