"""Trainings that are killed with SIGKILL at random moments, and resumed: is the prior that of the unbroken training?

Every run is what `host train-prior` does, from the model's file to the model's file, in a process of its own. The first
process of a run is killed in any case, each one that resumes it again with a chance of a half. The state is kept after
every batch, not once a minute, so that many are killed in the middle of writing it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a process that has no threads can be forked
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch

import host_stubs
from benchmarks.results import machine, write_section
from host_stubs.host import Host
from host_stubs.plugins import load_plugins
from sda_prior_plugin.edge import prepare_job
from sda_prior_plugin.edge.resumable import StateFile

SMALL: dict[str, int | float | str] = {
    "epochs": 6, "hidden_size": 16, "layers": 1, "heads": 2, "start_offsets": 2, "batch_size": 4, "dropout": 0.1,
    "learning_rate": 0.03, "weight_decay": 0.0,
}  # fmt: skip
RECORDINGS = 5
AGAIN = 0.5
"""How probable it is that a process that resumes is killed, too."""
MOST_PROCESSES = 30


WHAT = {
    "runs": "trainings",
    "kills": "kills",
    "before_state": "kills before there was a state: it begins anew",
    "while_writing": "kills in the middle of writing a state",
    "while_saving": "kills between the prior's being saved and its state's being removed",
    "after_all": "kills when all was done",
    "resumed": "processes that went on from a state",
    "equal": "trainings that gave the unbroken one's prior",
}


@dataclass
class Counts:
    """What happened in some runs.

    Attributes:
        runs: trainings, each killed at least once.
        kills: of all their processes.
        before_state: kills before any state was there, so that training began anew.
        while_writing: kills in the middle of writing a state.
        while_saving: kills after the prior was in the model, and before its state was gone.
        after_all: kills when nothing was left to do.
        resumed: processes that went on from a state.
        equal: runs whose prior and report were those of the unbroken training, bit for bit.
    """

    runs: int = 0
    kills: int = 0
    before_state: int = 0
    while_writing: int = 0
    while_saving: int = 0
    after_all: int = 0
    resumed: int = 0
    equal: int = 0

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Counts)))


@dataclass(frozen=True)
class Result:
    """What a training has made: its prior's weights as bytes, and its report without what the clock says."""

    weights: dict[str, bytes]
    report: dict[str, Any]

    @classmethod
    def of(cls, host: Host, path: Path) -> Result | None:
        """That of a model's file, if it has a prior."""
        prior = host.open_model(path).prior
        if prior is None:
            return None
        report = prior.report.as_dict()
        for name in ("seconds", "best_seconds", "training_date"):
            del report[name]
        del report["memorization"]["seconds"]
        return cls({name: tensor.numpy().tobytes() for name, tensor in prior.weights.items()}, report)


def new_model(folder: Path) -> Path:
    """A model without a prior, over a few short recordings."""
    recordings = folder / "recordings"
    host_stubs.write_demo_recordings(recordings, seed=3, count=RECORDINGS)
    manifest = host_stubs.build_manifest(recordings).manifest
    heard, unheard = ([each.audio for each in manifest.recordings(part, 48_000)] for part in ("train", "held_out"))
    run = host_stubs.train_vqvae(heard, unheard, host_stubs.VqvaeSettings(codebook_size=32, epochs=1, batch_size=8))
    path = folder / "model.sda"
    host_stubs.save_model(host_stubs.Model("model", run.codec, manifest, report=run.report), path)
    return path


def train(host: Host, path: Path) -> None:
    """Train a model's prior, going on where that is possible, and keeping every state."""
    resume = StateFile(path).path.exists()
    job = prepare_job(host, path, SMALL, resume=resume)  # type: ignore[arg-type] # a host takes its own models alone
    job.save(job.train(keeper=job.keeper(print, seconds=0)), path)


def started(host: Host, path: Path) -> int:
    """The number of a new process that does it."""
    number = os.fork()
    if number:
        return number
    try:
        train(host, path)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def ended(number: int, options: int = 0) -> bool:
    """Whether a process has ended; without `options`, once it has. Raises RuntimeError if it has failed."""
    found, status = os.waitpid(number, options)
    if found and status:
        raise RuntimeError(f"a training failed with exit status {os.waitstatus_to_exitcode(status)}")
    return found != 0


def killed(number: int, seconds: float) -> bool:
    """Kill a process after so long; whether it had not ended before."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if ended(number, os.WNOHANG):
            return False
        time.sleep(min(0.002, max(until - time.monotonic(), 0)))
    os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    return os.WIFSIGNALED(status)


def one_run(host: Host, model: Path, folder: Path, whole: float, expected: Result, dice: random.Random) -> Counts:
    """Kill and resume one training until it is done; `whole` are the seconds that it takes unbroken."""
    counts = Counts(runs=1)
    path = folder / "model.sda"
    states = StateFile(path)
    for _ in range(MOST_PROCESSES):
        if not counts.kills:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            shutil.copy(model, path)
        counts.resumed += states.path.exists()
        number = started(host, path)
        if counts.kills and dice.random() >= AGAIN:
            if ended(number):
                break
        elif killed(number, dice.uniform(0, 1.2 * whole)):
            counts.kills += 1
            state, saved = states.path.exists(), Result.of(host, path) is not None
            counts.while_writing += bool(list(folder.glob(f".{states.path.name}.tmp")))
            counts.before_state += not state and not saved
            counts.while_saving += state and saved
            counts.after_all += saved and not state
            if saved and not state:
                break
        elif counts.kills:  # it was quicker
            break
    else:
        raise RuntimeError(f"after {MOST_PROCESSES} processes a training is not done")
    counts.equal += Result.of(host, path) == expected and not states.path.exists()
    return counts


def main() -> int:
    """Run, print the counts, and write the section of RESULTS.md if asked to; 0 if all priors were equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--counts", type=Path, help="a file of counts to add to, so that runs can be spread over time")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    counts = Counts()
    if arguments.counts is not None and arguments.counts.exists():
        counts = Counts(**json.loads(arguments.counts.read_text("utf-8")))
    with tempfile.TemporaryDirectory(prefix="kill-and-resume-") as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        host, model = Host(load_plugins()), new_model(folder)
        reference = Path(shutil.copy(model, folder / "reference.sda"))
        train(host, reference)  # in this process: the others begin with everything loaded and compiled
        expected = Result.of(host, reference)
        assert expected is not None
        whole = []
        for number in range(3):
            path = Path(shutil.copy(model, folder / f"{number}.sda"))
            begun = time.monotonic()
            ended(started(host, path))
            whole.append(time.monotonic() - begun)
            assert Result.of(host, path) == expected, "the same training twice gives two priors"
        dice = random.Random(arguments.seed)
        for _ in range(arguments.runs):
            counts = counts.plus(one_run(host, model, folder / "run", min(whole), expected, dice))
            if arguments.counts is not None:
                arguments.counts.write_text(json.dumps(asdict(counts)), "utf-8")
    print(counts)
    if arguments.write:
        write_section(
            "Killed and resumed",
            "Small trainings killed with SIGKILL at random moments and resumed, some of them several times, with the "
            "state kept after every batch; equal is a prior that is the unbroken one's, bit for bit, with the same "
            f"report but for times. {machine()}.",
            [["what", "count"], *([WHAT[name], str(count)] for name, count in asdict(counts).items())],
        )
    return 0 if counts.equal == counts.runs else 1


if __name__ == "__main__":
    sys.exit(main())
