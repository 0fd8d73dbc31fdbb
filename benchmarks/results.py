"""RESULTS.md: one section for each benchmark, replaced when that benchmark runs again."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from pathlib import Path

import torch

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "# Results\n\nWritten by the benchmarks; times are from one machine and good for ratios only.\n"


def machine() -> str:
    """The processor and torch version, for the line above a table."""
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    return f"{name}, torch {torch.__version__.partition('+')[0]}"


def write_section(title: str, text: str, table: Sequence[Sequence[str]], path: Path | None = RESULTS) -> None:
    """Replace the section of this title, or add it, and print it; without a `path` only that.

    The first row of the table is its heading.
    """
    heading, *rows = table
    lines = ["| " + " | ".join(row) + " |" for row in [heading, ["---"] * len(heading), *rows]]
    section = f"## {title}\n\n{text}\n\n" + "\n".join(lines) + "\n"
    print(section)
    if path is None:
        return
    old = path.read_text("utf-8") if path.exists() else TITLE
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", old, re.MULTILINE | re.DOTALL)
    new = old[: found.start()] + f"{section}\n" + old[found.end() :] if found else f"{old}\n\n{section}"
    path.write_text(re.sub(r"\n{3,}", "\n\n", new).rstrip() + "\n", "utf-8")
