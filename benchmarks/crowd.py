"""Ten processes that open, save and train one model file at the same time: nothing may be lost, nothing read broken.

Each process that saves has a number of its own in the file and goes on from what it finds there, so that at the end the
number says how many of its saves are in the file: all that it was told had succeeded. Part of `make bench-files`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.crashes import QUICK, fork, run_quietly
from benchmarks.results import RESULTS, machine, write_section
from benchmarks.tiny_model import NumberedModel, make_recordings, tiny_model
from host_stubs.commands.train import SAVED_ELSEWHERE
from host_stubs.errors import FileChanged
from host_stubs.model import open_model, save_model
from host_stubs.plugins import load_plugins

READERS, SAVERS, TRAINERS = 4, 4, 2
NAMESPACES = [f"saver{number}" for number in range(SAVERS)]


def crowd(path: Path, seconds: float) -> Counter[str]:
    """Let the processes loose on a saved model; what they did. Raises AssertionError where anything was lost."""
    train(path, 0)  # once here, so that what it imports and compiles is there
    end = time.time() + seconds
    works: list[Callable[[], dict[str, Any]]] = [partial(_read, path, end) for _ in range(READERS)]
    works += [partial(_save, path, name, end) for name in NAMESPACES]
    works += [partial(_train, path, range(first, 10**6, TRAINERS), end) for first in range(1, TRAINERS + 1)]
    processes = [_started(work) for work in works]
    reports = [_report(*process) for process in processes]
    for name, report in zip(NAMESPACES, reports[READERS:], strict=False):
        if (number := NumberedModel(path, name).number()) != report["saved"]:
            raise AssertionError(f"{report['saved']} saves of {name} succeeded, and {number} are in the file")
    trained = [done for report in reports[READERS + SAVERS :] for done in report["trained"]]
    last = max((done for done in trained if done[2] == path.name), default=None)
    prior = open_model(path).prior
    if last is not None and prior.settings.seed != last[1]:
        raise AssertionError(
            f"the prior of seed {prior.settings.seed} is in the file, and {last[1]} was the last saved"
        )
    for _, seed, name in trained:
        if name != path.name and open_model(path.with_name(name)).prior.settings.seed != seed:
            raise AssertionError(f"{name} does not hold the prior of seed {seed}")
    if left := [name for name in os.listdir(path.parent) if not name.endswith(path.suffix)]:
        raise AssertionError(f"{left} were left")
    return Counter(
        opened=sum(report["opened"] for report in reports[:READERS]),
        saved=sum(report["saved"] for report in reports[READERS : READERS + SAVERS]),
        refused=sum(report["refused"] for report in reports[READERS : READERS + SAVERS]),
        trained=len(trained),
        beside=sum(name != path.name for _, _, name in trained),
        claimed=sum(report["claimed"] for report in reports[READERS + SAVERS :]),
    )


def train(path: Path, seed: int) -> tuple[int, str]:
    """`host train-prior`, as it is run from a command line; its exit code and what it said."""
    return run_quietly(["train-prior", str(path), *QUICK, "--seed", str(seed)])


def _read(path: Path, end: float) -> dict[str, Any]:
    """Open the model again and again, with its prior; every namespace must be of one piece."""
    opened = 0
    files = [NumberedModel(path, name) for name in NAMESPACES]
    while time.time() < end:
        model = open_model(path)
        if model.prior is None:
            raise AssertionError(f"{path} was read without its prior")
        for file in files:
            file.number_of(model)
        opened += 1
    return {"opened": opened}


def _save(path: Path, namespace: str, end: float) -> dict[str, Any]:
    """Save the next number again and again, opening the file anew where somebody was quicker."""
    file, saved, refused = NumberedModel(path, namespace), 0, 0
    while time.time() < end:
        try:
            file.save_next(file.opened())
            saved += 1
        except FileChanged:
            refused += 1
    return {"saved": saved, "refused": refused}


def _train(path: Path, seeds: range, end: float) -> dict[str, Any]:
    """Train again and again, each time with another seed; a model that somebody else trains is left to them."""
    trained, claimed = [], 0
    for seed in seeds:
        if time.time() >= end:
            break
        code, said = train(path, seed)
        if code in (0, SAVED_ELSEWHERE):
            trained.append((time.time(), seed, Path(re.findall(r"The prior is saved in (.*)", said)[-1]).name))
        elif "is being trained already, by" in said:  # who, is not known in the moment in which a claim is made
            claimed += 1
            time.sleep(0.1)
        else:
            raise AssertionError(f"host train-prior ended with {code}: {said}")
    return {"trained": trained, "claimed": claimed}


def _started(work: Callable[[], dict[str, Any]]) -> tuple[int, int]:
    """A process that does some work and reports what it did; its number, and where that can be read."""
    out, into = os.pipe()

    def report() -> None:
        with open(into, "w") as file:
            json.dump(work(), file)

    process = fork(report)
    os.close(into)
    return process, out


def _report(process: int, out: int) -> dict[str, Any]:
    with open(out) as file:
        text = file.read()
    if os.waitpid(process, 0)[1]:
        raise AssertionError("one of the processes failed; see above")
    report: dict[str, Any] = json.loads(text)
    return report


def main() -> None:
    """Let them loose for a minute, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md as it is")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "models" / "tiny.sda"
        path.parent.mkdir()
        save_model(tiny_model(make_recordings(Path(folder) / "recordings")), path, load_plugins())
        did = crowd(path, arguments.seconds)
    rows = [
        ["what", "times"],
        [f"opened by {READERS} processes, always whole", str(did["opened"])],
        [f"saved by {SAVERS} processes, all found in the end", str(did["saved"])],
        ["saves refused, for somebody else was quicker, and done again", str(did["refused"])],
        [f"trained by {TRAINERS} processes, the last prior found in the end", str(did["trained"])],
        ["of these saved beside the model, which kept changing", str(did["beside"])],
        ["trainings refused, for somebody else was at it", str(did["claimed"])],
    ]
    text = f"Ten processes at one model file for {arguments.seconds:g} s. {machine()}."
    write_section("Files: ten processes at one", text, rows, None if arguments.print_only else RESULTS)


if __name__ == "__main__":
    main()
