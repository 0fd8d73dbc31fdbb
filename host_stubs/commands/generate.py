"""`host generate`: new sound from a model whose bundle holds something that can make new codes."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import host_stubs
from host_stubs import commands, generation
from host_stubs.commands.card import obstacle
from host_stubs.commands.console import (
    FiniteRange,
    check_output,
    command_names,
    json_option,
    overwrite_option,
    say,
    show,
)
from host_stubs.commands.drawing import drawing_options, seed_option
from host_stubs.errors import HostError
from host_stubs.host import Host
from host_stubs.names import shortened

if TYPE_CHECKING:
    import numpy as np

    from host_stubs.continuation import Start
    from host_stubs.model import Model

_ABLE = {  # what not every plugin can
    "max_copy": "keep to --max-copy",
    "start": "continue a recording",
    "kind": "make what --as asks for",
}


class Seconds(click.ParamType):
    """A length in seconds, or "auto" (None): as long as the prior goes on."""

    name = "seconds|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if value == "auto":
            return None
        seconds: float = FiniteRange(0, generation.MAX_SECONDS, min_open=True).convert(value, param, ctx)
        return seconds


@click.command()
@click.argument("model_path", metavar="MODEL.sda", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The WAV file (default: MODEL-new.wav, here).")
@click.option("--seconds", type=Seconds(), default="auto", show_default=True, help="Length; auto: until it is over.")
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many sounds.")
@drawing_options
@click.option(
    "--continue",
    "recording",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Go on from this recording, of up to 10 minutes; --seconds is the length of what is added.",
)
@click.option(
    "--as",
    "kind",
    metavar="KIND",
    help="What the sound is to be like, of what the prior has learned: slower-2, say (default: as the recordings are).",
)
@seed_option
@overwrite_option
@json_option
@click.pass_context
def generate(
    ctx: click.Context,
    model_path: Path,
    output: Path | None,
    seconds: float | None,
    count: int,
    temperature: float,
    top_p: float | None,
    top_k: int,
    max_copy: float | None,
    recording: Path | None,
    kind: str | None,
    seed: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make new sound with MODEL.sda and write it to a WAV file. With --count N: N files, OUT-1.wav, OUT-2.wav, …"""
    host: Host = ctx.obj
    paths = _free_paths(f"{shortened(model_path.stem)}-new", count) if output is None else _numbered(output, count)
    for path in paths:
        check_output(path, ".wav", overwrite)
    model = host.open_model(model_path)
    start = _read_start(recording, model) if recording is not None else None
    seed = secrets.randbelow(2**32) if seed is None else seed
    wish = generation.Wish(seconds, count, temperature, top_p, top_k, max_copy, kind, seed)
    with commands.working_on("making new codes"):
        grids = generation.new_codes(host, model, wish, start)
    if grids is None:
        special = [*wish.special, *([] if start is None else ["start"])]
        able = f" that can {' and '.join(_ABLE[name] for name in special)}" if special else ""
        offered = f"no installed plugin{able} offered any (host plugins lists them)"
        reason = obstacle(model, command_names(ctx)) or offered
        raise HostError(f"{model_path} cannot make new sound: {reason}")
    if len(grids) != count:
        raise HostError(f"The plugin was asked for {count} sounds and gave {len(grids)}.")
    say(f"seed {seed}")
    sounds: list[dict[str, Any]] = []
    lines: list[str] = []
    for grid, path in zip(grids, paths, strict=True):
        if seconds is None and len(grid) >= wish.most_frames(model.codec):
            longest = f"stopped at {generation.MAX_AUTO_SECONDS:.0f} s, the most that auto gives"
            say(f"{path.name}: {longest}; --seconds sets a length")
        sound = _write(model, start, grid, path, seconds)
        for text, facts in host.plugins.call("codes_facts", model=model, codes=grid):
            lines.append(f"{path.name}: {text}")
            sound |= facts
        sounds.append(sound)
    result = {"model": str(model_path), "seed": seed, "sounds": sounds}
    show(result, as_json, [*map(_line, sounds), *lines])


def _read_start(recording: Path, model: Model) -> Start:
    with commands.working_on(f"reading {recording.name}"):
        return host_stubs.read_start(recording, model.codec)


def _write(model: Model, start: Start | None, grid: np.ndarray, path: Path, seconds: float | None) -> dict[str, Any]:
    """Decode one grid of codes, after those it follows, and write it; what the command's result says about it.

    `seconds` is the length of what is new; None: all of it.
    """
    if len(grid) == 0:
        ended = "ended the sound before it began" if start is None else "says that the recording is over where it ends"
        raise HostError(f"The prior {ended}. Try another --seed, or give --seconds.")
    codec, given = model.codec, 0 if start is None else start.samples
    with commands.working_on(f"decoding {path.name}"):
        audio = generation.sound_blocks(codec, start, grid, seconds)
        written = host_stubs.write_wav_blocks(path, audio, codec.sample_rate)
    return {
        "path": str(path),
        "seconds": written.samples / codec.sample_rate,
        "given_seconds": given / codec.sample_rate,
        "new_seconds": (written.samples - given) / codec.sample_rate,
        "peak": written.peak,
        "frames": len(grid),
    }


def _line(sound: Mapping[str, Any]) -> str:
    """What is said of a sound that was written."""
    given, new = sound["given_seconds"], sound["new_seconds"]
    parts = f" ({given:.2f} s given, {new:.2f} s new)" if given else ""
    return f"{sound['path']}  {sound['seconds']:.2f} s{parts}, peak {sound['peak']:.2f}"


def _numbered(path: Path, count: int) -> list[Path]:
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, count + 1)]


def _free_paths(stem: str, count: int) -> list[Path]:
    """Names in the current folder that no file has yet: STEM.wav, or STEM-2.wav, and so on."""
    for number in itertools.count(1):
        paths = _numbered(Path(f"{stem}.wav" if number == 1 else f"{stem}-{number}.wav"), count)
        if not any(path.exists() for path in paths):
            return paths
    raise AssertionError("there is always a next number")
