"""`host export`: a model as one file that Max, Pure Data and SuperCollider play."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sda_prior_plugin import edge
from sda_prior_plugin.edge.command import MODEL_FILE, agree
from sda_prior_plugin.errors import PriorError

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host

SUFFIX = ".ts"


def export_command(host: Host) -> click.Command:
    """The command, for this host."""

    @click.command("export")
    @click.argument("model_path", metavar="MODEL.sda", type=MODEL_FILE)
    @click.option("-o", "--output", metavar="MODEL.ts", type=MODEL_FILE, help="The file (default: MODEL.ts, here).")
    @click.option("--overwrite", is_flag=True, help="Replace the file if it is there already.")
    @click.option("--json", "as_json", is_flag=True, help="Write the result to stdout as JSON.")
    def export(model_path: Path, output: Path | None, overwrite: bool, as_json: bool) -> None:
        """Write MODEL.sda as one TorchScript file that nn~ (Max, Pure Data) and nn.ar (SuperCollider) play.

        It holds prior and codec, and needs neither Python nor this program. docs/live.md says how it is played.
        """
        output = output or Path(model_path.with_suffix(SUFFIX).name)
        if output.suffix != SUFFIX:
            raise PriorError(f"The output file must end in {SUFFIX}; {output} does not.")
        host.check_writable(output)
        if output.exists() and not overwrite:
            agree(f"{output} exists already. --overwrite replaces it.", f"{output} exists already. Replace it?")
        facts = edge.export_model(host, model_path, output)
        click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(edge.export_lines(facts)))

    return export
