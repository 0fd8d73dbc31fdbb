"""A training that was broken off goes on as if nothing had happened, or says why it cannot."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sda_prior_plugin import (
    BatchDone,
    CodeCorpus,
    EpochDone,
    MemorizingFound,
    NotResumable,
    PriorRun,
    PriorSettings,
    TrainingEvent,
    TrainingResumed,
    TrainingStarted,
    TrainingState,
    train_prior,
)
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.edge.resumable import StateFile
from sda_prior_plugin.network import LATER_WEIGHTS
from sda_prior_plugin.watch import Bits, Watch

from .conftest import LEVELS, SIZE, Recovering, assert_same, loops, small_settings

FIXTURES = Path(__file__).parents[1] / "fixtures"


def states_of(corpus: CodeCorpus, settings: PriorSettings) -> tuple[PriorRun, list[TrainingState]]:
    """An unbroken training, and its state after every batch and every epoch, each as it would come from a file."""
    states: list[TrainingState] = []

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, BatchDone | EpochDone):
            state = copy.deepcopy(event.state())
            facts = json.loads(json.dumps(state.as_dict(), allow_nan=False))
            states.append(TrainingState.from_parts(facts, state.tensors))

    return train_prior(corpus, settings, on_event=on_event), states


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_from_any_batch_or_epoch_it_goes_on_to_the_prior_of_the_unbroken_run(
    corpus: CodeCorpus, architecture: str
) -> None:
    settings = small_settings(corpus, architecture=architecture, epochs=2, dropout=0.2)
    run, states = states_of(corpus, settings)
    assert {state.epochs for state in states} == {0, 1, 2}
    for state in (states[0], *states[3::5], *states[-2:]):
        assert_same(train_prior(corpus, settings, resume_from=state), run)


def test_an_epoch_that_was_not_finite_is_no_more_the_best_after_it_goes_on(recovering: Recovering) -> None:
    never_finite = [state for state in recovering.states if not state.kept_epochs]
    assert 0 < len(never_finite) < len(recovering.states)
    for state in (never_finite[0], never_finite[-1], recovering.states[-1]):
        told: list[TrainingEvent] = []
        run = train_prior(recovering.corpus, recovering.settings, on_event=told.append, resume_from=state)
        assert_same(run, recovering.run)
        (resumed,) = (event for event in told if isinstance(event, TrainingResumed))
        assert resumed.held_out_perplexities == run.report.held_out_perplexities[: state.epochs]
        assert (resumed.best_epoch == 0) == (state in never_finite[:1] + never_finite[-1:])


def test_a_state_that_keeps_an_epoch_that_was_not_finite_is_refused(recovering: Recovering) -> None:
    facts = recovering.states[-1].as_dict()
    facts["held_out_perplexities"][facts["kept_epochs"][-1] - 1] = None
    with pytest.raises(NotResumable, match="checkpoints are of epochs that diverged"):
        TrainingState.from_parts(facts, {})


@pytest.fixture(scope="module")
def reciting() -> tuple[CodeCorpus, PriorSettings, PriorRun, list[TrainingState]]:
    """A training on noise, in which there is nothing to learn but the recordings themselves."""
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, SIZE, (int(rng.integers(8, 20)), 4, LEVELS)) for _ in range(18)]
    codebooks = rng.normal(size=(LEVELS, SIZE, 8))
    corpus = CodeCorpus.from_sequences(noise[:6], noise[6:], codebooks=codebooks)
    settings = small_settings(corpus, epochs=60, dropout=0.0, weight_decay=0.0, learning_rate=1e-2)
    return corpus, settings, *states_of(corpus, settings)


def test_what_is_known_of_memorizing_survives(
    reciting: tuple[CodeCorpus, PriorSettings, PriorRun, list[TrainingState]],
) -> None:
    """Also between the first look that finds copies and the second one, which is believed."""
    corpus, settings, run, states = reciting
    assert run.report.memorization is not None
    ((first, last),) = run.report.memorization.memorizing_epochs
    assert first < last
    by_epoch = {state.epochs: state for state in states if not state.batches}
    believed = min(epoch for epoch, state in by_epoch.items() if any(state.memorizing))
    for epoch in (first, believed):
        found: list[MemorizingFound] = []

        def on_event(event: TrainingEvent, found: list[MemorizingFound] = found) -> None:
            if isinstance(event, MemorizingFound):
                found.append(event)

        assert_same(train_prior(corpus, settings, on_event=on_event, resume_from=by_epoch[epoch]), run)
        assert len(found) == 1, "a person who continues it is told"


def test_a_watch_keeps_nothing_back(corpus: CodeCorpus) -> None:
    """Whatever is added to it has to be in its state, too."""
    meter = CopyMeter(corpus)
    copied = [corpus.train[index] for index in range(len(corpus.train))]
    for looks in range(1, 6):
        watch = Watch(meter)
        for epoch in range(1, looks + 1):
            watch.look(epoch, Bits(0.1, np.inf, 2.0), copied if epoch < 4 else loops(9, seed=77))
        other = Watch(meter)
        other.take_up(json.loads(json.dumps(watch.as_dict(), allow_nan=False)))
        assert vars(other) == vars(watch)


def test_a_state_of_version_1_of_its_file_is_gone_on_from(tmp_path: Path) -> None:
    """In another way, which it says; what went before, and the best checkpoint if none is better, stays."""
    shutil.copy(FIXTURES / "training-1.sda.training", tmp_path)
    unfinished = StateFile(tmp_path / "training-1.sda").read()
    assert unfinished is not None
    kept = np.load(FIXTURES / "training-1.npz")
    train, held_out = (np.split(kept[part], np.cumsum(kept[f"{part}_lengths"])[:-1]) for part in ("train", "held_out"))
    corpus = CodeCorpus.from_sequences(train, held_out, codebooks=kept["codebooks"])
    state, events = unfinished.state, list[TrainingEvent]()
    assert (state.epochs, state.batches, state.kept_epochs) == (25, 2, (16, 25))
    assert (state.settings.epochs, state.settings.patience) == (30, 0)
    run = train_prior(corpus, state.settings, on_event=events.append, resume_from=state)
    (resumed,) = [event for event in events if isinstance(event, TrainingResumed)]
    assert "optimizer unknown before, schedule-free Muon and AdamW now" in resumed.differences
    assert "batches unknown before, shared out by length now" in resumed.differences
    assert run.report.held_out_perplexities[:25] == pytest.approx(kept["held_out_curve"].tolist()[:25], rel=1e-4)
    assert (run.report.ended, run.report.epochs_trained) == ("finished", 30)
    assert max(run.report.held_out_perplexities[25:]) < 1.1 * min(kept["held_out_curve"]), "what was learned is there"


@pytest.mark.parametrize(("later", "value"), LATER_WEIGHTS.items())
def test_a_state_without_later_weights_is_gone_on_from_as_if_they_had_never_changed_anything(
    corpus: CodeCorpus, later: str, value: float
) -> None:
    frames = replace(corpus, frame_seconds=0.05)
    settings = small_settings(frames)
    _, states = states_of(frames, settings)
    state = next(state for state in states if state.epochs == 2)
    ones = {name: tensor for name, tensor in state.tensors.items() if name.endswith(f".{later}")}
    assert {"ahead.", "average.", "squares.", "kept.0.weights."} <= {name[: -len(later)] for name in ones}
    older = {name: tensor for name, tensor in state.tensors.items() if name not in ones}
    told = older | {
        name: torch.full_like(one, 0.0 if name.startswith("squares.") else value) for name, one in ones.items()
    }
    runs = [train_prior(frames, settings, resume_from=replace(state, tensors=kind)) for kind in (older, told)]
    assert_same(*runs)


def test_it_tells_what_went_before(corpus: CodeCorpus) -> None:
    settings = small_settings(corpus)
    run, states = states_of(corpus, settings)
    events: list[TrainingEvent] = []
    state = next(state for state in states if state.epochs == 2)
    train_prior(corpus, settings, on_event=events.append, resume_from=state)
    started, resumed, *rest = events
    assert isinstance(started, TrainingStarted)
    assert isinstance(resumed, TrainingResumed)
    assert resumed.held_out_perplexities == run.report.held_out_perplexities[:2]
    assert resumed.train_perplexities == run.report.train_perplexities[:2]
    assert (resumed.memorizing, resumed.differences) == ((False, False), ())
    assert [event.epoch for event in rest if isinstance(event, EpochDone)] == [3]


def test_what_is_not_as_it_was_is_told_and_it_goes_on(corpus: CodeCorpus) -> None:
    settings = small_settings(corpus, epochs=1)
    _, states = states_of(corpus, settings)
    elsewhere = replace(states[0], machine={**states[0].machine, "threads": "64"})
    events: list[TrainingEvent] = []
    train_prior(corpus, settings, on_event=events.append, resume_from=elsewhere)
    (resumed,) = [event for event in events if isinstance(event, TrainingResumed)]
    assert resumed.differences == (f"threads 64 before, {torch.get_num_threads()} now",)


def test_time_goes_on_from_where_it_was(corpus: CodeCorpus) -> None:
    settings = small_settings(corpus)
    _, states = states_of(corpus, settings)
    run = train_prior(corpus, settings, resume_from=replace(states[-1], seconds=5000.0))
    assert 5000 < run.report.seconds < 5060


def test_resuming_leaves_the_callers_random_state_alone(corpus: CodeCorpus) -> None:
    settings = small_settings(corpus, epochs=1)
    _, states = states_of(corpus, settings)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_prior(corpus, settings, resume_from=states[0])
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture(scope="module")
def state(corpus: CodeCorpus) -> TrainingState:
    """The state of a training of two epochs after its first."""
    _, states = states_of(corpus, small_settings(corpus, epochs=2))
    return next(state for state in states if state.epochs == 1)


def test_another_setting_is_named(corpus: CodeCorpus, state: TrainingState) -> None:
    with pytest.raises(NotResumable, match=r"its epochs is 2, not 3"):
        train_prior(corpus, replace(state.settings, epochs=3), resume_from=state)


@pytest.mark.parametrize("part", ["train", "held_out", "codebooks"])
def test_other_codes_are_noticed(corpus: CodeCorpus, state: TrainingState, part: str) -> None:
    if part == "codebooks":
        other = replace(corpus, codebooks=corpus.codebooks + np.float32(1))
    else:
        sequences = getattr(corpus, part)
        codes = sequences.codes.copy()
        codes[0, 0, 0] ^= 1
        other = replace(corpus, **{part: replace(sequences, codes=codes)})
    with pytest.raises(NotResumable, match="other codes"):
        train_prior(other, state.settings, resume_from=state)


def without(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.pop(next(key for key in tensors if key.startswith(name)))  # type: ignore[arg-type,return-value]


def changed(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], None]:
    def act(tensors: dict[str, torch.Tensor]) -> None:
        key = next(key for key in tensors if key.startswith(name))
        tensors[key] = change(tensors[key])

    return act


DAMAGE: dict[str, tuple[Callable[[dict[str, torch.Tensor]], None], str]] = {
    "weights missing": (without("ahead."), "lacks ahead"),
    "averaged weights missing": (without("average."), "lacks average"),
    "moments missing": (without("squares.logits.bias"), "lacks squares.logits.bias"),
    "checkpoint missing": (without("kept.0.weights."), "lacks kept.0"),
    "checkpoint's bits missing": (without("kept.0.sequence_bits"), "lacks kept.0.sequence_bits"),
    "random stream missing": (without("random."), "lacks random.cpu"),
    "a tensor too many": (lambda tensors: tensors.update(more=torch.zeros(1)), "more is unknown"),
    "another shape": (changed("ahead.", lambda tensor: tensor[:-1]), "its ahead"),
    "another type": (changed("average.", torch.Tensor.double), "its average"),
    "not a number": (changed("ahead.", lambda tensor: tensor * float("nan")), "not finite"),
    "moments not finite": (changed("squares.", lambda tensor: tensor + float("inf")), "not finite"),
    "other sequences": (changed("kept.0.sequence_bits", lambda tensor: tensor[1:]), "its kept.0"),
    "no random stream": (changed("random.", torch.zeros_like), "random numbers"),
    "a short random stream": (changed("random.", lambda tensor: tensor[1:]), "its random.cpu"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_tensors_that_cannot_be_are_refused(corpus: CodeCorpus, state: TrainingState, case: str) -> None:
    damage, message = DAMAGE[case]
    tensors = dict(state.tensors)
    damage(tensors)
    with pytest.raises(NotResumable, match=message):
        train_prior(corpus, state.settings, resume_from=replace(state, tensors=tensors))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TrainingState) if field.name != "tensors"])
def test_facts_that_cannot_be_are_refused(corpus: CodeCorpus, state: TrainingState, name: str) -> None:
    whole = state.as_dict()
    wrong = [None, -1, "x", [["x"]], float("inf"), True, 10**400, {"x": []}]
    if name == "watch":
        wrong += [whole[name] | {"bits": "x"}, whole[name] | {"stretches": [[1]]}, whole[name] | {"agreeing": None}]
    cases = [whole | {name: value} for value in wrong if (name, value) != ("corpus", "x")]
    for facts in [*cases, {other: fact for other, fact in whole.items() if other != name}]:
        with pytest.raises(NotResumable, match=r"^The training cannot be continued: its? .*\.$"):
            train_prior(corpus, state.settings, resume_from=TrainingState.from_parts(facts, state.tensors))


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"train_perplexities": []}, "curves"),
        ({"memorizing": [False] * 3}, "curves"),
        ({"kept_epochs": [], "kept_seconds": []}, "checkpoints"),
        ({"kept_epochs": [7]}, "checkpoints"),
        ({"kept_epochs": [1, 1], "kept_seconds": [1, 1]}, "checkpoints"),
        ({"epoch_codes": 7}, "position"),
        ({"looked_at": [9, 0]}, "looks"),
        ({"looked_at": [0, 10**6]}, "looks"),
        ({"hurried_since": 2}, "looks"),
    ],
)
def test_facts_that_do_not_agree_are_refused(state: TrainingState, facts: dict[str, Any], problem: str) -> None:
    with pytest.raises(NotResumable, match=f"its {problem}"):
        TrainingState.from_parts(state.as_dict() | facts, {})
