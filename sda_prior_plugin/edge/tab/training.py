"""Training a prior as a job of the host's, and what a page can tell of it meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sda_prior_plugin.compiled import COMPILING, compile_time
from sda_prior_plugin.edge.curves import curves
from sda_prior_plugin.edge.job import PriorJob
from sda_prior_plugin.edge.settling import prepare_job
from sda_prior_plugin.encoding import Codec
from sda_prior_plugin.errors import NothingTrained, PriorError
from sda_prior_plugin.events import (
    BatchDone,
    ChoosingStarted,
    EpochDone,
    MemorizingFound,
    TrainingEvent,
    TrainingResumed,
    TrainingStarted,
)
from sda_prior_plugin.settings import KnobValue

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host, Job
    from sda_prior_plugin.edge.resumable import StateKeeper
    from sda_prior_plugin.training import PriorRun

SOUND_SECONDS = 2.0
SHARE_FOR_SOUNDS = 0.03
"""Of the training's time, the most that sounds to listen to may take; only the first one comes in any case."""
SECONDS_BETWEEN_SOUNDS = 20.0
"""A new sound takes the place of the last one, which somebody may be about to play."""


@dataclass(frozen=True, eq=False)
class Sound:
    """A new sound: float `[samples]` in -1..1 at `rate` Hz, a name for its file, and what to call it."""

    name: str
    title: str
    rate: int
    audio: np.ndarray


@dataclass
class PriorProgress:
    """How a training goes. The thread that trains writes it, pages read it.

    Attributes:
        job: what is trained and how, once that is known.
        encoded: recordings that are encoded.
        part: name of the long recording that is being encoded, and the share of it that is; None where none is.
        note: the latest sentence on where their codes come from, or on what there is to wait for.
        train, held_out: perplexity of each epoch that is over.
        reciting: stretches of epochs in which it had very likely gone over to memorizing, as far as is known by now.
        finding: the sentence on that, from when it was first found.
        best: epoch with the lowest held-out perplexity, from 1; 0 before there is a finite one.
        started: whether the codes are there and it trains.
        done: epochs, with the share of the one under way.
        seconds_left: of the training, at least and at most; None before it is known.
        choosing: whether the epochs are over and what the best checkpoints draw is looked at.
        finishing: the sentence on its ending early, where the latest epochs were hardly better.
        last_epoch: the last one if it gains no more; 0 before one is over.
        sound: the latest new sound.
        saving: whether training is over and the model is being saved.
    """

    job: PriorJob | None = None
    encoded: int = 0
    part: tuple[str, float] | None = None
    note: str = ""
    train: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    reciting: tuple[tuple[int, int], ...] = ()
    finding: str = ""
    best: int = 0
    started: bool = False
    done: float = 0.0
    seconds_left: tuple[float, float] | None = None
    choosing: bool = False
    finishing: str = ""
    last_epoch: int = 0
    sound: Sound | None = None
    saving: bool = False

    @property
    def epochs(self) -> int:
        """That there will be if it gains no more."""
        return self.last_epoch or (0 if self.job is None else self.job.settings.epochs)

    @property
    def memorizing(self) -> bool:
        """Whether it is, as of the last epoch."""
        return bool(self.reciting) and self.reciting[-1][1] >= len(self.held_out)

    @property
    def curves(self) -> dict[str, Any]:
        """The training so far, for the host's chart."""
        best = self.best  # before the curve that it is an epoch of, which may grow meanwhile
        judged = len(self.held_out)
        return curves(self.train[:judged], self.held_out[:judged], best, self.epochs, self.reciting)

    def on_recording(self, name: str) -> None:
        """One more recording is encoded."""
        self.encoded += 1
        self.part = None

    def on_part(self, name: str, share: float) -> None:
        """A part of a long recording is encoded."""
        self.part = name, share

    def on_note(self, sentence: str) -> None:
        """Something that is to be known before the training begins."""
        self.note = f"{sentence[:1].upper()}{sentence[1:]}."

    def on_event(self, event: TrainingEvent) -> None:
        """Take in one event of `train_prior`."""
        if isinstance(event, TrainingStarted):
            self.started = True
            if notes := [note for note in (event.unheard.sample_sentence, event.unheard.sentence) if note]:
                self.on_note("; ".join(notes))
        elif isinstance(event, TrainingResumed):
            self.train = list(event.train_perplexities)
            self.reciting = event.memorizing_epochs
            self.done = float(len(event.held_out_perplexities))
            self.held_out = list(event.held_out_perplexities)
            self.best = event.best_epoch
        elif isinstance(event, BatchDone):
            self.done = event.epoch - 1 + event.batch / event.batches
            self.seconds_left = event.seconds_left
        elif isinstance(event, EpochDone):
            self.train.append(event.train_perplexity)
            self.reciting = event.memorizing_epochs
            self.done, self.seconds_left = float(event.epoch), event.seconds_left
            self.held_out.append(event.held_out_perplexity)  # after the others: its length is how many epochs there are
            self.best = event.best_epoch  # one of these
            self.last_epoch, self.finishing = event.last_epoch, event.finishing
        elif isinstance(event, MemorizingFound):
            self.finding = f"Very likely memorizing since about epoch {event.epoch}: {event.sentence}"
        elif isinstance(event, ChoosingStarted):
            left = event.seconds_left
            self.choosing, self.seconds_left = True, (left, left) if left else None


