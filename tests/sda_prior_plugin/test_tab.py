"""The prior's section of the training tab without a browser: what a page knows, does and says."""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import pytest
import soundfile

import host_stubs
from host_stubs.host import Host
from host_stubs.plugins import Plugins
from host_stubs.ui import Job, Jobs, SavedModels, kit
from sda_prior_plugin import KNOBS, BatchDone, ChoosingStarted, Knob, PriorError, TrainingEvent
from sda_prior_plugin.edge import plugin as prior_plugin
from sda_prior_plugin.edge import prepare_job
from sda_prior_plugin.edge.contract import Steps
from sda_prior_plugin.edge.resumable import StateFile
from sda_prior_plugin.edge.tab.model import choices, look_at, replacing
from sda_prior_plugin.edge.tab.page import PriorPage
from sda_prior_plugin.edge.tab.training import PriorProgress
from sda_prior_plugin.edge.tab.words import going, trend
from sda_prior_plugin.encoding import codes_per_second
from sda_prior_plugin.schedule import decay_for
from sda_prior_plugin.settings import HOST_CODES_PER_SECOND

from .conftest import untrained_codec

SECONDS = 60
Done = Callable[[Steps], None]
KNOB: dict[str, Knob] = {knob.name: knob for knob in KNOBS}
SMALL = {"epochs": 2, "hidden_size": 16, "layers": 1, "heads": 2, "start_offsets": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five short recordings."""
    folder = tmp_path_factory.mktemp("recordings") / "demo"
    host_stubs.write_demo_recordings(folder, seed=3, count=5)
    return folder


@pytest.fixture(scope="module")
def trained_codec(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model whose codec was trained for an epoch."""
    manifest = host_stubs.build_manifest(recordings).manifest
    parts = [[each.audio for each in manifest.recordings(part, 48_000)] for part in ("train", "held_out")]
    settings = host_stubs.VqvaeSettings(codebook_size=32, epochs=1, batch_size=4)
    run = host_stubs.train_vqvae(*parts, settings)
    path = tmp_path_factory.mktemp("trained") / "demo.sda"
    host_stubs.save_model(host_stubs.Model("demo", run.codec, manifest, report=run.report), path, Plugins())
    return path


@pytest.fixture
def host() -> Host:
    plugins = Plugins()
    plugins.add(prior_plugin, "prior")
    return Host(plugins)


@pytest.fixture
def model(trained_codec: Path, tmp_path: Path) -> Path:
    """The model, for one test alone, in a folder of its own."""
    (tmp_path / "models").mkdir()
    return Path(shutil.copy(trained_codec, tmp_path / "models" / "demo.sda"))


@pytest.fixture
def page(host: Host, model: Path, done: Done) -> PriorPage:
    """A page that was just opened."""
    page = PriorPage(host, SavedModels(model.parent, host), Jobs(), WeakValueDictionary())
    done(page.look_at_recordings())
    return page


def another(page: PriorPage) -> PriorPage:
    """One more page of the same server."""
    return PriorPage(page.host, page.models, page.jobs, page.looks)


def turn(page: PriorPage, **knobs: object) -> None:
    for name, value in knobs.items():
        page.turn(value, KNOB[name])


def ended(page: PriorPage) -> Job:
    """The page's job, once it is over and the page has looked again."""
    job = page.job
    assert isinstance(job, Job)
    assert job.wait(SECONDS)
    page.look_again()
    return job


def after_an_epoch(page: PriorPage) -> Job:
    """The page's job, once its first epoch is over."""
    job = page.job
    assert isinstance(job, Job)
    until = time.monotonic() + SECONDS
    while not job.progress.held_out:
        assert not job.over, job.message
        assert time.monotonic() < until
        time.sleep(0.01)
    return job


def test_a_page_opens_with_the_newest_model_and_its_recordings(page: PriorPage, model: Path, recordings: Path) -> None:
    assert page.chosen is not None
    assert page.chosen.path == model
    assert ("Name", "demo") in page.chosen.card
    assert page.recordings is not None
    assert page.recordings.usable
    assert page.recordings.sentence == f"It learns from the recordings of this model: 5 recordings in {recordings}."


def test_the_defaults_are_those_of_the_command(page: PriorPage, host: Host, model: Path) -> None:
    assert page.settings == prepare_job(host, model, {}).settings
    turn(page, context_seconds=2.0, batch_size=3)
    assert page.settings == prepare_job(host, model, {"context_seconds": 2.0, "batch_size": 3}).settings


def test_a_codec_of_fewer_codes_has_the_same_defaults_on_the_page_as_in_the_command(host: Host, tmp_path: Path) -> None:
    (tmp_path / "long").mkdir()
    for number in range(5):
        noise = np.random.default_rng(number).normal(scale=0.1, size=20 * 8000)
        soundfile.write(tmp_path / "long" / f"{number}.wav", noise, 8000)
    manifest = host_stubs.build_manifest(tmp_path / "long").manifest
    codec = untrained_codec(seed=0)
    path = tmp_path / "few-codes.sda"
    host_stubs.save_model(host_stubs.Model("few-codes", codec, manifest), path, Plugins())
    job, chosen = prepare_job(host, path, {}), look_at(host, SavedModels(tmp_path, host), path, None)
    assert job.settings == chosen.settings({})
    seconds = sum(chosen.train_seconds)
    assert job.settings.weight_decay == decay_for(seconds * codes_per_second(codec))
    assert job.settings.weight_decay > decay_for(seconds * HOST_CODES_PER_SECOND)


def test_a_knob_is_set_refused_or_given_back(page: PriorPage) -> None:
    auto = page.settings
    assert auto is not None
    turn(page, layers=5)
    assert page.settings is not None
    assert (page.settings.layers, page.given) == (5, {"layers": 5})
    turn(page, layers=65)
    assert page.wrong == {"layers": "“Layers” is 65; it must be from 1 to 64."}
    with pytest.raises(PriorError, match="“Layers” is 65; it must be from 1 to 64"):
        page.start()
    assert page.job is None
    page.give_back(KNOB["layers"])
    assert (page.settings, page.given, page.wrong) == (auto, {}, {})


def test_an_emptied_field_is_auto_but_stays_empty_until_it_is_left(page: PriorPage) -> None:
    turn(page, layers=5)
    turn(page, layers=None)
    assert (page.given, page.emptied) == ({}, {"layers"})
    page.leave(KNOB["layers"])
    assert page.emptied == set()


def test_knobs_that_do_not_go_together_are_named_and_nothing_starts(page: PriorPage) -> None:
    turn(page, hidden_size=30, heads=4)
    assert "30 cannot be shared by 4 heads" in page.unsettled
    with pytest.raises(PriorError, match="30 cannot be shared by 4 heads"):
        page.start()
    assert page.job is None


def test_a_knob_that_means_nothing_to_the_architecture_is_left_out(page: PriorPage) -> None:
    turn(page, heads=2, architecture="gru")
    assert page.unsettled == ""
    assert page.meant() == {"architecture": "gru"}


def test_training_puts_a_prior_into_the_file_as_the_command_would(page: PriorPage, host: Host, model: Path) -> None:
    reference = prepare_job(host, model, SMALL).train().report
    turn(page, **SMALL)
    page.ask_to_train()
    job = ended(page)
    assert re.fullmatch(
        r"Training is finished\. The best checkpoint \(epoch \d, perplexity \d+\.\d\d\) is saved in demo\.sda\.",
        job.message,
    )
    assert page.chosen is not None
    assert page.chosen.prior is not None
    assert page.chosen.prior.report.held_out_perplexities == reference.held_out_perplexities
    assert any(label == "Held-out perplexity" for label, _ in page.chosen.card)
    assert choices(page.models) == [("demo (with a prior)", str(model))]


def test_while_it_trains_a_sound_is_drawn_that_is_not_silence(page: PriorPage) -> None:
    turn(page, **SMALL)
    page.ask_to_train()
    sound = ended(page).progress.sound
    assert (sound.title, sound.name) == ("New sound after epoch 1", "demo-epoch-1")
    assert len(sound.audio) == 2 * sound.rate
    assert float(np.abs(sound.audio).max()) > 1e-3


def test_a_prior_is_replaced_only_after_a_second_yes(page: PriorPage, model: Path) -> None:
    turn(page, **SMALL)
    page.ask_to_train()
    ended(page)
    first = model.read_bytes()
    page.ask_to_train()
    assert page.asking
    assert page.under_way is None
    assert page.chosen is not None
    assert re.fullmatch(
        r"demo\.sda has a prior already, of \d+ \w+ 20\d\d, \d\d:\d\d, held-out perplexity \d+\.\d\d\. "
        r"Replace it once the new one is complete\?",
        replacing(page.chosen),
    )
    page.keep()
    assert not page.asking
    assert model.read_bytes() == first
    page.ask_to_train()
    turn(page, **{**SMALL, "seed": 5})
    page.start()
    assert ended(page).state == "done"
    assert model.read_bytes() != first


def test_stopping_keeps_the_best_checkpoint(page: PriorPage, model: Path) -> None:
    turn(page, **{**SMALL, "epochs": 5000})
    page.ask_to_train()
    after_an_epoch(page)
    page.stop()
    job = ended(page)
    assert (job.state, job.message[:21]) == ("done", "Training was stopped.")
    assert page.chosen is not None
    assert page.chosen.prior is not None
    assert page.chosen.prior.report.ended == "stopped"


def test_cancelling_leaves_the_file_as_it_was(page: PriorPage, model: Path) -> None:
    before = model.read_bytes()
    turn(page, **{**SMALL, "epochs": 5000})
    page.ask_to_train()
    after_an_epoch(page)
    page.cancel()
    job = ended(page)
    assert (job.state, job.message) == ("cancelled", "Cancelled. demo.sda is exactly as it was.")
    assert model.read_bytes() == before


def broken_off(host: Host, model: Path) -> None:
    """Break a training off in its second epoch."""
    job = prepare_job(host, model, SMALL)

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, BatchDone) and event.epoch == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        job.train(on_event=on_event, keeper=job.keeper(print))


