"""Trainings by several processes: how fast they are, how soon all are gone, what comes of those that lose a member.

What is measured is the command of docs/large.md, `torchrun … host train-prior`, on this machine. A member is killed by
SIGKILL at a random moment under `--max-restarts`, and the prior is compared with that of the unbroken training. The
moments of a stop, a cancelling, a member that fails (its memory is limited while it runs), one that is killed and one
that is frozen are followed by the clock until no process is left, or of a frozen one none of the others.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import islice, pairwise
from pathlib import Path

import torch

from benchmarks.archive import made_corpus, source, steps_per_second
from benchmarks.kill_and_resume import Result, new_model
from benchmarks.results import RESULTS, machine, write_section
from host_stubs.host import Host
from host_stubs.plugins import load_plugins
from sda_prior_plugin import BatchDone, TrainingEvent, train_prior
from sda_prior_plugin.edge import PriorJob, prepare_job
from sda_prior_plugin.run import Run
from sda_prior_plugin.settings import KnobValue
from sda_prior_plugin.team import Team, joined
from sda_prior_plugin.training import step

SMALL = ["--hidden-size", "16", "--layers", "1", "--heads", "2", "--start-offsets", "2", "--batch-size", "4"]
SHORT, ENDLESS = ["--epochs", "400", *SMALL], ["--epochs", "20000", "--overwrite", *SMALL]
MEMBERS = 2
MOST_SECONDS = 400.0
SIZES, STEPS, GIGABITS = ((160, 2), (512, 4), (1024, 8)), 6, (1, 10, 100)
EPOCHS = 6
"""Of a training whose steps are measured."""
ARCHIVE_HOURS, ARCHIVE_BATCH, ARCHIVE_STEPS = 2.0, 32, 8
TEAMS = ((1, 1), (1, 2), (2, 1), (4, 1))
"""Members and threads of each."""


class Started:
    """A `torchrun` with its members; what they write goes to a file."""

    def __init__(self, folder: Path, members: int, *command: object, restarts: int = 0, threads: int = 1) -> None:
        self.written = folder / "written.txt"
        with self.written.open("w") as file:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={members}",
                    f"--max-restarts={restarts}", "--no-python", sys.executable, "-m", *map(str, command),
                ],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            )  # fmt: skip

    def members(self) -> list[int]:
        """The numbers of the members that are there, in their order, without what they have started themselves."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(number) for number in found if b"host_stubs" in _command_of(number)]

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until it has written something."""
        until = time.monotonic() + MOST_SECONDS
        while self.written.read_text().count(text) < times:
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"no {text!r} came: {self.written.read_text()}")
            time.sleep(0.05)

    def interrupt(self) -> None:
        """What a terminal does on Ctrl-C: the members are in sessions of their own and do not get it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def starve(self, place: int) -> None:
        """Give a member no more memory than it has, so that it fails."""
        resource.prlimit(self.members()[place], resource.RLIMIT_AS, (1 << 20, 1 << 20))

    def gone(self, numbers: list[int]) -> bool:
        """Whether none of these processes is there any more, but for one that is only not waited for yet."""
        return all(_state_of(number) in ("", "Z") for number in numbers)


def _command_of(number: str | int) -> bytes:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b""


def _state_of(number: int) -> str:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def cancel(run: Started) -> None:
    """Press Ctrl-C twice."""
    run.interrupt()
    time.sleep(0.3)
    run.interrupt()


ENDS: dict[str, Callable[[Started], object]] = {
    "stopped (Ctrl-C once)": lambda run: run.interrupt(),
    "cancelled (Ctrl-C twice)": cancel,
    "the first member fails": lambda run: run.starve(0),
    "the last member fails": lambda run: run.starve(-1),
    "the first member is killed": lambda run: os.kill(run.members()[0], signal.SIGKILL),
    "the last member is killed": lambda run: os.kill(run.members()[-1], signal.SIGKILL),
    "the last member is frozen": lambda run: os.kill(run.members()[-1], signal.SIGSTOP),
}


