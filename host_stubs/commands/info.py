"""`host info`: the model card of one `.sda`."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from host_stubs import ui
from host_stubs.commands.card import model_card, model_document, obstacle
from host_stubs.commands.console import check_output, command_names, json_option, overwrite_option, say, show
from host_stubs.errors import HostError
from host_stubs.host import Host


@click.command()
@click.argument("model_path", metavar="MODEL.sda", type=click.Path(path_type=Path))
@click.option(
    "--plot",
    metavar="OUT.png|OUT.svg",
    type=click.Path(path_type=Path),
    help="Also draw how what makes its new sound was trained.",
)
@overwrite_option
@json_option
@click.pass_context
def info(ctx: click.Context, model_path: Path, plot: Path | None, overwrite: bool, as_json: bool) -> None:
    """Show what MODEL.sda is: its codec, training, dataset, codebook health, and what plugins say of it.

    With --json: the file's whole JSON document, its path and its size, and what became of the dataset's files.
    """
    host: Host = ctx.obj
    if plot is not None:
        check_output(plot, (".png", ".svg"), overwrite)
    model = host.open_model(model_path)
    if plot is not None:
        if (curves := host.plugins.first("training_curves", model=model)) is None:
            reason = obstacle(model, command_names(ctx)) or "no installed plugin draws it (host plugins lists them)"
            raise HostError(f"{model_path} has no training to draw: {reason}")
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # loaded now; it has to say where it keeps fonts
        ui.draw(curves, model.name, plot)
        say(f"drawn: {plot}")
    show(model_document(model), as_json, model_card(host, model, commands=command_names(ctx)))
