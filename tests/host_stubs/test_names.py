"""Any name that the file system takes: kept in a model's file, found again, and shown."""

from __future__ import annotations

import io
import os
import random
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import soundfile

from host_stubs.codec import Codec
from host_stubs.errors import HostError
from host_stubs.manifest import DatasetManifest, build_manifest
from host_stubs.model import Model, open_model, save_model
from host_stubs.names import (
    as_text,
    as_the_system_has_it,
    folder_there,
    hexadecimal,
    model_file_name,
    model_files,
    stays_inside,
)
from host_stubs.plugins import Plugins

NAMES = 6_000
FOLDERS = 2
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Glöckchen.wav") for form in ("NFC", "NFD"))


def wav(pitch: float, seconds: float = 0.1) -> bytes:
    """A tone as a WAV file."""
    file = io.BytesIO()
    samples = 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * 8_000)) / 8_000)
    soundfile.write(file, samples, 8_000, format="WAV")
    return file.getvalue()


def any_name(dice: random.Random) -> bytes:
    """Bytes that a file system takes for a name, of one of several kinds, with a suffix of sound."""
    length = dice.choice([1, 2, 3, 8, 8, 20, 60, 251])
    kind = dice.randrange(4)
    if kind == 0:
        name = dice.randbytes(length)
    elif kind == 1:
        name = bytes(dice.choices(b".\\:*?\"'<>|[]{},;%$~-_ \t\n\r\x1b\x07\x7fab01", k=length))
    elif kind == 2:
        name = "".join(map(chr, dice.choices([*range(0x80, 0xD800), *range(0xE000, 0x11000)], k=length))).encode()
    else:
        name = "".join(dice.choices("ö\u0308oeé\u0301\u202e\u200b\u2028\ufffd가각ᄀ\ue000\ufeff🥁", k=length)).encode()
    return (name.replace(b"/", b"?").replace(b"\0", b"?") + dice.choice([b".wav", b".WAV"]))[-255:]


@pytest.mark.slow
def test_six_thousand_names_of_any_bytes_end_up_in_models_that_open(tmp_path: Path, codec: Codec) -> None:
    dice = random.Random(14)
    seen, hidden = 0, 0
    for number in range(FOLDERS):
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        sounds = [tmp_path / f"{number}-{pitch}" for pitch in range(300, 400, 10)]
        for pitch, sound in zip(range(300, 400, 10), sounds, strict=True):
            sound.write_bytes(wav(pitch))
        written: set[bytes] = set()
        while len(written) < NAMES // FOLDERS:
            name = any_name(dice)
            with suppress(OSError):  # it is there already, or this file system does not take it
                os.link(dice.choice(sounds), os.fsencode(folder) + b"/" + name)
                written.add(name)
        visible = {name for name in written if not name.startswith(b".")}

        manifest = build_manifest(folder).manifest
        assert not manifest.account.skipped
        save_model(Model("any", codec, manifest), tmp_path / "any.sda", Plugins())
        opened = open_model(tmp_path / "any.sda", Plugins()).manifest

        assert opened == manifest
        assert {os.fsencode(path.name) for path in opened.paths().values()} == visible
        assert opened.check(contents=False).summary() == ""
        sides = {part: list(opened.recordings(part, 8_000)) for part in ("train", "held_out")}
        assert {os.fsencode(each.path.name) for each in sides["train"] + sides["held_out"]} == visible
        assert all(len(each.audio) == 800 for each in [*sides["train"], *sides["held_out"]][::20])
        seen += len(visible)
        hidden += len(written) - len(visible)
    assert seen > 0.95 * NAMES
    assert hidden > 30


@pytest.mark.parametrize(
    ("name", "beside"),
    [(b"Gl\xc3\xb6ck.wav", ""), (b"a\\b:c\n\x1b.wav", ""), (b"caf\xe9.wav", "636166e92e776176"), (b"\xff", "ff")],
)
def test_a_name_comes_back_from_its_text_and_what_is_kept_beside_it(name: bytes, beside: str) -> None:
    given = os.fsdecode(name)
    assert hexadecimal(given) == beside
    as_text(given).encode()  # it is text
    assert as_the_system_has_it(as_text(given), hexadecimal(given)) == given


def test_names_that_look_alike_as_text_are_told_apart(tmp_path: Path) -> None:
    names = [b"caf\xe8.wav", b"caf\xe9.wav", "caf\N{REPLACEMENT CHARACTER}.wav".encode()]
    for pitch, name in enumerate(names, 3):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(wav(100.0 * pitch))
    manifest = build_manifest(tmp_path).manifest
    paths = {name: os.fsencode(path.name) for name, path in manifest.paths().items()}
    assert paths == {"caf\ufffd.wav": names[2], "caf\ufffd.wav (2)": names[0], "caf\ufffd.wav (3)": names[1]}


@pytest.mark.parametrize(
    ("name", "posix", "windows"),
    [
        ("2024-05-01T12:30:00.wav", True, True),
        ("Drums\\Kick.wav", True, True),
        ("..wav", True, True),
        ("a/...", True, True),
        ("C:kick.wav", True, False),
        ("..\\secret.wav", True, False),
        ("\\\\server\\share\\a.wav", True, False),
        ("\\a.wav", True, False),
        ("../secret.wav", False, False),
        ("a/../../secret.wav", False, False),
        ("/etc/passwd", False, False),
        ("", False, False),
        (".", False, False),
        ("a\0b", False, False),
    ],
)
def test_what_leads_out_of_a_folder_depends_on_the_system(name: str, posix: bool, windows: bool) -> None:
    assert stays_inside(name, PurePosixPath) == posix
    assert stays_inside(name, PureWindowsPath) == windows


