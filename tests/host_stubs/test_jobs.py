"""Jobs: one at a time, never lost with a page, each with an end that says what came of it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from host_stubs.errors import HostError
from host_stubs.ui.jobs import Job, Jobs

SECONDS = 10


class Held:
    """Work that begins, and ends when the test lets it."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()

    def __call__(self, job: Job) -> str:
        self.begun.set()
        while not self.let_go.wait(0.01):
            job.go_on()
            if job.stop_requested.is_set():
                return "stopped early"
        return "went to its end"


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a model would be."""
    return tmp_path / "drums.sda"


def test_a_job_says_what_came_of_it(jobs: Jobs, path: Path) -> None:
    work = Held()
    job = jobs.start(path, "training", work, progress=["anything"])
    assert work.begun.wait(SECONDS)
    assert (job.state, job.over, job.message, job.progress) == ("running", False, "", ["anything"])
    work.let_go.set()
    assert job.wait(SECONDS)
    assert (job.state, job.over, job.message) == ("done", True, "went to its end")


def test_a_job_is_found_by_its_file_however_that_is_written(jobs: Jobs, path: Path) -> None:
    job = jobs.start(path, "training", lambda job: "done")
    assert job.wait(SECONDS)
    assert jobs.of(path.parent / "." / path.name) is job
    assert jobs.of(path.with_name("bells.sda")) is None


def test_a_second_job_for_a_file_is_refused_in_a_sentence(jobs: Jobs, path: Path) -> None:
    work = Held()
    first = jobs.start(path, "training of the prior", work)
    with pytest.raises(HostError, match=r"drums\.sda is being worked on already \(training of the prior, since \d\d:"):
        jobs.start(path, "another training", Held())
    work.let_go.set()
    assert first.wait(SECONDS)
    assert jobs.start(path, "another training", lambda job: "done").wait(SECONDS)


def test_jobs_for_different_files_run_one_after_another(jobs: Jobs, path: Path) -> None:
    first, second = Held(), Held()
    running = jobs.start(path, "training", first)
    assert first.begun.wait(SECONDS)
    waiting = jobs.start(path.with_name("bells.sda"), "training", second)
    assert not second.begun.wait(0.1)
    assert waiting.state == "waiting"
    assert jobs.under_way() == [running, waiting]
    first.let_go.set()
    assert second.begun.wait(SECONDS)
    second.let_go.set()
    assert waiting.wait(SECONDS)
    assert running.wait(SECONDS)  # its thread may be slower to say so than the second one is to work
    assert jobs.under_way() == []
    assert jobs.all() == [running, waiting]


def test_a_stopped_job_keeps_what_its_work_makes_of_that(jobs: Jobs, path: Path) -> None:
    job = jobs.start(path, "training", Held())
    job.stop()
    assert job.wait(SECONDS)
    assert job.state in ("done", "cancelled")  # the latter if it was stopped before its turn
    work = Held()
    job = jobs.start(path, "training", work)
    assert work.begun.wait(SECONDS)
    job.stop()
    assert job.wait(SECONDS)
    assert (job.state, job.message) == ("done", "stopped early")


@pytest.mark.parametrize(
    ("there", "message"),
    [(True, "Cancelled. drums.sda is exactly as it was."), (False, "Cancelled. Nothing was written.")],
)
def test_a_cancelled_job_says_what_became_of_the_file(jobs: Jobs, path: Path, there: bool, message: str) -> None:
    if there:
        path.write_bytes(b"a model")
    work = Held()
    job = jobs.start(path, "training", work)
    assert work.begun.wait(SECONDS)
    job.cancel()
    assert job.wait(SECONDS)
    assert (job.state, job.message) == ("cancelled", message)


def test_a_job_that_waits_can_be_cancelled(jobs: Jobs, path: Path) -> None:
    work, other = Held(), Held()
    first = jobs.start(path, "training", work)
    assert work.begun.wait(SECONDS)
    waiting = jobs.start(path.with_name("bells.sda"), "training", other)
    waiting.cancel()
    assert waiting.wait(SECONDS)
    assert waiting.state == "cancelled"
    assert not other.begun.is_set()
    work.let_go.set()
    assert first.wait(SECONDS)


def test_an_error_for_the_user_is_the_message(jobs: Jobs, path: Path) -> None:
    def work(job: Job) -> str:
        raise HostError("The recordings are gone.")

    job = jobs.start(path, "training", work)
    assert job.wait(SECONDS)
    assert (job.state, job.message) == ("failed", "The recordings are gone.")


def test_any_other_error_is_a_sentence_on_the_page_and_a_traceback_in_the_log(
    jobs: Jobs, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def work(job: Job) -> str:
        raise ZeroDivisionError("division by zero")

    with caplog.at_level(logging.ERROR, "sda_host"):
        job = jobs.start(path, "training", work)
        assert job.wait(SECONDS)
    assert job.state == "failed"
    assert job.message == "Something unexpected went wrong (ZeroDivisionError). The details are in the log."
    assert "Traceback" in caplog.text
    assert jobs.start(path, "again", lambda job: "done").wait(SECONDS)


@pytest.mark.parametrize("leaving", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_work_that_would_end_the_program_ends_its_job_alone(jobs: Jobs, path: Path, leaving: BaseException) -> None:
    def work(job: Job) -> str:
        raise leaving

    job = jobs.start(path, "training", work)
    assert job.wait(SECONDS)
    assert job.state == "failed"
    assert job.message.startswith(f"Something unexpected went wrong ({type(leaving).__name__})")
    assert jobs.start(path, "again", lambda job: "done").wait(SECONDS)


def test_closing_stops_what_is_under_way_and_starts_nothing_more(jobs: Jobs, path: Path) -> None:
    work = Held()
    job = jobs.start(path, "training", work)
    assert work.begun.wait(SECONDS)
    jobs.close()
    assert job.wait(SECONDS)
    assert job.message == "stopped early"
    with pytest.raises(HostError, match="starts nothing any more"):
        jobs.start(path, "training", Held())
