"""What a model file survives: processes killed while they save and train, and system calls that fail.

Every file must open afterwards and be whole: what it was before the save, or what was to be saved. Processes are forked
from this one, which has everything imported and compiled, so that one costs a fraction of a second. System calls are
made to fail by strace. Part of `make bench-files`.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.results import RESULTS, machine, write_section
from benchmarks.tiny_model import NumberedModel, make_recordings, tiny_model
from host_stubs.cli import main as run_host
from host_stubs.errors import HostError
from host_stubs.model import open_model, save_model
from host_stubs.plugins import load_plugins
from sda_prior_plugin import Prior

SAVED, REFUSED, BROKEN = 0, 3, 4  # exit codes of a process that saves once
FILE_CALLS = "trace=%file,%desc,flock"
MORE_ERRORS = {
    **dict.fromkeys(("write", "writev", "pwrite64"), ("ENOSPC", "EIO", "EDQUOT", "EFBIG")),
    "fsync": ("EIO", "ENOSPC", "EDQUOT"),
    **dict.fromkeys(("rename", "renameat", "renameat2"), ("EIO", "EACCES", "EROFS", "ENOSPC")),
    "openat": ("EACCES", "EMFILE", "EROFS", "ENOSPC"),
    "flock": ("ENOLCK", "EIO"),
}
SLOW = "20ms"  # for each call, as over a network
QUICK = ["--hidden-size", "8", "--overwrite", "--no-cache"]
QUICK += [part for name in ("epochs", "heads", "layers", "start-offsets") for part in (f"--{name}", "1")]


@dataclass(frozen=True)
class Call:
    """The so-manieth call of a kind in a save, counted from 1."""

    name: str
    number: int


def killed_saves(path: Path, count: int, rng: random.Random) -> Counter[str]:
    """Kill so many processes at random moments while they save a file again and again; what was found after it."""
    file = NumberedModel(path)
    model = file.opened()
    file.save_next(model)
    started = time.perf_counter()
    file.save_next(model)
    seconds = time.perf_counter() - started
    found: Counter[str] = Counter()
    for _ in range(count):
        before = file.number()
        with _forked(lambda tell: _save_forever(path, tell)) as (process, told):
            told(1)  # it is ready
            time.sleep(rng.uniform(0, 3 * seconds))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            confirmed = before + len(told(None))
        half_done = any(name.endswith(".tmp") for name in os.listdir(path.parent))
        now = file.number()
        if now not in (confirmed, confirmed + 1):
            raise AssertionError(f"{path} holds number {now}; {confirmed} was saved")
        found["the new file" if now > confirmed else "the old file"] += 1
        found["killed with a file half written"] += half_done
    _check_nothing_left(file)
    return found


def killed_trainings(path: Path, count: int, rng: random.Random) -> Counter[str]:
    """Kill so many `host train-prior` at random moments, half of them near the end; what was found after it."""
    original = path.read_bytes()
    _train(path)  # once here, so that what it imports and compiles is there
    started = time.perf_counter()
    _wait(fork(lambda: _train(path)))
    seconds = time.perf_counter() - started
    wanted = _weights(path)
    found: Counter[str] = Counter()
    for number in range(count):
        path.write_bytes(original)
        process = fork(lambda: _train(path))
        time.sleep(rng.uniform(0, 1.1) * seconds if number % 2 else rng.uniform(0.8, 1.1) * seconds)
        os.kill(process, signal.SIGKILL)
        ended = os.waitpid(process, 0)[1] == 0
        if path.read_bytes() == original:
            found["the old file"] += 1
        else:
            weights = _weights(path)
            if weights.keys() != wanted.keys() or not all(torch.equal(weights[name], wanted[name]) for name in wanted):
                raise AssertionError(f"{path} holds another prior than an unbroken training gives")
            found["the new file"] += 1
        found["had ended before"] += ended
    _train(path)  # clears away what the last one left
    return found


def failing_calls(path: Path, most: int | None, rng: random.Random) -> Counter[str]:
    """Let every system call of a save fail once in each way, and kill the process at it; what was found after it.

    `most`: so many of these, drawn at random; None for all.
    """
    file = NumberedModel(path)
    file.save_next(file.opened())
    calls = _calls_of_a_save(file)
    ways = [(call, f"error={error}") for call in calls for error in MORE_ERRORS.get(call.name, ("EIO",))]
    ways += [(call, "signal=SIGKILL") for call in calls]
    found: Counter[str] = Counter()
    for call, how in ways if most is None else rng.sample(ways, min(most, len(ways))):
        before, of_killed = file.number(), set(os.listdir(path.parent))
        status = _save_once(file, "-e", f"inject={call.name}:{how}:when={call.number}")
        now = file.number()
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        code = -1 if killed else os.waitstatus_to_exitcode(status)
        allowed = {SAVED: (before + 1,), REFUSED: (before,), -1: (before, before + 1)}.get(code, ())
        if now not in allowed or (killed and not how.startswith("signal")):
            raise AssertionError(f"{call} {how}: exit code {code}, number {now} after {before}")
        left = [name for name in os.listdir(path.parent) if name.endswith(".tmp") and name not in of_killed]
        if left and not killed and not call.name.startswith("unlink"):
            raise AssertionError(f"{call} {how}: {left} were left")
        found["killed" if killed else "saved all the same" if code == SAVED else "refused in a sentence"] += 1
        found["the new file" if now > before else "the old file"] += 1
    found["calls in a save"] = len(calls)
    _check_nothing_left(file)
    return found


def slow_saves(path: Path, count: int, rng: random.Random) -> Counter[str]:
    """Kill so many processes while they save as if over a network, each call taking long, and read meanwhile."""
    file = NumberedModel(path)
    file.save_next(file.opened())
    seconds = float(SLOW.removesuffix("ms")) / 1000 * len(_calls_of_a_save(file))
    found: Counter[str] = Counter()
    for _ in range(count):
        before = file.number()
        end = time.monotonic() + rng.uniform(0, 1.1) * seconds
        with _traced(file, "-e", f"inject=%file,%desc:delay_enter={SLOW}") as process:
            while time.monotonic() < end:
                if file.number() not in (before, before + 1):
                    raise AssertionError(f"{path} was read as {file.number()}")
                found["opened meanwhile"] += 1
                time.sleep(0.02)
            os.kill(process, signal.SIGKILL)
            status = os.waitpid(process, 0)[1]
        now = file.number()
        if now not in (before, before + 1) or (os.WIFEXITED(status) and now == before):
            raise AssertionError(f"{path} holds number {now} after {before}")
        found["the new file" if now > before else "the old file"] += 1
    _check_nothing_left(file)
    return found


def _calls_of_a_save(file: NumberedModel) -> list[Call]:
    """The calls to do with files that a save makes, in their order."""
    with tempfile.NamedTemporaryFile("r") as log:
        status = _save_once(file, "-o", log.name)
        lines = log.read().splitlines()
    if status != 0:
        raise AssertionError(f"a save without a fault ended with {status}")
    counted: Counter[str] = Counter()
    calls = []
    for line in lines:
        if match := re.match(r"(?:\d+ +)?(\w+)\(", line):
            counted[match[1]] += 1
            calls.append(Call(match[1], counted[match[1]]))
    return calls


def _save_once(file: NumberedModel, *options: str) -> int:
    """Save in another process under strace; its wait status."""
    with _traced(file, *options) as process:
        return os.waitpid(process, 0)[1]


@contextmanager
def _traced(file: NumberedModel, *options: str) -> Iterator[int]:
    """A process that saves once, with strace looking on from the moment before."""
    process = fork(lambda: _save_when_continued(file))
    os.waitpid(process, os.WUNTRACED)
    out = () if "-o" in options else ("-o", os.devnull)
    command = ["strace", "-e", FILE_CALLS, *options, *out, "-p", str(process)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        if "attached" not in said:
            raise AssertionError(f"strace: {said}")
        os.kill(process, signal.SIGCONT)
        yield process
    finally:
        strace.kill()
        strace.wait()


def _save_when_continued(file: NumberedModel) -> None:
    """Stop; then save once. The exit code says what came of it."""
    model = file.opened()
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        file.save_next(model)
    except HostError:
        os._exit(REFUSED)
    except BaseException:
        traceback.print_exc()
        os._exit(BROKEN)
    os._exit(SAVED)


def _save_forever(path: Path, tell: Callable[[], None]) -> None:
    file = NumberedModel(path)
    model = file.opened()
    tell()
    while True:
        file.save_next(model)
        tell()


def run_quietly(command: list[str]) -> tuple[int, str]:
    """Run the command line `host` in this process; its exit code, and what it said on stderr."""
    with tempfile.TemporaryFile() as said, open(os.devnull, "wb") as nowhere:
        kept = os.dup(1), os.dup(2)
        os.dup2(nowhere.fileno(), 1)
        os.dup2(said.fileno(), 2)
        code = 0
        try:
            run_host(command)
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            sys.stdout.flush()
            for number, descriptor in enumerate(kept, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
        said.seek(0)
        return code, said.read().decode()


def _train(path: Path) -> None:
    """`host train-prior`, as it is run from a command line."""
    code, said = run_quietly(["train-prior", str(path), *QUICK])
    if code:
        raise AssertionError(f"host train-prior ended with {code}: {said}")


def _weights(path: Path) -> dict[str, torch.Tensor]:
    prior = open_model(path).prior
    if not isinstance(prior, Prior):
        raise AssertionError(f"{path} was replaced, and has no prior")
    return dict(prior.weights)


def fork(work: Callable[[], object]) -> int:
    """A process that does some work and ends."""
    process = os.fork()
    if process:
        return process
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(BROKEN)
    os._exit(0)


@contextmanager
def _forked(work: Callable[[Callable[[], None]], object]) -> Iterator[tuple[int, Callable[[int | None], bytes]]]:
    """A process that tells this one, a byte each time, how far it is; and what gives the bytes (None: all of them)."""
    out, into = os.pipe()

    def tell() -> None:
        os.write(into, b".")

    process = fork(lambda: work(tell))
    os.close(into)

    def told(count: int | None) -> bytes:
        if count is not None:
            return os.read(out, count)
        parts = []
        while part := os.read(out, 1 << 16):
            parts.append(part)
        return b"".join(parts)

    try:
        yield process, told
    finally:
        os.close(out)


def _wait(process: int) -> None:
    if os.waitpid(process, 0)[1]:
        raise AssertionError("a process that was left in peace failed")


def _check_nothing_left(file: NumberedModel) -> None:
    """Save once more, and see that nothing else is in the folder."""
    file.save_next(file.opened())
    if left := [name for name in os.listdir(file.path.parent) if name != file.path.name]:
        raise AssertionError(f"{left} were left")


def _row(what: str, number: int, found: Counter[str]) -> list[str]:
    notes = [f"{count} {name}" for name, count in found.items() if name not in ("the old file", "the new file")]
    return [what, str(number), str(found["the old file"]), str(found["the new file"]), "; ".join(notes)]


def main() -> None:
    """Kill, break, count, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saves", type=int, default=400, help="saves killed at random moments")
    parser.add_argument("--trainings", type=int, default=200, help="trainings killed at random moments")
    parser.add_argument("--calls", type=int, help="failing system calls (default: every one, in every way)")
    parser.add_argument("--slow", type=int, default=30, help="slow saves killed at random moments")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md as it is")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(arguments.seed)
    rows = [["what", "times", "old file found", "new file found", "of these"]]
    with tempfile.TemporaryDirectory() as folder:
        recordings = make_recordings(Path(folder) / "recordings")
        path = Path(folder) / "models" / "tiny.sda"
        path.parent.mkdir()
        save_model(tiny_model(recordings), path, load_plugins())
        if arguments.trainings:
            found = killed_trainings(path, arguments.trainings, rng)
            rows.append(_row("`host train-prior` killed", arguments.trainings, found))
        found = killed_saves(path, arguments.saves, rng)
        rows.append(_row("saves killed", arguments.saves, found))
        if shutil.which("strace"):
            found = failing_calls(path, arguments.calls, rng)
            rows.append(
                _row("a system call failed, or was the last", found["the old file"] + found["the new file"], found)
            )
            if arguments.slow:
                found = slow_saves(path, arguments.slow, rng)
                rows.append(_row(f"saves killed that took {SLOW} for each system call", arguments.slow, found))
        else:
            print("strace is not here: no system call was made to fail", file=sys.stderr)
    text = (
        "Every file opened afterwards, and was whole: what it was before, or what was to be saved. Processes were "
        "killed with SIGKILL at random moments. Failing calls: each call to do with files in a save, once with each "
        f"error that it may give, and once as the process's last. Seed {arguments.seed}, {machine()}."
    )
    write_section("Files: what they survive", text, rows, None if arguments.print_only else RESULTS)


if __name__ == "__main__":
    main()
