"""Which datasets the user of this machine has named: their folders may be looked into unasked.

A model may come from a stranger, and its manifest name whatever the stranger likes: a device, the whole disk, a place
in the network. What it names is looked at once the user has said so, or where a model with that manifest was saved.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from host_stubs.manifest import DatasetManifest


def note_dataset(manifest: DatasetManifest) -> None:
    """Note that the user of this machine has named a dataset. Where nothing can be written, it is asked for again."""
    if (folder := _folder()) is not None:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _mark(manifest)).touch()


def is_known(manifest: DatasetManifest) -> bool:
    """Whether the user of this machine has named a dataset, as far as is known."""
    folder = _folder()
    return folder is not None and os.path.exists(folder / _mark(manifest))


def _mark(manifest: DatasetManifest) -> str:
    """The name of the empty file that stands for a folder and the names, sizes and contents of the recordings in it."""
    document = manifest.to_json()
    files = [[each["path"], each.get("path_hex", ""), each["bytes"], each["sha256"]] for each in document["files"]]
    text = json.dumps([document["folder"], document.get("folder_hex", ""), files])
    return hashlib.sha256(text.encode()).hexdigest()


def _folder() -> Path | None:
    """Where the marks are; None for a user without a home."""
    try:
        folder = Path(platformdirs.user_state_dir("sda-host", appauthor=False))
    except RuntimeError:  # there is no home
        return None
    return folder / "datasets" if folder.is_absolute() else None
