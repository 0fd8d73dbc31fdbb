"""`host demo`: the whole path once, on recordings that it synthesizes."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

import host_stubs
from host_stubs import commands
from host_stubs.commands.card import model_card, model_document
from host_stubs.commands.console import FiniteRange, command_names, json_option, say, show
from host_stubs.commands.train import SAVED_ELSEWHERE, train_model
from host_stubs.errors import HostError
from host_stubs.host import Host, Saved
from host_stubs.interrupt import stop_on_interrupt

RECORDINGS_BYTES = 32 * 4 * 2 * 48_000
"""Of what is synthesized, at most: 32 times four seconds."""


@click.command()
@click.argument("folder", metavar="[DIR]", default="demo", type=click.Path(path_type=Path))
@click.option("--recordings-only", is_flag=True, help="Only write the recordings.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs to train, the VQ-VAE and the prior each.")
@click.option("--seconds", type=FiniteRange(0, 3600, min_open=True), default=10.0, show_default=True, help="New sound.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Train again and replace the model and sound of an earlier demo.")
@json_option
@click.pass_context
def demo(
    ctx: click.Context,
    folder: Path,
    recordings_only: bool,
    epochs: int | None,
    seconds: float,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Synthesize recordings in DIR, train a model and its prior on them, and make 10 s of new sound.

    Run again, it goes on from what is there: recordings and model are used as they are unless --overwrite is given.
    Ctrl-C, SIGTERM or closing the terminal stop a training, keep its best so far, and end the demo.
    """
    host: Host = ctx.obj
    recordings, path, wav = folder / "recordings", folder / "demo.sda", folder / "new-sound.wav"
    result: dict[str, Any] = {"recordings": str(recordings)}
    _write_recordings(host, recordings, seed)
    if recordings_only:
        show(result, as_json, [f"recordings  {recordings}"])
        return
    host_stubs.check_writable(path)
    saved = _train(ctx, recordings, path, epochs, seed, overwrite)
    path = saved.path
    if "train-prior" in command_names(ctx):
        _run(ctx, "generate", str(path), "--seconds", str(seconds), "-o", str(wav), "--seed", str(seed), "--overwrite")
        result["sound"] = str(wav)
    else:
        say("No installed plugin trains priors, so there is no new sound yet: pip install sda-prior-plugin, then again")
    model = host.open_model(path)
    result["model"] = model_document(model) | {"saved_elsewhere": saved.note or None}
    places = [f"recordings  {recordings}", f"model       {path}"] + (
        [f"new sound   {wav}"] if "sound" in result else []
    )
    show(result, as_json, [*places, "", *model_card(host, model, commands=command_names(ctx))])
    if saved.note:
        ctx.exit(SAVED_ELSEWHERE)


def _train(ctx: click.Context, recordings: Path, path: Path, epochs: int | None, seed: int, overwrite: bool) -> Saved:
    """Train the model, and its prior if there is what trains it, as far as they are not there; where they are saved.

    Raises click's Exit where one of the two was stopped.
    """
    host: Host = ctx.obj
    saved = Saved(path)
    with stop_on_interrupt() as stop:
        if path.exists() and not overwrite:
            say(f"{path} is there already and is used as it is; --overwrite trains it again")
        else:
            found = host.file_state(path)
            with host.claim(path, "trained"):
                _, saved = train_model(host, recordings, "demo", path, found, epochs=epochs, device="auto", seed=seed)
        trains_priors = "train-prior" in command_names(ctx) and not host.open_model(saved.path).bundle.has_prior
        if trains_priors and not stop.is_set():
            how = ["--seed", str(seed), *(["--epochs", str(epochs)] if epochs else [])]
            _run(ctx, "train-prior", str(saved.path), *how)
    if stop.is_set():
        say("The demo was stopped. Run again, it goes on from what is there.")
        ctx.exit(stop.exit_code)
    return saved


def _write_recordings(host: Host, folder: Path, seed: int) -> None:
    if folder.is_dir() and host_stubs.find_recordings(folder):
        say(f"{folder} has recordings already; they are used")
        return
    host.check_room(folder / "recordings", RECORDINGS_BYTES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"{folder} cannot be made ({error.strerror}).") from error
    with commands.working_on("synthesizing recordings"):
        written = host_stubs.write_demo_recordings(folder, seed=seed)
    say(f"{len(written)} recordings written to {folder}")


def _run(ctx: click.Context, name: str, *arguments: str) -> None:
    """Run another command of the host; what it would write to stdout goes to stderr, for stdout is this one's."""
    root = ctx.find_root().command
    command = root.get_command(ctx, name) if isinstance(root, click.Group) else None
    if command is None:
        raise HostError(f"There is no command {name}.")
    say(f"host {name} {' '.join(arguments)}")
    with contextlib.redirect_stdout(sys.stderr), command.make_context(name, list(arguments), parent=ctx) as inner:
        command.invoke(inner)
