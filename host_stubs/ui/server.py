"""Serving the page on this machine, until a signal ends it; trainings are then stopped, not lost."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from gradio.routes import App, ORJSONResponse

from host_stubs.commands.console import say
from host_stubs.errors import HostError
from host_stubs.host import Host
from host_stubs.interrupt import stop_on_interrupt
from host_stubs.ui.door import Asgi, Door, page_script
from host_stubs.ui.drops import Drops
from host_stubs.ui.jobs import Jobs
from host_stubs.ui.live import Live
from host_stubs.ui.look import CSS, theme
from host_stubs.ui.page import build_page
from host_stubs.ui.saved import SavedModels
from host_stubs.ui.sessions import Sessions

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")
HTTP_PORT = 80


class GuardedApp(App):
    """Gradio's application with a `Door` before all else of it, the error pages and grants to other origins too."""

    def __init__(self, port: int, token: str, live: Live, drops: Drops) -> None:
        self._port, self._token, self._live, self._drops = port, token, live, drops
        super().__init__(default_response_class=ORJSONResponse)

    def build_middleware_stack(self) -> Asgi:
        """The application as the server calls it."""
        names = [f"{name}:{self._port}" for name in NAMES] + [name for name in NAMES if self._port == HTTP_PORT]
        app, sessions = super().build_middleware_stack(), Sessions(self._live)
        return Door(app, names, self._token, self._live.folder, sessions, self._drops)


def serve(host: Host, models: Path, datasets: Path, port: int, *, on_ready: Callable[[str], None]) -> None:
    """Serve the page until SIGINT, SIGTERM or SIGHUP, then stop the jobs under way and wait until they have saved.

    The environment should be that of `gradio_at_home`.

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
    jobs, live, token = Jobs(), Live(), secrets.token_urlsafe()
    drops = Drops(live.folder / "dropped")
    port = _free_port(port)
    with stop_on_interrupt(notice=b"") as ending:
        page = build_page(host, SavedModels(models, host), datasets, jobs, live, drops)
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
                head=page_script(token),
                _frontend=False,  # else it gives up where a busy machine takes more than 3 s for the page
                # The one way to stand before what `launch` itself puts first:
                _app=GuardedApp(port, token, live, drops),
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
