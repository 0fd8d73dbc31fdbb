"""How a training goes, on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from sda_prior_plugin.compiled import COMPILING, compile_time
from sda_prior_plugin.edge.job import PriorJob
from sda_prior_plugin.events import (
    BatchDone,
    EpochDone,
    MemorizingFound,
    TrainingEvent,
    TrainingResumed,
    TrainingStarted,
)

SECONDS_BETWEEN_LINES = 5.0


class ConsoleProgress:
    """Shows a job's progress while it is open as a context manager; give its methods to `PriorJob.train`."""

    def __init__(self, job: PriorJob, console: Console | None = None) -> None:
        self.recordings = job.encodings
        self.console = console or Console(stderr=True, highlight=False)
        self.encoded = 0
        self.last_line = time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.encoding = self.progress.add_task("encoding", total=job.encodings, state="")
        self.epochs = self.progress.add_task("training", total=job.settings.epochs, state="", visible=False)
        self.judged = "first epoch"
        self._opened = ExitStack()

    def __enter__(self) -> ConsoleProgress:
        self.progress.start()
        self.compiling = self._opened.enter_context(compile_time(self._on_compiling))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()
        self.progress.stop()
        if error is None and self.compiling.seconds:
            self.console.print(f"compiling took {self.compiling.seconds:.1f} s of all that; it is done once")

    def on_note(self, sentence: str) -> None:
        """Something that is to be known of where the codes come from."""
        self.console.print(sentence, soft_wrap=True)

    def on_recording(self, name: str) -> None:
        """One more recording is encoded."""
        self.encoded += 1
        self.progress.update(self.encoding, advance=1, state=name)
        self._line(f"encoded {self.encoded} of {self.recordings}: {name}", due=self.encoded == self.recordings)

    def on_part(self, name: str, share: float) -> None:
        """A part of a long recording is encoded."""
        self.progress.update(self.encoding, state=f"{name} {share:.0%}")
        self._line(f"encoding {name}: {share:.0%}", due=False)

    def on_event(self, event: TrainingEvent) -> None:
        """Show one event of `train_prior`."""
        if isinstance(event, TrainingStarted):
            self.progress.update(self.encoding, completed=self.recordings, state="")
            self.progress.update(self.epochs, visible=True)
            if event.unheard.sentence:
                self.console.print(f"warning: {event.unheard.sentence}", soft_wrap=True)
            self.console.print(
                f"{event.parameters / 1e6:.2f} M parameters, {event.train_codes} codes to train on, "
                f"{event.held_out_codes} held out, {event.device}, {event.precision}, {event.threads} threads",
                soft_wrap=True,
            )
        elif isinstance(event, TrainingResumed):
            over = len(event.held_out_perplexities)
            self.progress.update(self.epochs, completed=over)
            if over:
                best = event.held_out_perplexities[event.best_epoch - 1]
                self.judged = f"perplexity: best {best:.2f} (epoch {event.best_epoch})"
                self.console.print(f"going on after epoch {over}, {self.judged}", soft_wrap=True)
            if event.differences:
                self.console.print(
                    f"something is not as it was when it began ({'; '.join(event.differences)}): the prior will be as "
                    "good, but not the same bit for bit",
                    soft_wrap=True,
                )
        elif isinstance(event, BatchDone):
            done = event.epoch - 1 + event.batch / event.batches
            state = f"{self.judged} · {_clock(event.seconds_left)} left"
            self.progress.update(self.epochs, completed=done, state=state)
        elif isinstance(event, EpochDone):
            self.judged = (
                f"perplexity: train {event.train_perplexity:.2f}, held out {event.held_out_perplexity:.2f}, "
                f"best {event.best_perplexity:.2f} (epoch {event.best_epoch})"
            )
            if event.memorizing:
                self.judged += ", very likely memorizing"
            if event.skipped_batches:
                self.judged += f", {event.skipped_batches} batches skipped"
            self.progress.update(
                self.epochs, completed=event.epoch, state=f"{self.judged} · {_clock(event.seconds_left)} left"
            )
            self._line(
                f"epoch {event.epoch}/{event.epochs}: {self.judged}, {_clock(event.seconds_left)} left",
                due=event.epoch in (1, event.epochs),
            )
        elif isinstance(event, MemorizingFound):
            self.console.print(
                f"Very likely memorizing since about epoch {event.epoch}: {event.sentence}\n"
                f"Press Ctrl-C once to stop and use the best checkpoint; it goes on otherwise, and keeps it too.",
                style="bold yellow",
                soft_wrap=True,
            )

    def _on_compiling(self) -> None:
        self.console.print(COMPILING, soft_wrap=True)

    def _line(self, text: str, *, due: bool) -> None:
        """A plain line where there is no terminal to draw on, every few seconds and where it is `due`."""
        if not self.console.is_terminal and (due or time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES):
            self.last_line = time.monotonic()
            self.console.print(text, soft_wrap=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
