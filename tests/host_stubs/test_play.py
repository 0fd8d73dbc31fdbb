"""`host play`: the sound of `host generate`, at once, for a loudspeaker or another program; keys that change it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pty
import select
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
import pytest
from click.testing import CliRunner, Result

import host_stubs
from host_stubs.ahead import Ahead
from host_stubs.cli import build_cli
from host_stubs.errors import HostError
from host_stubs.model import Model, save_model
from host_stubs.piping import write_sound
from host_stubs.playing import Controls, PlaySettings
from host_stubs.plugins import Plugins
from host_stubs.reading import read_recording

pytestmark = pytest.mark.usefixtures("one_thread")

DICE = """
import itertools
import numpy as np
import pluggy

hookimpl = pluggy.HookimplMarker("sda_host")


def frame(model, seed, number):
    codec = model.codec
    return np.random.default_rng([seed, number]).integers(0, codec.codebook_size, (1, codec.bands, codec.levels))


@hookimpl
def generate_codes(model, frames, seed):
    return [np.concatenate([frame(model, seed, number) for number in range(frames)])]


@hookimpl
def stream_codes(model, frames, settings):
    numbers = itertools.count() if frames is None else range(frames)
    return (frame(model, settings().seed, number) for number in numbers)
"""


class Silent:
    """A plugin that can make sound, but has none for this model."""

    @pluggy.HookimplMarker("sda_host")
    def stream_codes(self, model: Model) -> None:
        return None


class Broken:
    """A plugin that fails after a frame, with an error for the user."""

    @pluggy.HookimplMarker("sda_host")
    def stream_codes(self, model: Model) -> Iterator[np.ndarray]:
        yield np.zeros((3, model.codec.bands, model.codec.levels), np.int64)
        raise HostError("There is nothing left to draw.")


@pytest.fixture
def dice(install_plugin: Callable[[str, str], None]) -> Plugins:
    install_plugin("dice", DICE)
    plugins = Plugins()
    plugins.add(importlib.import_module("dice_module"), "dice")
    return plugins


@pytest.fixture
def saved(model: Model, tmp_path: Path, no_plugins: Plugins) -> Path:
    save_model(model, tmp_path / "tones.sda", no_plugins)
    return tmp_path / "tones.sda"


def host(plugins: Plugins | object, *arguments: str | Path) -> Result:
    if not isinstance(plugins, Plugins):
        plugin, plugins = plugins, Plugins()
        plugins.add(plugin, "test")
    return CliRunner().invoke(build_cli(plugins), [str(argument) for argument in arguments])


def played(plugins: Plugins, capfd: pytest.CaptureFixture[bytes], *arguments: str | Path) -> tuple[bytes, str]:
    """What a command writes to the descriptors of standard output and error."""
    capfd.readouterr()
    build_cli(plugins).main([*map(str, arguments)], prog_name="host", standalone_mode=False)
    out, err = capfd.readouterr()
    return out, err.decode()


def test_what_is_piped_is_the_file_of_generate_byte_by_byte(
    saved: Path, dice: Plugins, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    arguments = (saved, "--seconds", "2.1", "--seed", "7")
    wav = saved.with_name("new.wav")
    assert host(dice, "generate", *arguments, "-o", wav).exit_code == 0
    out, err = played(dice, capfdbinary, "play", *arguments, "-o", "-")
    assert out == wav.read_bytes()
    assert err.splitlines()[0] == "seed 7"
    assert "played 2.10 s" in err
    raw, err = played(dice, capfdbinary, "play", *arguments, "-o", "-", "--format", "s16", "--json")
    assert raw == out[-len(raw) :]
    assert len(raw) == 2 * 100_800
    result = json.loads(err.splitlines()[-1])
    assert (result["seconds"], result["settings"]["seed"]) == (2.1, 7)
    assert 0 < result["first_sound_seconds"] < 60
    floats, _ = played(dice, capfdbinary, "play", *arguments, "-o", "-", "--format", "f32")
    model = host_stubs.open_model(saved, dice)
    grid = np.concatenate([sys.modules["dice_module"].frame(model, 7, number) for number in range(13)])
    np.testing.assert_array_equal(np.frombuffer(floats, "<f4"), model.codec.decode(grid)[:100_800])


def test_it_begins_with_the_top_p_that_the_prior_says_where_nobody_else_does(
    saved: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    class Said:
        default_top_p = 0.6

    class Modest:
        @pluggy.HookimplMarker("sda_host")
        def model_opened(self, model: Model) -> None:
            model.prior = Said()

        @pluggy.HookimplMarker("sda_host")
        def stream_codes(self, model: Model, frames: int, settings: Callable[[], PlaySettings]) -> Iterator[np.ndarray]:
            drawn_from.append(settings().top_p)
            return iter([np.zeros((frames, model.codec.bands, model.codec.levels), np.int64)])

    plugins, drawn_from = Plugins(), []
    plugins.add(Modest(), "modest")
    for top_p, expected in (([], 0.6), (["--top-p", "0.8"], 0.8)):
        _, err = played(plugins, capfdbinary, "play", saved, "--seconds", "0.5", *top_p, "-o", "-", "--json")
        assert json.loads(err.splitlines()[-1])["settings"]["top_p"] == drawn_from[-1] == expected


def test_keys_change_it_the_terminal_is_restored_and_ctrl_c_ends_it(saved: Path, dice: Plugins) -> None:
    """A real terminal, and another program that reads the sound."""
    pid, terminal = pty.fork()
    if not pid:
        os.environ |= {"PYTHONPATH": str(saved.parent / "site-dice"), "OMP_NUM_THREADS": "1"}
        script = 'trap : INT; "$0" -m host_stubs.cli play "$1" -o - --seed 3 2>&1 >/dev/null; echo "ended $?"'
        os.execvp("sh", ["sh", "-c", script, sys.executable, str(saved)])
    before = termios.tcgetattr(terminal)
    said = ""

    def until(text: str) -> None:
        nonlocal said
        end = time.monotonic() + 300
        while text not in said:
            assert select.select([terminal], [], [], max(0, end - time.monotonic()))[0], said
            said += os.read(terminal, 4096).decode()

    until("q end")
    assert not termios.tcgetattr(terminal)[3] & (termios.ICANON | termios.ECHO)
    os.write(terminal, b"T\x1b[A")  # and an arrow, which means nothing
    until("temperature 1.05")
    os.write(terminal, b"psrh")
    until("hold on")
    assert [line for line in ("top-p 0.85", "seed 4", "forgotten") if line not in said] == []
    os.write(terminal, b"\x03")
    until("ended 0")
    assert "played" in said
    assert termios.tcgetattr(terminal) == before
    os.waitpid(pid, 0)
    os.close(terminal)


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    tone = np.ones(100_000, np.float32)
    reading, writing = os.pipe()
    with Ahead([tone] * 100, 1) as ahead:
        thread = threading.Thread(
            target=write_sound, args=(writing, ahead, "wav", 48_000, None, threading.Event(), lambda seconds: None)
        )
        thread.start()
        header = os.read(reading, 44)
        os.close(reading)
        thread.join(60)
        assert not thread.is_alive()
        assert not ahead.over
    os.close(writing)
    assert (header[:4], header[36:]) == (b"RIFF", b"data\xff\xff\xff\xff")  # nobody knows how long it will be


def test_a_wav_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    tone = np.sin(np.arange(9_000) / 20).astype(np.float32)
    path = tmp_path / "piped.wav"
    with path.open("wb") as file, Ahead([tone], 1) as ahead:
        write_sound(file.fileno(), ahead, "wav", 48_000, None, threading.Event(), lambda seconds: None)
    np.testing.assert_allclose(read_recording(path, 48_000), tone, atol=1e-4)


def test_no_more_is_made_than_is_to_be_ready() -> None:
    made: list[int] = []

    def blocks() -> Iterator[np.ndarray]:
        for number in range(20):
            made.append(number)
            yield np.full(100, number, np.float32)

    out = np.empty(250, np.float32)
    with Ahead(blocks(), 300) as ahead:
        assert ahead.wait(300, 10)
        time.sleep(0.05)
        assert made == [0, 1, 2]
        assert ahead.take(out) == 250  # and so 50 wait
        assert ahead.wait(300, 10)
        np.testing.assert_array_equal(out, np.repeat([0, 1, 2], [100, 100, 50]))
        assert made == [0, 1, 2, 3, 4, 5]
        taken = 250
        while count := ahead.take(out) or (ahead.wait(1, 10) and ahead.take(out)):
            taken += count
        assert taken == ahead.taken == 2_000
        assert ahead.over


def test_what_goes_wrong_on_the_way_is_said_after_what_was_heard(
    saved: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    plugins = Plugins()
    plugins.add(Broken(), "broken")
    with pytest.raises(Exception, match="There is nothing left to draw"):
        played(plugins, capfdbinary, "play", saved, "-o", "-", "--seconds", "9")
    assert len(capfdbinary.readouterr().out) > 44


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "new.wav"], "host generate -o new.wav writes a file"),
        (["--format", "s16"], "--format says what -o - writes"),
        (["-o", "-", "--speaker", "1"], "--speaker is where the sound goes without -o -"),
        (["-o", "-", "--ahead", "0"], "'--ahead': 0"),
        (["-o", "-", "--seconds", "nan"], "nan is not a number"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_sentence(
    saved: Path, dice: Plugins, arguments: list[str], message: str
) -> None:
    result = host(dice, "play", saved, *arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_sound_without_end_does_not_go_into_a_file(
    saved: Path, dice: Plugins, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with pytest.raises(Exception, match="--seconds says how long it is to be"):
        played(dice, capfdbinary, "play", saved, "-o", "-")
    assert capfdbinary.readouterr().out == b""


@pytest.mark.parametrize("more", [[], ["--max-copy", "0.5"]])
def test_a_model_that_nothing_can_play_is_one_sentence(
    saved: Path, dice: Plugins, more: list[str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    plugins = dice if more else Plugins()
    if not more:
        plugins.add(Silent(), "silent")
    with pytest.raises(Exception, match=r"tones\.sda cannot be played: "):
        played(plugins, capfdbinary, "play", saved, "-o", "-", "--seconds", "1", *more)


def to_install() -> str | None:
    """What is missing here that playing takes, as the command names it."""
    if importlib.util.find_spec("sounddevice") is None:
        return "pip install 'sda-host-stubs[play]'"
    try:
        importlib.import_module("sounddevice")
    except OSError:
        return "apt install libportaudio2"
    return None


@pytest.mark.skipif(to_install() is None, reason="what it takes to play is here")
def test_without_what_it_takes_it_says_what_to_install_or_how_to_do_without(saved: Path, dice: Plugins) -> None:
    result = host(dice, "play", saved)
    assert result.exit_code == 1
    assert to_install() in result.stderr
    assert "-o -" in result.stderr


@pytest.mark.skipif(to_install() is not None or sys.platform != "linux", reason="PortAudio with ALSA is not here")
def test_it_plays_to_the_end_on_a_device(
    saved: Path, dice: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real PortAudio, on ALSA's device of nothing, which takes sound as fast as it comes."""
    (tmp_path / ".asoundrc").write_text("pcm.!default { type null }\nctl.!default { type null }\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    sounddevice = importlib.import_module("sounddevice")
    sounddevice._terminate()  # it has looked for devices when it was imported
    sounddevice._initialize()
    result = host(dice, "play", saved, "--seconds", "1.5", "--speaker", "default", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["seconds"] == 1.5
    result = host(dice, "play", saved, "--speaker", "no such device")
    assert result.exit_code == 1
    assert "no such device cannot play this sound" in result.stderr
    assert "There are: default" in result.stderr


@pytest.mark.parametrize(
    ("keys", "field", "value"),
    [
        ("TT", "temperature", 1.1), ("t" * 50, "temperature", 0.01), ("T" * 999, "temperature", 10.0),
        ("p", "top_p", 0.85), ("PPP", "top_p", 1.0), ("S", "seed", 2**32 - 1), ("sss", "seed", 3),
        ("rr", "resets", 2), ("h", "hold", True), ("hh", "hold", False),
    ],
)  # fmt: skip
def test_a_key_moves_its_setting_within_bounds(keys: str, field: str, value: Any) -> None:
    controls = Controls(PlaySettings())
    assert all(controls.press(key) for key in keys)
    assert getattr(controls.now(), field) == pytest.approx(value)
    assert controls.press("x") is None
