"""`host generate --continue`: a recording, prepared as a dataset's are, and what a plugin makes follow it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
import pytest
import soundfile
from click.testing import CliRunner, Result

from host_stubs import continuation
from host_stubs.audio import peak_normalized
from host_stubs.cli import build_cli
from host_stubs.codec import Codec
from host_stubs.continuation import read_start
from host_stubs.errors import HostError
from host_stubs.model import Model, save_model
from host_stubs.plugins import Plugins
from host_stubs.reading import read_recording

pytestmark = pytest.mark.usefixtures("one_thread")
hookimpl = pluggy.HookimplMarker("sda_host")


class Echo:
    """Answers with the last codes of what it is to follow, again and again; `most`: how often without a length."""

    def __init__(self, most: int = 3) -> None:
        self.most = most
        self.asked: dict[str, Any] = {}

    @hookimpl
    def generate_codes(self, frames: int | None, count: int, start: np.ndarray | None) -> list[np.ndarray] | None:
        self.asked = {"frames": frames, "start": start}
        return None if start is None else [np.repeat(start[-1:], frames or self.most, axis=0)] * count

    @hookimpl
    def codes_facts(self, codes: np.ndarray) -> tuple[str, dict[str, Any]]:
        return f"{len(codes)} frames looked at", {"looked_at": len(codes)}


class Dice:
    """A plugin that takes neither `start` nor `max_copy`."""

    @hookimpl
    def model_opened(self, model: Model) -> None:
        model.prior = "dice"

    @hookimpl
    def generate_codes(self, model: Model, frames: int | None) -> list[np.ndarray]:
        return [np.zeros((frames or 2, model.codec.bands, model.codec.levels), np.int64)]


def host(plugin: object, *arguments: str | Path) -> Result:
    plugins = Plugins()
    plugins.add(plugin, "test")
    return CliRunner().invoke(build_cli(plugins), [str(argument) for argument in arguments])


@pytest.fixture
def saved(model: Model, tmp_path: Path, no_plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_model(model, "tones.sda", no_plugins)
    return Path("tones.sda")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """0.9 s in stereo at 44100 Hz, with a peak well below 1."""
    path = tmp_path / "riff.wav"
    time = np.arange(39_690) / 44_100
    left, right = (0.3 * np.sin(2 * np.pi * pitch * time) for pitch in (220.0, 330.0))
    soundfile.write(path, np.stack([left, right], axis=1), 44_100)
    return path


def test_the_file_holds_the_recording_and_what_follows_decoded_in_one_pass(
    saved: Path, recording: Path, codec: Codec
) -> None:
    result = host(Echo(), "generate", saved, "--continue", recording, "--seconds", "0.5", "-o", "new.wav", "--json")
    assert result.exit_code == 0, result.output
    start = read_start(recording, codec)
    codes = np.concatenate([start.codes, np.repeat(start.codes[-1:], 3, axis=0)])
    expected = codec.decode(codes)[start.lead :][: 43_200 + 24_000]
    written, rate = soundfile.read("new.wav", dtype="float32")
    assert rate == 48_000
    np.testing.assert_allclose(written, expected, atol=2 / 32_768)
    (sound,) = json.loads(result.stdout)["sounds"]
    assert (sound["seconds"], sound["given_seconds"], sound["new_seconds"]) == pytest.approx((1.4, 0.9, 0.5))
    assert sound["frames"] == 3


def test_the_recording_is_prepared_as_a_datasets_are_and_ends_with_a_frame(recording: Path, codec: Codec) -> None:
    start = read_start(recording, codec)
    audio = peak_normalized(read_recording(recording, codec.sample_rate))
    assert (start.samples, start.lead) == (43_200, 6 * 8_192 - 43_200)
    np.testing.assert_array_equal(start.codes, codec.encode(np.concatenate([np.zeros(start.lead), audio])))
    assert start.codes.shape == (6, codec.bands, codec.levels)


def test_without_a_length_it_goes_on_until_the_prior_says_that_it_is_over(saved: Path, recording: Path) -> None:
    plugin = Echo(most=4)
    result = host(plugin, "generate", saved, "--continue", recording, "-o", "new.wav")
    assert "new.wav  1.58 s (0.90 s given, 0.68 s new), peak " in result.stdout
    assert plugin.asked["frames"] is None


def test_the_facts_are_about_the_new_codes_alone(saved: Path, recording: Path) -> None:
    arguments = ["generate", saved, "--continue", recording, "--seconds", "0.5", "-o", "new.wav", "--json"]
    (sound,) = json.loads(host(Echo(), *arguments).stdout)["sounds"]
    assert sound["looked_at"] == 3


def test_without_a_recording_the_plugin_is_asked_to_begin_from_nothing(saved: Path) -> None:
    plugin = Echo()
    host(plugin, "generate", saved, "--seconds", "0.5")
    assert plugin.asked == {"frames": 3, "start": None}


@pytest.mark.parametrize(
    ("more", "said"),
    [([], "continue a recording"), (["--max-copy", "0.5"], "keep to --max-copy and continue a recording")],
)
def test_a_plugin_that_cannot_continue_is_not_asked_to(
    saved: Path, recording: Path, more: list[str], said: str
) -> None:
    result = host(Dice(), "generate", saved, "--continue", recording, *more)
    assert result.exit_code == 1
    assert f"no installed plugin that can {said} offered any" in result.stderr
    assert host(Dice(), "generate", saved, "--seconds", "0.3").exit_code == 0


def test_a_recording_that_is_over_for_the_prior_says_what_to_do(saved: Path, recording: Path) -> None:
    result = host(Echo(most=0), "generate", saved, "--continue", recording, "-o", "new.wav")
    assert result.exit_code == 1
    assert "the recording is over where it ends. Try another --seed, or give --seconds." in result.stderr
    assert not Path("new.wav").exists()


def _text(path: Path) -> None:
    path.write_text("a song about a recording")


def _sound(samples: np.ndarray) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, samples, 48_000)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "There is no file bad.wav"),
        (_text, "cannot be read as sound"),
        (lambda path: path.touch(), "is empty"),
        (_sound(np.zeros(0)), "it holds no sound"),
        (_sound(np.zeros(48_000)), "bad.wav is silent"),
        (_sound(np.ones(4_800)), r"bad.wav is too short to continue (0.10 s); 0.17 s is the least"),
        (_sound(np.ones(96_001)), "bad.wav is longer than"),
    ],
    ids=["missing", "text", "empty", "no sound", "silent", "short", "long"],
)
def test_what_cannot_be_continued_is_one_line(
    saved: Path, make: Callable[[Path], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert continuation.MOST_SECONDS == 600
    monkeypatch.setattr(continuation, "MOST_SECONDS", 2.0)
    make(Path("bad.wav"))
    result = host(Echo(), "generate", saved, "--continue", "bad.wav", "-o", "new.wav")
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    assert said in line
    assert not Path("new.wav").exists()


def test_two_seconds_are_not_more_than_two_seconds(codec: Codec, tmp_path: Path) -> None:
    _sound(np.ones(96_000))(tmp_path / "just.wav")
    assert len(read_recording(tmp_path / "just.wav", 48_000, most_seconds=2.0)) == 96_000
    with pytest.raises(HostError, match=r"longer than 0\.03"):
        read_recording(tmp_path / "just.wav", 48_000, most_seconds=1.99)
