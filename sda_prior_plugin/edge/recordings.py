"""The recordings of a model: whether they are there, what has changed of them, and how that is said."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sda_prior_plugin.edge.file_state import FileState, file_state
from sda_prior_plugin.errors import SAY_WHERE, PriorError

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import DatasetCheck, Manifest, Model

LISTED = 5
"""Files named in a message before the rest are counted."""


def manifest_of(model: Model) -> Manifest:
    """Which recordings a model was trained on.

    Raises:
        PriorError: it does not say.
    """
    if model.manifest is None:
        raise PriorError(f"{model.name} does not say which recordings it was trained on; ", SAY_WHERE)
    return model.manifest


def check_all_there(check: DatasetCheck, manifest: Manifest) -> None:
    """Come back only if no recording is missing.

    Raises:
        PriorError: some are; it says which, and what they are called now where that was found.
    """
    if check.missing:
        raise PriorError(
            f"{len(check.missing)} of {len(manifest.files)} recordings are missing from {manifest.folder}: "
            f"{listed(check.missing)}.{renamed_to(check)} If they have moved, ",
            SAY_WHERE,
        )


def recording_states(manifest: Manifest | None) -> tuple[FileState, ...]:
    """What tells the files of a dataset from later ones."""
    return () if manifest is None else tuple(map(file_state, manifest.paths().values()))


def recording_hashes(manifest: Manifest, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of these recordings as they are now.

    Raises:
        PriorError: one cannot be read.
    """
    found, where = {}, manifest.paths()
    for name in names:
        try:
            with where[name].open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise PriorError(f"{name} cannot be read ({error.strerror}).") from error
    return found


def renamed_to(check: DatasetCheck) -> str:
    """What the missing recordings are called now, as far as their contents were found."""
    names = [f"{old} is now {new}" for old, new in check.renamed.items()]
    return f" Renamed, it seems: {listed(names)}. Give back the old names, or train the codec again." if names else ""


def counted(recordings: int) -> str:
    """So many recordings, in words."""
    return f"{recordings} recording{'' if recordings == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
