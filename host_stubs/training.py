"""Training the VQ-VAE of a model on recordings."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from host_stubs.codec import Codec
from host_stubs.errors import HostError
from host_stubs.mel import Mel, MelSettings
from host_stubs.network import STRIDE, Decoder, Encoder, code_vectors, nearest_codes
from host_stubs.schedule import Schedule
from host_stubs.tracks import CROP, Tracks
from host_stubs.vqvae import Quantizer, VqvaeNetwork

_LEAST_BATCHES, _MOST_BATCHES = 16, 64  # batches of an epoch, however small or large the dataset
_MEASUREDCROPS = 128  # the most that is measured after each epoch, so that large datasets train, too
_HEALTHCROPS = 64  # the most of those trained on that tell after each epoch how the codebooks are used
_FIRSTCROPS = 64  # whose latents the codebooks start from
_BETAS = (0.9, 0.98)  # of the optimizer's averages: some hundred batches are all there are
_RECENT_EPOCHS = 5  # whose times say how long the others will take

FINISHED, LEARNED, STOPPED, DIVERGED = "finished", "learned", "stopped", "diverged"
"""Why a training ended: its epochs were over, it had nothing to gain any more, it was told to, its network broke."""


@dataclasses.dataclass(frozen=True)
class VqvaeSettings:
    """What a training run depends on beside the recordings."""

    codebook_size: int = 128
    levels: int = 3
    dim: int = 128
    epochs: int = 28  # at most
    patience: int | None = 7  # epochs without a better held-out loss after which it finishes; None: it takes them all
    batch_size: int = 16  # crops of 1 s
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    dropout: float = 0.0
    decay: float = 0.95  # of the codebooks' moving averages, for each batch
    commitment: float = 0.25
    absolute: float = 0.3  # weight of the absolute error, by which epochs are judged, beside the squared one
    dead_below: float = 0.5  # vectors a batch, on average, below which a code is replaced
    gradient_clip: float = 1.0
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda or mps

    def __post_init__(self) -> None:
        least = {"codebook_size": 2, "levels": 1, "dim": 1, "epochs": 1, "patience": 1, "batch_size": 1}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and given < value:
                raise HostError(f"The training setting {name} must be at least {value}, not {given}.")

    @classmethod
    def for_dataset(
        cls, file_count: int, *, epochs: int | None = None, seed: int = 0, device: str = "auto"
    ) -> VqvaeSettings:
        """Settings that suit a dataset of this many files. Where `epochs` are given, training takes just as many."""
        size = 64 if file_count <= 20 else 128 if file_count <= 100 else 256
        if epochs is None:
            return cls(codebook_size=size, seed=seed, device=device)
        return cls(codebook_size=size, epochs=epochs, patience=None, seed=seed, device=device)


@dataclasses.dataclass(frozen=True)
class LevelHealth:
    """How one level's codebook is used by the recordings that it is trained on."""

    utilization: float  # share of the codes that occur
    perplexity: float  # how many codes, if all occurred equally often, would be as hard to guess
    dead_codes: int  # codes that do not occur


@dataclasses.dataclass(frozen=True)
class EpochDone:
    """An epoch (counted from 1) is over, and measured. Losses are mean absolute errors of the log-mel.

    `epochs` is how many there will be, at most. `finishing`: the learning rate falls, and training ends with that many.
    `held_out_loss` is not a number where the network is not finite; `best_epoch` is 0 before there was a finite one.
    """

    epoch: int
    epochs: int
    train_loss: float
    held_out_loss: float
    best_epoch: int
    levels: tuple[LevelHealth, ...]
    seconds_left: float  # at most, unless `finishing`: then about as long
    finishing: bool = False


@dataclasses.dataclass(frozen=True)
class VqvaeRun:
    """The codec of the best epoch, on the CPU, and what is worth knowing about the training, as plain JSON values."""

    codec: Codec
    report: dict[str, Any]


def train_vqvae(
    train: Iterable[np.ndarray],
    held_out: Iterable[np.ndarray],
    settings: VqvaeSettings,
    *,
    sample_rate: int = 48_000,
    on_event: Callable[[EpochDone], None] | None = None,
    stop: threading.Event | None = None,
) -> VqvaeRun:
    """Train on recordings (float `[samples]` each), and keep the epoch that reproduces the held-out ones best.

    Of each recording only the spectrogram is kept, and many of those in a temporary file.

    Where all held-out recordings are empty, the trained ones choose the best epoch. On a CPU, the same recordings,
    settings and number of threads give the same codec, bit for bit; the caller's random numbers are not touched.
    When `stop` is set, training ends after the current batch with the best epoch so far.

    Raises HostError if there is nothing to train on, if samples are not finite, if the device is not there, if no epoch
    gave finite losses, or if it is stopped before the first epoch is over.
    """
    device = _device(settings.device)
    mel_settings = MelSettings(sample_rate=sample_rate)
    mel = Mel(mel_settings)
    tracks = Tracks.of(train, mel)
    if not len(tracks):
        raise HostError("There is no recording to train on.")
    unseen = Tracks.of(held_out, mel)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        trainer = _Trainer(tracks, unseen if len(unseen) else tracks, mel_settings, settings, device)
        return trainer.run(on_event or (lambda event: None), stop or threading.Event())


