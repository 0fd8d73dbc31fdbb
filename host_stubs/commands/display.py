"""Progress on stderr, drawn with rich on a terminal and as plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

import host_stubs
from host_stubs.errors import printable

if TYPE_CHECKING:
    from host_stubs.training import EpochDone

PLAIN_EVERY_SECONDS = 5.0


def working_on(message: str) -> Status:
    """A context manager that shows `message` for as long as it lasts."""
    return Console(stderr=True).status(Text(printable(message)))  # not markup: a file may be called "kick [dry].wav"


class TrainingDisplay:
    """Shows the VQ-VAE's training events: call it with each. A context manager, for the time of the training."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._plain = not console.is_terminal
        self._last_line = -math.inf
        self._progress = Progress(
            TextColumn("VQ-VAE"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"), console=console
        )
        self._task = self._progress.add_task("epochs", total=None, state="starting")
        self._live = Live(self._progress, console=console, transient=False)

    def __enter__(self) -> TrainingDisplay:
        if not self._plain:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._plain:
            self._live.stop()

    def __call__(self, event: Any) -> None:
        """Show one event of `train_vqvae`; those that say nothing to a user are let pass."""
        if not isinstance(event, host_stubs.EpochDone):
            return
        if self._plain:
            self._write_line(event)
            return
        state = f"{_losses(event)}, {_left(event)}"
        self._progress.update(self._task, completed=event.epoch, total=event.epochs, state=state)
        self._live.update(Group(self._progress, _levels_table(event)))

    def _write_line(self, event: EpochDone) -> None:
        now = time.monotonic()
        if now - self._last_line < PLAIN_EVERY_SECONDS and event.epoch < event.epochs:
            return
        self._last_line = now
        levels = ", ".join(f"{h.utilization:.0%}/{h.perplexity:.0f}/{h.dead_codes}" for h in event.levels)
        print(
            f"VQ-VAE epoch {event.epoch}/{event.epochs}: {_losses(event)}; "
            f"codes in use/perplexity/dead by level: {levels or 'none yet'}; {_left(event)}",
            file=sys.stderr,
            flush=True,
        )


def _levels_table(event: EpochDone) -> Table:
    table = Table("level", "in use", "perplexity", "dead codes", box=None, padding=(0, 2))
    for number, health in enumerate(event.levels):
        table.add_row(str(number), f"{health.utilization:.0%}", f"{health.perplexity:.1f}", str(health.dead_codes))
    return table


def _losses(event: EpochDone) -> str:
    if not math.isfinite(event.held_out_loss):
        return f"train {event.train_loss:.4f}, held out not finite"
    return f"train {event.train_loss:.4f}, held out {event.held_out_loss:.4f} (best epoch {event.best_epoch})"


def _left(event: EpochDone) -> str:
    """How long it will take: until it finishes, how long at most."""
    minutes, rest = divmod(round(event.seconds_left), 60)
    return f"{'finishing, ' if event.finishing else 'at most '}{minutes}:{rest:02d} left"
