"""What a user may hand the host by mistake: one clear line for each, no traceback, and nothing is lost."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from host_stubs.cli import build_cli
from host_stubs.model import Model, save_model
from host_stubs.plugins import Plugins
from host_stubs.sda import read_document


def host(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(build_cli(Plugins()), [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result


def mistake(*arguments: str | Path) -> str:
    """Run something that must fail with one line on stderr and nothing on stdout; that line."""
    result = host(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.fixture
def saved(model: Model, tmp_path: Path, no_plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model in a current folder of its own, which has to be there unchanged in the end, with no file beside it."""
    monkeypatch.chdir(tmp_path)
    save_model(model, "good.sda", no_plugins)
    path = tmp_path / "good.sda"
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["good.sda"]


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _empty(path: Path) -> None:
    path.touch()


def _truncated(path: Path) -> None:
    soundfile.write(path, np.ones(4000), 16_000)
    path.write_bytes(path.read_bytes()[:3000])


def _text(path: Path) -> None:
    path.write_text("a list of recordings, not one of them")


def _not_a_number(path: Path) -> None:
    soundfile.write(path, np.full(4000, np.nan, np.float32), 16_000, subtype="FLOAT")


def _silent_header(path: Path) -> None:
    soundfile.write(path, np.zeros(0), 16_000)


BAD_SOUNDS = {"empty": _empty, "truncated": _truncated, "text": _text, "nan": _not_a_number, "header": _silent_header}


@pytest.mark.parametrize("kind", BAD_SOUNDS)
def test_a_folder_with_nothing_but_a_bad_recording(saved: Path, kind: str) -> None:
    folder = saved.parent / "recordings"
    folder.mkdir()
    BAD_SOUNDS[kind](folder / "bad.wav")
    line = mistake("train", folder, "-o", saved, "--overwrite")
    assert "None of the 1 recordings" in line
    assert "bad.wav" in line


def test_a_folder_without_audio(saved: Path) -> None:
    folder = saved.parent / "recordings"
    folder.mkdir()
    (folder / "notes.txt").write_text("to be recorded")
    assert "There are no recordings" in mistake("train", folder, "-o", saved, "--overwrite")
    assert "There is no folder" in mistake("train", folder / "deeper", "-o", saved, "--overwrite")


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_good_recordings_are_used_and_bad_ones_named(sounds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for kind, make in BAD_SOUNDS.items():
        make(folder / f"{kind}.wav")
    for recording in sorted(sounds.rglob("*.wav"))[:2]:
        (folder / recording.name).write_bytes(recording.read_bytes())
    result = host("train", folder, "-o", tmp_path / "a.sda", "--epochs", "1", "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["dataset"]["files"]) == 2
    lines = result.stderr.splitlines()
    assert "Used     2 recordings as they are" in lines
    skipped = [line for line in lines if line.startswith("Skipped  ")]
    assert len(skipped) == len(BAD_SOUNDS)
    assert all(any(line.startswith(f"Skipped  {kind}.wav ") for line in skipped) for kind in BAD_SOUNDS)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("files", "seconds"), [(1, 0.05), (3, 0.05)])
def test_one_file_and_files_shorter_than_a_code_frame(
    tmp_path: Path, write_sound: Callable[..., Path], files: int, seconds: float
) -> None:
    for number in range(files):
        write_sound(tmp_path / "recordings" / f"{number}.wav", seconds, pitch=300.0 + 50 * number)
    path = tmp_path / "a.sda"
    result = host("train", tmp_path / "recordings", "-o", path, "--epochs", "1")
    assert result.exit_code == 0, result.output
    entries = read_document(path)["dataset"]["files"]
    assert len(entries) == files
    assert any(entry["train"] for entry in entries)
    assert any(entry["held_out"] for entry in entries)
    assert ("There is only one recording" in result.stderr) == (files == 1)


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("exploded"),))


def _claiming(version: int) -> Callable[[Path, Path], object]:
    def write(good: Path, bad: Path) -> None:
        document = read_document(good) | {"version": version}
        save_file(load_file(good), bad, metadata={"sda": json.dumps(document)})

    return write


BAD_MODELS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "truncated": (lambda good, bad: bad.write_bytes(good.read_bytes()[:-1000]), "is truncated: 1,000 of"),
    "header": (lambda good, bad: bad.write_bytes(good.read_bytes()[:1000]), "is truncated"),
    "empty": (lambda good, bad: bad.touch(), "is empty"),
    "pickle": (lambda good, bad: bad.write_bytes(pickle.dumps(_Bomb())), "is a Python pickle"),
    "torch": (lambda good, bad: torch.save({"a": torch.ones(1)}, bad), "not a .sda; it was not opened"),
    "foreign": (lambda good, bad: save_file({"w": torch.ones(2)}, bad), "is another program's safetensors file"),
    "newer": (_claiming(3), "is of .sda version 3; this host reads up to 2"),
    "folder": (lambda good, bad: bad.mkdir(), "is a folder"),
    "missing": (lambda good, bad: None, "There is no file"),
}


@pytest.mark.parametrize("command", ["info", "generate"])
@pytest.mark.parametrize("kind", BAD_MODELS)
def test_a_file_that_is_no_model(saved: Path, command: str, kind: str) -> None:
    make, says = BAD_MODELS[kind]
    bad = saved.parent / "elsewhere" / "bad.sda"
    bad.parent.mkdir()
    make(saved, bad)
    line = mistake(command, bad)
    assert says in line
    assert "bad.sda" in line
    assert not Path("exploded").exists()


def test_the_models_of_a_folder_are_listed_with_the_bad_ones(saved: Path) -> None:
    for kind, (make, _) in BAD_MODELS.items():
        bad = saved.parent / "elsewhere" / f"{kind}.sda"
        bad.parent.mkdir(exist_ok=True)
        make(saved, bad)
    result = host("models", saved.parent / "elsewhere")
    assert result.exit_code == 0
    assert all(
        re.search(rf"^{kind}\.sda .*{re.escape(says)}", result.stdout, re.M)
        for kind, (_, says) in BAD_MODELS.items()
        if kind != "missing"
    )


@pytest.mark.parametrize("command", ["train", "generate", "import"])
def test_an_output_folder_that_cannot_be_written_to(saved: Path, sounds: Path, command: str) -> None:
    given = {"train": sounds, "generate": saved, "import": saved}[command]
    suffix = ".wav" if command == "generate" else ".sda"
    folders = [saved, saved.parent / "missing"]  # a file is no folder: root cannot write there either
    folders += [folder for folder in [Path("/proc")] if folder.is_dir()]
    for folder in folders:
        line = mistake(command, given, "-o", folder / f"new{suffix}")
        assert re.search("does not exist|cannot be written", line)
    assert "must end in" in mistake(command, given, "-o", "new.txt")


def test_a_demo_where_no_folder_can_be(saved: Path) -> None:
    assert "cannot be made" in mistake("demo", saved / "demo")


def test_a_dataset_that_is_no_folder(saved: Path) -> None:
    assert "There is no file" in mistake("import", "missing.distill", "--dataset", saved, "-o", "new.sda")
