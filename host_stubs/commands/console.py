"""What every command needs to talk to its user: results on stdout, all else on stderr, and Ctrl-C."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import host_stubs
from host_stubs.errors import HostError

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
    """A message for the user, on stderr."""
    click.echo(message, err=True)


def show(result: Any, as_json: bool, text: str) -> None:
    """A command's result, on stdout: as one JSON document or as text."""
    click.echo(json.dumps(result, indent=2, ensure_ascii=False) if as_json else text)


def printable(text: str) -> str:
    """`text` on one line without what a terminal might obey; a file from a stranger may have put it there."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns, the first row underlined. Nothing is ever cut off: it may be piped."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def check_output(path: Path, suffix: str, overwrite: bool) -> FileState | None:
    """Refuse an output file now that could not be written later, or that would replace another one unasked.

    Gives the state of the file that may be replaced, or None.
    """
    if path.suffix.lower() != suffix:
        raise HostError(f"The output file must end in {suffix}; {path} does not.")
    if path.exists() and not path.is_dir() and not overwrite:
        raise HostError(f"{path} exists already. --overwrite replaces it, -o OTHER{suffix} writes another file.")
    host_stubs.check_writable(path)
    return host_stubs.file_state(path)


class FiniteRange(click.FloatRange):
    """A range of numbers; "nan" is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number in the range {self._describe_range()}.", param, ctx)
        return number


class WarningsToStderr(logging.Handler):
    """Shows log records as the command's own messages. Looks stderr up each time, so that it can be redirected."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {self.format(record)}")
