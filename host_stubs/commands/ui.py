"""`host ui`: the page with the training tab, for whoever does not use a command line."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import click

from host_stubs import ui as ui_package
from host_stubs.commands.console import json_option, say
from host_stubs.errors import HostError
from host_stubs.host import Host
from host_stubs.ui.environment import gradio_at_home

DEFAULT_PORT = 7860


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="Where to listen; 0: any."
)
@click.option(
    "--models", metavar="DIR", default=".", type=click.Path(path_type=Path), help="Models to open and to save into."
)
@click.option(
    "--datasets", metavar="DIR", default=".", type=click.Path(path_type=Path), help="Where folders of recordings are."
)
@json_option
@click.pass_obj
def ui(host: Host, port: int, models: Path, datasets: Path, as_json: bool) -> None:
    """Open the training page, for this machine alone: it listens on 127.0.0.1 and fetches nothing from elsewhere.

    Trainings go on when the page is closed. Ctrl-C stops them, keeping the best so far, and ends; a second Ctrl-C ends
    at once and leaves the models as they were. SIGTERM and closing the terminal do the same as the first Ctrl-C. With
    --json: the page's address, once it is there.
    """
    for folder in (models, datasets):
        if not folder.is_dir():
            raise HostError(f"{folder} is not a folder." if folder.exists() else f"There is no folder {folder}.")
    if importlib.util.find_spec("gradio") is None:
        raise HostError("The page needs Gradio, which is not installed. Run: pip install 'sda-host-stubs[ui]'")

    def on_ready(address: str) -> None:
        if as_json:
            click.echo(json.dumps({"url": address}))
        say(f"The page is at {address}. Ctrl-C ends it.")

    with gradio_at_home():
        ui_package.serve(host, models, datasets, port, on_ready=on_ready)