def job_for(path: Path, knobs: Mapping[str, KnobValue], *, cache: bool = True) -> PriorJob:
    """What there is to train for a model with these knobs."""
    host = Host(load_plugins())
    return prepare_job(host, path, knobs, cache=cache)  # type: ignore[arg-type] # a host takes its own models alone


def train(path: Path, settings: list[str]) -> list[object]:
    """The command that trains a model's prior."""
    return ["host_stubs.cli", "train-prior", path, *settings]


def kills(folder: Path, model: Path, runs: int, dice: random.Random) -> list[list[str]]:
    """Lose a member at a random moment, again and again. Gives a table of what came of it."""
    host, path = Host(load_plugins()), folder / "losing.sda"  # and none that has an unfinished training

    def trained(kill_after: float | None) -> tuple[float, bool, bool]:
        shutil.copy(model, path)
        begun = time.monotonic()
        run = Started(folder, MEMBERS, *train(path, SHORT), restarts=3)
        hit = False
        if kill_after is not None:
            time.sleep(kill_after)
            if members := run.members():
                os.kill(dice.choice(members), signal.SIGKILL)
                hit = True
        code = run.process.wait(MOST_SECONDS)
        if code:
            raise RuntimeError(f"exit code {code}: {run.written.read_text()}")
        return time.monotonic() - begun, hit, "It is continued." in run.written.read_text()

    trained(None)  # which compiles what is not yet
    unbroken = whole = trained(None)[0]
    expected = Result.of(host, path)
    equal = hits = continued = 0
    longest = 0.0
    for _ in range(runs):
        seconds, hit, went_on = trained(dice.uniform(0.1, 1) * whole)
        if not hit:
            whole = seconds
        same = Result.of(host, path) == expected
        hits, continued, equal, longest = hits + hit, continued + went_on, equal + same, max(longest, seconds)
        print(f"{seconds:.1f} s, {'killed' if hit else 'too late'}, {'equal' if same else 'NOT EQUAL'}", flush=True)
    return [
        ["trainings", str(runs)],
        ["members killed before the end", str(hits)],
        ["trainings that went on from a state", str(continued)],
        ["trainings that gave the unbroken one's prior", str(equal)],
        ["seconds of the unbroken training, with its start", f"{unbroken:.1f}"],
        ["seconds of the longest", f"{longest:.1f}"],
    ]


def ends(folder: Path, model: Path, times: int) -> list[list[str]]:
    """How soon all are gone after each of `ENDS`. Gives a table of the longest times, in seconds."""
    rows = []
    warm = Started(folder, 1, *train(Path(shutil.copy(model, folder / "model.sda")), SHORT))  # compiles what is not yet
    warm.process.wait(MOST_SECONDS)
    for name, end in ENDS.items():
        seconds, kept = [], 0
        for _ in range(times):
            path = Path(shutil.copy(model, folder / "model.sda"))
            run = Started(folder, MEMBERS, *train(path, ENDLESS))
            run.wait_for("epoch ", 2)
            members = run.members()
            others = members[:-1] if "frozen" in name else [*members, run.process.pid]
            begun = time.monotonic()
            end(run)
            while not run.gone(others):
                if time.monotonic() - begun > MOST_SECONDS:
                    raise RuntimeError(f"{name}: not all are gone: {run.written.read_text()}")
                run.process.poll()
                time.sleep(0.02)
            seconds.append(time.monotonic() - begun)
            if "frozen" in name:
                os.kill(members[-1], signal.SIGKILL)
            run.process.wait(MOST_SECONDS)
            kept += Host(load_plugins()).open_model(path).prior is not None
            print(
                f"{name}: {seconds[-1]:.1f} s", *run.written.read_text().split("left")[-1].splitlines()[:2], flush=True
            )
        rows.append([name, str(times), f"{max(seconds):.1f}", f"{kept} of {times}"])
    return rows


