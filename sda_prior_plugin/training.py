"""Training a prior: a corpus and settings in, the best checkpoint out, typed events on the way.

Read from top to bottom: a run is moved on batch by batch and epoch by epoch until it ends, and what it kept is the
prior.
"""

from __future__ import annotations

import datetime
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sda_prior_plugin.batches import Batch
from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.devices import chosen_device, reproducible
from sda_prior_plugin.errors import Diverged, NothingTrained, setting
from sda_prior_plugin.events import (
    BatchDone,
    ChoosingStarted,
    EpochDone,
    MemorizingFound,
    TrainingEnded,
    TrainingEvent,
    TrainingResumed,
    TrainingStarted,
)
from sda_prior_plugin.freed import give_back_freed, keep_freed
from sda_prior_plugin.held_out_sample import judged_by_a_sample
from sda_prior_plugin.judging import held_out_bits
from sda_prior_plugin.looking import chosen_checkpoint, look_if_due
from sda_prior_plugin.optimizing import (
    GRADIENT_NORM,
    as_recorded,
    batch_loss,
    own_stream,
    share_of_batch,
    weight_of,
)
from sda_prior_plugin.prior import Prior, perplexity
from sda_prior_plugin.report import TrainingReport
from sda_prior_plugin.run import Run, check_alike, checked_state
from sda_prior_plugin.settings import PriorSettings
from sda_prior_plugin.team import Team, joined
from sda_prior_plugin.training_state import TrainingState, not_finite
from sda_prior_plugin.watch import Bits

Tell = Callable[[TrainingEvent], object]
GOES_ON, FINISHED, NO_BETTER, STOPPED, DIVERGED = "", "finished", "no better", "stopped", "diverged"
"""Why a training ends, as its report says it; the first where it does not."""


@dataclass(frozen=True)
class PriorRun:
    """A finished training: the best checkpoint, in eval mode on the CPU, and how it came about."""

    prior: Prior

    @property
    def report(self) -> TrainingReport:
        return self.prior.report


def train_prior(
    corpus: CodeCorpus,
    settings: PriorSettings,
    *,
    on_event: Tell | None = None,
    stop: threading.Event | None = None,
    resume_from: TrainingState | None = None,
    team: Team | None = None,
) -> PriorRun:
    """Train a prior and give its best checkpoint: the one with the lowest held-out perplexity.

    The same corpus, settings, kind of device and processor, thread count, number of processes and torch give the same
    prior, bit for bit, whether or not the training was broken off and resumed; the caller's random state is left as it
    was.

    Where `torchrun` has started this process among others, they train one prior together: all of them call this with
    the same corpus and settings and get the same prior. Of all but the first one `on_event` and `resume_from` count for
    nothing.

    Args:
        corpus: what to learn from and be judged by; where hours are held out, by a sample of them, as
            `judged_by_a_sample` has it.
        settings: every knob; see `PriorSettings.for_corpus`.
        on_event: called with each `TrainingEvent`, in the thread that trains.
        stop: when set, training ends after the current batch with the best checkpoint so far.
        resume_from: go on from here; what an event's `state()` gave of a training with this corpus and these settings.
        team: the processes that train together; those that this one was started with if None.

    Raises:
        NothingTrained: stopped before the first epoch was judged.
        NotResumable: the state is damaged, or that of another training.
        Diverged: no epoch was finite, or training broke down and had never been better than knowing nothing.
        TeamBroken: another process of the team has ended.
        PriorError: the device is not there, or the processes of the team are too different.
    """
    if team is None:
        with joined() as team:
            return train_prior(corpus, settings, on_event=on_event, stop=stop, resume_from=resume_from, team=team)
    device, corpus = team.device(chosen_device(settings.device)), judged_by_a_sample(corpus)
    with reproducible(device), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        broken_off = team.told(resume_from)
        state = None if broken_off is None else checked_state(broken_off, corpus, settings)
        run = Run(corpus, settings, device, team=team)
        check_alike(run)
        if state is not None:
            run.load_state_dict(state)
        give_back_freed()  # what encoding, and making the run, have left
        keep_freed()
        tell = on_event if on_event is not None and team.leads else lambda event: None
        return train(run, tell, stop or threading.Event())