@dataclass(frozen=True)
class PriorWork:
    """What the job does; call it with the job.

    `folder`: where the recordings are now, None for where they were. `resume`: whether to continue the training that
    was broken off.
    """

    host: Host
    path: Path
    given: Mapping[str, KnobValue]
    folder: Path | None = None
    resume: bool = False

    def __call__(self, job: Job) -> str:
        progress: PriorProgress = job.progress
        untouched, keeper = f"{self.path.name} is exactly as it was.", None
        try:
            progress.job = prior = prepare_job(
                self.host, self.path, self.given, dataset=self.folder, resume=self.resume
            )
            keeper = prior.keeper(progress.on_note)
            try:
                run = self.train(job, prior, keeper)
                job.go_on()
                progress.saving = True
                saved = prior.save(run, self.path)
            except BaseException:
                if job.cancel_requested.is_set() and not progress.saving:
                    keeper.drop()
                raise
        except NothingTrained as error:
            job.go_on()
            return f"{error} {untouched}{_to_go_on(keeper)}"
        except Exception as error:
            if getattr(error, "for_user", False):
                kept = "" if progress.saving else untouched
                raise PriorError(f"{error} {kept}{_to_go_on(keeper)}".strip()) from error
            raise
        report = run.report
        ended = {
            "finished": "is finished",
            "no better": "is finished: it hardly got better",
            "stopped": "was stopped",
            "diverged": "diverged",
        }[report.ended]
        kept = f"the best checkpoint (epoch {report.best_epoch}, perplexity {report.final_perplexity:.2f})"
        note = f" {saved.note}" if saved.note else ""
        return f"Training {ended}.{note} {kept[0].upper()}{kept[1:]} is saved in {saved.path.name}."

    def train(self, job: Job, prior: PriorJob, keeper: StateKeeper) -> PriorRun:
        """Train the prior; the job's progress tells how it goes."""
        progress: PriorProgress = job.progress
        listening = Listening(prior.model.codec, self.path.stem, prior.settings.seed)

        def on_recording(name: str) -> None:
            job.go_on()
            progress.on_recording(name)

        def on_part(name: str, share: float) -> None:
            job.go_on()
            progress.on_part(name, share)

        def on_event(event: TrainingEvent) -> None:
            job.go_on()
            progress.on_event(event)
            if isinstance(event, EpochDone) and not job.stop_requested.is_set():
                progress.sound = listening.sound(event) or progress.sound

        with compile_time(lambda: progress.on_note(COMPILING)):
            return prior.train(
                on_recording=on_recording,
                on_part=on_part,
                on_note=progress.on_note,
                on_event=on_event,
                stop=job.stop_requested,
                keeper=keeper,
            )


def _to_go_on(keeper: StateKeeper | None) -> str:
    """That what was broken off can be continued, where that is so."""
    return "" if keeper is None or keeper.kept is None else " The training can be continued."


class Listening:
    """Draws a sound every few epochs, as seldom as it takes to cost little beside the training."""

    def __init__(self, codec: Codec, name: str, seed: int) -> None:
        self._codec, self._name, self._seed = codec, name, seed
        self._frames = math.ceil(SOUND_SECONDS * codec.sample_rate / codec.frame_samples)
        self._due = -math.inf

    def sound(self, event: EpochDone) -> Sound | None:
        """A sound of `SOUND_SECONDS` from the checkpoint of an epoch, or None where it diverged or none is due yet.

        The seed stays the same, so that what changes is what was learned.
        """
        started = time.monotonic()
        if started < self._due or not math.isfinite(event.held_out_perplexity):
            return None
        rate = self._codec.sample_rate
        audio = self._codec.decode(event.draw(self._frames, self._seed))[: round(SOUND_SECONDS * rate)]
        now, first = time.monotonic(), self._due == -math.inf
        cost = 0.0 if first else now - started  # the first one also loads what draws: it does not tell what others cost
        self._due = now + max(cost / SHARE_FOR_SOUNDS, SECONDS_BETWEEN_SOUNDS)
        return Sound(f"{self._name}-epoch-{event.epoch}", f"New sound after epoch {event.epoch}", rate, audio)
