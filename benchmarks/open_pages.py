"""Whether the page's server is as it was after many pages. Run it with `make bench-page`.

A real server and browser. One page is loaded again, 500 times; then 100 more are open at once, and closed. What the
server's process holds is looked at before, and again when what it keeps of pages for a while has gone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.corpora import MADE, demo_dataset
from benchmarks.results import machine, write_section
from docs.screenshots import FLAGS, serving

RELOADS, PAGES = 500, 100
FIRST = 20
"""Loads before the first look: what is loaded but once is there then."""
SECONDS_UNTIL_FORGOTTEN = 25


def look(when: str, server: subprocess.Popen[str]) -> list[str]:
    """A row of the table: memory and open files of a process."""
    kilobytes = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())
    assert kilobytes
    row = [when, f"{int(kilobytes[1]) / 1000:.0f} MB", str(len(os.listdir(f"/proc/{server.pid}/fd")))]
    print(*row, sep=", ", flush=True)
    return row


def loaded(context: Any, url: str) -> Any:
    """A new page of a context, with the model's card on it. Those of one context load what they share but once."""
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#prior-card dl")
    return page


def load_again(page: Any, times: int) -> None:
    """Load a page so many times, each until the model's card is there, and wait until they are forgotten."""
    for _ in range(times):
        page.reload()
        page.wait_for_selector("#prior-card dl")
    page.wait_for_timeout(1000 * SECONDS_UNTIL_FORGOTTEN)


def main() -> None:
    """Load, open and close, and write the table."""
    demo_dataset()
    rows = [["when", "memory", "open files"]]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        models = Path(shutil.copy(MADE / "demo-32" / "demo.sda", folder)).parent
        chromium = shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=chromium, args=[*FLAGS, "--process-per-site"])
        with serving(models, MADE / "demo-32", ["-m", "host_stubs.cli"]) as (url, server):
            context = browser.new_context()
            context.set_default_timeout(300_000)
            page = loaded(context, url)
            load_again(page, FIRST)
            rows.append(look(f"one page, after {FIRST} loads", server))
            load_again(page, RELOADS)
            rows.append(look(f"after {RELOADS} more", server))
            pages = [loaded(context, url) for _ in range(PAGES)]
            rows.append(look(f"{PAGES} more pages open", server))
            for each in pages:
                each.close()
            load_again(page, 1)
            rows.append(look("closed again", server))
        browser.close()
    write_section("The page left open", f"{machine()}, {os.cpu_count()} cores.", rows)


if __name__ == "__main__":
    main()