def train(run: Run, tell: Tell, stop: threading.Event) -> PriorRun:
    """Move a run on from where it is to its end. Raises as `train_prior` does."""
    run.team.follow(stop)
    tell_the_start(run, tell)
    ended = GOES_ON
    while not ended and run.epoch <= run.last_epoch:
        ended = train_epoch(run, tell) or end_epoch(run, tell)
    return prior_of(run, ended or (NO_BETTER if run.last_epoch < run.settings.epochs else FINISHED), tell)


def train_epoch(run: Run, tell: Tell) -> str:
    """Learn from what is left of the epoch under way. Gives why training ends here, if it does."""
    epoch = run.epoch
    run.source.set_epoch(epoch, run.progress.batches)
    run.network.train()
    run.pace.epoch_begins(run.progress.batches)
    for batch in run.source:
        if run.team.stopping:
            return STOPPED
        recorded_frames = int(batch.lengths[as_recorded(batch.kinds, run.network)].sum())
        run.batch_is_done(step(run, batch), recorded_frames * run.corpus.shape.frame_codes)
        run.pace.batch_done()
        done = run.progress.batches
        tell(BatchDone(epoch, done, max(done, run.batches), run.seconds_left(done), run.snapshot))
    return GOES_ON if run.progress.epoch_codes else DIVERGED


def step(run: Run, batch: Batch) -> float:
    """Move the weights by one batch, of which each member of the team learns its share.

    Gives the bits of those that are as recorded, not finite where the weights stay as they are.
    """
    run.optimizer.look()
    own_stream(run.settings, run.progress.step, run.team)
    bits, recorded_bits = batch_loss(run.network, share_of_batch(batch, run.team), run.device, run.dtype)
    loss = bits / (weight_of(batch, run.context) * run.corpus.shape.frame_codes)
    loss.backward()
    gradients, recorded_bits, loss = run.team.sum([run.optimizer.gradients, recorded_bits, loss])
    norm = gradients.norm().item()
    if not (math.isfinite(loss.item()) and math.isfinite(norm)):
        return math.nan
    gradients *= min(1.0, GRADIENT_NORM / (norm + 1e-6))
    run.optimizer.step(gradients, run.progress.step - run.progress.skipped_batches + 1)
    return recorded_bits.item()


def end_epoch(run: Run, tell: Tell) -> str:
    """Judge the averaged weights as a file would hold them, keep them if they are the best, look for copies, and tell.

    Gives why training ends here, if it does: what is averaged with weights that are not finite will never be again.
    """
    epoch, accused = run.epoch, run.watch.memorizing
    run.settle()
    sequence_bits = held_out_bits(
        run.candidate, run.corpus, run.judged, run.context, run.settings.batch_size, run.dtype, run.team
    )
    whole = not not_finite(run.average.state_dict())
    bits = float(sequence_bits.sum()) / run.judged_codes if whole else math.nan
    if math.isfinite(perplexity(bits)):
        if not run.kept or bits < run.kept[-1].bits:
            run.keep(bits, sequence_bits)
        look_if_due(run, Bits(run.train_bits, bits, run.kept[-1].bits))
    run.epoch_is_done(bits)
    run.pace.epoch_done()
    give_back_freed()  # what judging has left, and what new shapes have left between what is kept
    tell_of_epoch(run, epoch, tell)
    if not accused:
        tell_of_memorizing(run, tell)
    return GOES_ON if whole else DIVERGED


