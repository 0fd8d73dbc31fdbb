"""The training tab as a musician meets it: a real page, a real server, real trainings."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import host_stubs
from host_stubs.host import Host
from host_stubs.plugins import load_plugins
from sda_prior_plugin import BatchDone, Prior, TrainingEvent
from sda_prior_plugin.edge import prepare_job

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright, which drives the browser, is not installed")

SMALL = {"hidden_size": 32, "layers": 1, "heads": 2, "batch_size": 8, "start_offsets": 1, "context_seconds": 2}
LONG = {**SMALL, "epochs": 20_000}
RECITING = {
    **SMALL,
    "epochs": 20_000,
    "augmented_share": 0,  # with copies to learn from it takes hundreds of epochs
    "learning_rate": 0.02,
    "weight_decay": 0,
    "hidden_size": 48,
}

WITHOUT_PLUGINS = (
    "import sys\n"
    "from host_stubs.cli import build_cli\n"
    "from host_stubs.plugins import Plugins\n"
    "build_cli(Plugins()).main(sys.argv[1:])\n"
)
LOUDNESS = """async link => {
  const bytes = await (await fetch(link.href)).arrayBuffer();
  const sound = await new AudioContext({sampleRate: 48000}).decodeAudioData(bytes);
  const samples = sound.getChannelData(0);
  return {seconds: sound.duration, peak: samples.reduce((most, one) => Math.max(most, Math.abs(one)), 0)};
}"""
UNNAMED = """() => [...document.querySelectorAll('button, input, textarea, select, summary')]
  .filter(one => one.offsetParent && !(one.innerText.trim() || one.getAttribute('aria-label') || one.labels?.length
    || one.title)).map(one => one.outerHTML)"""


def see(page: Any, selector: str, text: str | re.Pattern[str]) -> None:
    """Wait until an element shows some text: what a page is told of comes piece by piece."""
    page.locator(selector, has_text=text).first.wait_for()


def choose(page: Any, name: str) -> None:
    """Choose a model by its name: what is typed leaves a list of a few, which fits on a screen wherever it opens.

    The list stays where it opened. Where the page grew above it, it may lie outside the screen: a user opens it again.
    """
    option = page.get_by_role("option", name=name, exact=True)
    for wait in (2_000, 5_000, 60_000):
        page.locator("#prior-model").evaluate("element => element.scrollIntoView()")
        page.fill("#prior-model input", name)
        try:
            option.click(timeout=wait)
            break
        except playwright.TimeoutError:
            page.keyboard.press("Escape")
    page.wait_for_function("name => document.querySelector('#prior-card').innerText.includes(name + '.sda')", arg=name)
    page.wait_for_selector("#prior-train:enabled")


def turn(page: Any, knobs: dict[str, float]) -> None:
    """Type values into knobs, those in the closed part too."""
    if not page.is_visible("#knob-batch_size"):
        page.click("#prior-advanced button")
        page.wait_for_selector("#knob-batch_size")
    for name, value in knobs.items():
        page.fill(f"#knob-{name} input", str(value))
        page.wait_for_selector(f"#auto-{name}")


def start(page: Any, name: str, knobs: dict[str, float]) -> None:
    choose(page, name)
    turn(page, knobs)
    page.click("#prior-train")


def epochs_drawn(page: Any) -> int:
    """Points of the chart's curve."""
    return len((page.get_attribute("#prior-chart .wide .held-out[points]", "points") or "").split())


def wait_for_epochs(page: Any, count: int) -> None:
    page.wait_for_function(
        "count => (document.querySelector('#prior-chart .wide polyline.held-out')?.getAttribute('points') ?? '')"
        ".split(' ').length >= count",
        arg=count,
    )


def said_at_the_end(page: Any) -> str:
    """What came of a training, once it is over."""
    page.wait_for_selector("#prior-stop", state="hidden")
    page.wait_for_selector("#prior-message p")
    return str(page.inner_text("#prior-message"))


OpenPage = Callable[..., Any]
NewModel = Callable[[str], Path]


@pytest.fixture
def new_model(server: Any, trained_codec: Path) -> NewModel:
    """Puts a model of the given name into the server's folder."""
    return lambda name: Path(shutil.copy(trained_codec, server.models / f"{name}.sda"))


