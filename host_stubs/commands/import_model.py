"""`host import`: a version-2 model of the existing host becomes a `.sda`."""

from __future__ import annotations

from pathlib import Path

import click

import host_stubs
from host_stubs import commands
from host_stubs.commands.card import PRIOR_LEFT_BEHIND, model_card, model_document
from host_stubs.commands.console import check_output, command_names, json_option, overwrite_option, say, show
from host_stubs.host import Host
from host_stubs.names import shortened


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dataset", type=click.Path(path_type=Path), help="The folder with the recordings it was trained on.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The model file (default: FILE's name .sda, here)."
)
@overwrite_option
@json_option
@click.pass_context
def import_model(
    ctx: click.Context, file: Path, dataset: Path | None, output: Path | None, overwrite: bool, as_json: bool
) -> None:
    """Convert FILE, a version-2 model of the existing host (.distill), to a .sda. Nothing in FILE is executed.

    Such a file does not say where its recordings are: name them with --dataset, now or when training a prior.
    """
    host: Host = ctx.obj
    output = Path(f"{shortened(file.stem)}.sda") if output is None else output
    found = check_output(output, ".sda", overwrite)
    legacy = host_stubs.read_legacy(file)
    model = host_stubs.Model(legacy.name, legacy.codec, report=legacy.report)
    if dataset is not None:
        with commands.working_on(f"looking through {dataset}"):
            host.set_dataset(model, dataset)
    host.save_model(model, output, found)
    notes = [PRIOR_LEFT_BEHIND] if legacy.report["imported_from"]["prior_left_behind"] else []
    for note in notes:
        say(f"{file}: {note}")
    say(f"Saved {output}")
    show(model_document(model) | {"notes": notes}, as_json, model_card(host, model, commands=command_names(ctx)))
