"""Training: what it learns, tells, keeps and refuses."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sda_prior_plugin import (
    BatchDone,
    CodeCorpus,
    EpochDone,
    NothingTrained,
    PriorError,
    PriorRun,
    TrainingEnded,
    TrainingEvent,
    TrainingStarted,
    train_prior,
)
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.training import Trainer, held_out_bits

from .conftest import SIZE, loops, small_settings


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_it_learns_what_there_is_to_learn(corpus: CodeCorpus, architecture: str) -> None:
    """Knowing nothing costs 4 bits a code; knowing all but the errors and which loop it is costs about 0.5."""
    run = train_prior(corpus, small_settings(corpus, architecture=architecture, epochs=25))
    assert run.report.bits_per_code < 1.0


def test_the_kept_checkpoint_is_the_one_with_the_lowest_held_out_perplexity(corpus: CodeCorpus) -> None:
    tiny = CodeCorpus.from_sequences(loops(3, seed=1), loops(5, seed=2), codebooks=corpus.codebooks)
    run = train_prior(tiny, small_settings(tiny, epochs=60, dropout=0.0, weight_decay=0.0, learning_rate=1e-2))
    curve = run.report.held_out_perplexities
    assert run.report.best_epoch == 1 + int(np.argmin(curve)) < len(curve), "it must have overfitted"
    assert run.report.final_perplexity == min(curve)
    context, unheard = run.prior.network.settings.context_frames, CopyMeter(tiny).unheard
    bits = held_out_bits(
        run.prior.network, tiny, unheard.judged, context, run.prior.settings.batch_size, dtype=torch.float32
    )
    codes = unheard.judged.sum() * tiny.shape.frame_codes
    assert 2 ** (bits.sum() / codes) == pytest.approx(run.report.final_perplexity, rel=0.02)


def test_the_perplexity_of_recordings_longer_than_the_context_is_what_the_prior_states(codebooks: np.ndarray) -> None:
    held_out = loops(5, seed=2, frames=(30, 60))
    corpus = CodeCorpus.from_sequences(loops(40, seed=1), held_out, codebooks=codebooks)
    prior = train_prior(corpus, small_settings(corpus, epochs=10)).prior
    context = prior.network.settings.context_frames
    assert context < 10
    judged = np.ones(len(corpus.held_out.codes), bool)
    bits = held_out_bits(prior.network, corpus, judged, context, 3, dtype=torch.float32)
    stated = -np.concatenate([prior.log2_probs(grid).ravel() for grid in held_out]).mean()
    assert bits.sum() / corpus.held_out.codes.size == pytest.approx(stated, abs=1e-4)


def test_events_tell_the_whole_story_in_order(corpus: CodeCorpus) -> None:
    events: list[TrainingEvent] = []
    run = train_prior(corpus, small_settings(corpus), on_event=events.append)
    started, *middle, ended = events
    assert isinstance(started, TrainingStarted)
    assert started.parameters == run.prior.parameters
    assert started.held_out_codes == corpus.held_out.codes.size
    epochs = [event for event in middle if isinstance(event, EpochDone)]
    assert [event.epoch for event in epochs] == [1, 2, 3]
    assert tuple(event.held_out_perplexity for event in epochs) == run.report.held_out_perplexities
    batches = [event for event in middle if isinstance(event, BatchDone)]
    assert len(batches) == 3 * started.batches
    assert batches[0].seconds_left > batches[-1].seconds_left == 0
    assert ended == TrainingEnded("finished", 3, run.report.best_epoch, run.report.final_perplexity)


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_the_same_seed_gives_the_same_prior_bit_for_bit(corpus: CodeCorpus, architecture: str) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        settings = small_settings(corpus, architecture=architecture, epochs=2, seed=seed)
        return train_prior(corpus, settings).prior.weights

    first, second, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_training_leaves_the_callers_random_state_alone(corpus: CodeCorpus) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_prior(corpus, small_settings(corpus, epochs=1))
    assert torch.equal(torch.rand(3), expected)


def stopping_after(kind: type, number: int) -> tuple[threading.Event, object]:
    """A stop signal, and an event handler that sets it at the so-many-th event of a kind."""
    stop, seen = threading.Event(), []

    def on_event(event: TrainingEvent) -> None:
        seen.append(event) if isinstance(event, kind) else None
        if len(seen) == number:
            stop.set()

    return stop, on_event


def test_stopping_keeps_the_best_checkpoint_so_far(corpus: CodeCorpus) -> None:
    stop, on_event = stopping_after(EpochDone, 2)
    run = train_prior(corpus, small_settings(corpus, epochs=50), on_event=on_event, stop=stop)
    assert run.report.ended == "stopped"
    assert run.report.epochs_trained == 2
    assert np.isfinite(run.prior.log2_probs(loops(1, seed=9)[0])).all()


def test_stopping_before_the_first_epoch_ends_gives_nothing(corpus: CodeCorpus) -> None:
    stop, on_event = stopping_after(BatchDone, 1)
    with pytest.raises(NothingTrained, match="before the first epoch"):
        train_prior(corpus, small_settings(corpus), on_event=on_event, stop=stop)


def test_batches_without_a_finite_loss_are_left_out_and_counted(codebooks: np.ndarray) -> None:
    """One code that a single recording has is made impossible; the batches with it, and no others, are lost."""
    recordings, held_out = loops(40, seed=1), loops(10, seed=2)
    impossible = 5
    for grid in (*recordings, *held_out):
        grid[grid == impossible] = 0
    recordings[0][0, 0, 0] = impossible
    corpus = CodeCorpus.from_sequences(recordings, held_out, codebooks=codebooks)
    trainer = Trainer(
        corpus, small_settings(corpus, batch_size=1), torch.device("cpu"), lambda event: None, threading.Event()
    )
    with torch.no_grad():
        trainer.network.logits.bias[:, impossible] = torch.finfo(torch.float32).min
    run = trainer.run()
    assert run.report.skipped_batches == run.report.epochs_trained == 3
    assert run.report.final_perplexity < SIZE


def test_a_run_that_only_diverges_ends_with_a_clear_error(corpus: CodeCorpus) -> None:
    nowhere = replace(corpus, codebooks=np.full_like(corpus.codebooks, np.inf))
    with pytest.raises(PriorError, match="smaller --learning-rate"):
        train_prior(nowhere, small_settings(nowhere))


def test_one_frame_to_train_on_and_one_held_out_are_enough(corpus: CodeCorpus) -> None:
    one = loops(2, seed=1, frames=(1, 2))
    least = CodeCorpus.from_sequences(one[:1], one[1:], codebooks=corpus.codebooks)
    run = train_prior(least, small_settings(least, epochs=2))
    assert run.prior.sample(frames=3, seed=1).shape[0] == 3


def test_a_device_that_is_not_there_is_refused(corpus: CodeCorpus) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(PriorError, match="--device is mps"):
        train_prior(corpus, small_settings(corpus, device="mps"))


@pytest.mark.slow
def test_real_codes_are_predicted_better_than_by_the_reference_within_seconds(shared: Path) -> None:
    codes = np.load(shared / "codes" / "tabla2.npz")
    corpus = CodeCorpus.from_sequences(list(codes["augmented"]), list(codes["held_out"]), codebooks=codes["codebooks"])
    run = train_prior(corpus, small_settings(corpus, hidden_size=128, heads=4, epochs=3, context_seconds=8.0))
    bits = [-run.prior.log2_probs(grid).ravel()[1:] for grid in codes["held_out"]]
    assert np.concatenate(bits).mean() < float(codes["reference_bits_per_code"])


def test_a_perplexity_is_never_better_than_knowing_everything(run: PriorRun) -> None:
    assert 1 <= run.report.final_perplexity < SIZE
