"""Training a prior: a corpus and settings in, the best checkpoint out, typed events on the way."""

from __future__ import annotations

import copy
import datetime
import functools
import itertools
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sda_prior_plugin.batches import Batch, CodeBatches, held_out_batches
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.errors import Diverged, NothingTrained, PriorError
from sda_prior_plugin.events import (
    BatchDone,
    EpochDone,
    MemorizingFound,
    TrainingEnded,
    TrainingEvent,
    TrainingResumed,
    TrainingStarted,
)
from sda_prior_plugin.extraction import extract, first_variants
from sda_prior_plugin.held_out_sample import judged_by_a_sample
from sda_prior_plugin.memorization import MemorizationReport
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.pace import Pace
from sda_prior_plugin.prior import Prior, network_settings, perplexity, window_log2_probs
from sda_prior_plugin.report import TrainingReport
from sda_prior_plugin.sampling import Wanted, draw_grids
from sda_prior_plugin.settings import KNOBS, PriorSettings
from sda_prior_plugin.training_state import (
    AVERAGE,
    MOMENTS,
    NETWORK,
    OPTIMIZER,
    NotResumable,
    TrainingState,
    check_tensors,
    corpus_digest,
    kept_bits,
    kept_weights,
    machine_facts,
    not_finite,
    random_streams,
    set_random_streams,
)
from sda_prior_plugin.watch import CONSECUTIVE, Bits, Watch

WARMUP_STEPS = 50
FINAL_RATE = 0.03
"""Share of the learning rate that is left when the last epoch ends."""
AVERAGE_DECAY = 0.995
"""Of the running average of the weights that is judged and kept (Polyak and Juditsky 1992)."""
GRADIENT_NORM = 1.0

STEPS_BETWEEN_LOOKS = 200
"""Between two looks at whether the prior recites; each costs about as much as ten steps."""
EPOCHS_BETWEEN_HURRIED_LOOKS = 5
"""The same where the gap between training and held-out bits is wide."""
SOUNDS_IN_A_LOOK = 96
LOOK_SECONDS = 1.0
SOUNDS_IN_REPORT = 64
"""For each of the looks that its verdict takes."""


@dataclass(frozen=True)
class PriorRun:
    """A finished training: the best checkpoint, in eval mode on the CPU, and how it came about."""

    prior: Prior

    @property
    def report(self) -> TrainingReport:
        return self.prior.report


@dataclass(frozen=True)
class Checkpoint:
    """The weights after an epoch, and how well they predict the held-out codes.

    Attributes:
        bits: per held-out code that it is judged by.
        sequence_bits: `[held-out sequences]`, of all those codes of each.
        seconds: since the start of training.
    """

    epoch: int
    bits: float
    sequence_bits: np.ndarray
    weights: dict[str, Tensor]
    seconds: float

    def as_good_as(self, best: Checkpoint) -> bool:
        """Whether it predicts as well as a better one, within noise.

        That is: by less than the standard error of the difference, over held-out sequences (the rule of Breiman et al.
        1984, section 3.4.3).
        """
        worse = self.sequence_bits - best.sequence_bits
        return len(worse) > 1 and float(worse.sum()) <= float(worse.std(ddof=1)) * len(worse) ** 0.5


@dataclass
class _Progress:
    """What changes while a run goes on, besides the networks, the optimiser and the watch.

    `batches` of the epoch under way are done, at a cost of `epoch_bits` for `epoch_codes`. `kept` are checkpoints, all
    finite: the best one at the end, and before it the oldest that is as good within noise. `looked_at` is the epoch and
    step of the last look at copies, `hurried_since` the epoch since which these are hurried.
    """

    step: int = 0
    batches: int = 0
    epoch_bits: float = 0.0
    epoch_codes: int = 0
    train: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    memorizing: list[bool] = field(default_factory=list)
    kept: list[Checkpoint] = field(default_factory=list)
    skipped: int = 0
    looked_at: tuple[int, int] = (0, 0)
    hurried_since: int = 0
    looking_seconds: float = 0.0

    @property
    def best(self) -> Checkpoint:
        return self.kept[-1]

    @property
    def best_epoch(self) -> int:
        """Of the best checkpoint, or 0 before there is one."""
        return self.best.epoch if self.kept else 0