def step_seconds(path: Path, architecture: str, team: Team) -> float:
    """The median step of a training with the defaults for a model's recordings."""
    job = job_for(path, {"architecture": architecture, "epochs": EPOCHS})
    corpus, moments = job.corpus(team=team), [0.0]

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, BatchDone):
            moments.append(time.perf_counter())

    train_prior(corpus, job.settings, on_event=on_event, team=team)
    return statistics.median(later - one for one, later in pairwise(moments[5:])) if team.leads else 0.0


def encoding_seconds(path: Path, architecture: str, team: Team) -> float:
    """Encoding all recordings of a model by the defaults, and bringing the codes together."""
    job = job_for(path, {"architecture": architecture}, cache=False)
    team.gathered(None)
    begun = time.perf_counter()
    job.corpus(team=team)
    team.gathered(None)
    return time.perf_counter() - begun


def archive_step_seconds(path: Path, tier: str, team: Team) -> float:
    """A step of a tier's network with an archive's batch, on codes that are made of a corpus; no model is needed."""
    pieces = source()
    corpus = made_corpus(pieces.train, pieces.codebooks, ARCHIVE_HOURS)
    speed, _ = steps_per_second(corpus, tier, ARCHIVE_BATCH, team, ARCHIVE_STEPS)
    return 1 / speed


MEASURES: dict[str, Callable[[Path, str, Team], float]] = {
    "step": step_seconds,
    "encoding": encoding_seconds,
    "archive step": archive_step_seconds,
}


def measure(what: str, path: Path, architecture: str) -> None:
    """Measure as a member of a team; the leader prints it."""
    with joined() as team:
        seconds = MEASURES[what](path, architecture, team)
    if team.leads:
        print(f"seconds {seconds:.5f}", flush=True)


def measured(folder: Path, what: str, path: Path, architecture: str, members: int, threads: int) -> float:
    """What the leader of a new team has measured."""
    run = Started(folder, members, "benchmarks.team", "--measure", what, path, architecture, threads=threads)
    if run.process.wait(MOST_SECONDS):
        raise RuntimeError(run.written.read_text())
    return float(next(line for line in run.written.read_text().splitlines() if line.startswith("seconds ")).split()[1])


def speeds(folder: Path, path: Path, rounds: int) -> list[list[str]]:
    """Two members of a thread beside one process, in alternation: medians, and how much faster the two are."""
    rows = []
    for what, architecture, threads in (
        ("step", "transformer", 2),
        ("step", "gru", 2),
        ("encoding", "transformer", 1),
        ("encoding", "transformer", 2),
    ):
        times = [
            (
                measured(folder, what, path, architecture, 1, threads),
                measured(folder, what, path, architecture, MEMBERS, 1),
            )
            for _ in range(rounds)
        ]
        one, two = (statistics.median(each) for each in zip(*times, strict=True))
        name = what if what == "encoding" else f"{what}, {architecture}"
        rows.append([name, str(threads), f"{one:.3f}", f"{two:.3f}", f"{one / two:.2f}"])
        print(*rows[-1], flush=True)
    return rows


def steps_by_size(folder: Path, path: Path) -> list[list[str]]:
    """Steps a second by the number of members, of the default for a model and of an archive's batch."""
    rows = []
    for name, what, of in (
        ("default, transformer", "step", "transformer"),
        ("default, gru", "step", "gru"),
        ("large, 32 windows", "archive step", "large"),
        ("archive, 32 windows", "archive step", "archive"),
    ):
        seconds = [measured(folder, what, path, of, members, threads) for members, threads in TEAMS]
        rows.append([name, *(f"{1 / each:.2f}" for each in seconds)])
        print(*rows[-1], flush=True)
    return rows


