"""Recordings, folders and models with odd names, through the real commands of host and plugin."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

from host_stubs.cli import build_cli
from host_stubs.manifest import DatasetManifest
from host_stubs.model import open_model, save_model
from host_stubs.plugins import Plugins, load_plugins

NAMES = [
    *(b"2024-05-01T12:30:00.wav", b"Drums\\Kick.wav", b"C:kick.wav", b"C:\\kick.wav", b"dots....wav", b"..wav"),
    *(
        b"two\nlines.wav",
        b"tab\t.wav",
        b"quo\"te'.wav",
        b" before.wav",
        b"-o.wav",
        b"--help.wav",
        b"~.wav",
        b"$HOME.wav",
    ),
    *(b"%s{0}.wav", b"*?.wav", b"<b>&amp;.wav", b"a,b{c[d.wav", b"n" * 251 + b".wav", b"x.WAV", b"\x80\x81.wav"),
    *(b"caf\xe8.wav", b"caf\xe9.wav", b"caf\xef\xbf\xbd.wav", b"Gl\xc3\xb6ck.wav", b"Glo\xcc\x88ck.wav"),
    *(b"kick [dry].wav", b"walk[/01].wav", b"[red]x[", b"[/].wav", b":bell:.wav"),
    *(b"\x1b]0;evil\x07\x1b[2J.wav", b"\xc2\x9b2J.wav", b"rtl\xe2\x80\xaegnp.wav", b"\xe2\x80\xa8.wav", b"\x7f.wav"),
]
RECORDINGS = [name for name in NAMES if not name.startswith(b".") and name != b"[red]x["]
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def host(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(build_cli(load_plugins()), [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    assert not OBEYED.search(result.output), result.output
    return result


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder called `[/red]` with a short recording of each name, and an image."""
    folder = tmp_path_factory.mktemp("odd") / "[/red]"
    for number, name in enumerate(RECORDINGS):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        samples = 0.5 * np.sin(np.arange(4800) * 0.08 * (1 + number / 40))
        soundfile.write(file, samples, 16_000, format="WAV")
        path.write_bytes(file.getvalue())
    (folder / "empty.wav").touch()
    (folder / ".hidden.wav").touch()
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """A model that the commands have trained on them, with a prior."""
    path = folder.parent / "odd\x1b[2J.sda"
    trained = host("train", folder, "-o", path, "--epochs", "1", "--json")
    assert trained.exit_code == 0, trained.output
    result = json.loads(trained.stdout)
    assert len(result["dataset"]["files"]) == len(RECORDINGS)
    assert result["account"] == {
        "used": len(RECORDINGS),
        "in_part": [],
        "skipped": [{"path": "empty.wav", "why": "empty.wav is empty (0 bytes)."}],
        "more_skipped": 0,
    }
    assert f"Used     {len(RECORDINGS)} recordings as they are\nSkipped  empty.wav is empty" in trained.stderr
    prior = host("train-prior", path, "--epochs", "1", "--no-cache", "--json")
    assert prior.exit_code == 0, prior.output
    assert json.loads(prior.stdout)["dataset"] == {"changed": [], "added": [], "account": result["account"]}
    assert rf"The prior is saved in {folder.parent}/odd\x1b[2J.sda" in prior.stderr
    assert f"encoded {len(RECORDINGS)} of {len(RECORDINGS)}: " in prior.stderr
    return path


@pytest.mark.slow
def test_every_command_takes_them(model: Path, folder: Path) -> None:
    info = host("info", model)
    assert re.search(rf"^Dataset +{len(RECORDINGS)} recordings: ", info.stdout, re.M)
    assert re.search(r"^Skipped +empty\.wav is empty \(0 bytes\)\.$", info.stdout, re.M)
    assert "Dataset now" not in info.stdout
    assert host("check", model).exit_code == 0
    (model.parent / "._odd\x1b[2J.sda").write_bytes(b"what macOS keeps beside a file on a foreign disk")
    listed = host("models", model.parent).stdout
    assert r"odd\x1b[2J.sda  " in listed
    assert "._odd" not in listed
    sound = host("generate", model, "--seconds", "1", "-o", model.parent / "a\nb.wav")
    assert sound.exit_code == 0, sound.output
    assert r"a\nb.wav  1.00 s" in sound.stdout
    for name in (b"caf\xe9.wav", b"walk[/01].wav"):
        recording = os.fsdecode(os.fsencode(folder) + b"/" + name)
        to = model.parent / "longer.wav"
        longer = host("generate", model, "--seconds", "1", "--continue", recording, "-o", to, "--overwrite")
        assert longer.exit_code == 0, longer.output
    assert json.loads(host("info", model, "--json").stdout)["path"] == str(model)
    assert open_model(model, Plugins()).manifest.check().summary() == ""


