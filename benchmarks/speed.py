"""The table of RESULTS.md that a run of pytest-benchmark gives: `make bench` keeps its JSON and calls this with it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.results import machine, write_section


def rows(benchmark: dict[str, Any]) -> list[list[str]]:
    """The lines of one benchmark: its name and median once, and each figure that it noted."""
    name = benchmark["name"].removeprefix("test_").replace("_", " ")
    median = f"{1000 * benchmark['stats']['median']:.1f} ms"
    figures = benchmark["extra_info"] or {"": ""}
    lines = [[str(what), f"{figure:,}" if isinstance(figure, int) else str(figure)] for what, figure in figures.items()]
    return [[name if not number else "", median if not number else "", *line] for number, line in enumerate(lines)]


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path, help="what pytest --benchmark-json has written")
    benchmarks = json.loads(parser.parse_args().json.read_text("utf-8"))["benchmarks"]
    write_section(
        "Speed",
        f"What is compared ran in turn in one process, by pytest-benchmark; {machine()}. One thread where no other "
        "number is given; `host` itself on two.",
        [["what", "median", "figure", ""], *(line for benchmark in benchmarks for line in rows(benchmark))],
    )


if __name__ == "__main__":
    main()
