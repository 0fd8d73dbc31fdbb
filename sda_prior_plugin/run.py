"""A training as something to hold: all that it is at one moment, and nothing of how it goes on."""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from sda_prior_plugin.batches import CodeBatches
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.devices import fastest_precision, machine_facts, random_streams, set_random_streams
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.half import halved, round_to_half, whole
from sda_prior_plugin.judging import Checkpoint
from sda_prior_plugin.kinds import LATER
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.optimizing import ScheduleFree
from sda_prior_plugin.pace import Pace
from sda_prior_plugin.prior import network_settings, perplexity
from sda_prior_plugin.sampling import Wanted, draw_grids
from sda_prior_plugin.schedule import as_good_as_best, last_epoch_after
from sda_prior_plugin.sequences import Draw, default_top_p
from sda_prior_plugin.settings import KNOBS, PriorSettings
from sda_prior_plugin.team import Team
from sda_prior_plugin.training_state import NotResumable, Progress, TrainingState, corpus_digest
from sda_prior_plugin.watch import Watch

HOW_IT_TRAINS = {"optimizer": "schedule-free Muon and AdamW", "batches": "shared out by length"}
"""States of older versions do not say how theirs trained."""


class Run:
    """A training at one moment.

    What changes from moment to moment is in its `state_dict`, or follows from it.

    Args:
        corpus: what it learns from and is judged by.
        settings: every knob.
        device: to train on.
        clock: gives seconds that only grow.
        team: the processes that share it; each holds all of it.

    Attributes:
        network: that learns; between two steps it holds what the last gradient was taken of.
        average: of all the weights so far, the later ones counting more.
        candidate: that average as a model file holds it, which is judged, drawn from and kept; see `settle`.
        optimizer: moves them.
        progress: how far it has come.
        kept: checkpoints, all finite: the best one at the end, and before it the oldest that is as good within noise.
        watch: for memorizing.
        draws_by: how it draws what somebody hears meanwhile, and what is looked at for copies.
        source: of the batches; an epoch has about `batches` of them, a few more or less where long recordings are cut
            at random.
        context: frames that the network reads at a time.
        kinds: names of the kinds that the network is told apart; none where it learns from no copies.
        judged: bool `[held-out frames]`, those that it is judged by, which have `judged_codes` codes.
        dtype: precision to compute in.
        pace: how fast it goes; measured, and no part of its state.
        came_from: the machine that a state is from which it went on from; None where it began anew.
    """

    def __init__(
        self,
        corpus: CodeCorpus,
        settings: PriorSettings,
        device: torch.device,
        clock: Callable[[], float] = time.monotonic,
        team: Team | None = None,
    ) -> None:
        self.corpus, self.settings, self.device, self.clock = corpus, settings, device, clock
        self.team = team or Team()
        self.kinds = kinds_told(corpus, settings)
        sizes = network_settings(settings, corpus.frame_seconds, self.kinds)
        self.context = sizes.context_frames
        self.network = PriorNetwork(corpus.shape, corpus.codebooks, sizes).to(device)
        self.average = copy.deepcopy(self.network).eval()
        self.candidate = copy.deepcopy(self.average).to(device)  # where cuDNN wants a GRU's weights side by side
        self.dtype = fastest_precision(device)
        self.optimizer = ScheduleFree(self.network, self.average, settings, self.dtype, self.team)
        self.source = CodeBatches(
            corpus,
            context=self.context,
            batch_size=settings.batch_size,
            seed=settings.seed,
            pin_memory=device.type == "cuda",
            augmented_share=settings.augmented_share,
            mixed=self.network.core.most_parts > 1,  # else a batch takes the time of its longest window
        )
        self.batches = len(self.source)
        self.progress = Progress()
        self.kept: list[Checkpoint] = []
        self.watch = Watch(CopyMeter(corpus))
        self.draws_by = Draw(top_p=default_top_p(corpus.frame_seconds))
        self.judged = self.watch.meter.unheard.judged
        self.judged_codes = int(self.judged.sum()) * corpus.shape.frame_codes
        self.pace = Pace(self.batches, clock)
        self.started = clock()
        self.came_from: dict[str, str] | None = None

    @property
    def epoch(self) -> int:
        """The epoch under way, counted from 1."""
        return self.progress.epochs + 1

    @property
    def last_epoch(self) -> int:
        """The last one, if it gains no more than it has; the same for all members of a team."""
        return self._last_after(self.gained_epoch, self.best_epoch) if self.kept else self.settings.epochs

    @property
    def seconds(self) -> float:
        """Since the start of training, without what lay between its being broken off and going on."""
        return self.clock() - self.started

    @property
    def parameters(self) -> int:
        """Learned numbers in the network."""
        return sum(weights.numel() for weights in self.network.parameters())

    @property
    def train_bits(self) -> float:
        """Bits per code over the epoch under way; infinite where none had a finite loss."""
        return self.progress.epoch_bits / self.progress.epoch_codes if self.progress.epoch_codes else math.inf

    @property
    def best_epoch(self) -> int:
        """Of the best checkpoint, or 0 before there is one."""
        return self.kept[-1].epoch if self.kept else 0

    @property
    def gained_epoch(self) -> int:
        """The last one that brought a gain that counts: the first as good as the best but for `GAIN`; 0 before one."""
        return as_good_as_best(self.progress.held_out_perplexities, self.best_perplexity)

    @property
    def best_perplexity(self) -> float:
        """Of the best checkpoint, infinite before there is one."""
        return perplexity(self.kept[-1].bits) if self.kept else math.inf

    @functools.cached_property
    def corpus_digest(self) -> str:
        """What tells the corpus from another one."""
        return corpus_digest(self.corpus)

    @property
    def machine(self) -> dict[str, str]:
        """What decides, besides its state, whether going on gives the same prior bit for bit."""
        return machine_facts(self.device, self.dtype) | {"processes": str(self.team.size)} | HOW_IT_TRAINS

    def batch_is_done(self, bits: float, codes: int) -> None:
        """Count a batch of so many codes that cost so many bits; not finite where it was left out."""
        now, counts = self.progress, math.isfinite(bits)
        self.progress = replace(
            now,
            step=now.step + 1,
            batches=now.batches + 1,
            epoch_bits=now.epoch_bits + (bits if counts else 0.0),
            epoch_codes=now.epoch_codes + (codes if counts else 0),
            skipped_batches=now.skipped_batches + (not counts),
        )

    def settle(self) -> None:
        """Let the candidate be what the averaged weights are now."""
        round_to_half(self.average.state_dict(), self.candidate.state_dict())

    def keep(self, bits: float, sequence_bits: np.ndarray) -> None:
        """Keep the candidate as the best one, and of the others the oldest that is as good within noise.

        Args:
            bits, sequence_bits: of theirs, as a `Checkpoint` has them.
        """
        best = Checkpoint(self.epoch, bits, sequence_bits, halved(self.candidate.state_dict()), self.seconds)
        self.kept = [*[one for one in self.kept if one.as_good_as(best)][:1], best]

    def epoch_is_done(self, held_out_bits: float) -> None:
        """Count the epoch under way, which was judged by so many bits per code, and begin the next one."""
        now = self.progress
        self.progress = replace(
            now,
            batches=0,
            epoch_bits=0.0,
            epoch_codes=0,
            train_perplexities=(*now.train_perplexities, perplexity(self.train_bits)),
            held_out_perplexities=(*now.held_out_perplexities, perplexity(held_out_bits)),
            memorizing=(*now.memorizing, self.watch.memorizing),
        )

    def seconds_left(self, batch: int) -> tuple[float, float]:
        """Seconds until the end, if it gains no more from now on, and at most; after so many batches of this epoch."""
        least = self._last_after(self.gained_epoch or self.epoch, self.best_epoch or self.epoch)
        most = self.settings.epochs if self.epoch <= least else least
        return self.pace.seconds_left(self.epoch, batch, least), self.pace.seconds_left(self.epoch, batch, most)

    def _last_after(self, gained: int, best: int) -> int:
        """The last epoch, if none gains over the one, nor is better than the other."""
        most, patience = self.settings.epochs, self.settings.patience
        return min(most, last_epoch_after(gained, best, patience, self.batches)) if patience else most

    def draw(self, frames: int, seed: int) -> np.ndarray:
        """What the candidate draws, int `[frames, bands, levels]`."""
        return draw_grids(self.candidate, 1, Wanted(frames, frames, seed, self.draws_by))[0]

    def state_dict(self) -> dict[str, Any]:
        """All that the training is now: plain values, and tensors, which are the training's own."""
        return vars(self.progress) | {
            "settings": self.settings.as_dict(),
            "corpus": self.corpus_digest,
            "judged_codes": self.judged_codes,
            "seconds": self.seconds,
            "machine": self.machine,
            "watch": self.watch.as_dict(),
            **self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "kept_epochs": tuple(one.epoch for one in self.kept),
            "kept_seconds": tuple(one.seconds for one in self.kept),
            "kept": [
                {"weights": whole(one.weights), "sequence_bits": torch.from_numpy(one.sequence_bits)}
                for one in self.kept
            ],
            "random": random_streams(self.device),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Be where a run over this corpus with these settings was when it gave this `state_dict`.

        Random streams are torch's own, and go there, too.

        Raises:
            NotResumable: it was judged by other codes, or is damaged.
        """
        if (state["judged_codes"] or self.corpus.held_out.codes.size) != self.judged_codes:
            raise NotResumable("it was judged by stretches of the held-out recordings that are also trained on")
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state)
        self.progress = Progress(**{field.name: state[field.name] for field in fields(Progress)})
        self.kept = []
        for epoch, seconds, one in zip(state["kept_epochs"], state["kept_seconds"], state["kept"], strict=True):
            bits = one["sequence_bits"].numpy().copy()
            weights = halved({name: tensor.to(self.device) for name, tensor in one["weights"].items()})
            self.kept.append(Checkpoint(epoch, float(bits.sum()) / self.judged_codes, bits, weights, seconds))
        try:
            self.watch.take_up(state["watch"])
            set_random_streams(state["random"], self.device)
        except (PriorError, RuntimeError, TypeError) as error:
            raise NotResumable("it is damaged (what it knows of copies or random numbers cannot be)") from error
        self.started = self.clock() - state["seconds"]
        self.came_from = state["machine"]

    def snapshot(self) -> TrainingState:
        """Its state, as `train_prior` can go on from it later. On the CPU its tensors are the training's own."""
        return TrainingState.of(self.state_dict())


def kinds_told(corpus: CodeCorpus, settings: PriorSettings) -> tuple[str, ...]:
    """The kinds that a network is told apart in a training; none where it learns from no copies."""
    return (*corpus.kinds, LATER) if settings.augmented_share and corpus.kinds else ()


def checked_state(state: TrainingState, corpus: CodeCorpus, settings: PriorSettings) -> dict[str, Any]:
    """The `state_dict` for a run over this corpus with these settings, seen to be one before much memory is taken.

    Raises:
        NotResumable: the state is another training's, or damaged.
    """
    for knob in KNOBS:
        then, now = getattr(state.settings, knob.name), getattr(settings, knob.name)
        if then != now:
            raise NotResumable(f"its {knob.name} is {then}, not {now}")
    if state.corpus != corpus_digest(corpus):
        raise NotResumable("it has learned from other codes than those of these recordings")
    with torch.device("meta"):
        sizes = network_settings(settings, corpus.frame_seconds, kinds_told(corpus, settings))
        network = PriorNetwork(corpus.shape, corpus.codebooks, sizes)
    return state.state_dict(network.state_dict(), len(corpus.held_out))


def check_alike(run: Run) -> None:
    """See that all members of a run's team will compute the same.

    Raises:
        PriorError: they would not; each of them sees it.
    """
    own = run.machine | ({"codes": run.corpus_digest} if run.team.size > 1 else {})
    first, *others = run.team.gathered(own)
    for number, other in enumerate(others, start=2):
        for name, value in other.items():
            if value != first[name]:
                raise PriorError(
                    f"Process {number} of {run.team.size} has other {name} than the first one ({value}, not "
                    f"{first[name]}): what trains one prior must be alike, or its weights would drift apart."
                )
