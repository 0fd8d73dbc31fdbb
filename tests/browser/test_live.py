"""The live view in a real browser: a plugin of a few lines, the one of docs/hooks.md, has a section that lives."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host_stubs.host import Host
from host_stubs.plugins import load_plugins
from sda_prior_plugin.edge import prepare_job

pytestmark = pytest.mark.slow

HOOKS = Path(__file__).parents[2] / "docs" / "hooks.md"
QUICK = {"epochs": 1, "hidden_size": 32, "layers": 1, "heads": 2, "start_offsets": 1, "batch_size": 8}
WITH_THE_EXAMPLE = f"""
import re, sys, types
from host_stubs.cli import build_cli
from host_stubs.plugins import Plugins

section = open({str(HOOKS)!r}).read().partition("### `training_tab(")[2]
example = types.ModuleType("example")
exec(re.search("```python\\n(.*?)```", section, flags=re.DOTALL)[1], example.__dict__)
plugins = Plugins()
plugins.add(example, "example")
build_cli(plugins).main(sys.argv[1:])
"""


def test_the_example_of_a_section_lives_on_every_page(
    start_server: Any, trained_codec: Path, open_page: Callable[..., Any]
) -> None:
    server = start_server(program=["-c", WITH_THE_EXAMPLE])
    pages = [open_page(server.url), open_page(server.url)]
    shutil.copy(trained_codec, server.models / "heard.sda")  # while they are open
    pages[0].get_by_label("Model to hear").click()
    pages[0].get_by_role("option", name="heard.sda").click()
    pages[0].get_by_role("button", name="How loud is it?").click()
    for page in pages:
        page.locator("#loudness", has_text="heard.sda: mean level 0.").wait_for()


def test_sounds_are_drawn_listed_kept_and_go_on_from_what_is_dropped(
    server: Any, trained_codec: Path, recordings: Path, open_page: Callable[..., Any]
) -> None:
    job = prepare_job(Host(load_plugins()), Path(shutil.copy(trained_codec, server.models / "listened.sda")), QUICK)
    job.save(job.train(), server.models / "listened.sda")
    page = open_page(server.url)
    page.wait_for_selector("#listen")
    page.fill("#listen-seconds input, #listen-seconds textarea", "1")
    page.fill("#listen-seed input, #listen-seed textarea", "7")
    page.click("#listen")
    page.locator("#listen-sounds", has_text="Seed 7, 1 s").wait_for()
    page.locator("#listen-sounds audio").first.evaluate("sound => sound.play()")

    page.set_input_files("#listen-drop input", sorted(recordings.iterdir())[0])
    page.wait_for_function("document.querySelector('#listen-recording input').value.includes('dropped')")
    page.click("#listen-codec")
    page.locator("#listen-sounds", has_text="through the codec").wait_for()
    page.click("#listen")
    page.locator("#listen-sounds", has_text="going on from").wait_for()
    chosen = sorted(recordings.iterdir())[1].name
    page.click("#listen-recording input")
    page.get_by_role("option", name=chosen).click()
    page.click("#listen")
    page.locator("#listen-sounds", has_text=f"going on from {chosen}").wait_for()
    assert page.locator("#listen-sounds audio").count() == 5

    page.reload()
    row = page.locator("#listen-sounds [data-key]").last
    row.locator("input").fill("good one")
    row.get_by_role("button", name="Keep").click()
    page.locator("#listen-sounds", has_text="Kept as").wait_for()
    assert (server.models / "good one.wav").is_file()
    row.get_by_role("button", name="Remove").click()
    page.wait_for_function("document.querySelectorAll('#listen-sounds audio').length === 4")