@pytest.mark.parametrize(
    "change",
    [
        {"path_hex": b"../secret.wav".hex()},
        {"path_hex": b"/etc/passwd".hex()},
        {"path_hex": b"a\0b".hex()},
        {"path_hex": "6G"},
        {"path_hex": "616"},
        {"path_hex": 61},
        {"path": "a\0.wav"},
        {"path": "caf\udce9.wav"},
        {"note": "x" * 501},
        {"note": 3},
    ],
    ids=str,
)
def test_a_name_or_a_note_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    entry = {"path": "a.wav", "bytes": 1, "sha256": "0" * 64, "seconds": 1.0, "train": [0, 1], "held_out": None}
    DatasetManifest.from_json({"folder": "/x", "files": [entry | {"path_hex": "ff", "note": ""}]})
    with pytest.raises(HostError, match="manifest is damaged"):
        DatasetManifest.from_json({"folder": "/x", "files": [entry | change]})


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9t\xe9"))
    folder.mkdir()
    (folder / "a.wav").write_bytes(wav(440))
    document = build_manifest(folder).manifest.to_json()
    assert document["folder"] == f"{tmp_path}/\ufffdt\ufffd"
    back = DatasetManifest.from_json(document)
    assert [each.audio.any() for each in back.recordings("train", 8_000)] == [True]
    assert back.to_json() == document


@pytest.fixture
def moved(write_sound: Callable[..., Path], tmp_path: Path) -> tuple[DatasetManifest, Path]:
    """A folder as macOS made it, and what its model knows of it; the names are then composed, as other systems do."""
    before, after = (tmp_path / unicodedata.normalize(form, "Küche") for form in ("NFD", "NFC"))
    write_sound(before / DECOMPOSED, pitch=300)
    write_sound(before / unicodedata.normalize("NFD", "Töne") / "e\u0301.wav", pitch=400)
    write_sound(before / "kick.wav", pitch=500)
    manifest = build_manifest(before).manifest
    after.mkdir()
    for path in sorted(before.rglob("*.wav")):
        to = after / unicodedata.normalize("NFC", path.relative_to(before).as_posix())
        to.parent.mkdir(exist_ok=True)
        path.rename(to)
    (before / unicodedata.normalize("NFD", "Töne")).rmdir()
    before.rmdir()
    return manifest, after


def test_a_name_in_another_form_is_the_same_name(moved: tuple[DatasetManifest, Path]) -> None:
    manifest, after = moved
    assert folder_there(manifest.folder) == after
    check = manifest.check()
    assert (check.missing, check.changed, check.added, check.renamed) == ([], [], [], {})
    assert manifest.moved_to(after).check().summary() == ""
    recordings = [*manifest.recordings("train", 16_000), *manifest.recordings("held_out", 16_000)]
    assert sorted(each.path for each in recordings) == sorted(after.rglob("*.wav"))
    assert sorted(each.name for each in recordings) == [entry.path for entry in manifest.files]


def test_two_files_that_differ_only_in_form_stay_two(write_sound: Callable[..., Path], tmp_path: Path) -> None:
    write_sound(tmp_path / COMPOSED, pitch=300)
    write_sound(tmp_path / DECOMPOSED, pitch=400)
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("to this file system they are one")
    manifest = build_manifest(tmp_path).manifest
    assert {path.name for path in manifest.paths().values()} == {COMPOSED, DECOMPOSED}
    (tmp_path / DECOMPOSED).unlink()
    assert manifest.check().missing == [DECOMPOSED]
    assert manifest.check().changed == []


def test_names_in_another_form_are_found_at_the_cost_of_a_listing(tmp_path: Path) -> None:
    names = [f"ä{number}.wav" for number in range(3_000)]
    for name in names:
        (tmp_path / unicodedata.normalize("NFC", name)).touch()
    entry = {"bytes": 0, "sha256": "0" * 64, "seconds": 1.0, "train": [0, 1], "held_out": None}
    files = [entry | {"path": unicodedata.normalize("NFD", name)} for name in names]
    manifest = DatasetManifest.from_json({"folder": str(tmp_path), "files": files})
    assert len(set(manifest.paths().values())) == len(names)
    assert all(path.exists() for path in manifest.paths().values())


@pytest.mark.parametrize("name", ["n" * 255, "ö" * 127, "鐘" * 85], ids=["n", "ö", "鐘"])
def test_the_file_of_a_model_with_a_very_long_name_leaves_room_for_what_is_made_beside_it(name: str) -> None:
    file = model_file_name(name)
    assert name.startswith(file.removesuffix(".sda"))
    assert 195 < len(os.fsencode(file)) <= 204


def test_hidden_files_are_no_models(tmp_path: Path) -> None:
    for name in ("tabla.sda", "._tabla.sda", ".sda", "a.txt"):
        (tmp_path / name).touch()
    assert model_files(tmp_path) == [tmp_path / "tabla.sda"]
