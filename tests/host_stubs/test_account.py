"""The one account of a folder: what is used, used in part, skipped, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from host_stubs.account import Account
from host_stubs.cli import build_cli
from host_stubs.codec import Codec
from host_stubs.commands.card import card_lines
from host_stubs.errors import HostError
from host_stubs.host import Host
from host_stubs.manifest import MOST_FILES, MOST_TEXT, DatasetManifest, build_manifest
from host_stubs.model import Model, open_model, save_model
from host_stubs.plugins import Plugins
from host_stubs.ui.jobs import Job
from host_stubs.ui.vqvae_job import VqvaeProgress, VqvaeWork
from host_stubs.ui.vqvae_section import _going


def test_nothing_is_said_where_everything_is_used(sounds: Path) -> None:
    account = build_manifest(sounds).manifest.account
    assert account == Account(6)
    assert account.rows() == []


def test_each_file_has_its_sentence_and_files_of_one_kind_share_a_line() -> None:
    covers = tuple((f"{number}.jpg", f"{number}.jpg is no sound file.") for number in range(1000))
    account = Account(
        1, (("a.mp3", "a.mp3 ends early: 3.2 of 4.0 s are used."),), (("b.wav", "b.wav is empty."), *covers)
    )
    assert account.rows() == [
        ("Used", "1 recording as it is"),
        ("Used in part", "a.mp3 ends early: 3.2 of 4.0 s are used."),
        ("Skipped", "b.wav is empty."),
        (
            "Skipped",
            "0.jpg is no sound file. So it is with 1.jpg, 2.jpg, 3.jpg, 4.jpg, 5.jpg and 994 more.",
        ),
    ]
    assert len(account.to_json()["skipped"]) == 1001


def test_ten_thousand_reasons_are_not_ten_thousand_lines() -> None:
    skipped = tuple((f"{number}", f"{number} lacks {number} bytes.") for number in range(1000))
    assert Account(2, (), skipped).rows()[-1] == ("Skipped", "… and 980 more; host info --json says which")
    rows = Account(2, (), skipped, 9000).rows()
    assert len(rows) < 30
    assert rows[-1] == ("Skipped", "… and 9980 more")


@pytest.fixture
def untidy(own_sounds: Path) -> Path:
    """Six recordings, and what lies about beside them."""
    for number in range(3):
        (own_sounds / f"empty{number}.wav").touch()
    (own_sounds / "1" / "text.wav").write_text("not a sound")
    return own_sounds


EMPTY = "empty0.wav is empty (0 bytes). So it is with empty1.wav, empty2.wav."


def test_it_is_kept_in_the_file_and_shown_wherever_the_model_is(untidy: Path, codec: Codec, tmp_path: Path) -> None:
    model = Model("untidy", codec)
    Host(Plugins()).set_dataset(model, untidy)
    save_model(model, tmp_path / "untidy.sda", Plugins())
    manifest, opened = model.manifest, open_model(tmp_path / "untidy.sda", Plugins()).manifest
    assert manifest is not None
    assert opened == manifest
    assert [path for path, _ in opened.skipped] == ["1/text.wav", "empty0.wav", "empty1.wav", "empty2.wav"]
    card = CliRunner().invoke(build_cli(Plugins()), ["info", str(tmp_path / "untidy.sda")]).stdout
    rows = [line.split("  ", 1)[1].strip() for line in card.splitlines() if line.startswith("Skipped")]
    assert rows[1] == EMPTY
    assert rows[0].startswith("1/text.wav cannot be read as sound")
    assert "Dataset now" not in card
    told = json.loads(CliRunner().invoke(build_cli(Plugins()), ["info", str(tmp_path / "untidy.sda"), "--json"]).stdout)
    assert told["account"] == manifest.account.to_json()
    assert [each["path"] for each in told["account"]["skipped"]] == [path for path, _ in opened.skipped]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_training_gives_it_on_the_console_and_on_the_page(untidy: Path, tmp_path: Path) -> None:
    arguments = ["train", str(untidy), "-o", str(tmp_path / "a.sda"), "--epochs", "1"]
    said = CliRunner().invoke(build_cli(Plugins()), arguments).stderr
    assert "Used     6 recordings as they are\nSkipped  1/text.wav cannot be read" in said
    assert f"Skipped  {EMPTY}\n6 recordings: " in said
    job = Job(tmp_path / "b.sda", "training", VqvaeProgress())
    job.stop()
    VqvaeWork(Host(Plugins()), untidy, "b", 1)(job)
    page = _going(job)
    assert "<dt>Used</dt><dd>6 recordings as they are</dd><dt>Skipped</dt><dd>1/text.wav cannot" in page
    assert f"<dd>{EMPTY}</dd>" in page


def test_a_dataset_that_is_named_later_is_accounted_for_in_warnings(
    untidy: Path, codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    Host(Plugins()).set_dataset(Model("later", codec), untidy)
    assert f"skipped: {EMPTY}" in caplog.messages
    assert not [message for message in caplog.messages if message.startswith("used: ")]


def test_what_may_not_be_read_is_named_and_ends_nothing(
    write_sound: Callable[..., Path], codec: Codec, tmp_path: Path, ordinary_user: None
) -> None:
    folder, locked = tmp_path / "recordings", tmp_path / "locked"
    for number in range(3):
        write_sound(folder / f"{number}.wav", pitch=300.0 + 50 * number)
    write_sound(locked / "inside" / "a.wav")
    (folder / "file.wav").symlink_to(locked / "inside" / "a.wav")
    (folder / "link").symlink_to(locked / "inside")
    (folder / "own").mkdir()
    (folder / "own").chmod(0)
    locked.chmod(0)
    try:
        model = Model("some", codec)
        Host(Plugins()).set_dataset(model, folder)
        assert model.manifest is not None
        assert [entry.path for entry in model.manifest.files] == ["0.wav", "1.wav", "2.wav"]
        assert [path for path, _ in model.manifest.skipped] == ["file.wav", "link", "own"]
        assert model.manifest.check().summary() == ""
        assert [label for label, _ in card_lines(Host(Plugins()), model)].count("Skipped") == 2
    finally:
        locked.chmod(0o700)
        (folder / "own").chmod(0o700)


def test_reasons_have_no_absolute_paths_and_an_end(own_sounds: Path) -> None:
    (own_sounds / ("n" * 200 + ".wav")).touch()
    deep = own_sounds / ("d" * 200) / ("e" * 200) / "x.wav"
    deep.parent.mkdir(parents=True)
    deep.write_text("no sound")
    for path, reason in build_manifest(own_sounds).manifest.skipped:
        assert str(own_sounds) not in reason
        assert reason.startswith(path[:400])
        assert len(reason) <= 500


def test_what_is_skipped_never_costs_a_model(own_sounds: Path, codec: Codec, tmp_path: Path) -> None:
    """Of more files than are listed the rest is counted, and the file opens."""
    for number in range(3000):
        (own_sounds / f"{'x' * 200}{number:04}.wav").touch()
    manifest = build_manifest(own_sounds).manifest
    assert 100 < len(manifest.skipped) < 1000
    assert len(manifest.skipped) + manifest.more_skipped == 3000
    assert len(json.dumps(manifest.to_json())) < MOST_TEXT
    save_model(Model("many", codec, manifest), tmp_path / "many.sda", Plugins())
    assert open_model(tmp_path / "many.sda", Plugins()).manifest == manifest


def test_the_most_that_a_manifest_may_hold_can_be_opened(sounds: Path, codec: Codec, tmp_path: Path) -> None:
    """As many recordings as there may be, each with a note, and the names of all of them once more in a prior."""
    entry = build_manifest(sounds).manifest.files[0]
    files = tuple(
        replace(entry, path=f"{number:05}.wav", note=f"{number:05}.wav ends early: 3.2 of 4.0 s are used.")
        for number in range(MOST_FILES)
    )
    skipped = tuple((f"{number}.jpg", f"{number}.jpg is no sound file.") for number in range(1000))
    model = Model("most", codec, DatasetManifest("/most", files, skipped, 5))
    model.bundle.put("prior", {"heard": [each.path for each in files]}, {})
    save_model(model, tmp_path / "most.sda", Plugins())
    assert open_model(tmp_path / "most.sda", Plugins()).manifest == model.manifest


def test_names_that_would_take_too_much_to_open_are_refused_before_training(
    tmp_path: Path, write_sound: Callable[..., Path]
) -> None:
    """To whoever counts the values of a file before reading it, each comma may begin another one."""
    first = write_sound(tmp_path / f"{',' * 240}0.wav", 0.05, rate=8_000)
    for number in range(1, 700):
        (tmp_path / f"{',' * 240}{number}.wav").hardlink_to(first)
    with pytest.raises(HostError, match="700 recordings, or such long names, that a model could not be opened again"):
        build_manifest(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"skipped": "all"},
        {"skipped": [["a.wav", "is empty"]] * 1001},
        {"skipped": [["a.wav"]]},
        {"skipped": [["a.wav", 3]]},
        {"skipped": [[3, "a.wav"]]},
        {"skipped": [["a.wav", "x" * 501]]},
        {"more_skipped": -1},
        {"more_skipped": 1.5},
        {"more_skipped": True},
        {"folder_hex": "0"},
        {"folder_hex": "00"},
    ],
    ids=lambda change: str(change)[:40],
)
def test_an_account_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    document = {"folder": "/x", "files": []}
    assert DatasetManifest.from_json(document | {"skipped": [["a", "b"]]}).account == Account(0, (), (("a", "b"),), 0)
    with pytest.raises(HostError, match="manifest is damaged"):
        DatasetManifest.from_json(document | change)