def test_a_training_that_was_broken_off_is_continued(page: PriorPage, host: Host, model: Path) -> None:
    reference = prepare_job(host, model, SMALL).train().report
    broken_off(host, model)
    page.look_again()
    assert page.chosen is not None
    assert re.fullmatch(
        r"demo\.sda has an unfinished training, kept \d+ \w+ 20\d\d, \d\d:\d\d, after epoch 1 of 2\.",
        page.chosen.unfinished,
    )
    page.go_on()
    job = ended(page)
    assert (job.state, job.message[:21]) == ("done", "Training is finished.")
    assert job.progress.held_out == list(reference.held_out_perplexities)
    assert page.chosen.prior is not None
    assert page.chosen.prior.report.train_perplexities == reference.train_perplexities
    assert page.chosen.unfinished == ""


def test_an_unfinished_training_is_lost_only_after_a_second_yes(page: PriorPage, host: Host, model: Path) -> None:
    broken_off(host, model)
    page.look_again()
    page.ask_to_train()
    assert page.asking
    assert page.chosen is not None
    assert replacing(page.chosen) == f"{page.chosen.unfinished} Starting anew, it is lost."
    page.keep()
    assert StateFile(model).path.exists()
    turn(page, **{**SMALL, "seed": 5})
    page.start()
    assert ended(page).state == "done"
    assert page.chosen.unfinished == ""


