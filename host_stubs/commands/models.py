"""`host models`: the `.sda` files in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from host_stubs.commands.card import codec_in_short, size
from host_stubs.commands.console import json_option, show, table
from host_stubs.errors import HostError
from host_stubs.host import Host
from host_stubs.names import model_files


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def models(host: Host, folder: Path, as_json: bool) -> None:
    """List the .sda models in DIR (default: the current folder)."""
    if not folder.is_dir():
        raise HostError(f"{folder} is not a folder." if folder.exists() else f"There is no folder {folder}.")
    found = [_look_at(host, path) for path in model_files(folder)]
    lines = (
        table([_HEADINGS, *(row for each in found for row in _rows(each))])
        if found
        else [f"There are no .sda files in {folder}."]
    )
    show(found, as_json, lines)


_HEADINGS = ("file", "size", "name", "codec", "prior", "details")


def _look_at(host: Host, path: Path) -> dict[str, Any]:
    """One file of the list; `error` says why it cannot be opened."""
    result: dict[str, Any] = {"path": str(path), "bytes": path.stat().st_size if path.is_file() else None}
    try:
        model = host.open_model(path)
    except HostError as error:
        return result | {"error": str(error)}
    facts = [{"label": label, "text": text} for label, text in host.facts(model)]
    codec = codec_in_short(model)
    return result | {"name": model.name, "codec": codec, "has_prior": model.bundle.has_prior, "facts": facts}


def _rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """A file's row, and one more for each further fact that plugins know."""
    name, bytes_ = Path(found["path"]).name, found["bytes"]
    start = (name, "" if bytes_ is None else size(bytes_))
    if "error" in found:
        return [(*start, "", "", "", found["error"])]
    first, *more = [f"{fact['label']}: {fact['text']}" for fact in found["facts"]] or [""]
    own = (*start, found["name"], found["codec"], "yes" if found["has_prior"] else "no")
    return [(*own, first), *(("",) * len(own) + (fact,) for fact in more)]
