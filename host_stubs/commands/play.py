"""`host play`: new sound at once, from the loudspeaker or for another program, and keys that change it meanwhile."""

from __future__ import annotations

import importlib.util
import json
import math
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

import host_stubs
from host_stubs.commands.card import obstacle
from host_stubs.commands.console import FiniteRange, command_names, json_option, say, show
from host_stubs.commands.drawing import drawing_options, seed_option
from host_stubs.errors import HostError
from host_stubs.generation import default_top_p
from host_stubs.host import Host
from host_stubs.playing import END, KEYS, KINDS, Controls, PlaySettings

if TYPE_CHECKING:
    import numpy as np

    from host_stubs.ahead import Ahead
    from host_stubs.model import Model


@dataclass(frozen=True)
class _Output:
    """Where the sound goes: to a device, by None the system's own, or to standard output as one of `KINDS`.

    `seconds` is how long it is to be, None for no end.
    """

    device: str | None
    kind: str | None
    seconds: float | None

    def samples(self, rate: int) -> int | None:
        """How many there will be, as `host generate` has it."""
        return None if self.seconds is None else max(1, round(self.seconds * rate))

    def play(self, ahead: Ahead, rate: int, stop: Event, look: Callable[[float], None]) -> dict[str, Any]:
        """Play until it is over or `stop` is set; gives what the result says of it."""
        if self.kind is None:
            gaps = host_stubs.play_sound(ahead, self.device, rate, stop, look)
            return {"gaps": gaps.count, "gap_seconds": gaps.samples / rate}
        host_stubs.write_sound(sys.stdout.fileno(), ahead, self.kind, rate, self.samples(rate), stop, look)
        return {}


@click.command(epilog=f"Keys, in a terminal: {KEYS}.")
@click.argument("model_path", metavar="MODEL.sda", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="-", help="-: write the sound to standard output, for another program.")
@click.option(
    "--format", "kind", type=click.Choice(KINDS), help="Of -o -; s16 and f32 are samples alone [default: wav]."
)
@click.option(
    "--speaker", metavar="DEVICE", help="Name, part of it or number of a sound device (default: the system's)."
)
@click.option("--seconds", type=FiniteRange(0, min_open=True), help="How long to play (default: until it is ended).")
@drawing_options
@seed_option
@click.option(
    "--ahead",
    metavar="SECONDS",
    type=FiniteRange(0.1, 10),
    default=0.5,
    show_default=True,
    help="Sound that is kept ready: more for a busy machine, less to hear keys sooner.",
)
@json_option
@click.pass_context
def play(
    ctx: click.Context,
    model_path: Path,
    output: str | None,
    kind: str | None,
    speaker: str | None,
    seconds: float | None,
    temperature: float,
    top_p: float | None,
    top_k: int,
    max_copy: float | None,
    seed: int | None,
    ahead: float,
    as_json: bool,
) -> None:
    """Play new sound with MODEL.sda at once, one sound after another, until Ctrl-C.

    The same seed gives the sound of host generate. With -o - everything else that is written goes to stderr; with
    --json the last line of it is the result.
    """
    where = _output(output, kind, speaker, seconds)
    host: Host = ctx.obj
    model = host.open_model(model_path)
    opened, rate = time.monotonic(), model.codec.sample_rate
    if where.kind is None:
        host_stubs.check_device(where.device, rate)
    seed = secrets.randbelow(2**32) if seed is None else seed
    top_p = default_top_p(model) if top_p is None else top_p
    controls = Controls(PlaySettings(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed))
    codes = _codes(ctx, model_path, model, where, max_copy, controls)
    say(f"seed {seed}")
    sound = host_stubs.between(model.codec.decode_stream(codes), 0, where.samples(rate) or sys.maxsize)
    with (
        host.stop_on_interrupt(quiet=True) as stop,
        host_stubs.pressed_keys() as keys,
        host_stubs.Ahead(sound, math.ceil(ahead * rate)) as ready,
    ):
        if keys is not None:
            say(f"Keys: {KEYS}")
        found = where.play(ready, rate, stop, _look(keys, controls, stop))
    ready.check()
    seconds = ready.taken / rate
    first = None if ready.begun is None else ready.begun - opened
    result = {"model": str(model_path), "seconds": seconds, "first_sound_seconds": first, **found}
    result["settings"] = asdict(controls.settings)
    line = f"played {seconds:.2f} s{_gaps_line(found)}"
    if where.kind is None:
        show(result, as_json, [line])
    else:
        say(json.dumps(result) if as_json else line)


def _output(output: str | None, kind: str | None, speaker: str | None, seconds: float | None) -> _Output:
    """Where it is to go. Raises HostError where that is contradictory, or what it takes is not installed."""
    if output is None:
        if kind is not None:
            raise HostError("--format says what -o - writes; without -o - the sound goes to the loudspeaker.")
        _check_sounddevice()
        return _Output(speaker, None, seconds)
    if output != "-":
        raise HostError(
            f"host play writes to standard output (-o -) or plays; host generate -o {output} writes a file."
        )
    if speaker is not None:
        raise HostError("--speaker is where the sound goes without -o -; give one of both.")
    host_stubs.check_pipe(sys.stdout.fileno(), seconds)
    return _Output(None, kind or KINDS[0], seconds)


def _check_sounddevice() -> None:
    """Raise HostError if there is nothing to play with, and say what to install."""
    otherwise = "or pipe the sound into another program with -o -"
    if importlib.util.find_spec("sounddevice") is None:
        raise HostError(
            f"Playing needs sounddevice, which is not installed. Run: pip install 'sda-host-stubs[play]', {otherwise}"
        )
    try:
        host_stubs.check_device  # noqa: B018 - it is imported now, and PortAudio with it
    except OSError as error:
        raise HostError(
            "Playing needs the system's library PortAudio, which is not there. Install it (on Debian and Ubuntu: apt "
            f"install libportaudio2), {otherwise}"
        ) from error


def _codes(
    ctx: click.Context, path: Path, model: Model, where: _Output, max_copy: float | None, controls: Controls
) -> Iterator[np.ndarray]:
    """New codes, as many as it takes. Raises HostError if no plugin has any."""
    codec = model.codec
    special = [] if max_copy is None else ["max_copy"]
    host: Host = ctx.obj
    codes: Iterator[np.ndarray] | None = host.plugins.first(
        "stream_codes",
        special,
        model=model,
        frames=None if where.seconds is None else math.ceil(where.seconds * codec.sample_rate / codec.frame_samples),
        max_copy=max_copy,
        settings=controls.now,
    )
    if codes is None:
        able = " that can keep to --max-copy" if special else ""
        offered = f"no installed plugin{able} draws codes as they are played (host plugins lists them)"
        raise HostError(f"{path} cannot be played: {obstacle(model, command_names(ctx)) or offered}")
    return codes


def _look(keys: Callable[[float], str] | None, controls: Controls, stop: Event) -> Callable[[float], None]:
    """What looks whether keys were pressed, and takes so many seconds for it."""

    def look(seconds: float) -> None:
        if keys is None:
            stop.wait(seconds)
            return
        for key in keys(seconds):
            if key == END:
                stop.set()
            elif said := controls.press(key):
                say(said)

    return look


def _gaps_line(found: dict[str, Any]) -> str:
    if "gaps" not in found:
        return ""
    return f", {found['gaps']} gaps of {found['gap_seconds']:.2f} s in all" if found["gaps"] else ", no gaps"
