"""The place to listen, without a browser: what a page draws, hears of the codec, keeps and removes."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
import pytest
import soundfile

from host_stubs.audio import write_wav
from host_stubs.errors import HostError
from host_stubs.generation import DEFAULT_TOP_P
from host_stubs.host import Host
from host_stubs.model import Model, save_model
from host_stubs.plugins import Plugins
from host_stubs.ui.drops import MOST_WAITING, Drops
from host_stubs.ui.jobs import Jobs
from host_stubs.ui.live import Live
from host_stubs.ui.page import build_page
from host_stubs.ui.saved import SavedModels
from host_stubs.ui.sounds import KEPT, SoundFiles

pytestmark = pytest.mark.usefixtures("one_thread")

hookimpl = pluggy.HookimplMarker("sda_host")


class Dice:
    """Draws codes, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    @hookimpl
    def model_opened(self, model: Model) -> None:
        model.prior = self

    @hookimpl
    def model_saving(self, bundle: Any) -> None:
        bundle.put("dice", {}, {})
        bundle.has_prior = True

    @hookimpl
    def generate_codes(
        self, model: Model, frames: int | None, max_frames: int, count: int, temperature: float, top_p: float,
        top_k: int, max_copy: float | None, start: np.ndarray | None, kind: str | None, seed: int,
    ) -> list[np.ndarray]:  # fmt: skip
        self.asked = {key: value for key, value in locals().items() if key not in ("self", "model")}
        codec, draw = model.codec, np.random.default_rng(seed)
        shape = (frames or 4, codec.bands, codec.levels)
        return [draw.integers(codec.codebook_size, size=shape) for _ in range(count)]

    @hookimpl
    def codes_facts(self, codes: np.ndarray) -> tuple[str, dict[str, Any]]:
        return f"{len(codes)} frames", {}


class Sound:
    """What a plugin has of a sound."""

    name, title, rate, audio = "a", "New sound", 8000, np.zeros(80, np.float32)


class Browser:
    """One page, as its script talks to the server."""

    def __init__(self, live: Live, page: Any, name: str) -> None:
        self.live, self.name, self.number = live, name, 0
        self.ids = {str(block.elem_id): str(number) for number, block in page.blocks.items() if block.elem_id}
        self.shown: dict[str, Any] = {}
        self.ask()

    def ask(self, *acts: tuple[int, list[Any]]) -> None:
        self.number += bool(acts)
        answer = self.live.answer(self.name, self.number, acts, False)
        self.shown |= answer["html"]
        self.shown |= {name: answer["news"][number] for name, number in self.ids.items() if number in answer["news"]}
        if answer["soon"]:
            time.sleep(0.01)
            self.ask()

    def does(self, name: str, *values: Any) -> None:
        """What a method of the section does."""
        (number,) = [index for index, (_, act, _) in enumerate(self.live._acts) if act.__name__ == name]
        self.ask((number, list(values)))

    def listen(self, seconds: str = "0.5", count: str = "1", *more: str, recording: str | None = None) -> None:
        form = more or ("1", "", "0", "", "7", "")
        if recording is not None:
            self.does("_choose", recording)
        self.does("_listen", seconds, count, *form)

    @property
    def said(self) -> str:
        return re.sub("<[^>]*>", "", "".join(html for _, html in self.shown["listen-said"]))

    @property
    def sounds(self) -> dict[str, str]:
        return dict(self.shown["listen-sounds"])


@pytest.fixture
def dice() -> Dice:
    return Dice()


