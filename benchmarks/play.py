"""`host play`: how soon there is sound, whether it is that of `host generate`, and whether it ever has gaps.

Run it with `make bench-play`, which takes the demo's model, or `python -m benchmarks.play MODEL.sda`.

Gaps are looked for with two processes beside it that compute all the time, and with a reader that takes a thousand
samples at a time at the moments at which a sound device would.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

import host_stubs
from benchmarks.results import RESULTS, machine, write_section
from host_stubs.model import Model
from host_stubs.playing import PlaySettings
from host_stubs.plugins import load_plugins

BUSY = "while True: pass"
PIECE = 1024
MINUTE = 60.0


def host(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the host."""
    command = [sys.executable, "-m", "host_stubs.cli", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)


def first_sounds(model: Path, count: int) -> list[float]:
    """Milliseconds from the open model to the first sound, each in a process of its own."""
    host("play", model, "-o", "-", "--seconds", 1)  # what is compiled once is compiled now
    found = []
    for seed in range(count):
        said = host("play", model, "-o", "-", "--seconds", 1, "--seed", seed, "--json").stderr
        found.append(1000 * float(json.loads(said.splitlines()[-1])["first_sound_seconds"]))
    return found


def same_as_generate(model: Path, seconds: float) -> bool:
    """Whether so many seconds that are played are the file of `host generate`, byte by byte."""
    how = ("--seconds", seconds, "--seed", 1)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "written.wav"
        host("generate", model, *how, "-o", written)
        return host("play", model, *how, "-o", "-").stdout == written.read_bytes()


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@dataclass
class Played:
    """What a reader saw that takes sound as a device does, and when each code frame was drawn and heard."""

    gaps: int = 0
    drawn: list[float] = field(default_factory=list)
    heard: list[float] = field(default_factory=list)

    @property
    def key_seconds(self) -> tuple[float, float]:
        """How long after a key what it changed is heard, at the soonest and the latest, once playing is under way."""
        under_way = range(32, len(self.heard) - 1)
        return (
            min(self.heard[frame] - self.drawn[frame] for frame in under_way),
            max(self.heard[frame + 1] - self.drawn[frame] for frame in under_way),
        )


def paced(model: Model, seconds: float, ahead: float) -> Played:
    """Play for so long, a piece at a time at the moment when it is due."""
    found, settings = Played(), PlaySettings(seed=1)
    codec = model.codec
    rate, size = codec.sample_rate, codec.frame_samples

    def noted() -> Iterator[np.ndarray]:
        for piece in model.prior.live(lambda: settings):
            found.drawn.append(time.monotonic())
            yield piece

    piece = np.empty(PIECE, np.float32)
    with host_stubs.Ahead(codec.decode_stream(noted()), round(ahead * rate)) as ready:
        ready.wait(round(0.2 * rate), MINUTE)
        begun = time.monotonic()
        while ready.taken < seconds * rate:
            time.sleep(max(0.0, begun + (ready.taken + PIECE) / rate - time.monotonic()))
            missing = PIECE - ready.take(piece)
            if missing:
                found.gaps += 1
                begun += missing / rate  # a device goes on
            while len(found.heard) * size < ready.taken:
                found.heard.append(time.monotonic())
    return found


@click.command()
@click.argument("model_path", metavar="MODEL.sda", type=click.Path(exists=True, path_type=Path))
@click.option("--starts", default=20, show_default=True, help="How often it is started.")
@click.option("--minutes", default=10.0, show_default=True, help="How long it is listened to beside the busy loops.")
@click.option("--ahead", default=0.5, show_default=True, help="As of host play.")
@click.option("--write", is_flag=True, help="Write the section of RESULTS.md.")
def main(model_path: Path, starts: int, minutes: float, ahead: float, write: bool) -> None:
    """Measure, and print the table."""
    first = sorted(first_sounds(model_path, starts))
    same = same_as_generate(model_path, MINUTE)
    model = host_stubs.open_model(model_path, load_plugins())
    with busy(2):
        played = paced(model, MINUTE * minutes, ahead)
    soonest, latest = played.key_seconds
    rows: list[list[Any]] = [
        ["what", "figure"],
        ["from the open model to the first sound, median", f"{statistics.median(first):.0f} ms"],
        [f"the slowest of {starts}", f"{first[-1]:.0f} ms"],
        ["a minute that was played is the file of `host generate`, byte by byte", "yes" if same else "no"],
        [f"gaps in {minutes:g} minutes, two busy loops beside it", str(played.gaps)],
        ["from a key to what it changes, at the soonest", f"{soonest:.2f} s"],
        ["at the latest", f"{latest:.2f} s"],
    ]
    write_section(
        "Playing",
        f"Who hears it takes {PIECE} samples at a time when they are due; {ahead} s are kept ready; load "
        f"average {os.getloadavg()[0]:.0f}; {machine()}, {os.cpu_count()} cores.",
        rows,
        RESULTS if write else None,
    )


if __name__ == "__main__":
    main()
