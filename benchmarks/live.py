"""Plays an export as nn~ and nn.ar do, block after block, each in a new thread, and says what it took.

`python -m benchmarks.live MODEL.ts --seconds 3600` in a fresh process; live.cpp does the same without Python.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch

KINDS: tuple[Callable[[str], bool | int | float], ...] = (lambda text: bool(int(text)), int, float)
"""How an attribute's value is read, by the number of its type."""


@dataclass(frozen=True)
class Played:
    """What came of some blocks.

    Attributes:
        blocks: how many.
        right: whether each was finite and as long as it has to be.
        grown_bytes: how much more memory the process had after the last than after the first quarter.
        median, worst: time that the processor computed for a block, as a share of the block's duration.
        waited: the same of the time that passed for the slowest, other work included.
        threads: of the process, at most, while it computed, the computing one included.
    """

    blocks: int
    right: bool
    grown_bytes: int
    median: float
    worst: float
    waited: float
    threads: int


def set_attribute(model: torch.jit.ScriptModule, name: str, text: str) -> None:
    """Set an attribute as a patch does."""
    (kind,) = getattr(model, f"{name}_params").tolist()
    if getattr(model, f"set_{name}")(KINDS[kind](text)) != 0:
        raise ValueError(f"{name} is not {text}")


def played(
    model: torch.jit.ScriptModule,
    method: str,
    block: int,
    count: int,
    rate: float,
    on_block: Callable[[np.ndarray], object],
    meanwhile: Mapping[str, str] | None = None,
) -> Played:
    """Give a method `count` blocks of so many zeros; attributes of `meanwhile` are set while the first is computed."""
    channels_in, ratio_in, channels_out, ratio_out = getattr(model, f"{method}_params").tolist()
    given, wanted = torch.zeros(1, channels_in, block // ratio_in), (1, channels_out, block // ratio_out)
    computed, waited, right, first, threads = [], 0.0, True, 0, 0
    found = torch.zeros(0)

    def compute() -> None:
        nonlocal found, waited, threads
        with torch.inference_mode():
            begun, passed = time.thread_time(), time.perf_counter()
            found = getattr(model, method)(given)
            computed.append((time.thread_time() - begun) * rate / block)
            waited = max(waited, (time.perf_counter() - passed) * rate / block)
        threads = max(threads, len(os.listdir("/proc/self/task")) - 1)  # but for the one that waits

    for number in range(count):
        thread = threading.Thread(target=compute)
        thread.start()
        for name, text in (meanwhile or {}).items() if number == 0 else ():
            set_attribute(model, name, text)
        thread.join()
        right = right and tuple(found.shape) == wanted and bool(found.isfinite().all())
        on_block(found[0].numpy())
        if number == count // 4:
            first = resident()
    return Played(count, right, resident() - first, float(np.median(computed)), max(computed), waited, threads)


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--method", default="play", show_default=True)
@click.option("--block", default=8192, show_default=True)
@click.option("--rate", default=48_000.0, show_default=True)
@click.option("--seconds", default=3600.0, show_default=True)
def main(path: Path, method: str, block: int, rate: float, seconds: float) -> None:
    model = torch.jit.load(path)
    methods = model.get_methods()
    if method not in methods:
        raise click.ClickException(f"{path} has no method {method}; it has {', '.join(methods)}.")
    count = round(seconds * rate / block)
    click.echo(json.dumps(asdict(played(model, method, block, count, rate, lambda found: None)), indent=2))


if __name__ == "__main__":
    main()
