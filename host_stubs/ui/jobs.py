"""Trainings in the background. They belong to the host: a page starts and shows them, but they do not end with it."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from host_stubs.errors import HostError, sentence
from host_stubs.locks import claimed

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
_LOOK_EVERY = 0.2  # seconds, while a job waits for its turn


class Cancelled(Exception):  # noqa: N818 - no error: what the user wanted
    """Raised inside a job that is to end now and keep nothing."""


class Job:
    """One training for one model file, from its start to what came of it.

    Attributes:
        path: the model file that it is for.
        title: what it does, in a few words.
        progress: whatever its starter made to tell how it goes; pages read it while it changes.
        state: "waiting" (for another job to end), "running", "done", "failed" or "cancelled".
        message: once it is over, a sentence that says what came of it.
        started: when it was asked for.
        stop_requested: set when it is to end early and keep the best so far.
    """

    def __init__(self, path: Path, title: str, progress: Any = None) -> None:
        self.path, self.title, self.progress = path, title, progress
        self.state = WAITING
        self.message = ""
        self.started = datetime.datetime.now().astimezone()
        self.stop_requested = threading.Event()
        self.cancel_requested = threading.Event()
        self._over = threading.Event()

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._over.is_set()

    def stop(self) -> None:
        """Ask it to end early and keep the best so far."""
        self.stop_requested.set()

    def cancel(self) -> None:
        """Ask it to end and keep nothing: the file stays as it is. Once it is being saved, it is too late for that."""
        self.cancel_requested.set()
        self.stop_requested.set()  # so that whatever looks only for this ends, too

    def go_on(self) -> None:
        """Come back, unless the user has cancelled the job. To be called by its work, often, and before it saves.

        Raises Cancelled, which the work should let pass.
        """
        if self.cancel_requested.is_set():
            raise Cancelled

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is over, at most so many seconds; whether it is."""
        return self._over.wait(seconds)

    def end(self, state: str, message: str) -> None:
        """Note what came of it. For the runner."""
        self.state, self.message = state, message
        self._over.set()


Work = Callable[[Job], str]
"""What a job does. It returns a sentence that says what came of it, and raises where nothing did."""


class Jobs:
    """Runs jobs: for a model file one at a time, and of all of them one after another.

    Two trainings beside each other would take as long as one after another, and share random numbers.
    """

    def __init__(self) -> None:
        self._latest: dict[Path, Job] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._closed = False

    def start(self, path: Path, title: str, work: Work, progress: Any = None) -> Job:
        """Start a job for a model file, which need not exist yet.

        Raises HostError when one is under way for that file, here or in another process.
        """
        job = Job(path, title, progress)
        with self._lock:
            earlier = self._latest.get(_key(path))
            if earlier is not None and not earlier.over:
                raise HostError(
                    f"{path.name} is being worked on already ({earlier.title}, since {earlier.started:%H:%M}). "
                    "Wait for that, or stop or cancel it first."
                )
            if self._closed:
                raise HostError("The host is ending and starts nothing any more.")
            claim = ExitStack()
            claim.enter_context(claimed(path, "worked on"))
            self._latest.pop(_key(path), None)  # to the end of the order
            self._latest[_key(path)] = job
        threading.Thread(target=self._run, args=(job, work, claim), name=f"job {path.name}", daemon=True).start()
        return job

    def of(self, path: Path) -> Job | None:
        """The job for a model file: the one under way, or the last one that there was."""
        with self._lock:
            return self._latest.get(_key(path))

    def all(self) -> list[Job]:
        """The latest job of each model file, in the order in which they were started."""
        with self._lock:
            return list(self._latest.values())

    def under_way(self) -> list[Job]:
        """The jobs that are waiting or running, in the order in which they were started."""
        return [job for job in self.all() if not job.over]

    def close(self) -> None:
        """Stop every job as `Job.stop` does, and start none any more."""
        with self._lock:
            self._closed = True
        for job in self.under_way():
            job.stop()

    def _run(self, job: Job, work: Work, claim: ExitStack) -> None:
        with claim:
            while not self._turn.acquire(timeout=_LOOK_EVERY):
                if job.stop_requested.is_set():
                    outcome = CANCELLED, _nothing_kept(job.path)
                    break
            else:
                try:
                    outcome = _outcome(job, work)
                finally:
                    self._turn.release()
        job.end(*outcome)


def _outcome(job: Job, work: Work) -> tuple[str, str]:
    """Do the work of a job; the state that it ends in, and what came of it."""
    try:
        job.go_on()
        job.state = RUNNING
        return DONE, work(job)
    except Cancelled:
        return CANCELLED, _nothing_kept(job.path)
    except BaseException as error:  # an exit, too, ends a job and not the host: this is a thread of its own
        return FAILED, sentence(error, job.title)


def _key(path: Path) -> Path:
    return path.resolve()


def _nothing_kept(path: Path) -> str:
    return f"Cancelled. {path.name} is exactly as it was." if path.exists() else "Cancelled. Nothing was written."
