"""What continuing recordings gives, and since when it is said that a prior recites."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sda_prior_plugin import (
    CodeCorpus,
    EpochDone,
    MemorizingFound,
    PriorRun,
    TrainingEvent,
    TrainingReport,
    TrainingResumed,
    TrainingState,
    train_prior,
)
from sda_prior_plugin.copy_meter import CopyMeter
from sda_prior_plugin.edge.bundle_entry import heard_lines, memorization_lines
from sda_prior_plugin.edge.tab.training import PriorProgress
from sda_prior_plugin.extraction import beginnings, extract, first_variants
from sda_prior_plugin.memorization import GAP, UNKNOWN, CopyRate, MemorizationReport
from sda_prior_plugin.training_state import NotResumable

from .conftest import small_settings


@pytest.fixture(scope="module")
def reciting(noise: CodeCorpus) -> tuple[PriorRun, list[TrainingEvent], list[TrainingState]]:
    """A training past its best, what it told, and its state after each epoch."""
    events: list[TrainingEvent] = []
    states: list[TrainingState] = []

    def on_event(event: TrainingEvent) -> None:
        events.append(event)
        if isinstance(event, EpochDone):
            state = event.state()
            tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
            states.append(dataclasses.replace(state, tensors=tensors))

    settings = small_settings(
        noise, epochs=60, dropout=0.0, weight_decay=0.0, learning_rate=1e-2, hidden_size=64, context_seconds=4.0
    )
    return train_prior(noise, settings, on_event=on_event), events, states


def test_a_beginning_is_a_stretch_of_a_recording_and_what_follows_it() -> None:
    pieces = [np.arange(30)[:, None, None] + 100 * piece for piece in range(4)] + [np.zeros((4, 1, 1), int)]
    chosen = beginnings(pieces, given=18, frames=6, rng=np.random.default_rng(0))
    assert len(chosen) == 4, "the last one is too short"
    for stretch in chosen:
        assert len(stretch) == 24
        assert (np.diff(stretch[:, 0, 0]) == 1).all()


def test_a_prior_that_recites_goes_on_as_the_recordings_do_and_not_as_unheard_ones(
    noise: CodeCorpus, reciting: tuple[PriorRun, list[TrainingEvent], list[TrainingState]]
) -> None:
    run, _, states = reciting
    meter = CopyMeter(noise)
    kept = extract(run.prior.network, meter.sketch, first_variants(noise.train), meter.pieces, meter.frame_seconds, 0)
    network = train_prior(noise, run.prior.settings, resume_from=states[0]).prior.network  # of the right shape
    last = {name.removeprefix("average."): tensor for name, tensor in states[-1].tensors.items() if "average." in name}
    network.load_state_dict(last)
    late = extract(network, meter.sketch, first_variants(noise.train), meter.pieces, meter.frame_seconds, 0)
    assert kept is not None
    assert late is not None
    assert late.train_greedy >= 0.5 > kept.train_greedy
    assert late.train > kept.train
    assert late.held_out == late.held_out_greedy == 0.0
    assert run.report.memorization is not None
    assert run.report.memorization.extraction == kept


def test_since_when_it_recites_is_the_same_everywhere(
    noise: CodeCorpus, reciting: tuple[PriorRun, list[TrainingEvent], list[TrainingState]]
) -> None:
    """Live, on the page's chart, after a resume, and in the file, which the picture is drawn from."""
    run, events, states = reciting
    (found,) = [event for event in events if isinstance(event, MemorizingFound)]
    assert run.report.memorization is not None
    stretches = run.report.memorization.memorizing_epochs
    assert found.epoch == stretches[0][0]
    page = PriorProgress()
    for event in events:
        page.on_event(event)
    assert page.reciting == stretches
    again, resumed = PriorProgress(), list[TrainingEvent]()
    train_prior(noise, run.prior.settings, on_event=resumed.append, resume_from=states[-1])
    for event in resumed:
        again.on_event(event)
    assert again.reciting == page.reciting
    (told,) = [event for event in resumed if isinstance(event, MemorizingFound)]
    (before,) = [event for event in resumed if isinstance(event, TrainingResumed)]
    assert told.epoch == found.epoch
    assert before.memorizing_epochs == stretches


def test_a_report_of_an_earlier_version_is_read(
    reciting: tuple[PriorRun, list[TrainingEvent], list[TrainingState]],
) -> None:
    """Without near copies, nearness, extraction, and without saying what was heard."""
    facts = json.loads(json.dumps(reciting[0].report.as_dict()))
    assert TrainingReport.from_dict(facts) == reciting[0].report
    for name in ("heard_seconds", "held_out_seconds"):
        del facts[name]
    for name in ("near", "nearness", "extraction"):
        del facts["memorization"][name]
    report = TrainingReport.from_dict(facts)
    assert report.heard_seconds is None
    assert isinstance(report.memorization, MemorizationReport)
    assert (report.memorization.near, report.memorization.nearness, report.memorization.extraction) == (None,) * 3


def test_the_card_says_what_was_heard_and_speaks_of_verbatim_and_near_copies_apart(
    reciting: tuple[PriorRun, list[TrainingEvent], list[TrainingState]],
) -> None:
    report = dataclasses.replace(reciting[0].report, heard_seconds=5.0, held_out_seconds=19.0)
    assert heard_lines(report) == [
        ("Held out", "5.0 of 19.0 s held out are also trained on: the prior is judged by the rest")
    ]
    near = CopyRate(1.0, 6, 0.12, 100, 0.04, 50, 0.2)
    assert report.memorization is not None
    lines = dict(memorization_lines(dataclasses.replace(report.memorization, near=near)))
    assert lines["Near copies"] == "12% of 1.0 s, verbatim ones among them (recordings share 4% with each other)"
    assert "Continuations" in lines
    unknown = dataclasses.replace(report.memorization, basis=GAP, verdict=UNKNOWN)
    assert dict(memorization_lines(unknown))["Memorization"].startswith("cannot be known; too few different recordings")


def test_a_state_that_was_judged_by_other_codes_is_not_continued(
    noise: CodeCorpus, reciting: tuple[PriorRun, list[TrainingEvent], list[TrainingState]]
) -> None:
    run, _, states = reciting
    other = dataclasses.replace(states[0], judged_codes=states[0].judged_codes - 4)
    with pytest.raises(NotResumable, match="also trained on"):
        train_prior(noise, run.prior.settings, resume_from=other)
    older = TrainingState.from_parts(
        {name: fact for name, fact in states[0].as_dict().items() if name != "judged_codes"}, states[0].tensors
    )
    assert older.judged_codes == 0
