"""Training a prior: a corpus and settings in, the best checkpoint out, typed events on the way."""

from __future__ import annotations

import copy
import datetime
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from sda_prior_plugin.dataset import Batch, CodeCorpus, epoch_batch_count, epoch_batches, held_out_batches
from sda_prior_plugin.errors import NothingTrained, PriorError
from sda_prior_plugin.events import BatchDone, EpochDone, TrainingEnded, TrainingEvent, TrainingStarted
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.prior import Prior, network_settings, perplexity, window_log2_probs
from sda_prior_plugin.report import TrainingReport
from sda_prior_plugin.settings import PriorSettings

WARMUP_STEPS = 50
FINAL_RATE = 0.03
"""Share of the learning rate that is left when the last epoch ends."""
AVERAGE_DECAY = 0.995
"""Of the running average of the weights that is judged and kept (Polyak and Juditsky 1992)."""
GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class PriorRun:
    """A finished training: the best checkpoint, in eval mode on the CPU, and how it came about."""

    prior: Prior

    @property
    def report(self) -> TrainingReport:
        return self.prior.report


@dataclass
class _Progress:
    """What changes while a run goes on."""

    train: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    best_bits: float = math.inf
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_seconds: float = 0.0
    skipped: int = 0


def train_prior(
    corpus: CodeCorpus,
    settings: PriorSettings,
    *,
    on_event: Callable[[TrainingEvent], object] | None = None,
    stop: threading.Event | None = None,
) -> PriorRun:
    """Train a prior and give its best checkpoint: the one with the lowest held-out perplexity.

    The same corpus, settings, thread count and processor give the same prior, bit for bit; the caller's random state
    is left as it was.

    Args:
        corpus: what to learn from and be judged by.
        settings: every knob; see `PriorSettings.for_corpus`.
        on_event: called with each `TrainingEvent`, in the thread that trains.
        stop: when set, training ends after the current batch with the best checkpoint so far.

    Raises:
        NothingTrained: stopped before the first epoch was judged.
        PriorError: no loss was ever finite, or the device is not there.
    """
    tell = on_event or (lambda event: None)
    stop = stop or threading.Event()
    device = chosen_device(settings.device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        return Trainer(corpus, settings, device, tell, stop).run()


class Trainer:
    """One run of `train_prior`."""

    def __init__(
        self,
        corpus: CodeCorpus,
        settings: PriorSettings,
        device: torch.device,
        tell: Callable[[TrainingEvent], object],
        stop: threading.Event,
    ) -> None:
        self.corpus, self.settings, self.device, self.tell, self.stop = corpus, settings, device, tell, stop
        sizes = network_settings(settings, corpus.frame_seconds)
        self.context = sizes.context_frames
        self.network = PriorNetwork(corpus.shape, corpus.codebooks, sizes).to(device)
        self.average = copy.deepcopy(self.network).eval()
        self.optimizer = optimizer_for(self.network, settings)
        self.dtype = fastest_precision(device)
        self.batches = epoch_batch_count(corpus, context=self.context, batch_size=settings.batch_size)
        self.step = 0
        self.progress = _Progress()

    def run(self) -> PriorRun:
        settings, progress = self.settings, self.progress
        self.started = time.monotonic()
        parameters = sum(weights.numel() for weights in self.network.parameters())
        self.tell(
            TrainingStarted(
                parameters=parameters,
                epochs=settings.epochs,
                batches=self.batches,
                train_codes=self.corpus.train_codes,
                held_out_codes=self.corpus.held_out.codes.size,
                device=str(self.device),
                precision=str(self.dtype).removeprefix("torch."),
                threads=torch.get_num_threads(),
            )
        )
        ended = "finished"
        for epoch in range(1, settings.epochs + 1):
            train_bits = self.train_epoch(epoch)
            if train_bits is None:
                ended = "stopped" if self.stop.is_set() else "diverged"
                break
            self.judge_epoch(epoch, train_bits)
            if self.stop.is_set() and epoch < settings.epochs:
                ended = "stopped"
                break
        if not progress.best_epoch:
            if ended == "stopped":
                raise NothingTrained("Training was stopped before the first epoch ended; there is no prior to keep.")
            raise PriorError(
                f"Training diverged: no epoch ended with a finite loss. Try again with a smaller --learning-rate than "
                f"{settings.learning_rate:g}."
            )
        self.average.load_state_dict(progress.best_weights)
        report = TrainingReport(
            epochs_trained=len(progress.held_out),
            best_epoch=progress.best_epoch,
            final_perplexity=perplexity(progress.best_bits),
            training_date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            held_out=self.corpus.held_out.names,
            train_perplexities=tuple(progress.train),
            held_out_perplexities=tuple(progress.held_out),
            ended=ended,
            skipped_batches=progress.skipped,
            parameters=parameters,
            seconds=time.monotonic() - self.started,
            best_seconds=progress.best_seconds,
        )
        self.tell(TrainingEnded(ended, report.epochs_trained, report.best_epoch, report.final_perplexity))
        return PriorRun(Prior(self.average.cpu(), settings, report, self.corpus.frame_seconds))

    def train_epoch(self, epoch: int) -> float | None:
        """Bits per code over one epoch, or None where it was stopped or had no batch with a finite loss."""
        bits, codes = 0.0, 0
        batches = epoch_batches(
            self.corpus,
            context=self.context,
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            epoch=epoch,
        )
        self.network.train()
        for number, batch in enumerate(batches, start=1):
            if self.stop.is_set():
                return None
            batch_bits = self.train_batch(batch)
            if math.isfinite(batch_bits):
                bits += batch_bits
                codes += int(batch.lengths.sum()) * self.corpus.shape.frame_codes
            else:
                self.progress.skipped += 1
            self.tell(BatchDone(epoch, number, max(number, self.batches), self.seconds_left()))
        return bits / codes if codes else None

    def train_batch(self, batch: Batch) -> float:
        """One step of the optimiser; the batch's bits, not finite where the step was left out."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate_at(self.step, self.batches * self.settings.epochs)
        self.step += 1
        code_bits, end_bits, codes = batch_loss(self.network, batch, self.device, self.dtype)
        loss = (code_bits + end_bits) / codes
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            return math.nan
        self.optimizer.step()
        weight = 1 - min(AVERAGE_DECAY, self.step / (10 + self.step))  # a young average follows faster
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), weight)
        return code_bits.item()

    def judge_epoch(self, epoch: int, train_bits: float) -> None:
        """Measure the averaged weights on the held-out codes, keep them if they are the best, and tell."""
        progress = self.progress
        bits = held_out_bits(self.average, self.corpus, self.context, self.settings.batch_size, self.dtype)
        progress.train.append(perplexity(train_bits))
        progress.held_out.append(perplexity(bits))
        seconds = time.monotonic() - self.started
        if bits < progress.best_bits:
            progress.best_bits, progress.best_epoch, progress.best_seconds = bits, epoch, seconds
            progress.best_weights = {name: value.clone() for name, value in self.average.state_dict().items()}
        self.tell(
            EpochDone(
                epoch=epoch,
                epochs=self.settings.epochs,
                train_perplexity=progress.train[-1],
                held_out_perplexity=progress.held_out[-1],
                best_epoch=progress.best_epoch,
                best_perplexity=perplexity(progress.best_bits),
                skipped_batches=progress.skipped,
                seconds=seconds,
                seconds_left=self.seconds_left(),
            )
        )

    def seconds_left(self) -> float:
        total = self.batches * self.settings.epochs
        return (time.monotonic() - self.started) / max(self.step, 1) * max(total - self.step, 0)


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


def rate_at(step: int, steps: int) -> float:
    """Share of the learning rate at a step: a short warm-up, then half a cosine (Loshchilov and Hutter 2017)."""
    warmup = min(1.0, (step + 1) / WARMUP_STEPS)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return warmup * (FINAL_RATE + (1 - FINAL_RATE) * cosine)


def batch_loss(
    network: PriorNetwork, batch: Batch, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Bits that the network needs for the codes of a batch, bits for its ends, and how many codes it has."""
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
    network: PriorNetwork, corpus: CodeCorpus, context: int, batch_size: int, dtype: torch.dtype
) -> float:
    """Bits per code over all held-out codes, each given all before it, as `Prior.log2_probs` has them.

    Long recordings are read `context` frames at a time.
    """
    device = network.codebooks.device
    total = 0.0
    for batch in held_out_batches(corpus.held_out, corpus.shape, batch_size=batch_size):
        frames = torch.as_tensor(batch.frames).to(device)
        lengths = torch.as_tensor(batch.lengths).to(device)
        state = None
        for first in range(0, frames.shape[1] - 1, context):
            block = frames[:, first : first + context + 1]
            inside = torch.arange(first, first + block.shape[1] - 1, device=device) < lengths[:, None]
            logits, ends, state = network(block, torch.full_like(lengths, first), state, dtype=dtype)
            total -= float((window_log2_probs(logits, ends, block).sum(-1) * inside).sum().item())
    return total / corpus.held_out.codes.size
