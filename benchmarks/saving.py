"""What a save costs, beside writing the same bytes with fsync. Part of `make bench-files`."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.results import RESULTS, machine, write_section
from benchmarks.tiny_model import make_recordings, tiny_model
from host_stubs.model import Model, save_model
from host_stubs.plugins import load_plugins

MEGABYTES = (5, 50, 200)


def ratio(model: Model, folder: Path, pairs: int) -> list[str]:
    """Save, and write the same bytes, in turn; the line of the table. The two are compared pair by pair."""
    path, plain, plugins = folder / "model.sda", folder / "plain", load_plugins()
    save_model(model, path, plugins)
    content = path.read_bytes()

    def write() -> None:
        with plain.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    write()
    seconds = [(_seconds(write), _seconds(lambda: save_model(model, path, plugins))) for _ in range(pairs)]
    written, saved = (statistics.median(each) for each in zip(*seconds, strict=True))
    times = statistics.median(save / write for write, save in seconds)
    return [f"{len(content) / 1e6:.1f} MB", f"{written * 1e3:.1f} ms", f"{saved * 1e3:.1f} ms", f"{times:.2f}"]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure models of several sizes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md as it is")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [["file", "write and fsync", "save", "save / write"]]
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_model(make_recordings(Path(folder) / "recordings"))
        for size in MEGABYTES:
            model.bundle.put("filler", {}, {f"part{part}": torch.rand(250_000) for part in range(size)})
            rows.append(ratio(model, Path(folder), arguments.pairs))
    text = (
        "A save with all its checks, and the same bytes written to a file and flushed, in turn in one process: "
        f"medians, and the median of the pairs' ratios. {machine()}."
    )
    write_section("Files: what a save costs", text, rows, None if arguments.print_only else RESULTS)


if __name__ == "__main__":
    main()
