"""What the host can do, as one object: plugins get it with `register_commands`, the host's own commands use it too."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import host_stubs
from host_stubs.errors import HostError
from host_stubs.interrupt import STOPPING, stop_on_interrupt
from host_stubs.known_datasets import is_known, note_dataset
from host_stubs.plugins import Plugins, invoke
from host_stubs.room import check_room, folders_elsewhere

if TYPE_CHECKING:
    from host_stubs.dataset_check import DatasetCheck
    from host_stubs.model import Model
    from host_stubs.recording import Recording
    from host_stubs.replace import Expected, FileState

logger = logging.getLogger("sda_host")


@dataclass(frozen=True)
class Saved:
    """Where a model was saved, and a sentence on what was in the way, empty if it is where it was wanted."""

    path: Path
    note: str = ""


class Host:
    """Opening, saving and datasets, for this run's plugins. Importing it is quick; what is heavy loads when used."""

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def open_model(self, path: str | Path) -> Model:
        """Open a `.sda`; the plugins' `model_opened` hooks run. Raises HostError."""
        return host_stubs.open_model(path, self.plugins)

    def save_model(self, model: Model, path: str | Path, replacing: Expected = ...) -> None:
        """Save a `.sda` in one step; the plugins' `model_saving` hooks run.

        The file that the model was opened from is replaced only if it is still what it was then. Another one is
        replaced if it has the state `replacing`, as `file_state` gave it, or whatever it is if that is not given.

        Raises HostError, with `file_changed` set where something else is there, which is then left as it is.
        """
        host_stubs.save_model(model, path, self.plugins, replacing=replacing)

    def save_new(self, model: Model, path: Path, found: FileState | None) -> Saved:
        """Save what took long to make, whatever has happened at `path` since `found` was its state.

        A file that has changed or come since then is left as it is. Where the model cannot be saved at `path`, for this
        reason or any other, it is saved as `save_elsewhere` does. Raises HostError if it cannot be saved anywhere.
        """
        try:
            self.save_model(model, path, found)
        except HostError as error:
            return self.save_elsewhere(model, path, str(error))
        return Saved(path)

    def save_elsewhere(self, model: Model, path: Path, why: str) -> Saved:
        """Save what took long to make, but cannot be saved at `path`, under a free name like that.

        It goes into the first folder that takes it: that of `path`, the user's home, the one for temporary files.
        `why` is a sentence on what is in the way at `path`. Raises HostError if no folder takes it.
        """
        folders = [path.parent, *folders_elsewhere()]
        for folder in folders:
            with suppress(HostError):
                place = host_stubs.save_model_beside(model, folder / path.name, self.plugins)
                return Saved(place, f"{why} It is saved in {place} instead.")
        tried = ", ".join(str(folder) for folder in folders)
        raise HostError(f"{why} It could not be saved anywhere else either; these folders were tried: {tried}.")

    def file_state(self, path: str | Path) -> FileState | None:
        """What tells a file from a later one of that name, to be compared; None where there is no file."""
        return host_stubs.file_state(Path(path))

    def claim(self, path: str | Path, what: str) -> AbstractContextManager[None]:
        """Claim a model file for the time of the block, so that no other process trains it meanwhile.

        `what` is what is done with it, for others to read: "trained". Raises HostError, when the block is entered, if
        somebody else has claimed it, and says who.
        """
        return host_stubs.claimed(Path(path), what)

    def check_writable(self, path: str | Path) -> None:
        """Raise HostError now if a file could not be written at `path` later. Makes and changes nothing."""
        host_stubs.check_writable(Path(path))

    def check_room(self, path: str | Path, needed: int) -> None:
        """Raise HostError now if the disk of `path` has no room for so many bytes beside what is there."""
        check_room(Path(path), needed)

    def write_file(self, path: str | Path, contents: bytes) -> None:
        """Write a file in one step: what was there before is replaced, or as it was. Raises HostError if it cannot."""
        with host_stubs.new_file_in_place_of(Path(path)) as new:
            new.path.write_bytes(contents)

    def stop_on_interrupt(self, *, quiet: bool = False) -> AbstractContextManager[threading.Event]:
        """Inside the block the first Ctrl-C, SIGTERM or SIGHUP sets the event and, unless `quiet`, says so.

        The second Ctrl-C or SIGTERM raises KeyboardInterrupt.
        """
        return stop_on_interrupt(b"" if quiet else STOPPING)

    def facts(self, model: Model) -> list[tuple[str, str]]:
        """The plugins' lines for the model card, each (label, text)."""
        facts = []
        for implementation in self.plugins.implementations("model_facts"):
            try:
                answer = invoke(implementation, {"model": model}) or []
                facts += [(str(label), str(text)) for label, text in answer]
            except Exception as error:
                self.plugins.failed(implementation.plugin_name, "model_facts", error)
        return facts

    def set_dataset(self, model: Model, folder: str | Path) -> None:
        """Tell a model where its recordings are. Save the model to keep it.

        A model without a manifest gets one, made from the folder; what is not used is named in warnings. One that has a
        manifest keeps it, with the same files held out, and looks for its files in `folder` from now on. Raises
        HostError when `folder` is not a folder, or holds no recording of use. The user has named it: what is there may
        be looked at from now on.
        """
        folder = Path(folder)
        if not os.path.isdir(folder):  # unlike Path's, it takes what may not be looked at for none
            raise HostError(
                f"{folder} is not a folder." if os.path.lexists(folder) else f"There is no folder {folder}."
            )
        if model.manifest is not None:
            model.manifest = model.manifest.moved_to(folder)
            note_dataset(model.manifest)
            return
        scan = host_stubs.build_manifest(folder)
        for label, text in scan.manifest.account.rows()[1:]:  # the first one says what is used as it is
            logger.warning("%s: %s", label.lower(), text)
        for note in scan.notes:
            logger.warning("%s", note)
        model.manifest = scan.manifest
        note_dataset(model.manifest)

    def dataset_known(self, model: Model) -> bool:
        """Whether what the model names as its recordings may be looked at unasked: its user, here, has named it before.

        A stranger's model may name anything. Raises HostError when the model does not say what it was trained on.
        """
        return is_known(_manifest(model))

    def check_dataset(self, model: Model, seconds: float | None = None) -> DatasetCheck:
        """Which of the model's recordings are missing or have changed since it was trained, and which are new there.

        After so many `seconds`, if they are given, it is left at what has been seen; `complete` says whether that is
        everything. Raises HostError when the model does not say what it was trained on.
        """
        return _manifest(model).check(seconds=seconds)

    def recordings(self, model: Model, part: str) -> Iterator[Recording]:
        """The recordings of one part, "train" or "held_out", one file in memory at a time.

        Raises HostError when the model has no manifest, or at the first file that cannot be read.
        """
        return _manifest(model).recordings(part, model.codec.sample_rate)


def _manifest(model: Model) -> host_stubs.DatasetManifest:
    if model.manifest is None:
        raise HostError(f"'{model.name}' does not say which recordings it was trained on. Name them: --dataset DIR")
    return model.manifest
