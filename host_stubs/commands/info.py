"""`host info`: the model card of one `.sda`."""

from __future__ import annotations

from pathlib import Path

import click

from host_stubs.commands.card import model_card, model_document
from host_stubs.commands.console import command_names, json_option, show
from host_stubs.host import Host


@click.command()
@click.argument("model_path", metavar="MODEL.sda", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def info(ctx: click.Context, model_path: Path, as_json: bool) -> None:
    """Show what MODEL.sda is: its codec, training, dataset, codebook health, and what plugins say of it.

    With --json: the file's whole JSON document, its path and its size.
    """
    host: Host = ctx.obj
    model = host.open_model(model_path)
    show(model_document(model), as_json, model_card(host, model, commands=command_names(ctx)))