def test_a_setting_that_differs_from_the_unfinished_trainings_is_named(
    page: PriorPage, host: Host, model: Path
) -> None:
    broken_off(host, model)
    turn(page, layers=3)
    page.go_on()
    assert ended(page).message.startswith(
        "“Layers” is 3, but the unfinished training has 1; set it back, or train anew."
    )


def test_cancelling_leaves_no_unfinished_training(page: PriorPage, model: Path) -> None:
    turn(page, **{**SMALL, "epochs": 5000})
    page.ask_to_train()
    job, state = after_an_epoch(page), StateFile(model).path
    until = time.monotonic() + SECONDS
    while not state.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    page.cancel()
    assert ended(page) is job
    assert list(model.parent.iterdir()) == [model]
    assert page.chosen is not None
    assert page.chosen.unfinished == ""


def test_another_page_finds_the_training_and_cannot_start_a_second_one(page: PriorPage) -> None:
    turn(page, **{**SMALL, "epochs": 5000})
    page.ask_to_train()
    job = after_an_epoch(page)
    other = another(page)
    assert other.under_way is job
    assert other.given == {}
    with pytest.raises(host_stubs.HostError, match=r"demo\.sda is being worked on already \(training of the prior, si"):
        other.ask_to_train()
    other.cancel()
    ended(page)