def codec_bytes(settings: VqvaeSettings) -> int:
    """How many bytes the numbers of a codec are that is trained with these settings. Nothing is made for that."""
    with torch.device("meta"):
        return sum(tensor.nbytes for tensor in _network(settings).state_dict().values())


def _network(settings: VqvaeSettings) -> VqvaeNetwork:
    return VqvaeNetwork(
        Encoder(settings.dim, settings.dropout),
        Quantizer(
            settings.dim,
            settings.codebook_size,
            settings.levels,
            decay=settings.decay,
            commitment=settings.commitment,
            dead_below=settings.dead_below,
        ),
        Decoder(settings.dim, settings.dropout),
    )


class _Trainer:
    """One run: the network, its optimizer, and the best state so far."""

    def __init__(
        self,
        tracks: Tracks,
        held_out: Tracks,
        mel_settings: MelSettings,
        settings: VqvaeSettings,
        device: torch.device,
    ) -> None:
        self.settings = settings
        self.mel_settings = mel_settings
        self.tracks = tracks
        self.device = device
        self.random = np.random.default_rng(settings.seed)
        frames = np.array(tracks.frames, dtype=float)
        self.weights = frames / frames.sum()
        self.train_crops = tracks.spread(_HEALTHCROPS).to(device)
        self.held_out_crops = held_out.spread(_MEASUREDCROPS).to(device)
        wanted = math.ceil(frames.sum() / CROP / settings.batch_size)
        self.batches = min(max(wanted, _LEAST_BATCHES), _MOST_BATCHES)
        # channels last is how processors take convolutions; it is another order in memory, of the same numbers
        self.network = _network(settings).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        self.schedule = Schedule(settings.epochs, settings.patience)
        self.half = device.type == "cpu" and _fast_bfloat16()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=_BETAS
        )
        self.step = 0
        self.skipped = 0
        self.best: dict[str, Tensor] = {}
        self.best_event: EpochDone | None = None

    def run(self, on_event: Callable[[EpochDone], None], stop: threading.Event) -> VqvaeRun:
        moments = [time.perf_counter()]  # when training began, and when each epoch was measured
        epochs, ended = 0, ""
        while not ended:
            losses = self._train_epoch(stop, quantized=epochs > 0)
            if stop.is_set():
                ended = STOPPED
                break
            if epochs == 0:
                self._start_codebooks()
            epochs += 1
            on_event(self._measured(epochs, losses, moments))
            if not losses:  # there is no way back: the network itself has diverged
                ended = DIVERGED
            elif epochs == self.schedule.epochs:
                ended = LEARNED if self.schedule.ended_early else FINISHED
        if self.best_event is None and ended == STOPPED:
            raise HostError("Training was stopped before its first epoch was over: there is nothing to keep.")
        if self.best_event is None:
            raise HostError("Training diverged: no epoch gave finite losses. A lower learning rate may help.")
        return VqvaeRun(self._codec(), self._report(self.best_event, epochs, ended, time.perf_counter() - moments[0]))

    def _train_epoch(self, stop: threading.Event, *, quantized: bool) -> list[float]:
        """Train for one epoch or until `stop`; the losses of the batches that had finite ones.

        The first epoch goes without quantization: codebooks that start from the latents of an encoder that knows
        nothing yet would have to be learned twice.
        """
        self.network.train()
        losses = []
        for _ in range(self.batches):
            if stop.is_set():
                break
            self.step += 1
            loss = self._train_batch(quantized)
            if loss is None:
                self.skipped += 1
            else:
                losses.append(loss)
        return losses

    def _train_batch(self, quantized: bool) -> float | None:
        """The batch's mean absolute error, or None where something was not finite and the batch was left out."""
        crops = self._crops(self.settings.batch_size)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            latents = self.network.encoder(crops)
        latents = latents.float()
        if not latents.isfinite().all():  # must not get into the codebooks
            return None
        commitment = latents.new_zeros(())
        if quantized:
            latents, _, commitment = self.network.quantizer(latents)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            rebuilt = self.network.decoder(latents)
        rebuilt = rebuilt.float()
        error = rebuilt - crops
        away = error.abs().mean()
        loss = error.square().mean() + self.settings.absolute * away + commitment
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
        if not (loss.isfinite() and norm.isfinite()):
            return None
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self.schedule.rate(self.step, self.batches)
        self.optimizer.step()
        return away.item()

    @torch.no_grad()
    def _start_codebooks(self) -> None:
        self.network.eval()
        latents = self.network.encoder(self._crops(_FIRSTCROPS))
        if latents.isfinite().all():
            self.network.quantizer(latents)

    def _crops(self, count: int) -> Tensor:
        """Random crops of the recordings `[count, 1, 16 bands, CROP]`."""
        crops = []
        for track in self.random.choice(len(self.tracks), size=count, p=self.weights):
            start = int(self.random.integers(self.tracks.starts(track)))
            crops.append(self.tracks.louder(track, start, float(self.random.random())))
        return torch.stack(crops)[:, None].to(self.device)

    @torch.no_grad()
    def _measured(self, epoch: int, losses: list[float], moments: list[float]) -> EpochDone:
        """Measure the epoch, keep its state if it is the best one, and note the moment."""
        self.network.eval()
        health = tuple(_health(codes, self.settings.codebook_size) for codes in self._codes(self.train_crops).T)
        codes = self._codes(self.held_out_crops)
        grid = codes.view(len(self.held_out_crops), -1, CROP // STRIDE, self.settings.levels)
        latents = code_vectors(grid, self.network.quantizer.codebooks).permute(0, 3, 1, 2)
        error = (self.network.decoder(latents) - self.held_out_crops)[:, :, : self.mel_settings.n_mels]
        # An encoder that is not finite still has codes: its codebooks' first ones.
        whole = all(tensor.isfinite().all() for tensor in self.network.state_dict().values())
        loss = error.abs().mean().item() if whole else math.nan
        better = math.isfinite(loss) and (self.best_event is None or loss < self.best_event.held_out_loss)
        best = epoch if better else self.best_event.epoch if self.best_event else 0
        self.schedule.epoch_is_done(epoch, best)
        moments.append(time.perf_counter())
        event = EpochDone(
            epoch=epoch,
            epochs=self.schedule.epochs,
            train_loss=sum(losses) / len(losses) if losses else float("nan"),
            held_out_loss=loss,
            best_epoch=best,
            levels=health,
            seconds_left=seconds_left(moments, self.schedule.epochs - epoch),
            finishing=epoch >= self.schedule.finishes_after,
        )
        if better:
            self.best_event = event
            self.best = copy.deepcopy(self.network.state_dict())
        return event

    def _codes(self, crops: Tensor) -> Tensor:
        """`[crops, 1, 16 bands, frames]` -> codes `[positions, levels]`"""
        latents = torch.cat([self.network.encoder(some) for some in crops.split(32)]).permute(0, 2, 3, 1)
        return nearest_codes(latents.reshape(-1, self.settings.dim), self.network.quantizer.codebooks)

    def _codec(self) -> Codec:
        self.network.load_state_dict(self.best)
        self.network.cpu()
        self.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's types lack it
        codebooks = self.network.quantizer.codebooks.detach().clone()
        return Codec(self.mel_settings, self.network.encoder, self.network.decoder, codebooks)

    def _report(self, best: EpochDone, epochs: int, ended: str, seconds: float) -> dict[str, Any]:
        return {
            "epochs_trained": epochs,
            "ended": ended,
            "best_epoch": best.epoch,
            "train_loss": best.train_loss,
            "held_out_loss": best.held_out_loss,
            "codebook_health": [dataclasses.asdict(level) for level in best.levels],
            "skipped_batches": self.skipped,
            "seconds": seconds,
            "device": self.device.type,
            "settings": dataclasses.asdict(self.settings),
        }


def seconds_left(moments: Sequence[float], epochs: int) -> float:
    """How long so many epochs will take: each as long as the median of the latest few, so that an epoch in which the
    machine slept does not count.

    Args:
        moments: when the first epoch began, and when each one that is done ended.
        epochs: that are left.
    """
    taken = [end - begin for begin, end in itertools.pairwise(moments)]
    return statistics.median(taken[-_RECENT_EPOCHS:]) * epochs


def _health(codes: Tensor, size: int) -> LevelHealth:
    counts = torch.bincount(codes.cpu(), minlength=size).double()
    shares = counts[counts > 0] / counts.sum()
    used = len(shares)
    return LevelHealth(used / size, float(torch.exp(-(shares * shares.log()).sum())), size - used)


def _fast_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16, which here takes two thirds of the time at the same result."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _device(name: str) -> torch.device:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")  # what mps is like, nobody has measured yet
    if name not in there:
        raise HostError(f"There is no device {name!r}; choose auto, cpu, cuda or mps.")
    if not there[name]:
        raise HostError(f"This machine has no {name} device that PyTorch can use.")
    return torch.device(name)
