"""The options of every command that draws codes."""

from __future__ import annotations

import click

from host_stubs.commands.console import Command, FiniteRange
from host_stubs.generation import MAX_SECONDS
from host_stubs.playing import MOST_SEED, MOST_TEMPERATURE

_OPTIONS = (
    click.option(
        "--temperature",
        type=FiniteRange(0, MOST_TEMPERATURE, min_open=True),
        default=1.0,
        show_default=True,
        help="Below 1 more predictable, above 1 more surprising.",
    ),
    click.option(
        "--top-p",
        type=FiniteRange(0, 1, min_open=True),
        help="Draw only from the likeliest codes that together have this probability, 1 for all (default: 0.9, or what "
        "the model's prior says).",
    ),
    click.option(
        "--top-k",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Draw only from the k likeliest codes (0: all).",
    ),
    click.option(
        "--max-copy",
        metavar="SECONDS",
        type=FiniteRange(0, MAX_SECONDS),
        help="Copy no stretch of the recordings verbatim that is longer than this; near copies are counted, not kept "
        "out.",
    ),
)


def drawing_options(command: Command) -> Command:
    """Give a command the flags that say how codes are drawn from their probabilities."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def seed_option(command: Command) -> Command:
    """Give a command the flag `--seed`, None where it is not given."""
    kind = click.IntRange(0, MOST_SEED)
    return click.option("--seed", type=kind, help="The same seed gives the same sound (default: random).")(command)