@pytest.fixture
def open_browser(model: Model, dice: Dice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens pages of one server with one model, "tones", in the folder "models"."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    plugins = Plugins()
    plugins.add(dice, "dice")
    (tmp_path / "models").mkdir()
    save_model(model, tmp_path / "models" / "tones.sda", plugins)
    host, live, drops = Host(plugins), Live(), Drops(tmp_path / "dropped")
    models = SavedModels(tmp_path / "models", host)
    page = build_page(host, models, tmp_path, Jobs(), live, drops)

    def start(name: str = "a page") -> Browser:
        browser = Browser(live, page, name)
        browser.drops = drops  # type: ignore[attr-defined]  # for the test of dropping
        return browser

    return start


def files_of(html: str) -> Path:
    path = re.search(r'src="/gradio_api/file=([^"]+)"', html)
    assert path is not None
    return Path(path[1])


def test_what_is_left_empty_is_drawn_as_the_command_does(open_browser: Any, dice: Dice) -> None:
    open_browser().listen("0.5", "", "", "", "", "", "7", "")
    assert {name: dice.asked[name] for name in ("count", "temperature", "top_p", "top_k")} == {
        "count": 1, "temperature": 1.0, "top_p": DEFAULT_TOP_P, "top_k": 0,
    }  # fmt: skip


def test_a_new_sound_is_drawn_as_the_form_says_and_listed_with_its_settings(open_browser: Any, dice: Dice) -> None:
    page = open_browser()
    page.listen("0.5", "2", "0.9", "0.8", "12", "1.5", "3", "slower-2")
    assert dice.asked | {"start": None} == {
        "frames": 3, "max_frames": 3, "count": 2, "temperature": 0.9, "top_p": 0.8, "top_k": 12, "max_copy": 1.5,
        "start": None, "kind": "slower-2", "seed": 3,
    }  # fmt: skip
    assert page.said == ""
    latest, first = page.sounds.values()
    assert "New sound, seed 3, 1 of 2" in first
    assert "New sound, seed 3, 2 of 2" in latest
    assert "Seed 3, 0.5 s, temperature 0.9, top p 0.8, top k 12, longest copy 1.5, as slower-2" in first
    assert "3 frames" in first
    assert soundfile.info(files_of(first)).frames == 24_000
    assert open_browser("another").sounds == page.sounds


def test_a_length_that_is_left_empty_is_as_long_as_it_is(open_browser: Any, dice: Dice) -> None:
    page = open_browser()
    page.listen("")
    assert dice.asked["frames"] is None
    assert "Seed 7, as long as it is" in next(iter(page.sounds.values()))


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        (("0", "1"), "Seconds must be a number above 0, up to 3600."),
        (("x", "1"), "Seconds must be a number above 0, up to 3600."),
        (("1", "0"), "How many must be a whole number from 1 to 20."),
        (("1", "1", "-1", "1", "0", "", "", ""), "Temperature must be a number above 0, up to 10."),
        (("1", "1", "1", "2", "0", "", "", ""), "Top p must be a number above 0, up to 1."),
        (("1", "1", "1", "1", "0", "", "x", ""), "Seed must be a whole number from 0 to 4294967295."),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(open_browser: Any, form: tuple[str, ...], problem: str) -> None:
    page = open_browser()
    page.listen(*form)
    assert page.said == f"Problem: {problem}"
    assert page.sounds == {}


def test_it_goes_on_from_a_recording_of_the_model_or_from_one_that_was_dropped(
    open_browser: Any, dice: Dice, tmp_path: Path
) -> None:
    page = open_browser()
    names = [choice[1] for choice in page.shown["listen-recording"]["choices"]]
    assert names[1:] == [f"{number % 2}/tone{number}.wav" for number in (0, 2, 4, 1, 3, 5)]
    page.listen(recording=names[1])
    assert dice.asked["start"].shape == (3, 8, 2)  # 0.4 s
    given = soundfile.info(files_of(next(iter(page.sounds.values())))).frames
    assert given == 19_200 + 24_000

    drop, path = page.drops.new()
    write_wav(tmp_path / "sound.wav", np.sin(np.arange(24_000) / 20), 48_000)
    path.write_bytes((tmp_path / "sound.wav").read_bytes())
    page.does("_dropped", drop, "mine.wav")
    assert "mine.wav" in "".join(html for _, html in page.shown["listen-drop"])
    page.listen()
    assert dice.asked["start"].shape == (3, 8, 2)
    page.live.forget(page.name)
    assert not path.exists()


def test_the_codec_is_heard_beside_the_recording_as_it_is(open_browser: Any) -> None:
    page = open_browser()
    page.does("_hear_codec")
    assert page.said.startswith("Problem: Choose a recording")
    page.does("_choose", "0/tone0.wav")
    page.does("_hear_codec")
    as_it_is, through = page.sounds.values()
    assert "tone0.wav, as it is" in as_it_is
    assert "tone0.wav, through the codec" in through
    assert [soundfile.info(files_of(html)).frames for html in (as_it_is, through)] == [19_200, 19_200]


@pytest.mark.parametrize("bits", [16, 24])
def test_a_sound_is_kept_with_its_settings_in_its_tags_or_removed(open_browser: Any, tmp_path: Path, bits: int) -> None:
    page = open_browser()
    page.listen()
    ((number, html),) = page.sounds.items()
    page.does("_keep_sound", number, "../out", str(bits))
    assert page.said.startswith("Problem: A sound cannot be called &#x27;../out&#x27;")
    page.does("_keep_sound", number, "good one", str(bits))
    kept = tmp_path / "models" / "good one.wav"
    assert f"Kept as {kept}." in page.sounds[number]
    with soundfile.SoundFile(kept) as file:
        assert (file.subtype, file.title, file.comment) == (f"PCM_{bits}", "New sound, seed 7", "Seed 7, 0.5 s")
    page.does("_keep_sound", number, "good one", str(bits))
    assert page.said == "Problem: good one.wav exists already; give another name."
    page.does("_remove_sound", number, "x", str(bits))
    assert page.sounds == {}
    assert not files_of(html).exists()
    assert kept.exists()


def test_of_drops_that_no_page_takes_only_the_latest_stay(tmp_path: Path) -> None:
    drops = Drops(tmp_path)
    dropped = [drops.new() for _ in range(MOST_WAITING + 1)]
    for _, path in dropped[1:]:
        path.touch()
    assert drops.taken(dropped[-1][0]) == dropped[-1][1]
    for drop in (dropped[0][0], dropped[-1][0], ""):
        with pytest.raises(HostError, match="could not be taken"):
            drops.taken(drop)


def test_a_file_of_a_plugins_sound_goes_when_the_sound_is_forgotten_and_others_have_come(tmp_path: Path) -> None:
    files = SoundFiles(tmp_path)
    sound = Sound()
    path = files.of(sound)
    assert files.of(sound) == path
    del sound
    for _ in range(KEPT - 1):
        files.of(Sound())
    assert path.is_file(), "a page may show it still"
    files.of(Sound())
    assert not path.exists()