@pytest.fixture(autouse=True)
def nothing_goes_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test that fails leaves running does not hold up the others."""
    failures = request.session.testsfailed
    yield
    if request.session.testsfailed > failures and "server" in request.fixturenames:
        page = request.getfixturevalue("chromium").new_page()
        page.goto(request.getfixturevalue("server").url)
        for button in ("#prior-cancel", "#vqvae-cancel"):
            page.wait_for_selector("#prior-card dl")
            if page.is_visible(button):
                page.click(button)
        page.close()


def test_choosing_a_model_shows_its_card_and_defaults_that_can_be_changed_and_given_back(
    server: Any, new_model: NewModel, open_page: OpenPage
) -> None:
    page = open_page(server.url)
    new_model("choosing")  # while the page is open: it appears by itself
    page.wait_for_selector("#prior-card dl")
    choose(page, "choosing")
    see(page, "#prior-card", "6 recordings: ")
    see(page, "#prior-dataset", "6 recordings in ")
    see(page, "#knob-layers", "Layers (auto)")
    before = page.input_value("#knob-layers input")
    page.fill("#knob-layers input", "3")
    page.wait_for_selector("#auto-layers")
    see(page, "#knob-layers", "Layers (set)")
    page.click("#auto-layers")
    page.wait_for_selector("#auto-layers", state="hidden")
    see(page, "#knob-layers", "Layers (auto)")
    assert page.input_value("#knob-layers input") == before
    page.fill("#knob-layers input", "99")
    page.wait_for_selector("#prior-knob-problem p")
    see(page, "#prior-knob-problem", "“Layers” is 99; it must be from 1 to 64.")
    page.click("#prior-train")
    page.wait_for_selector("#prior-message p")
    see(page, "#prior-message", "“Layers” is 99")
    assert page.evaluate(UNNAMED) == []


def test_training_is_seen_and_heard_found_again_stopped_and_listened_to(
    server: Any, new_model: NewModel, open_page: OpenPage
) -> None:
    path = new_model("training")
    page = open_page(server.url)
    start(page, "training", LONG)
    wait_for_epochs(page, 2)
    drawn = epochs_drawn(page)
    wait_for_epochs(page, drawn + 2)
    see(page, "#prior-progress", re.compile(r"Epoch \d+ of 20000, \d+:\d\d left\."))

    sound = page.wait_for_selector("#prior-player a[download]").evaluate(LOUDNESS)
    assert sound["seconds"] == pytest.approx(2.0, abs=0.01)
    assert sound["peak"] > 0.001
    page.evaluate("document.querySelector('#prior-player audio').play()")
    page.wait_for_function("document.querySelector('#prior-player audio').currentTime > 0")

    page.reload()  # the job is not the page's
    wait_for_epochs(page, drawn)
    see(page, "#knob-hidden_size", "Hidden size (set)")
    other = open_page(server.url)
    wait_for_epochs(other, drawn)
    other.click("#prior-train")
    other.wait_for_selector("#prior-message p")
    see(other, "#prior-message", "training.sda is being worked on already")

    page.click("#prior-stop")
    assert "Training was stopped. The best checkpoint (epoch " in said_at_the_end(page)
    see(other, "#prior-card", "Held-out perplexity")
    assert other.is_hidden("#prior-stop")
    page.wait_for_selector("#listen")
    see(page, "#prior-card", "Held-out perplexity")
    assert page.input_value("#prior-model input") == "training (with a prior)"
    opened = host_stubs.open_model(path)
    assert isinstance(opened.prior, Prior)
    assert opened.prior.report.ended == "stopped"

    page.fill("#listen-seconds input, #listen-seconds textarea", "1.5")
    page.fill("#listen-seed input, #listen-seed textarea", "7")
    page.click("#listen")
    link = page.wait_for_selector("#listen-sounds a[download]")
    assert link.get_attribute("download") == "training-7.wav"
    sound = link.evaluate(LOUDNESS)
    assert sound["seconds"] == pytest.approx(1.5, abs=0.01)
    assert sound["peak"] > 0.001
    see(page, "#listen-sounds", "Seed 7, 1.5 s")

    before = path.read_bytes()
    page.click("#prior-train")
    page.wait_for_selector("#prior-replace")
    question = r"training\.sda has a prior already, of \d+ \w+ 20\d\d.*held-out perplexity \d+\.\d\d"
    see(page, "#prior-question", re.compile(question))
    page.click("#prior-keep")
    page.wait_for_selector("#prior-replace", state="hidden")
    page.click("#prior-train")
    page.click("#prior-replace")
    page.wait_for_selector("#prior-cancel")
    page.click("#prior-cancel")
    assert "Cancelled. training.sda is exactly as it was." in said_at_the_end(page)
    assert path.read_bytes() == before


def test_a_run_that_recites_raises_a_banner_whose_button_stops_it(
    server: Any, new_model: NewModel, open_page: OpenPage
) -> None:
    path = new_model("reciting")
    page = open_page(server.url)
    start(page, "reciting", RECITING)
    page.wait_for_selector("#prior-banner-stop")
    words = r"Very likely memorizing since about epoch \d+: .* best checkpoint: epoch \d+\."
    see(page, "#prior-banner", re.compile(words))
    see(page, "#prior-banner", "Training goes on until you decide")
    page.wait_for_selector("#prior-chart .wide rect.marked")
    page.click("#prior-banner-stop")
    assert "Training was stopped." in said_at_the_end(page)
    page.wait_for_selector("#prior-banner", state="hidden")
    report = host_stubs.open_model(path).prior.report
    assert report.best_epoch < report.epochs_trained
    assert report.memorization.memorizing_epochs


def test_a_training_that_was_broken_off_is_offered_and_continued(
    server: Any, new_model: NewModel, open_page: OpenPage
) -> None:
    path = new_model("broken")
    job = prepare_job(Host(load_plugins()), path, {**SMALL, "epochs": 3})

    def on_event(event: TrainingEvent) -> None:
        if isinstance(event, BatchDone) and event.epoch == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        job.train(on_event=on_event, keeper=job.keeper(print))
    page = open_page(server.url)
    choose(page, "broken")
    page.wait_for_selector("#prior-continue:enabled")
    assert "broken.sda has an unfinished training, kept " in page.inner_text("#prior-unfinished")
    assert "after epoch 1 of 3." in page.inner_text("#prior-unfinished")
    page.click("#prior-train")
    page.wait_for_selector("#prior-replace")
    assert page.inner_text("#prior-replace") == "Start anew"
    see(page, "#prior-question", "Starting anew, it is lost.")
    page.click("#prior-keep")
    page.click("#prior-continue")
    page.wait_for_function("document.querySelector('#prior-message')?.innerText.includes('is saved in broken.sda')")
    page.wait_for_selector("#prior-continue", state="hidden")
    prior = host_stubs.open_model(path).prior
    assert isinstance(prior, Prior)
    assert prior.report.epochs_trained == 3
    assert prior.settings.hidden_size == SMALL["hidden_size"]


def moved(trained_codec: Path, folder: Path, path: Path) -> None:
    """Save a model whose recordings are said to be in `folder`."""
    model = host_stubs.open_model(trained_codec)
    assert model.manifest is not None
    model.manifest = model.manifest.moved_to(folder)
    host_stubs.save_model(model, path)


def test_missing_recordings_are_named_and_can_be_pointed_to(
    server: Any, recordings: Path, trained_codec: Path, open_page: OpenPage, tmp_path: Path
) -> None:
    moved(trained_codec, tmp_path / "gone", server.models / "moved.sda")
    here = Path(shutil.copytree(recordings, tmp_path / "here"))
    page = open_page(server.url)
    page.click("#prior-model input")
    page.get_by_role("option", name="moved", exact=True).click()
    page.wait_for_selector("#prior-folder")
    see(page, "#prior-dataset", "6 of 6 recordings are missing from")
    see(page, "#prior-dataset", sorted(recordings.iterdir())[0].name)
    assert page.is_disabled("#prior-train")
    page.fill("#prior-folder input, #prior-folder textarea", str(here))
    page.click("#prior-look")
    page.wait_for_selector("#prior-train:enabled")
    see(page, "#prior-dataset", f"6 recordings in {here}")
    assert page.is_hidden("#prior-folder")


def test_an_error_in_training_is_a_sentence_and_the_page_lives_on(
    server: Any, recordings: Path, trained_codec: Path, open_page: OpenPage, tmp_path: Path
) -> None:
    here = Path(shutil.copytree(recordings, tmp_path / "here"))
    path = server.models / "failing.sda"
    moved(trained_codec, here, path)
    before = path.read_bytes()
    page = open_page(server.url)
    choose(page, "failing")
    turn(page, {**SMALL, "epochs": 1})
    lost = sorted(here.iterdir())[0]
    lost.rename(tmp_path / lost.name)
    page.click("#prior-train")
    page.wait_for_selector("#prior-message p")
    see(page, "#prior-message", f"1 of 6 recordings are missing from {here}: {lost.name}")
    see(page, "#prior-message", "failing.sda is exactly as it was.")
    assert path.read_bytes() == before
    (tmp_path / lost.name).rename(lost)
    page.click("#prior-train")
    page.wait_for_function("document.querySelector('#prior-message')?.innerText.includes('is saved in failing.sda')")


def test_a_vqvae_is_trained_on_a_folder_and_its_codebooks_are_seen(server: Any, open_page: OpenPage) -> None:
    page = open_page(server.url)
    page.click("#vqvae-folder input")
    page.get_by_role("option").filter(has_text="demo").first.click()
    page.fill("#vqvae-name input, #vqvae-name textarea", "fresh")
    page.click("#vqvae-train")
    page.wait_for_selector("#vqvae-going .levels")
    assert page.locator("#vqvae-going .levels meter").count() == 3
    page.click("#vqvae-stop")
    page.wait_for_function("document.querySelector('#vqvae-message')?.innerText.includes('is saved in fresh.sda')")
    choose(page, "fresh")


def test_odd_names_are_taken_and_what_is_not_used_is_named(
    server: Any, recordings: Path, trained_codec: Path, open_page: OpenPage
) -> None:
    folder = server.datasets / os.fsdecode(b"h\xf6fe [x]\x1b")
    shutil.copytree(recordings, folder)
    (folder / "<b>.wav").touch()
    shutil.copy(trained_codec, server.models / os.fsdecode(b"caf\xe9.sda"))
    shutil.copy(trained_codec, server.models / "._odd.sda")
    page = open_page(server.url)
    page.click("#vqvae-folder input")
    page.get_by_role("option").filter(has_text=r"h\xf6fe [x]\x1b").first.click()
    page.fill("#vqvae-name input, #vqvae-name textarea", "odd")
    page.click("#vqvae-train")
    see(page, "#vqvae-going dl", "6 recordings as they are")
    see(page, "#vqvae-going dl", "<b>.wav is empty (0 bytes).")
    page.wait_for_selector("#vqvae-going .levels")
    page.click("#vqvae-stop")
    page.wait_for_function("document.querySelector('#vqvae-message')?.innerText.includes('is saved in odd.sda')")
    choose(page, "odd")
    see(page, "#prior-card", "<b>.wav is empty (0 bytes).")
    start(page, r"caf\xe9", {**SMALL, "epochs": 2})
    page.wait_for_selector("#prior-player audio")
    assert r"is saved in caf\xe9.sda" in said_at_the_end(page)
    page.click("#prior-model input")
    assert page.get_by_role("option", name="._odd").count() == 0
    shutil.rmtree(folder)


def test_without_the_plugin_there_is_no_section_for_priors(start_server: Any, open_page: OpenPage) -> None:
    page = open_page(start_server(["-c", WITHOUT_PLUGINS]).url)
    page.wait_for_selector("#vqvae-train")
    assert page.locator("#prior-train").count() == 0
    see(page, "#no-sections", "pip install sda-prior-plugin")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(server: Any, new_model: NewModel, open_page: OpenPage, width: int) -> None:
    new_model("wide")
    page = open_page(server.url, viewport={"width": width, "height": 800})
    choose(page, "wide")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_ending_the_server_keeps_the_best_checkpoint(
    start_server: Any, trained_codec: Path, open_page: OpenPage
) -> None:
    server = start_server()
    path = Path(shutil.copy(trained_codec, server.models / "ending.sda"))
    page = open_page(server.url)
    start(page, "ending", LONG)
    wait_for_epochs(page, 2)
    page.close()
    assert server.end(signal.SIGTERM) == 0, server.log
    assert "ending.sda: Training was stopped. The best checkpoint" in server.log
    prior = host_stubs.open_model(path).prior
    assert isinstance(prior, Prior)
    assert prior.report.ended == "stopped"