def prior_of(run: Run, ended: str, tell: Tell) -> PriorRun:
    """The prior of a run that has ended. Raises as `train_prior` does."""
    if ended == STOPPED and not run.progress.epochs:
        raise NothingTrained("Training was stopped before the first epoch ended; there is no prior to keep.")
    nothing_known = math.log2(run.corpus.shape.codebook_size)
    broken = ended == DIVERGED or not math.isfinite(run.progress.held_out_perplexities[-1])
    if not run.kept or (broken and run.kept[-1].bits > nothing_known):
        raise Diverged(
            "Training diverged before it had learned anything. Try again with a smaller ",
            setting("learning_rate"),
            f" than {run.settings.learning_rate:g}.",
        )
    tell(ChoosingStarted(run.pace.choosing))
    best, memorization = chosen_checkpoint(run)
    give_back_freed()
    progress, meter = run.progress, run.watch.meter
    report = TrainingReport(
        epochs_trained=progress.epochs,
        best_epoch=best.epoch,
        final_perplexity=perplexity(best.bits),
        training_date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        held_out=run.corpus.held_out.names,
        train_perplexities=progress.train_perplexities,
        held_out_perplexities=progress.held_out_perplexities,
        ended=ended,
        skipped_batches=progress.skipped_batches,
        parameters=run.parameters,
        seconds=run.seconds,
        best_seconds=best.seconds,
        memorization=memorization,
        heard_seconds=meter.unheard.heard_seconds,
        held_out_seconds=meter.unheard.seconds,
    )
    report = run.team.told(report)  # each has taken a little longer or shorter
    tell(TrainingEnded(ended, report.epochs_trained, report.best_epoch, report.final_perplexity))
    prior = Prior(
        run.candidate.cpu(), run.settings, report, run.corpus.frame_seconds, meter.heard, meter.sketch, run.kinds
    )
    return PriorRun(prior)


def tell_the_start(run: Run, tell: Tell) -> None:
    """Tell that a run begins, or from where it goes on."""
    tell(
        TrainingStarted(
            parameters=run.parameters,
            epochs=run.settings.epochs,
            batches=run.batches,
            train_codes=run.corpus.train_codes,
            held_out_codes=run.corpus.held_out.codes.size,
            unheard=run.watch.meter.unheard,
            device=str(run.device),
            precision=run.machine["precision"],
            threads=torch.get_num_threads(),
        )
    )
    progress = run.progress
    if run.came_from is None:
        return
    before = {"processes": "1"} | run.came_from  # of which earlier versions knew no more
    tell(
        TrainingResumed(
            train_perplexities=progress.train_perplexities,
            held_out_perplexities=progress.held_out_perplexities,
            memorizing=progress.memorizing,
            memorizing_epochs=run.watch.stretches_until(progress.epochs),
            best_epoch=run.best_epoch,
            differences=tuple(
                f"{name} {before.get(name, 'unknown')} before, {value} now"
                for name, value in run.machine.items()
                if before.get(name) != value
            ),
        )
    )
    tell_of_memorizing(run, tell)


def tell_of_epoch(run: Run, epoch: int, tell: Tell) -> None:
    """Tell how an epoch went that is over."""
    tell(
        EpochDone(
            epoch=epoch,
            epochs=run.settings.epochs,
            last_epoch=run.last_epoch,
            gained_epoch=run.gained_epoch,
            train_perplexity=run.progress.train_perplexities[-1],
            held_out_perplexity=run.progress.held_out_perplexities[-1],
            best_epoch=run.best_epoch,
            best_perplexity=run.best_perplexity,
            memorizing=run.watch.memorizing,
            memorizing_epochs=run.watch.stretches_until(epoch),
            skipped_batches=run.progress.skipped_batches,
            seconds=run.seconds,
            seconds_left=run.seconds_left(0),
            draw=run.draw,
            state=run.snapshot,
        )
    )


def tell_of_memorizing(run: Run, tell: Tell) -> None:
    """Tell that the prior recites, where it does."""
    if run.watch.finding is not None:
        tell(MemorizingFound(run.watch.since, run.best_epoch, run.watch.finding))