@pytest.mark.slow
def test_a_terminal_gets_names_and_not_what_they_say(model: Path, folder: Path, tmp_path: Path) -> None:
    """On a terminal rich draws: what is in brackets is no markup to it, and what a name says is not obeyed."""
    shown = on_a_terminal("train", folder, "-o", tmp_path / "a.sda", "--epochs", "1")
    assert "looking through" in shown
    assert "[/red]" in shown
    shown += on_a_terminal("train-prior", tmp_path / "a.sda", "--epochs", "1", "--no-cache")
    assert "The prior is saved" in shown
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown
    assert not re.search("[\x80-\x9f\u2028\u202e]", shown)


def on_a_terminal(*arguments: str | Path) -> str:
    """Run a command that must succeed with a terminal for its stderr; what that got."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "300", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "host_stubs.cli", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs, env=environment,
    ) as process:  # fmt: skip
        os.close(theirs)
        got = b""
        while True:
            try:
                got += os.read(ours, 65536)
            except OSError:  # nobody has the other end any more
                break
    os.close(ours)
    assert process.returncode == 0, got
    return got.decode()


@pytest.fixture
def from_a_stranger(model: Path, tmp_path: Path) -> Path:
    """A model whose recordings are not here, with names that would clear the screen and forge a line."""
    opened = open_model(model, Plugins())
    assert opened.manifest is not None
    evil = "\x1b[2J\nError: 鐘 is lost\u202e.wav"
    files = tuple(
        replace(entry, path=f"{number}{evil}", path_hex="", note=f"{evil} is quiet")
        for number, entry in enumerate(opened.manifest.files)
    )
    opened.manifest = DatasetManifest(str(tmp_path / f"nowhere{evil}"), files, ((evil, f"{evil} is empty."),), 3)
    opened.name, opened.bundle.has_prior = evil, False
    opened.bundle.remove("prior")
    save_model(opened, tmp_path / "stranger.sda", Plugins())
    return tmp_path / "stranger.sda"


@pytest.mark.slow
def test_what_a_stranger_has_written_is_shown_and_not_obeyed(from_a_stranger: Path) -> None:
    escaped = r"\x1b[2J\nError: 鐘 is lost\u202e.wav"
    card = host("info", from_a_stranger)
    assert card.exit_code == 0
    assert card.stdout.count(escaped) > 4
    assert host("check", from_a_stranger).exit_code == 0
    assert escaped in host("models", from_a_stranger.parent).stdout
    refused = host("train-prior", from_a_stranger)
    assert refused.exit_code == 1
    assert "recordings are missing" in refused.stderr
    assert f"0{escaped}" in refused.stderr
    (line,) = refused.stderr.strip().splitlines()[1:]
    assert line.startswith("Error: ")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_knows_few_letters_gets_the_others_escaped(from_a_stranger: Path, encoding: str) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = subprocess.run(
        [sys.executable, "-m", "host_stubs.cli", "info", from_a_stranger], capture_output=True, check=False,
        env=environment | {"PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(b" is lost") > 4


@pytest.mark.parametrize(
    "arguments",
    [["info", "\x1b[2J.sda"], ["train", "\x1b[2J"], ["\x1b[2J"], ["train-prior", "a\nb"], ["info", "a", "\x1b[2J"],
     ["generate", "a.sda", "--seconds", "\x1b[2J"], ["models", "caf\udce9"], ["ui", "--models", "\x9b"]],
    ids=ascii,
)  # fmt: skip
def test_an_error_names_what_was_typed_and_does_not_obey_it(arguments: list[str]) -> None:
    result = host(*arguments)
    assert result.exit_code in (1, 2)
    assert re.search(r"\\x1b|\\n|\\xe9|\\x9b", result.stderr)
