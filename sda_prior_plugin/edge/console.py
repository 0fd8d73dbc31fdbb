"""How a training goes, on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from sda_prior_plugin.compiled import COMPILING, compile_time
from sda_prior_plugin.edge.job import PriorJob
from sda_prior_plugin.edge.printed import printable, time_left
from sda_prior_plugin.events import (
    CHOOSING,
    BatchDone,
    ChoosingStarted,
    EpochDone,
    MemorizingFound,
    TrainingEvent,
    TrainingResumed,
    TrainingStarted,
)
from sda_prior_plugin.report import perplexity_text

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
            TextColumn("{task.fields[state]}", markup=False),
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
            self._say(f"compiling took {self.compiling.seconds:.1f} s, beside the rest where it could; it is done once")

    def on_note(self, sentence: str) -> None:
        """Something that is to be known of where the codes come from."""
        self._say(sentence)

    def on_recording(self, name: str) -> None:
        """One more recording is encoded."""
        self.encoded += 1
        self.progress.update(self.encoding, advance=1, state=printable(name))
        self._line(f"encoded {self.encoded} of {self.recordings}: {name}", due=self.encoded == self.recordings)

    def on_part(self, name: str, share: float) -> None:
        """A part of a long recording is encoded."""
        self.progress.update(self.encoding, state=printable(f"{name} {share:.0%}"))
        self._line(f"encoding {name}: {share:.0%}", due=False)

    def on_event(self, event: TrainingEvent) -> None:
        """Show one event of `train_prior`."""
        if isinstance(event, TrainingStarted):
            self.progress.update(self.encoding, completed=self.recordings, state="")
            self.progress.update(self.epochs, visible=True)
            if event.unheard.sample_sentence:
                self._say(event.unheard.sample_sentence)
            if event.unheard.sentence:
                self._say(f"warning: {event.unheard.sentence}")
            use = "to judge it by" if event.unheard.sample_of else "held out"
            self._say(
                f"{event.parameters / 1e6:.2f} M parameters, {event.train_codes} codes to train on, "
                f"{event.held_out_codes} {use}, {event.device}, {event.precision}, {event.threads} threads"
            )
        elif isinstance(event, TrainingResumed):
            over = len(event.held_out_perplexities)
            self.progress.update(self.epochs, completed=over)
            if over:
                lowest = event.held_out_perplexities[event.best_epoch - 1] if event.best_epoch else math.inf
                self.judged = f"perplexity: {_best(lowest, event.best_epoch)}"
                self._say(f"going on after epoch {over}, {self.judged}")
            if event.differences:
                self._say(
                    f"something is not as it was when it began ({'; '.join(event.differences)}): the prior will be as "
                    "good, but not the same bit for bit"
                )
        elif isinstance(event, BatchDone):
            done = event.epoch - 1 + event.batch / event.batches
            state = f"{self.judged} · {time_left(event.seconds_left)}"
            self.progress.update(self.epochs, completed=done, state=state)
        elif isinstance(event, EpochDone):
            train, held_out = perplexity_text(event.train_perplexity), perplexity_text(event.held_out_perplexity)
            best = _best(event.best_perplexity, event.best_epoch)
            self.judged = f"perplexity: train {train}, held out {held_out}, {best}"
            if event.finishing:
                self.judged += f", {event.finishing}"
            if event.memorizing:
                self.judged += ", very likely memorizing"
            if event.skipped_batches:
                self.judged += f", {event.skipped_batches} batches skipped"
            self.progress.update(
                self.epochs, completed=event.epoch, state=f"{self.judged} · {time_left(event.seconds_left)}"
            )
            self._line(
                f"epoch {event.epoch}/{event.epochs}: {self.judged}, {time_left(event.seconds_left)}",
                due=event.epoch in (1, event.last_epoch),
            )
        elif isinstance(event, MemorizingFound):
            self._say(f"Very likely memorizing since about epoch {event.epoch}: {event.sentence}", "bold yellow")
            self._say(
                "Press Ctrl-C once to stop and use the best checkpoint; it goes on otherwise, and keeps it too.",
                "bold yellow",
            )

        elif isinstance(event, ChoosingStarted):
            left = f", {time_left((event.seconds_left, event.seconds_left))}" if event.seconds_left else ""
            self.progress.update(self.epochs, state=f"{self.judged} · {CHOOSING}{left}")
            self._line(f"{CHOOSING}{left}", due=True)

    def _on_compiling(self) -> None:
        self._say(COMPILING)

    def _say(self, sentence: str, style: str = "") -> None:
        """A line of its own. It is no markup: a file may be called "kick [dry].wav"."""
        self.console.print(Text(printable(sentence), style), soft_wrap=True)

    def _line(self, text: str, *, due: bool) -> None:
        """A plain line where there is no terminal to draw on, every few seconds and where it is `due`."""
        if not self.console.is_terminal and (due or time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES):
            self.last_line = time.monotonic()
            self._say(text)


def _best(perplexity: float, epoch: int) -> str:
    return f"best {perplexity_text(perplexity)} (epoch {epoch})" if epoch else "best: none yet"