def train_prior(
    corpus: CodeCorpus,
    settings: PriorSettings,
    *,
    on_event: Callable[[TrainingEvent], object] | None = None,
    stop: threading.Event | None = None,
    resume_from: TrainingState | None = None,
) -> PriorRun:
    """Train a prior and give its best checkpoint: the one with the lowest held-out perplexity.

    The same corpus, settings, thread count and processor give the same prior, bit for bit, whether or not the training
    was broken off and resumed; the caller's random state is left as it was.

    Args:
        corpus: what to learn from and be judged by; where hours are held out, by a sample of them, as
            `judged_by_a_sample` has it.
        settings: every knob; see `PriorSettings.for_corpus`.
        on_event: called with each `TrainingEvent`, in the thread that trains.
        stop: when set, training ends after the current batch with the best checkpoint so far.
        resume_from: go on from here; what an event's `state()` gave of a training with this corpus and these settings.

    Raises:
        NothingTrained: stopped before the first epoch was judged.
        NotResumable: the state is damaged, or that of another training.
        Diverged: no epoch was finite, or training broke down and had never been better than knowing nothing.
        PriorError: the device is not there.
    """
    tell = on_event or (lambda event: None)
    stop = stop or threading.Event()
    device, corpus = chosen_device(settings.device), judged_by_a_sample(corpus)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        if resume_from is not None:
            check_state(resume_from, corpus, settings)
        trainer = Trainer(corpus, settings, device, tell, stop)
        if resume_from is not None:
            trainer.take_up(resume_from)
        return trainer.run()


def check_state(state: TrainingState, corpus: CodeCorpus, settings: PriorSettings) -> None:
    """See that a training with this corpus and these settings can go on from a state, before much memory is taken.

    Raises:
        NotResumable: it cannot.
    """
    for knob in KNOBS:
        then, now = getattr(state.settings, knob.name), getattr(settings, knob.name)
        if then != now:
            raise NotResumable(f"its {knob.name} is {then}, not {now}")
    if state.corpus != corpus_digest(corpus):
        raise NotResumable("it has learned from other codes than those of these recordings")
    with torch.device("meta"):
        network = PriorNetwork(corpus.shape, corpus.codebooks, network_settings(settings, corpus.frame_seconds))
    check_tensors(state, network.state_dict(), len(corpus.held_out))


