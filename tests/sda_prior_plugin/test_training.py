"""Training: what it learns, tells, keeps and refuses."""

from __future__ import annotations

import json
import math
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
    TrainingReport,
    TrainingStarted,
    train_prior,
)
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.judging import held_out_bits
from sda_prior_plugin.run import Run
from sda_prior_plugin.sampling import Wanted, draw_grids
from sda_prior_plugin.training import end_epoch, train, train_epoch

from .conftest import BANDS, LEVELS, SIZE, Recovering, loops, small_settings


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_it_learns_what_there_is_to_learn(corpus: CodeCorpus, architecture: str) -> None:
    """Knowing nothing costs 4 bits a code; knowing all but the errors and which loop it is costs about 0.5."""
    run = train_prior(corpus, small_settings(corpus, architecture=architecture, epochs=25))
    assert run.report.bits_per_code < 1.0


def test_short_and_long_sounds_are_drawn_as_often_as_there_are_recordings_of_them(codebooks: np.ndarray) -> None:
    """No code tells which it will be."""
    short, long = np.full((4, BANDS, LEVELS), 3), np.full((20, BANDS, LEVELS), 3)
    corpus = CodeCorpus.from_sequences([short, long] * 32, [short, long] * 8, codebooks=codebooks)
    run = Run(corpus, small_settings(corpus, epochs=20, context_seconds=8.0), torch.device("cpu"))
    while run.epoch <= run.settings.epochs:
        train_epoch(run, lambda event: None)
        end_epoch(run, lambda event: None)
    lengths = np.array([len(grid) for grid in draw_grids(run.candidate, 600, Wanted(None, 40, seed=1))])
    assert np.mean(lengths <= 12) == pytest.approx(0.5, abs=0.1)
    assert np.mean(lengths) == pytest.approx(12, abs=1.5)


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
    assert batches[0].seconds_left > batches[-1].seconds_left == (0, 0)
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
    run = Run(corpus, small_settings(corpus, batch_size=1), torch.device("cpu"))
    with torch.no_grad():
        run.optimizer.ahead["logits.bias"][:, impossible] = torch.finfo(torch.float32).min
    report = train(run, lambda event: None, threading.Event()).report
    assert report.skipped_batches == report.epochs_trained == 3
    assert report.final_perplexity < SIZE


def test_a_run_that_only_diverges_ends_with_a_clear_error(corpus: CodeCorpus) -> None:
    nowhere = replace(corpus, codebooks=np.full_like(corpus.codebooks, np.inf))
    with pytest.raises(PriorError, match="smaller “Learning rate”"):
        train_prior(nowhere, small_settings(nowhere))


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_a_run_that_breaks_down_after_an_epoch_worse_than_knowing_nothing_gives_no_prior(
    corpus: CodeCorpus, architecture: str
) -> None:
    epochs: list[EpochDone] = []

    def tell(event: TrainingEvent) -> None:
        if isinstance(event, EpochDone):
            epochs.append(event)

    run = Run(corpus, small_settings(corpus, architecture=architecture, epochs=30), torch.device("cpu"))
    train_epoch(run, tell)
    with torch.no_grad():
        run.average.logits.own.mul_(-50)
    end_epoch(run, tell)
    with torch.no_grad():
        run.optimizer.ahead["logits.own"].fill_(math.inf)
    with pytest.raises(PriorError, match="smaller “Learning rate” than"):
        train(run, tell, threading.Event())
    assert SIZE < epochs[0].held_out_perplexity < math.inf
    assert len(epochs) == 1, "it ends where nothing can be learned any more"


def test_a_run_that_breaks_down_later_keeps_the_best_before_that_and_says_which_epochs_were_not_finite(
    corpus: CodeCorpus,
) -> None:
    run = train_prior(corpus, small_settings(corpus, learning_rate=0.5, weight_decay=20.0, epochs=30))
    curve = run.report.held_out_perplexities
    assert run.report.ended == "diverged"
    assert run.report.final_perplexity == min(curve) < SIZE
    assert curve[-1] == math.inf
    facts = json.loads(json.dumps(run.report.as_dict(), allow_nan=False))
    assert facts["held_out_perplexities"][-1] is None
    assert TrainingReport.from_dict(facts) == run.report
    assert np.isfinite(run.prior.log2_probs(loops(1, seed=9)[0])).all()


def test_an_epoch_that_is_not_finite_is_never_the_best_not_even_the_first(recovering: Recovering) -> None:
    run, epochs = recovering.run, recovering.epochs
    curve = run.report.held_out_perplexities
    assert curve[0] == math.inf
    assert run.report.best_epoch == 1 + int(np.argmin(curve)) > 1
    assert run.report.final_perplexity == min(curve) < math.inf
    assert (epochs[0].best_epoch, epochs[0].best_perplexity) == (0, math.inf)
    assert epochs[-1].best_epoch == run.report.best_epoch


def test_weights_that_become_infinite_end_the_run_with_the_best_checkpoint_before_that(corpus: CodeCorpus) -> None:
    """Though the infinite one is that of no code that occurs, and changes no loss."""

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, EpochDone) and event.epoch == 2:
            with torch.no_grad():
                run.optimizer.ahead["logits.bias"][:, -1] = -math.inf

    unused = CodeCorpus.from_sequences(
        [grid // 2 for grid in loops(40, seed=1)], [grid // 2 for grid in loops(10, seed=2)], codebooks=corpus.codebooks
    )
    run = Run(unused, small_settings(unused, epochs=6), torch.device("cpu"))
    report = train(run, on_event, threading.Event()).report
    assert (report.ended, report.epochs_trained, report.best_epoch) == ("diverged", 3, 2)
    assert report.held_out_perplexities[-1] == math.inf


def test_one_frame_to_train_on_and_one_held_out_are_enough(corpus: CodeCorpus) -> None:
    one = loops(2, seed=1, frames=(1, 2))
    least = CodeCorpus.from_sequences(one[:1], one[1:], codebooks=corpus.codebooks)
    run = train_prior(least, small_settings(least, epochs=2))
    assert run.prior.sample(frames=3, seed=1).shape[0] == 3


@pytest.mark.slow
def test_real_codes_are_predicted_better_than_by_the_reference_within_seconds(shared: Path) -> None:
    codes = np.load(shared / "codes" / "tabla2.npz")
    corpus = CodeCorpus.from_sequences(list(codes["augmented"]), list(codes["held_out"]), codebooks=codes["codebooks"])
    run = train_prior(corpus, small_settings(corpus, hidden_size=128, heads=4, epochs=3, context_seconds=8.0))
    bits = [-run.prior.log2_probs(grid).ravel()[1:] for grid in codes["held_out"]]
    assert np.concatenate(bits).mean() < float(codes["reference_bits_per_code"])


def test_a_perplexity_is_never_better_than_knowing_everything(run: PriorRun) -> None:
    assert 1 <= run.report.final_perplexity < SIZE
