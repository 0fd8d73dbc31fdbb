"""What every command needs to talk to its user: results on stdout, all else on stderr, and Ctrl-C."""

from __future__ import annotations

import json
import logging
import math
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import host_stubs
from host_stubs.errors import HostError, printable

if TYPE_CHECKING:
    from host_stubs.replace import FileState

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """Give a command the flag `--json` (argument `as_json`)."""
    return click.option("--json", "as_json", is_flag=True, help="Write the result to stdout as JSON.")(command)


def overwrite_option(command: Command) -> Command:
    """Give a command the flag `--overwrite`."""
    return click.option("--overwrite", is_flag=True, help="Replace a file of that name.")(command)


def command_names(ctx: click.Context) -> list[str]:
    """The names of the commands there are, those of plugins among them."""
    root = ctx.find_root().command
    return root.list_commands(ctx) if isinstance(root, click.Group) else []


def say(message: str) -> None:
    """A message for the user, on stderr, on a line of its own."""
    click.echo(printable(message), err=True)


def show(result: Any, as_json: bool, lines: Iterable[str]) -> None:
    """A command's result, on stdout: as one JSON document, in ASCII whatever is in it, or as lines of text."""
    click.echo(json.dumps(result, indent=2) if as_json else "\n".join(map(printable, lines)))


def aligned(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Lines `(label, text)` with their texts below each other."""
    width = max((len(printable(label)) for label, _ in lines), default=0)
    return [f"{printable(label).ljust(width)}  {printable(text)}" for label, text in lines]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of rows of text in aligned columns, the first row underlined. Nothing is ever cut off: it may be piped."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def check_output(path: Path, suffixes: str | Sequence[str], overwrite: bool) -> FileState | None:
    """Refuse an output file now that could not be written later, or that would replace another one unasked.

    Gives the state of the file that may be replaced, or None.
    """
    allowed = [suffixes] if isinstance(suffixes, str) else suffixes
    if path.suffix.lower() not in allowed:
        raise HostError(f"The output file must end in {' or '.join(allowed)}; {path} does not.")
    if path.exists() and not path.is_dir() and not overwrite:
        raise HostError(f"{path} exists already. --overwrite replaces it, -o OTHER{path.suffix} writes another file.")
    host_stubs.check_writable(path)
    return host_stubs.file_state(path)


class FiniteRange(click.FloatRange):
    """A range of numbers; "nan" is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number in the range {self._describe_range()}.", param, ctx)
        return number


def say_traceback(error: BaseException | None) -> None:
    """Where an error came from, on stderr, line by line."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        say(line)


class WarningsToStderr(logging.Handler):
    """Shows log records as the command's own messages. Looks stderr up each time, so that it can be redirected."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {record.getMessage()}")
        if record.exc_info:
            say_traceback(record.exc_info[1])