class Trainer:
    """One run of `train_prior`."""

    def __init__(
        self,
        corpus: CodeCorpus,
        settings: PriorSettings,
        device: torch.device,
        tell: Callable[[TrainingEvent], object],
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.corpus, self.settings, self.device, self.tell, self.stop = corpus, settings, device, tell, stop
        sizes = network_settings(settings, corpus.frame_seconds)
        self.context = sizes.context_frames
        self.network = PriorNetwork(corpus.shape, corpus.codebooks, sizes).to(device)
        self.average = copy.deepcopy(self.network).eval()
        self.optimizer = optimizer_for(self.network, settings)
        self.dtype = fastest_precision(device)
        self.source = CodeBatches(
            corpus,
            context=self.context,
            batch_size=settings.batch_size,
            seed=settings.seed,
            pin_memory=device.type == "cuda",
        )
        self.batches = len(self.source)  # a few more or less in another epoch, where long recordings are cut at random
        self.progress = _Progress()
        self.watch = Watch(CopyMeter(corpus))
        self.judged = self.watch.meter.unheard.judged
        self.judged_codes = int(self.judged.sum()) * corpus.shape.frame_codes
        self.clock, self.pace = clock, Pace(settings.epochs, self.batches, clock)
        self.started = clock()
        self._resumed_on: dict[str, str] | None = None

    def run(self) -> PriorRun:
        settings, progress = self.settings, self.progress
        parameters = sum(weights.numel() for weights in self.network.parameters())
        self.tell(
            TrainingStarted(
                parameters=parameters,
                epochs=settings.epochs,
                batches=self.batches,
                train_codes=self.corpus.train_codes,
                held_out_codes=self.corpus.held_out.codes.size,
                unheard=self.watch.meter.unheard,
                device=str(self.device),
                precision=str(self.dtype).removeprefix("torch."),
                threads=torch.get_num_threads(),
            )
        )
        if self._resumed_on is not None:
            self.tell_resumed(self._resumed_on)
        ended = "finished"
        for epoch in range(len(progress.held_out) + 1, settings.epochs + 1):
            train_bits = self.train_epoch(epoch)
            if train_bits is None:
                ended = "stopped" if self.stop.is_set() else "diverged"
                break
            if not self.judge_epoch(epoch, train_bits):
                ended = "diverged"
                break
            if self.stop.is_set() and epoch < settings.epochs:
                ended = "stopped"
                break
        if ended == "stopped" and not progress.held_out:
            raise NothingTrained("Training was stopped before the first epoch ended; there is no prior to keep.")
        nothing_known = math.log2(self.corpus.shape.codebook_size)
        if not progress.kept or (ended == "diverged" and progress.best.bits > nothing_known):
            raise Diverged(
                f"Training diverged before it had learned anything. Try again with a smaller --learning-rate than "
                f"{settings.learning_rate:g}."
            )
        best, memorization = self.chosen_checkpoint()
        report = TrainingReport(
            epochs_trained=len(progress.held_out),
            best_epoch=best.epoch,
            final_perplexity=perplexity(best.bits),
            training_date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            held_out=self.corpus.held_out.names,
            train_perplexities=tuple(progress.train),
            held_out_perplexities=tuple(progress.held_out),
            ended=ended,
            skipped_batches=progress.skipped,
            parameters=parameters,
            seconds=self.clock() - self.started,
            best_seconds=best.seconds,
            memorization=memorization,
            heard_seconds=self.watch.meter.unheard.heard_seconds,
            held_out_seconds=self.watch.meter.unheard.seconds,
        )
        self.tell(TrainingEnded(ended, report.epochs_trained, report.best_epoch, report.final_perplexity))
        meter = self.watch.meter
        return PriorRun(
            Prior(self.average.cpu(), settings, report, self.corpus.frame_seconds, meter.heard, meter.sketch)
        )

    def train_epoch(self, epoch: int) -> float | None:
        """Bits per code over one epoch, or None where it was stopped or had no batch with a finite loss."""
        progress = self.progress
        self.source.set_epoch(epoch, progress.batches)
        self.network.train()
        self.pace.epoch_begins(progress.batches)
        for number, batch in enumerate(self.source, start=progress.batches + 1):
            if self.stop.is_set():
                return None
            batch_bits = self.train_batch(batch)
            if math.isfinite(batch_bits):
                progress.epoch_bits += batch_bits
                progress.epoch_codes += int(batch.lengths.sum()) * self.corpus.shape.frame_codes
            else:
                progress.skipped += 1
            progress.batches = number
            self.pace.batch_done()
            left = self.pace.seconds_left(epoch, number)
            self.tell(BatchDone(epoch, number, max(number, self.batches), left, self.state))
        return progress.epoch_bits / progress.epoch_codes if progress.epoch_codes else None

    def train_batch(self, batch: Batch) -> float:
        """One step of the optimiser; the batch's bits, not finite where the step was left out."""
        progress = self.progress
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate_at(progress.step, self.batches * self.settings.epochs)
        progress.step += 1
        code_bits, end_bits, codes = batch_loss(self.network, batch, self.device, self.dtype)
        loss = (code_bits + end_bits) / codes
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            return math.nan
        self.optimizer.step()
        weight = 1 - min(AVERAGE_DECAY, progress.step / (10 + progress.step))  # a young average follows faster
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), weight)
        return code_bits.item()

    def judge_epoch(self, epoch: int, train_bits: float) -> bool:
        """Measure the averaged weights on the held-out codes, keep them if they are the best, and tell.

        Returns:
            whether they are finite: what is averaged with others will never be again.
        """
        progress, settings = self.progress, self.settings
        sequence_bits = held_out_bits(
            self.average, self.corpus, self.judged, self.context, settings.batch_size, self.dtype
        )
        whole = not not_finite(self.average.state_dict())
        bits = float(sequence_bits.sum()) / self.judged_codes if whole else math.nan
        progress.train.append(perplexity(train_bits))
        progress.held_out.append(perplexity(bits))
        progress.batches, progress.epoch_bits, progress.epoch_codes = 0, 0.0, 0
        finite = math.isfinite(progress.held_out[-1])
        if finite and (not progress.kept or bits < progress.best.bits):
            weights = {name: value.clone() for name, value in self.average.state_dict().items()}
            best = Checkpoint(epoch, bits, sequence_bits, weights, self.clock() - self.started)
            progress.kept = [*[one for one in progress.kept if one.as_good_as(best)][:1], best]
        accused = self.watch.memorizing
        if finite:
            self.watch_epoch(epoch, Bits(train_bits, bits, progress.best.bits))
        progress.memorizing.append(self.watch.memorizing)
        self.pace.epoch_done()
        self.tell(
            EpochDone(
                epoch=epoch,
                epochs=settings.epochs,
                train_perplexity=progress.train[-1],
                held_out_perplexity=progress.held_out[-1],
                best_epoch=progress.best_epoch,
                best_perplexity=perplexity(progress.best.bits) if progress.kept else math.inf,
                memorizing=self.watch.memorizing,
                memorizing_epochs=self.watch.stretches_until(epoch),
                skipped_batches=progress.skipped,
                seconds=self.clock() - self.started,
                seconds_left=self.pace.seconds_left(epoch + 1, 0),
                draw=self.draw,
                state=self.state,
            )
        )
        if self.watch.finding is not None and not accused:
            self.tell(MemorizingFound(self.watch.since, progress.best.epoch, self.watch.finding))
        return whole

    def watch_epoch(self, epoch: int, bits: Bits) -> None:
        """Look whether what the prior draws now is copied, where that is due."""
        progress, started = self.progress, self.clock()
        hurried = self.watch.hurried(bits)
        progress.hurried_since = (progress.hurried_since or epoch) if hurried else 0
        if hurried:
            between = EPOCHS_BETWEEN_HURRIED_LOOKS
            if not self.watch.undecided:  # the longer there was nothing, the less there is to hurry about
                between += (epoch - progress.hurried_since) // 8
            due = epoch - progress.looked_at[0] >= between
        else:
            due = progress.step - progress.looked_at[1] >= STEPS_BETWEEN_LOOKS
        if due:
            progress.looked_at = (epoch, progress.step)
            grids = self.looked_at_grids(epoch, hurried)
            self.watch.look(epoch, bits, grids)
            progress.looking_seconds += self.clock() - started

    def looked_at_grids(self, epoch: int, hurried: bool) -> list[np.ndarray]:
        """What to look for copies in; where it is `hurried` and short sounds show none, long ones, for long copies."""
        meter = self.watch.meter
        grids = self.drawn_grids(SOUNDS_IN_A_LOOK, LOOK_SECONDS, epoch)
        if hurried and meter.measured(grids).telling is None:
            return self.drawn_grids(SOUNDS_IN_A_LOOK, math.inf, epoch)
        return grids

    def drawn_grids(self, count: int, seconds: float, stream: int) -> list[np.ndarray]:
        """What the averaged weights draw, `count` sounds of at most so many seconds."""
        meter = self.watch.meter
        frames = min(meter.sample_frames, max(2 * meter.shortest, round(min(seconds, 3600) / meter.frame_seconds)))
        return draw_grids(self.average, count, Wanted(None, frames, self.settings.seed + stream))

    def draw(self, frames: int, seed: int) -> np.ndarray:
        """What the averaged weights draw now, int `[frames, bands, levels]`."""
        return draw_grids(self.average, 1, Wanted(frames, frames, seed))[0]

    def chosen_checkpoint(self) -> tuple[Checkpoint, MemorizationReport]:
        """The checkpoint to keep, now in the averaged weights, and what is known of its memory.

        The one with the fewest held-out bits; of two that are as good within noise, the one that copies less.
        """
        meter, found, started, progress = self.watch.meter, [], self.clock(), self.progress
        for checkpoint in progress.kept:
            self.average.load_state_dict(checkpoint.weights)
            looks = [self.drawn_grids(SOUNDS_IN_REPORT, math.inf, look << 30) for look in range(CONSECUTIVE)]
            found.append((checkpoint, looks))
        checkpoint, looks = found[-1]
        if len(found) > 1 and meter.copies_more(*(list(itertools.chain(*one[1])) for one in (found[-1], found[0]))):
            checkpoint, looks = found[0]
        self.average.load_state_dict(checkpoint.weights)
        extraction = extract(
            self.average, meter.sketch, first_variants(self.corpus.train), meter.pieces, meter.frame_seconds,
            self.settings.seed,
        )  # fmt: skip
        bits = Bits(math.log2(progress.train[checkpoint.epoch - 1]), checkpoint.bits, progress.best.bits)
        seconds = progress.looking_seconds + self.clock() - started
        return checkpoint, self.watch.report(len(progress.held_out), bits, looks, extraction, seconds)

    @functools.cached_property
    def corpus_digest(self) -> str:
        """What tells the corpus from another one."""
        return corpus_digest(self.corpus)

    def state(self) -> TrainingState:
        """All that the training is now. Its tensors are, on the CPU, those of the training itself."""
        progress = self.progress
        return TrainingState(
            settings=self.settings,
            corpus=self.corpus_digest,
            batches=progress.batches,
            step=progress.step,
            epoch_bits=progress.epoch_bits,
            epoch_codes=progress.epoch_codes,
            train_perplexities=tuple(progress.train),
            held_out_perplexities=tuple(progress.held_out),
            memorizing=tuple(progress.memorizing),
            kept_epochs=tuple(checkpoint.epoch for checkpoint in progress.kept),
            kept_seconds=tuple(checkpoint.seconds for checkpoint in progress.kept),
            skipped_batches=progress.skipped,
            looked_at=progress.looked_at,
            hurried_since=progress.hurried_since,
            watch=self.watch.as_dict(),
            judged_codes=self.judged_codes,
            seconds=self.clock() - self.started,
            looking_seconds=progress.looking_seconds,
            machine=machine_facts(self.device, self.dtype),
            tensors={name: tensor.detach().cpu() for name, tensor in self._tensors().items()},
        )

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {NETWORK + name: weights for name, weights in self.network.state_dict().items()}
        tensors |= {AVERAGE + name: weights for name, weights in self.average.state_dict().items()}
        for number, checkpoint in enumerate(self.progress.kept):
            tensors |= {kept_weights(number) + name: weights for name, weights in checkpoint.weights.items()}
            tensors[kept_bits(number)] = torch.from_numpy(checkpoint.sequence_bits)
        for name, weights in self.network.named_parameters():
            moments = self.optimizer.state.get(weights, {})
            tensors |= {OPTIMIZER + name + part: moments[part.removeprefix(".")] for part in MOMENTS if moments}
        return tensors | random_streams(self.device)

    def take_up(self, state: TrainingState) -> None:
        """Be where a training was that gave this state, of which `check_state` thinks well.

        Raises:
            NotResumable: it is damaged all the same.
        """
        tensors, progress = state.tensors, self.progress
        if (state.judged_codes or self.corpus.held_out.codes.size) != self.judged_codes:
            raise NotResumable("it was judged by stretches of the held-out recordings that are also trained on")

        def weights(prefix: str) -> dict[str, Tensor]:
            return {name: tensors[prefix + name].to(self.device, copy=True) for name in self.network.state_dict()}

        self.network.load_state_dict(weights(NETWORK))
        self.average.load_state_dict(weights(AVERAGE))
        numbers = {id(one): number for number, one in enumerate(parameters_of(self.optimizer))}
        moments = {
            numbers[id(one)]: {part.removeprefix("."): tensors[OPTIMIZER + name + part].clone() for part in MOMENTS}
            for name, one in self.network.named_parameters()
            if OPTIMIZER + name + MOMENTS[0] in tensors
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        for number, (epoch, seconds) in enumerate(zip(state.kept_epochs, state.kept_seconds, strict=True)):
            sequence_bits = tensors[kept_bits(number)].numpy().copy()
            bits = float(sequence_bits.sum()) / self.judged_codes
            progress.kept.append(Checkpoint(epoch, bits, sequence_bits, weights(kept_weights(number)), seconds))
        progress.step, progress.batches, progress.skipped = state.step, state.batches, state.skipped_batches
        progress.epoch_bits, progress.epoch_codes = state.epoch_bits, state.epoch_codes
        progress.train, progress.held_out = list(state.train_perplexities), list(state.held_out_perplexities)
        progress.memorizing, progress.looking_seconds = list(state.memorizing), state.looking_seconds
        progress.looked_at, progress.hurried_since = state.looked_at, state.hurried_since
        try:
            self.watch.take_up(state.watch)
            set_random_streams(tensors, self.device)
        except (PriorError, RuntimeError) as error:
            raise NotResumable("it is damaged (what it knows of copies or random numbers cannot be)") from error
        self.started = self.clock() - state.seconds
        self._resumed_on = state.machine

    def tell_resumed(self, machine: Mapping[str, str]) -> None:
        """Tell what went before on the `machine` that the state is from."""
        progress, now = self.progress, machine_facts(self.device, self.dtype)
        self.tell(
            TrainingResumed(
                train_perplexities=tuple(progress.train),
                held_out_perplexities=tuple(progress.held_out),
                memorizing=tuple(progress.memorizing),
                memorizing_epochs=self.watch.stretches_until(len(progress.held_out)),
                best_epoch=progress.best_epoch,
                differences=tuple(
                    f"{name} {machine.get(name, 'unknown')} before, {value} now"
                    for name, value in now.items()
                    if machine.get(name) != value
                ),
            )
        )
        if self.watch.finding is not None:
            self.tell(MemorizingFound(self.watch.since, progress.best.epoch, self.watch.finding))


def chosen_device(name: str) -> torch.device:
    """The device called `name`; "auto" is a GPU where there is one.

    Raises:
        PriorError: this machine has no such device.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if present[device])
    if not present[name]:
        raise PriorError(f"--device is {name}, but this machine has none; leave it out to use what there is.")
    return torch.device(name)


def fastest_precision(device: torch.device) -> torch.dtype:
    """What to train in: bfloat16 on a GPU or processor that has instructions for its matrix products."""
    half = False
    if device.type == "cuda":
        half = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        half = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.bfloat16 if half else torch.float32


def optimizer_for(network: PriorNetwork, settings: PriorSettings) -> torch.optim.Optimizer:
    """AdamW that decays matrices and tables, not biases and norms (Loshchilov and Hutter 2019)."""
    weights = list(network.parameters())
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95), fused=True)


def parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What an optimiser moves, in the order in which its `state_dict` counts."""
    return [weights for group in optimizer.param_groups for weights in group["params"]]


def rate_at(step: int, steps: int) -> float:
    """Share of the learning rate at a step: a short warm-up, then half a cosine (Loshchilov and Hutter 2017)."""
    warmup = min(1.0, (step + 1) / WARMUP_STEPS)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return warmup * (FINAL_RATE + (1 - FINAL_RATE) * cosine)


def batch_loss(
    network: PriorNetwork, batch: Batch, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Bits that the network needs for the codes of a batch, bits for its ends, and how many codes it has.

    On the CPU they share the memory of the batch until `backward` is done.
    """
    frames = torch.as_tensor(batch.frames).to(device)
    lengths = torch.as_tensor(batch.lengths).to(device)
    first_frame = torch.as_tensor(batch.first_frame).to(device)
    logits, ends, _ = network(frames, first_frame, look_past=True, dtype=dtype)
    inside = torch.arange(frames.shape[1] - 1, device=device) < lengths[:, None]  # [B, window]
    codes = window_log2_probs(logits, ends, frames).sum(-1)
    over = F.logsigmoid(ends.gather(1, lengths[:, None]).squeeze(1).float()) / math.log(2)
    ended = torch.as_tensor(batch.ends).to(device)
    return -(codes * inside).sum(), -(over * ended).sum(), lengths.sum() * frames.shape[2]


@torch.no_grad()
def held_out_bits(
    network: PriorNetwork, corpus: CodeCorpus, judged: np.ndarray, context: int, batch_size: int, dtype: torch.dtype
) -> np.ndarray:
    """Bits of the codes of each held-out sequence, each code given all before it, as `Prior.log2_probs` has them.

    Only those of frames that are `judged`, bool `[held-out frames]`, are counted. Long recordings are read `context`
    frames at a time. The sequences are in the order of `held_out_batches`.
    """
    device = network.codebooks.device
    found: list[np.ndarray] = []
    marks = np.split(judged, corpus.held_out.starts[1:-1])
    ordered = iter(np.argsort(-corpus.held_out.lengths, kind="stable"))  # as the batches have them
    for batch in held_out_batches(corpus.held_out, corpus.shape, context=context, batch_size=batch_size):
        frames = torch.as_tensor(batch.frames).to(device)
        lengths = torch.as_tensor(batch.lengths).to(device)
        bits = torch.zeros(len(lengths), device=device)
        counted = np.zeros((len(lengths), frames.shape[1] - 1), np.bool_)
        for row, mark in zip(counted, (marks[next(ordered)] for _ in range(len(lengths))), strict=True):
            row[: len(mark)] = mark
        counts = torch.as_tensor(counted).to(device)
        state = None
        for first in range(0, frames.shape[1] - 1, context):
            block = frames[:, first : first + context + 1]
            inside = counts[:, first : first + block.shape[1] - 1]
            logits, ends, state = network(block, torch.full_like(lengths, first), state, dtype=dtype)
            bits -= (window_log2_probs(logits, ends, block).sum(-1) * inside).sum(-1)
        found.append(bits.cpu().double().numpy())
    return np.concatenate(found)
