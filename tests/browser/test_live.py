"""The live view in a real browser: a plugin of a few lines, the one of docs/hooks.md, has a section that lives."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

HOOKS = Path(__file__).parents[2] / "docs" / "hooks.md"
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
