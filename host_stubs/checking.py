"""All checks of a `.sda`, one part of the file after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from host_stubs.codec import Codec
from host_stubs.errors import HostError
from host_stubs.header import Header
from host_stubs.manifest import DatasetManifest
from host_stubs.model import Model, stored_codec
from host_stubs.plugins import Plugins, invoke, reason_of
from host_stubs.sda import SdaFile, open_sda, parts_of


@dataclass(frozen=True)
class Checked:
    """A part of a file that passed: its name, and in words what was looked at.

    `known` is False for a namespace whose contents nobody here knows; then only that it is where the header says.
    """

    part: str
    what: str
    known: bool = True


def check_file(path: Path, plugins: Plugins) -> Iterator[Checked]:
    """Check everything in a `.sda`, with the plugins' own checks of what is theirs; give each part that passed.

    Raises HostError, which names the part, at the first one that does not.
    """
    file = open_sda(path)
    yield Checked("header", _of_header(file.header))
    sda = parts_of(file)
    facts = [name for name in ("training", "dataset") if getattr(sda, name)]
    yield Checked("document", ", ".join(["format, version and type", "name", "has_prior", "codec", *facts]))
    try:
        codec = stored_codec(sda)
    except HostError as error:
        raise HostError(f"{path} fails the check of its codec: {error}") from error
    yield Checked("codec", _of_codec(codec, sda))
    try:
        manifest = None if sda.dataset is None else DatasetManifest.from_json(sda.dataset)
    except HostError as error:
        raise HostError(f"{path} fails the check of its dataset: {error}") from error
    if manifest is not None:
        yield Checked("dataset", f"paths, sizes, SHA-256 and spans of {len(manifest.files)} recordings")
    model = Model(sda.name, codec, manifest, sda.bundle, sda.training, path)
    yield from _namespaces(model, plugins)


def _of_header(header: Header) -> str:
    return f"{len(header.tensors)} tensors: names, types and shapes, each in its place, up to the file's last byte"


def _of_codec(codec: Codec, sda: SdaFile) -> str:
    return (
        f"settings; {len(sda.codec_tensors)} tensors that a codec of {codec.levels} levels of {codec.codebook_size} "
        "codes needs, all numbers finite"
    )


def _namespaces(model: Model, plugins: Plugins) -> Iterator[Checked]:
    """The checks of what is not the host's own."""
    names = model.bundle.names()
    if model.bundle.has_prior and not names:
        raise HostError(
            f"{model.path} fails the check of its document: has_prior is true, but nothing is there for it."
        )
    known: dict[str, str] = {}
    for implementation in plugins.implementations("entries_checked"):
        try:
            answer = invoke(implementation, {"model": model, "bundle": model.bundle.copy()}) or []
            known |= {str(name): str(what) for name, what in answer}
        except Exception as error:
            plugin = implementation.plugin_name
            raise HostError(f"{model.path} fails the check of plugin '{plugin}': {reason_of(error)}") from error
    for name in names:
        if name in known:
            yield Checked(name, known[name])
        else:
            yield Checked(name, "in its place; no installed plugin knows what it should be", known=False)
