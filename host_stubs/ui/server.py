"""Serving the page on this machine, until a signal ends it; trainings are then stopped, not lost."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from host_stubs.commands.console import say
from host_stubs.errors import HostError
from host_stubs.host import Host
from host_stubs.ui.jobs import Jobs
from host_stubs.ui.look import CSS, theme
from host_stubs.ui.page import build_page
from host_stubs.ui.saved import SavedModels

ADDRESS = "127.0.0.1"


def serve(host: Host, models: Path, datasets: Path, port: int, *, on_ready: Callable[[str], None]) -> None:
    """Serve the page until SIGINT or SIGTERM, then stop the jobs under way and wait until they have saved.

    Args:
        host: with its plugins, whose sections are part of the page.
        models: the folder with the models.
        datasets: the folder with folders of recordings.
        port: to listen on; 0 for any that is free.
        on_ready: called with the page's address once it answers.

    Raises:
        HostError: the port is taken.
        KeyboardInterrupt: a second signal came while jobs were ending.
    """
    jobs = Jobs()
    port = _free_port(port)
    with _signalled() as ending, _gradio_at_home():
        page = build_page(host, SavedModels(models, host), datasets, jobs)
        try:
            _, address, _ = page.launch(
                server_name=ADDRESS,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                inbrowser=False,
                ssr_mode=False,
                run_history=False,
                enable_monitoring=False,
                footer_links=[],
                theme=theme(),
                css=CSS,
            )
            on_ready(address)
            ending.wait()
            if under_way := jobs.under_way():
                say(f"Stopping {', '.join(job.path.name for job in under_way)} and keeping the best so far.")
            jobs.close()
            for job in under_way:
                while not job.wait(0.5):  # in pieces, so that a second signal is noticed
                    pass
                say(f"{job.path.name}: {job.message}")
        finally:
            page.close(verbose=False)


@contextmanager
def _signalled() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one raises KeyboardInterrupt."""
    ending = threading.Event()

    def on_signal(signum: int, frame: FrameType | None) -> None:
        if ending.is_set():
            raise KeyboardInterrupt
        ending.set()

    if threading.current_thread() is not threading.main_thread():  # only there can a signal be taken
        yield ending
        return
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _gradio_at_home() -> Iterator[None]:
    """Gradio reports nothing to anybody, and keeps the sounds of pages in a folder that goes when the server ends."""
    with tempfile.TemporaryDirectory(prefix="host-ui-", ignore_cleanup_errors=True) as folder:
        settings = {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _free_port(port: int) -> int:
    """`port`, or one that is free if it is 0. Raises HostError if it is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((ADDRESS, port))
        except OSError as error:
            raise HostError(f"Port {port} of {ADDRESS} is taken ({error.strerror}). --port chooses another.") from error
        found: int = trial.getsockname()[1]
        return found