def test_missing_recordings_are_named_until_the_user_says_where_they_are(
    page: PriorPage, recordings: Path, tmp_path: Path, model: Path, host: Host, done: Done
) -> None:
    elsewhere = Path(shutil.copytree(recordings, tmp_path / "elsewhere"))
    gone = sorted(elsewhere.iterdir())[0]
    kept = gone.read_bytes()
    gone.unlink()
    done(page.say_where(str(elsewhere)))
    done(page.look_at_recordings())
    assert page.recordings is not None
    assert not page.recordings.usable
    assert page.recordings.sentence == (
        f"1 of 5 recordings are missing from {elsewhere}: {gone.name}. Say where they are now:"
    )
    gone.write_bytes(kept)
    done(page.say_where(f" {elsewhere} "))
    done(page.look_at_recordings())
    assert page.recordings.usable
    turn(page, **SMALL)
    page.ask_to_train()
    assert ended(page).state == "done"
    manifest = host.open_model(model).manifest
    assert manifest is not None
    assert manifest.folder == str(elsewhere)


@pytest.mark.parametrize("typed", ["/nowhere/none", "~nobody-of-that-name/sound", "a\0b", "x" * 100_000])
def test_a_folder_that_is_not_there_is_a_sentence(page: PriorPage, typed: str, done: Done) -> None:
    with pytest.raises(PriorError) as error:
        done(page.say_where(typed))
    assert str(error.value) == f"There is no folder {typed}."


@pytest.mark.parametrize("named_before", [False, True])
def test_after_the_codec_was_trained_anew_on_another_folder_card_and_sentence_name_that(
    page: PriorPage, host: Host, model: Path, recordings: Path, tmp_path: Path, named_before: bool, done: Done
) -> None:
    if named_before:
        done(page.say_where(str(shutil.copytree(recordings, tmp_path / "elsewhere"))))
        done(page.look_at_recordings())
    other = Path(shutil.copytree(recordings, tmp_path / "other"))
    next(other.iterdir()).unlink()
    trained = host.open_model(model)
    trained.manifest = host_stubs.build_manifest(other).manifest
    host.save_model(trained, model)
    done(page.look())
    assert page.chosen is not None
    assert page.recordings is not None
    assert ("Dataset folder", str(other)) in page.chosen.card
    assert page.recordings.sentence == f"It learns from the recordings of this model: 4 recordings in {other}."


def test_pages_that_look_at_the_same_file_share_the_open_model_until_one_says_where_its_recordings_are(
    page: PriorPage, host: Host, model: Path, recordings: Path, tmp_path: Path, done: Done
) -> None:
    other = another(page)
    assert page.chosen is not None
    assert other.chosen is page.chosen
    done(other.say_where(str(shutil.copytree(recordings, tmp_path / "elsewhere"))))
    assert other.chosen is not page.chosen
    assert page.chosen.folder == recordings
    host.save_model(host.open_model(model), model)
    third = another(page)
    assert third.chosen is not None
    assert third.chosen is not page.chosen
    assert third.chosen.state != page.chosen.state


def test_after_a_training_the_recordings_are_not_looked_at_again(page: PriorPage, host: Host, model: Path) -> None:
    known = page.recordings
    host.save_model(host.open_model(model), model)
    page.look_again()
    assert known is not None
    assert page.recordings is known


def test_a_training_that_fails_says_that_the_file_is_as_it_was(
    page: PriorPage, recordings: Path, tmp_path: Path, done: Done
) -> None:
    elsewhere = Path(shutil.copytree(recordings, tmp_path / "elsewhere"))
    done(page.say_where(str(elsewhere)))
    shutil.rmtree(elsewhere)
    page.start()
    job = ended(page)
    assert job.state == "failed"
    assert job.message.endswith("demo.sda is exactly as it was.")


def test_a_model_that_goes_is_noticed_and_one_that_comes_is_chosen(
    page: PriorPage, model: Path, tmp_path: Path
) -> None:
    model.rename(tmp_path / "demo.sda")
    page.look_again()
    assert page.chosen is None
    assert page.problem == "demo.sda is not there any more. Choose another model."
    page.problem = ""  # as with the next thing that the user does
    shutil.copy(tmp_path / "demo.sda", model.with_name("new.sda"))
    page.look_again()
    assert page.chosen is not None
    assert page.chosen.path.name == "new.sda"


