"""What a GPU is worth: a step of training, encoding and a default training, there and on the processor beside it.

Run it with `make bench-devices`; where there is no GPU it measures the processor alone.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.results import RESULTS, machine, write_section
from host_stubs.host import Host
from host_stubs.plugins import load_plugins
from sda_prior_plugin import CodeCorpus, PriorSettings, train_prior
from sda_prior_plugin.batches import Batch
from sda_prior_plugin.devices import reproducible
from sda_prior_plugin.edge import prepare_job
from sda_prior_plugin.run import Run
from sda_prior_plugin.settings import KnobValue
from sda_prior_plugin.training import step

UNTIMED_STEPS, TIMED_STEPS = 8, 24
SECONDS_OF_STEPS = 20.0
"""After which no further step is timed."""


@dataclass(frozen=True)
class Place:
    """Where something is computed, and how."""

    name: str
    device: str
    threads: int
    precision: torch.dtype

    def __str__(self) -> str:
        half = "bfloat16" if self.precision == torch.bfloat16 else "float32"
        return f"{self.name}, {half}" if self.device == "cuda" else f"{self.threads} threads, {half}"


NETWORKS: dict[str, dict[str, KnobValue]] = {
    "default transformer": {},
    "default GRU": {"architecture": "gru"},
    "4 layers of 512": {"hidden_size": 512, "layers": 4, "heads": 8},
    "the same, batches of 64": {"hidden_size": 512, "layers": 4, "heads": 8, "batch_size": 64},
    "8 layers of 1024, batches of 64": {"hidden_size": 1024, "layers": 8, "heads": 16, "batch_size": 64},
}


def endless(run: Run) -> Iterator[Batch]:
    """The batches of one epoch after another."""
    for epoch in itertools.count(1):
        run.source.set_epoch(epoch, 0)
        yield from run.source


def step_milliseconds(corpus: CodeCorpus, settings: PriorSettings, place: Place) -> float:
    """The median of a step's time, its batch included."""
    torch.set_num_threads(place.threads)
    device = torch.device(place.device)
    with reproducible(device):
        run = Run(corpus, settings, device)
        run.dtype = run.optimizer.dtype = place.precision
        run.network.train()
        began, times = time.perf_counter(), [time.perf_counter()]
        for batch in endless(run):
            run.batch_is_done(step(run, batch), 1)  # which waits for the loss, and so for the device
            times.append(time.perf_counter())
            if len(times) > UNTIMED_STEPS + TIMED_STEPS or times[-1] - began > SECONDS_OF_STEPS:
                break
    lasted = [1000 * (after - before) for before, after in itertools.pairwise(times)]
    return statistics.median(lasted[min(UNTIMED_STEPS, len(lasted) // 2) :])


def encoding(path: Path, dataset: Path | None, place: Place) -> tuple[float, CodeCorpus, PriorSettings]:
    """Seconds to encode all variants of all recordings, and what they give."""
    torch.set_num_threads(place.threads)
    host, given = Host(load_plugins()), {"device": place.device}
    job = prepare_job(host, path, given, dataset=dataset, cache=False)  # type: ignore[arg-type] # a host takes its own
    began = time.perf_counter()
    corpus = job.corpus()
    return time.perf_counter() - began, corpus, job.settings


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--write", action="store_true")
    wanted = parser.parse_args()
    threads = torch.get_num_threads()
    places = [Place("", "cpu", threads, torch.float32)]
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        places += [Place(name, "cuda", threads, dtype) for dtype in (torch.float32, torch.bfloat16)]
    table = [["", *map(str, places)]]
    encoded = {}
    for device in dict.fromkeys(place.device for place in places):
        at = next(place for place in places if place.device == device)
        encoding(wanted.model, wanted.dataset, at)  # the first time there is more to load and compile
        encoded[device], corpus, settings = encoding(wanted.model, wanted.dataset, at)
    table.append(["encoding, s", *(f"{encoded[place.device]:.1f}" for place in places)])
    for name, given in NETWORKS.items():
        times = [step_milliseconds(corpus, replace(settings, **given), place) for place in places]  # type: ignore[arg-type] # of many kinds
        table.append([f"a step, {name}, ms", *(f"{one:.1f}" for one in times)])
        print(table[-1], flush=True)
    whole = []
    for place in places:
        if place.device == "cuda" and place.precision == torch.float32:
            whole.append("")
            continue
        torch.set_num_threads(place.threads)
        report = train_prior(corpus, replace(settings, device=place.device)).report
        whole.append(f"{report.seconds:.1f} ({report.epochs_trained} epochs, perplexity {report.final_perplexity:.2f})")
    table.append(["a default training, s", *whole])
    write_section(
        "A GPU",
        f"{machine()}; {corpus.train.lengths.size} sequences. Encoding is of all variants, once before it was timed; "
        f"steps are medians of at most {TIMED_STEPS}, of changing lengths, after {UNTIMED_STEPS}, and for at most "
        f"{SECONDS_OF_STEPS:.0f} seconds. A training includes looking for copies.",
        table,
        RESULTS if wanted.write else None,
    )


if __name__ == "__main__":
    main()
