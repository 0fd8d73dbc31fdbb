"""`host train`: from a folder of recordings to a `.sda`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import host_stubs
from host_stubs import commands
from host_stubs.commands.card import model_card, model_document
from host_stubs.commands.console import (
    aligned,
    check_output,
    command_names,
    json_option,
    overwrite_option,
    say,
    show,
)
from host_stubs.errors import HostError
from host_stubs.host import Host, Saved
from host_stubs.interrupt import Stop, stop_on_interrupt
from host_stubs.names import as_text, model_file_name

if TYPE_CHECKING:
    import numpy as np

    from host_stubs.manifest import DatasetManifest
    from host_stubs.model import Model
    from host_stubs.replace import FileState
    from host_stubs.training import VqvaeRun, VqvaeSettings

SAMPLE_RATE = 48_000
LOW_UTILIZATION = 0.3
SAVED_ELSEWHERE = 3
"""Exit code where all went well, but the result could not be saved where it was wanted."""
HEADER_BYTES = 2**16
"""Of a model file, about, beside the codec's numbers and the list of recordings."""


@click.command()
@click.argument("audio_dir", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The model file (default: NAME.sda, here).")
@click.option("--name", help="The model's name (default: the folder's name).")
@click.option("--epochs", type=click.IntRange(1), help="Epochs to train (default: until nothing gets better).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Makes a CPU run repeatable."
)
@overwrite_option
@json_option
@click.pass_context
def train(
    ctx: click.Context,
    audio_dir: Path,
    output: Path | None,
    name: str | None,
    epochs: int | None,
    device: str,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a VQ-VAE on the recordings in AUDIO_DIR and save it as a .sda model.

    Whatever is a sound file is used (WAV, FLAC, OGG, MP3, AIFF, M4A and more), in subfolders too. Ctrl-C stops early
    and keeps the best so far; a second Ctrl-C leaves everything as it was. SIGTERM and closing the terminal do the same
    as the first Ctrl-C.
    """
    host: Host = ctx.obj
    name = as_text((audio_dir.resolve().name or "model") if name is None else name)
    output = Path(model_file_name(name)) if output is None else output
    found = check_output(output, ".sda", overwrite)
    with host.claim(output, "trained"):
        model, saved = train_model(host, audio_dir, name, output, found, epochs=epochs, device=device, seed=seed)
    document = model_document(model) | {"saved_elsewhere": saved.note or None}
    show(document, as_json, model_card(host, model, commands=command_names(ctx)))
    if saved.note:
        ctx.exit(SAVED_ELSEWHERE)


def train_model(
    host: Host,
    audio_dir: Path,
    name: str,
    output: Path,
    found: FileState | None,
    *,
    epochs: int | None,
    device: str,
    seed: int,
) -> tuple[Model, Saved]:
    """Train a VQ-VAE and save it, showing what happens on stderr.

    `found`: the state of the file at `output`, which may be replaced. Raises HostError, and click's Exit where it was
    stopped before there was anything to keep.
    """
    with commands.working_on(f"looking through {audio_dir}"):
        scan = host_stubs.build_manifest(audio_dir)
    manifest = scan.manifest
    for line in [*aligned(manifest.account.rows()), *scan.notes]:
        say(line)
    noun = "recording" if len(manifest.files) == 1 else "recordings"
    say(
        f"{len(manifest.files)} {noun}: {manifest.seconds('train'):.1f} s to train on, "
        f"{manifest.seconds('held_out'):.1f} s held out"
    )
    settings = host_stubs.VqvaeSettings.for_dataset(len(manifest.files), epochs=epochs, seed=seed, device=device)
    host.check_room(output, model_bytes(manifest, settings))
    with stop_on_interrupt() as stop:
        run = _train(manifest, settings, stop)
        model = host_stubs.Model(name, run.codec, manifest, report=run.report)
        for warning in health_warnings(run.report):
            say(warning)
        saved = host.save_new(model, output, found)
    if saved.note:
        say(f"warning: {saved.note}")
    say(f"Saved {saved.path}")
    return model, saved


def model_bytes(manifest: DatasetManifest, settings: VqvaeSettings) -> int:
    """About how many bytes a model takes that is trained on these recordings."""
    return host_stubs.codec_bytes(settings) + len(json.dumps(manifest.to_json())) + HEADER_BYTES


def _train(manifest: DatasetManifest, settings: VqvaeSettings, stop: Stop) -> VqvaeRun:
    """Train with progress, until `stop`. Before there is anything to keep, or at the second time, that ends it all."""
    say("Training. Ctrl-C stops early and keeps the best so far.")
    try:
        with commands.TrainingDisplay() as display:
            run = host_stubs.train_vqvae(
                _audio(manifest, "train"),
                _audio(manifest, "held_out"),
                settings,
                sample_rate=SAMPLE_RATE,
                on_event=display,
                stop=stop,
            )
    except (KeyboardInterrupt, HostError):
        if not stop.is_set():
            raise
        say("Stopped. There is nothing to keep: nothing was written.")
        raise click.exceptions.Exit(stop.exit_code) from None
    if stop.is_set():
        say("Stopped early: the best epoch so far is kept.")
    return run


def _audio(manifest: DatasetManifest, part: str) -> Iterator[np.ndarray]:
    return (piece for recording in manifest.recordings(part, SAMPLE_RATE) for piece in recording.pieces())


def health_warnings(report: dict[str, Any]) -> list[str]:
    """A sentence for each level that uses little of its codebook. Without such a level: none."""
    levels = [level.get("utilization") for level in report.get("codebook_health", [])]
    return [
        f"warning: level {number} uses only {used:.0%} of its codebook; more, or more varied, recordings would help"
        for number, used in enumerate(levels)
        if used is not None and used < LOW_UTILIZATION
    ]
