"""The command line `host`: the host's own commands, and those that plugins add."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import click

from host_stubs.commands.check import check
from host_stubs.commands.console import WarningsToStderr, say_traceback
from host_stubs.commands.demo import demo
from host_stubs.commands.generate import generate
from host_stubs.commands.import_model import import_model
from host_stubs.commands.info import info
from host_stubs.commands.models import models
from host_stubs.commands.play import play
from host_stubs.commands.plugins import plugins as plugins_command
from host_stubs.commands.train import train
from host_stubs.commands.ui import ui
from host_stubs.errors import printable
from host_stubs.host import Host
from host_stubs.plugins import Plugins, load_plugins, logger
from host_stubs.streams import keep_streams

THREADS_WAITING = {"OMP_WAIT_POLICY": "ACTIVE" if sys.platform == "linux" else "PASSIVE", "GOMP_SPINCOUNT": "3000"}
"""How threads of torch wait for each other, unless the environment says otherwise: spinning for some microseconds.

Spinning for long made training over ten times slower on a busy machine; being woken up for each small step made
decoding three times slower. With 3000 turns a step of training takes 0.73 of the time that it takes with 1000 where
nothing else runs, and 1.2 or 1.3 times that where one core or both have other work; with 10,000 it is 0.68, and 1.7 to
2. libgomp, which torch brings along on Linux, keeps to the number, but with PASSIVE not as soon as two threads have
called torch: a training in the second one, as a page's is, took 1.19 times as long.
"""
MEMORY_OF_PRODUCTS = {"MKL_DISABLE_FAST_MM": "1", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128"}
"""What the libraries below torch keep for the next product, unless the environment says otherwise.

MKL would keep 40 MB that it has worked in, which saves no time. oneDNN would keep code for 1024 shapes, of up to 0.3 MB
each; those of recordings that are encoded come once.
"""


class HostGroup(click.Group):
    """A group whose commands, the plugins' too, end with one clear line when something goes wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; any error becomes a message and exit code 1, with the traceback only under --debug."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except click.ClickException as error:
            error.message = printable(error.message)  # type: ignore[misc]  # what click makes of it stays the same
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of our output has seen enough; click ends the program quietly
            if ctx.params.get("debug"):
                say_traceback(error)
            raise click.ClickException(printable(_message(error))) from error


def build_cli(plugins: Plugins) -> click.Group:
    """The command line with the given plugins' commands. A plugin that fails to add its own is named on the way."""
    host = Host(plugins)

    @click.group(cls=HostGroup, context_settings={"obj": host, "help_option_names": ["-h", "--help"]})
    @click.option("--debug", is_flag=True, envvar="SDA_DEBUG", help="Show where an error came from (or: SDA_DEBUG=1).")
    @click.pass_context
    def cli(ctx: click.Context, debug: bool) -> None:
        """Train small models of sound on your own recordings, and make new sound with them."""
        if debug:
            ctx.call_on_close(partial(logger.setLevel, logger.level))
            logger.setLevel(logging.DEBUG)

    for command in (train, generate, play, info, check, models, plugins_command, import_model, ui, demo):
        cli.add_command(command)
    own = dict(cli.commands)
    plugins.call("register_commands", cli=cli, host=host)
    for name, command in own.items():
        if cli.commands.get(name) is not command:  # a plugin adds to the host, it does not take away from it
            logger.warning("a plugin tried to replace the command '%s'; the host keeps its own", name)
            cli.add_command(command, name)
    return cli


NOT_FOR_WINDOWS = "Error: this program is not for Windows yet: models could not be saved safely there. Use Linux."


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The entry point of the `host` command.

    Exits with 0, 1 for an error, 2 for a mistake in the arguments, 3 where a result is saved, but not where it was
    wanted, or 128 and a signal's number where that has stopped it before there was anything to keep, or a demo's end.
    """
    if sys.platform == "win32":
        sys.exit(NOT_FOR_WINDOWS)
    keep_streams()
    for name, value in (THREADS_WAITING | MEMORY_OF_PRODUCTS).items():
        os.environ.setdefault(name, value)  # torch reads them when it is first imported
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: not every terminal knows every letter
    handler = WarningsToStderr()
    logger.addHandler(handler)
    try:
        build_cli(load_plugins()).main(args, prog_name="host")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # from here on Ctrl-C ends the program without a word
        logger.removeHandler(handler)
    sys.exit(0)


def _message(error: Exception) -> str:
    if getattr(error, "for_user", False):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    detail = " ".join(str(error).split()) or "no details"
    return f"something unexpected went wrong ({type(error).__name__}: {detail}). host --debug … shows where."


if __name__ == "__main__":
    main()