def second_machine(path: Path, threads: int) -> list[list[str]]:
    """For networks of three sizes a step of this process as measured, and what a second machine would make of it.

    Two machines each take half of the step and send the gradient once, half of it as parts of sums and half as sums.
    """
    torch.set_num_threads(threads)
    rows = []
    for hidden_size, layers in SIZES:
        knobs = {"hidden_size": hidden_size, "layers": layers, "heads": hidden_size // 40 if hidden_size < 512 else 8}
        job = job_for(path, knobs)
        run = Run(job.corpus(), job.settings, torch.device("cpu"))
        run.network.train()
        seconds = []
        for batch in islice(run.source, STEPS):
            begun = time.perf_counter()
            step(run, batch)
            seconds.append(time.perf_counter() - begun)
        least, sent = min(seconds), 4 * run.parameters
        faster = [least / (least / 2 + 8 * sent / (gigabits * 1e9)) for gigabits in GIGABITS]
        name = f"{layers} layers of {hidden_size}"
        rows.append(
            [name, f"{run.parameters / 1e6:.1f} M", f"{1e3 * least:.0f}", f"{sent / 1e6:.1f}"]
            + [f"{times:.2f}" for times in faster]
        )
        print(*rows[-1], flush=True)
    return rows


def main() -> int:
    """Run what is asked for, print it, and write the sections of RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "MODEL", "ARCHITECTURE"), help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=50, help="trainings that lose a member; 0 for none")
    parser.add_argument("--ends", type=int, default=3, help="trainings for each way to end; 0 for none")
    parser.add_argument("--rounds", type=int, default=5, help="of measuring speed; 0 for none")
    parser.add_argument("--sizes", action="store_true", help="measure steps by team size, too")
    parser.add_argument("--model", type=Path, help="whose training is measured; a small one is made if not given")
    parser.add_argument("--threads", type=int, help="to measure what a second machine brings")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--write", action="store_true", help="write the sections of RESULTS.md")
    arguments = parser.parse_args()
    if arguments.measure:
        what, path, architecture = arguments.measure
        measure(what, Path(path), architecture)
        return 0
    where = RESULTS if arguments.write else None
    with tempfile.TemporaryDirectory(prefix="team-") as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        (folder / "new").mkdir()
        model = new_model(folder / "new")
        if arguments.rounds:
            rows = speeds(folder, arguments.model or model, arguments.rounds)
            heading = ["what", "threads of the one process", "one process, s", "two of one thread, s", "times faster"]
            text = f"A step is the median one of a training with the defaults. {machine()}, two cores."
            write_section("Two processes", text, [heading, *rows], where)
        if arguments.sizes:
            text = (
                "The median step; the network and batch of a tier, or the defaults for a model of 46 recordings. "
                f"{machine()}, two cores."
            )
            heading = ["what", *(f"processes {members}, threads {threads}" for members, threads in TEAMS)]
            write_section(
                "Steps a second by team size", text, [heading, *steps_by_size(folder, arguments.model or model)], where
            )
        if arguments.threads:
            text = (
                f"A step is the fastest of {STEPS} in one process of {arguments.threads} threads, measured; what is "
                f"sent by each of two machines, and how much faster they are, is computed. {machine()}."
            )
            heading = ["network", "learned numbers", "step, ms", "sent a step, MB"]
            heading += [f"times faster at {gigabits} Gbit/s" for gigabits in GIGABITS]
            rows = second_machine(arguments.model or model, arguments.threads)
            write_section("When a second machine pays", text, [heading, *rows], where)
        if arguments.ends:
            text = f"From the moment until all processes are gone, of {MEMBERS} that train. {machine()}."
            heading = ["what happens", "times", "seconds at most", "prior saved"]
            write_section("How a team ends", text, [heading, *ends(folder, model, arguments.ends)], where)
        if arguments.runs:
            text = f"{MEMBERS} processes under --max-restarts, one killed with SIGKILL at a random moment. {machine()}."
            rows = kills(folder, model, arguments.runs, random.Random(arguments.seed))
            write_section("Losing a member", text, [["what", "count"], *rows], where)
    return 0


if __name__ == "__main__":
    sys.exit(main())
