"""How long opening a model with its prior takes, after imports; the last part of `make bench`.

The demo's model, with a prior of the default size for it. Each time is of a process of its own: a second opening is
quicker than the first.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import host_stubs
from benchmarks.corpora import demo_dataset
from benchmarks.results import machine, write_section
from sda_prior_plugin import PriorSettings, train_prior

PROCESSES = 15
MORE = 4 * 2**30
OPEN = """
import sys, time
import host_stubs.model, sda_prior_plugin.edge.bundle_entry
from host_stubs.plugins import load_plugins
plugins = load_plugins()
start = time.perf_counter()
model = host_stubs.open_model(sys.argv[1], plugins)
seconds = time.perf_counter() - start
assert model.prior is not None
print(seconds)
"""


def save_demo(path: Path) -> None:
    """The demo's model; its prior has the default size, and one epoch of training, which opening does not see."""
    dataset = demo_dataset()
    corpus = dataset.corpus(start_offsets=1)
    model = host_stubs.Model("demo", dataset.codec, dataset.manifest)
    settings = PriorSettings.for_corpus(corpus, file_count=dataset.file_count, epochs=1, device="cpu")
    model.prior = train_prior(corpus, settings).prior
    host_stubs.save_model(model, path)


def with_more(path: Path, other: Path) -> None:
    """A copy with a namespace of 4 GiB that nobody knows; it holds zeros, which take no room on the disk."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    header["other.zeros"] = {"dtype": "U8", "shape": [MORE], "data_offsets": [len(data), len(data) + MORE]}
    text = json.dumps(header).encode()
    other.write_bytes(len(text).to_bytes(8, "little") + text + data)
    os.truncate(other, other.stat().st_size + MORE)


def median_seconds(path: Path) -> float:
    """Of opening it, each time in another process."""
    return statistics.median(
        float(subprocess.run([sys.executable, "-c", OPEN, path], capture_output=True, text=True, check=True).stdout)
        for _ in range(PROCESSES)
    )


def main() -> None:
    """Write the table."""
    with tempfile.TemporaryDirectory() as folder:
        alone, with_it = Path(folder) / "demo.sda", Path(folder) / "more.sda"
        save_demo(alone)
        with_more(alone, with_it)
        table = [
            ["file", "bytes", "opened in, median"],
            *([name, f"{path.stat().st_size:,}", f"{1000 * median_seconds(path):.1f} ms"] for name, path in
              (("the demo's model with its prior", alone), ("the same with a namespace of 4 GiB beside it", with_it))),
        ]  # fmt: skip
    write_section("Opening", f"After imports, each time in another of {PROCESSES} processes; {machine()}.", table)


if __name__ == "__main__":
    main()
