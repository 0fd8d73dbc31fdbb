"""Whether the page stays quick beside a training, and the training beside the page. Run it with `make bench-page`.

The same training of the demo's prior, in turn from the command line and on the page, with a real server and browser.
During one more training on the page another model is chosen, and this one again, and at last it is stopped: how long
until the page shows it?
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

import host_stubs
from benchmarks.corpora import MADE, demo_dataset
from benchmarks.results import machine, write_section
from docs.screenshots import FLAGS, opened, serving, start

EPOCHS, PAIRS = 8, 3
LONG, CHOICES = 200, 60
"""Epochs of the training that is clicked beside, which ends early, and how often a model is chosen meanwhile."""


def from_the_command_line(path: Path) -> float:
    """Seconds of a training."""
    command = [sys.executable, "-m", "host_stubs.cli", "train-prior", path, "--epochs", EPOCHS, "--overwrite"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return seconds_of(path)


def on_the_page(page: Any, path: Path) -> float:
    """Seconds of a training that is only looked at."""
    start(page, path.stem, {"epochs": EPOCHS})
    page.wait_for_selector("#listen")
    return seconds_of(path)


def clicks_beside(page: Any, path: Path, other: Path) -> tuple[list[float], float]:
    """Milliseconds from each choice of a model to its card while one is trained, and from *Stop* to its answer."""
    start(page, path.stem, {"epochs": LONG})
    choices = [chosen(page, one) for _ in range(CHOICES // 2) for one in (other, path)]
    stop = answered(page, page.locator("#prior-stop"), "#prior-progress", "Stopping")
    page.wait_for_selector("#listen")
    return choices, stop


ANSWER = """
([selector, text]) => {
  window.answered = new Promise(resolve => {
    let pressed = null;
    document.addEventListener('mousedown', event => { pressed = event.timeStamp; }, {capture: true, once: true});
    const observer = new MutationObserver(() => {
      if (pressed === null || !document.querySelector(selector)?.textContent.includes(text)) return;
      observer.disconnect();
      requestAnimationFrame(() => resolve(performance.now() - pressed));
    });
    observer.observe(document.body, {childList: true, characterData: true, subtree: true});
  });
}
"""


def answered(page: Any, button: Any, selector: str, text: str) -> float:
    """Click; milliseconds from the mouse going down, as the browser notes it, to the frame that shows a text."""
    page.evaluate(ANSWER, [selector, text])
    button.click()
    return float(page.evaluate("window.answered"))


def chosen(page: Any, path: Path) -> float:
    """Choose a model; milliseconds to its card."""
    page.wait_for_timeout(1000)
    page.click("#prior-model input")
    option = page.get_by_role("option", name=re.compile(rf"^{path.stem}( \(with a prior\))?$"))
    option.wait_for()
    return answered(page, option, "#prior-card", path.name)


def seconds_of(path: Path) -> float:
    """What the report in a model says that the training took."""
    return float(host_stubs.open_model(path).prior.report.seconds)


def main() -> None:
    """Train in turn, and write the table."""
    demo_dataset()
    command_line, page_seconds = [], []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        models = Path(folder)

        def new_model(name: str) -> Path:
            return Path(shutil.copy(MADE / "demo-32" / "demo.sda", models / f"{name}.sda"))

        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        with serving(models, MADE / "demo-32", ["-m", "host_stubs.cli"]) as (url, _):
            page = opened(browser, url, 1280, "light")
            for number in range(PAIRS):
                command_line.append(from_the_command_line(new_model(f"command-{number}")))
                page_seconds.append(on_the_page(page, new_model(f"page-{number}")))
            clicks, stop = clicks_beside(page, new_model("clicked"), new_model("other"))
        browser.close()
    ratios = [page / command for page, command in zip(page_seconds, command_line, strict=True)]
    clicks.sort()
    write_section(
        "The page beside a training",
        f"{PAIRS} trainings of {EPOCHS} epochs of the demo's prior from the command line, and as many on the page, in "
        f"turn; {machine()}, {os.cpu_count()} cores.",
        [
            ["what", "figure"],
            ["training on the page, over training from the command line, median", f"{statistics.median(ratios):.3f}"],
            ["each pair", ", ".join(f"{ratio:.3f}" for ratio in ratios)],
            ["models chosen while it trained", str(len(clicks))],
            ["from the click to the card, median", f"{statistics.median(clicks):.0f} ms"],
            ["95 of 100 within", f"{clicks[int(0.95 * (len(clicks) - 1))]:.0f} ms"],
            ["the slowest", f"{clicks[-1]:.0f} ms"],
            ["from the click on Stop to its answer", f"{stop:.0f} ms"],
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
