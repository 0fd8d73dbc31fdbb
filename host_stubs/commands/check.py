"""`host check`: whether a `.sda` is all that it should be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

import host_stubs
from host_stubs.commands.console import json_option, show
from host_stubs.host import Host


@click.command()
@click.argument("model_path", metavar="MODEL.sda", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def check(host: Host, model_path: Path, as_json: bool) -> None:
    """Check everything in MODEL.sda, and what installed plugins know of it. Changes nothing, runs nothing in it.

    Ends with exit code 0 if all is as it should be, or with 1 and a line that says which check failed.
    """
    parts = list(host_stubs.check_file(model_path, host.plugins))
    width = max(len(part.part) for part in parts)
    lines = [f"{part.part.ljust(width)}  {'ok' if part.known else '? '}  {part.what}" for part in parts]
    show({"path": str(model_path), "parts": [dataclasses.asdict(part) for part in parts]}, as_json, lines)