def test_a_file_that_cannot_be_opened_is_a_sentence_on_its_card(page: PriorPage, model: Path) -> None:
    broken = model.with_name("broken.sda")
    broken.write_bytes(b"nothing")
    page.turn_to(broken)
    assert page.chosen is not None
    assert "broken.sda" in page.chosen.problem
    assert page.settings is None


def progress_of(held_out: list[float]) -> PriorProgress:
    progress = PriorProgress()
    progress.held_out = held_out
    progress.best = held_out.index(min(held_out)) + 1 if min(held_out, default=math.inf) < math.inf else 0
    return progress


@pytest.mark.parametrize(
    ("held_out", "sentence"),
    [
        ([], ""),
        ([5.0], "After the first epoch the held-out perplexity is 5.00."),
        ([5.0, 4.0, 3.4, 3.3], "Still learning: held-out perplexity 5.00 → 3.30."),
        ([math.inf], "No epoch was of any use yet: the held-out perplexity is not finite."),
        ([math.inf, 5.0], "Still learning: held-out perplexity not finite → 5.00."),
        (
            [5.0, 6.0, 9e40, math.inf],
            "The best was epoch 1, 3 epochs ago: held-out perplexity 5.00, now not finite.",
        ),
        ([5.0] * 20 + [3.4] + [3.6] * 12, "The best was epoch 21, 12 epochs ago: held-out perplexity 3.40, now 3.60."),
    ],
)
def test_a_plain_sentence_says_how_it_goes(held_out: list[float], sentence: str) -> None:
    assert trend(progress_of(held_out)) == sentence


def test_what_the_job_does_is_said_from_its_start_to_its_end(page: PriorPage) -> None:
    assert page.chosen is not None
    job = Job(page.chosen.path, "training", PriorProgress())
    assert "Waiting for another training to end." in going(kit, job)
    job.state = "running"
    assert "Opening the model" in going(kit, job)
    job.stop()
    assert "Stopping: looking at the best checkpoint" in going(kit, job)
    job.cancel()
    assert "Cancelling." in going(kit, job)


def test_the_look_at_the_end_is_said_with_how_long_it_takes_yet(page: PriorPage, host: Host) -> None:
    assert page.chosen is not None
    progress = PriorProgress(prepare_job(host, page.chosen.path, SMALL), started=True, done=2.0)
    job = Job(page.chosen.path, "training", progress)
    job.state = "running"
    progress.on_event(ChoosingStarted(9.0))
    assert "Looking for copies in what the best checkpoint draws, 0:09 left." in going(kit, job)
    progress.on_event(ChoosingStarted(0.0))
    assert "Looking for copies in what the best checkpoint draws. " in going(kit, job)


def test_a_long_recording_shows_how_much_of_it_is_encoded(page: PriorPage, host: Host) -> None:
    assert page.chosen is not None
    progress = PriorProgress(prepare_job(host, page.chosen.path, SMALL))
    job = Job(page.chosen.path, "training", progress)
    job.state = "running"
    progress.on_part("rain.wav", 0.4)
    assert "0 of 5. rain.wav is a long one: 40% of it." in going(kit, job)
    progress.on_recording("rain.wav")
    assert "1 of 5. " in going(kit, job)
    assert "rain.wav" not in going(kit, job)


def test_a_best_epoch_that_comes_while_the_chart_is_drawn_is_not_asked_of_a_curve_without_it() -> None:
    class Growing(list[float]):
        """A training's curve, to which another thread adds an epoch, the best so far, once its length is taken."""

        def __len__(self) -> int:
            known = super().__len__()
            if progress.best == known:
                self.append(1.0)
                progress.train.append(1.0)
                progress.best += 1
            return known

    progress = PriorProgress(train=[3.0, 2.0], held_out=Growing([3.0, 2.0]), best=2)
    drawn = progress.curves
    assert (progress.best, drawn["best"], list(drawn["held_out"])) == (3, 2, [3.0, 2.0])
    assert "best: epoch 2, 2.00" in kit.chart(drawn)


def test_an_error_says_what_to_do_in_words_that_are_plain_everywhere_or_in_a_surfaces_own() -> None:
    with pytest.raises(PriorError) as error:
        KNOB["learning_rate"].checked("fast")
    assert str(error.value) == "“Learning rate” is 'fast'; it must be a number."
    assert error.value.said({"learning_rate": "--learning-rate"}) == "--learning-rate is 'fast'; it must be a number."
