"""A real `host ui` and a real browser; skipped with a reason where there is none."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import host_stubs
from host_stubs.plugins import Plugins

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WAIT = 60_000
"""Milliseconds that the page gets, on a busy machine, for what takes it a moment."""


@dataclass
class Server:
    """A `host ui` process and the folders that it was given."""

    models: Path
    datasets: Path
    command: list[str]
    errors: Path
    process: subprocess.Popen[str] = field(init=False)
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self, port: str = "0") -> None:
        """Start it, at a port that is free or one where it was before."""
        folders = ["--models", str(self.models), "--datasets", str(self.datasets)]
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                [*self.command, "ui", "--port", port, *folders, "--json"],
                stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log
        self.url = json.loads(line)["url"]

    @property
    def log(self) -> str:
        return self.errors.read_text()

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it as a user does; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless browser."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"there is no browser here to look at the page with ({', '.join(NAMES)})")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("Playwright, which drives the browser, is not installed")
    playwright = importlib.import_module("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six short recordings."""
    folder = tmp_path_factory.mktemp("datasets") / "demo"
    host_stubs.write_demo_recordings(folder, seed=3, count=6)
    return folder


@pytest.fixture(scope="session")
def trained_codec(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose VQ-VAE was trained for two epochs."""
    manifest = host_stubs.build_manifest(recordings).manifest
    parts = [[each.audio for each in manifest.recordings(part, 48_000)] for part in ("train", "held_out")]
    settings = host_stubs.VqvaeSettings(codebook_size=64, epochs=2, batch_size=8)
    run = host_stubs.train_vqvae(*parts, settings)
    path = tmp_path_factory.mktemp("trained") / "model.sda"
    host_stubs.save_model(host_stubs.Model("model", run.codec, manifest, report=run.report), path, Plugins())
    return path


StartServer = Callable[..., Server]


@pytest.fixture(scope="module")
def start_server(chromium: Any, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts a `host ui` over a new folder for models; ended when the module is done."""
    started: list[Server] = []

    def start(program: Sequence[str] = ("-m", "host_stubs.cli")) -> Server:
        folder = tmp_path_factory.mktemp("ui")
        (folder / "models").mkdir()
        server = Server(folder / "models", recordings.parent, [sys.executable, *program], folder / "log.txt")
        started.append(server)
        return server

    yield start
    for server in started:
        server.end()


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Server:
    """A `host ui` that the tests of a module share, each with a model of its own."""
    return start_server()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages; at the end of the test none of them has had an error, or asked anybody but 127.0.0.1."""
    pages, wrong = [], []

    def note(message: Any) -> None:
        if message.type == "error":
            wrong.append(f"console: {message.text}")

    def ask(request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            wrong.append(f"request: {request.url}")

    def start(url: str, **how: Any) -> Any:
        page = chromium.new_page(**{"viewport": {"width": 1280, "height": 900}, **how})
        pages.append(page)
        page.set_default_timeout(WAIT)
        page.on("console", note)
        page.on("pageerror", lambda error: wrong.append(f"page: {error}"))
        page.on("request", ask)
        page.goto(url)
        return page

    yield start
    for page in pages:
        page.close()
    assert wrong == []
