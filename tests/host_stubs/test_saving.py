"""A save loses nothing: not to a crash, a full disk, another process or an older copy. And it leaves nothing behind."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from host_stubs import sda as sda_module
from host_stubs.audio import write_wav, write_wav_blocks
from host_stubs.errors import FileChanged, HostError
from host_stubs.host import Host, Saved
from host_stubs.locks import claimed
from host_stubs.model import Model, open_model, save_model
from host_stubs.plugins import Plugins
from host_stubs.replace import check_writable, file_state, new_file_in_place_of
from host_stubs.ui.jobs import Jobs


@pytest.fixture
def saved(model: Model, tmp_path: Path, no_plugins: Plugins) -> Path:
    """A saved model, alone in its folder."""
    path = tmp_path / "models" / "drums.sda"
    path.parent.mkdir()
    save_model(model, path, no_plugins)
    return path


@pytest.fixture
def host(no_plugins: Plugins) -> Host:
    return Host(no_plugins)


def write(path: Path, content: bytes) -> None:
    with new_file_in_place_of(path) as new:
        new.path.write_bytes(content)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_an_older_copy_does_not_replace_a_newer_one(saved: Path, host: Host) -> None:
    older, newer = host.open_model(saved), host.open_model(saved)
    newer.name = "newer"
    host.save_model(newer, saved)
    older.name = "older"
    with pytest.raises(FileChanged, match=r"drums\.sda has changed since it was opened.*Open it again"):
        host.save_model(older, saved)
    assert host.open_model(saved).name == "newer"
    host.save_model(older, saved.with_name("older.sda"))
    assert names(saved.parent) == ["drums.sda", "older.sda"]


def test_a_model_can_be_saved_again_and_again_and_where_its_file_is_gone(saved: Path, host: Host) -> None:
    model = host.open_model(saved)
    for name in ("first", "second"):
        model.name = name
        host.save_model(model, saved)
    saved.unlink()
    host.save_model(model, saved)
    assert host.open_model(saved).name == "second"


def test_a_file_that_was_touched_or_copied_over_is_another_one(saved: Path, host: Host) -> None:
    model = host.open_model(saved)
    again = Path(shutil.copy(saved, saved.with_name("again.sda")))
    again.replace(saved)
    with pytest.raises(FileChanged):
        host.save_model(model, saved)


def test_another_file_is_replaced_only_if_it_is_the_one_that_was_seen(saved: Path, host: Host) -> None:
    model, other = host.open_model(saved), saved.with_name("other.sda")
    host.save_model(model, other, None)
    with pytest.raises(FileChanged, match="was not there before"):
        host.save_model(host.open_model(saved), other, None)
    seen = host.file_state(other)
    host.save_model(host.open_model(saved), other, seen)
    with pytest.raises(FileChanged, match="has changed"):
        host.save_model(host.open_model(saved), other, seen)
    host.save_model(host.open_model(saved), other)  # whatever it is


def test_what_took_long_to_make_is_saved_beside_a_file_that_came_meanwhile(saved: Path, host: Host) -> None:
    before = saved.read_bytes()
    model = host.open_model(saved)
    model.name = "took long"
    beside = host.save_new(model, saved, None)
    assert beside.path == saved.with_name("drums-2.sda")
    assert host.save_new(model, saved, None).path == saved.with_name("drums-3.sda")
    assert saved.read_bytes() == before
    assert host.open_model(saved.with_name("drums-2.sda")).name == "took long"
    assert "is left as it is" in beside.note
    assert str(beside.path) in beside.note
    assert host.save_new(model, saved, host.file_state(saved)) == Saved(saved, note="")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a folder for temporary files of the user's own."""
    for name, variable in (("home", "HOME"), ("temporary", "TMPDIR")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it is looked up once
    return tmp_path / "home"


def test_what_took_long_to_make_is_saved_in_the_home_where_its_folder_is_gone(
    saved: Path, host: Host, home: Path
) -> None:
    model, found = host.open_model(saved), host.file_state(saved)
    saved.parent.rename(saved.parent.with_name("moved"))
    for name in ("drums.sda", "drums-2.sda"):
        elsewhere = host.save_new(model, saved, found)
        assert elsewhere.path == home / name
        assert "does not exist" in elsewhere.note
        assert elsewhere.note.endswith(f"It is saved in {home / name} instead.")
    assert host.open_model(home / "drums.sda").name == "tones"


def test_without_a_home_it_is_saved_with_what_is_temporary_and_without_that_it_is_said(
    saved: Path, host: Host, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, nowhere = host.open_model(saved), saved.parent / "none" / "drums.sda"
    home.rmdir()
    assert host.save_new(model, nowhere, None).path == home.with_name("temporary") / "drums.sda"
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    with pytest.raises(HostError, match=rf"none does not exist.*these folders were tried: .*none, {home}, {home}\."):
        host.save_new(model, nowhere, None)


def test_room_is_looked_at_before_a_training(saved: Path, host: Host) -> None:
    host.check_room(saved, 1000)
    free = shutil.disk_usage(saved.parent).free
    with pytest.raises(HostError, match=r"has [\d.]+ MB left, and drums\.sda takes about [\d.]+ MB to make there"):
        host.check_room(saved, free + 10**9)
    with pytest.raises(HostError, match=r"The disk of .*models has"):
        host.check_room(saved.parent / "to be made" / "drums.sda", free + 10**9)


@pytest.mark.parametrize("spoil", ["the last byte", "the end"])
def test_what_a_lying_disk_has_spoiled_does_not_take_the_old_files_place(
    saved: Path, host: Host, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    before, model, read = saved.read_bytes(), host.open_model(saved), sda_module.read_sda

    def spoiled(path: Path) -> sda_module.SdaFile:
        with path.open("r+b") as file:
            if spoil == "the end":
                file.truncate(path.stat().st_size - 4)
            else:
                file.seek(-1, os.SEEK_END)
                last = file.read(1)
                file.seek(-1, os.SEEK_END)
                file.write(bytes([last[0] ^ 1]))
        return read(path)

    monkeypatch.setattr(sda_module, "read_sda", spoiled)
    with pytest.raises(HostError, match=r"was not written well|truncated"):
        host.save_model(model, saved)
    assert saved.read_bytes() == before
    assert names(saved.parent) == ["drums.sda"]


def test_while_it_is_written_a_private_file_stays_private_and_its_owner_and_rights_stay(tmp_path: Path) -> None:
    path = tmp_path / "secret.sda"
    write(path, b"old")
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, 1234, 1235)
    before = path.stat()
    with new_file_in_place_of(path) as new:
        new.path.write_bytes(b"new")
        assert stat.S_IMODE(new.path.stat().st_mode) == 0o600
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("name", ["弦の音.sda", "ضربات الطبل.sda", "ਢੋਲ 🥁.sda", "a" * 251 + ".sda", "鼓" * 83 + ".sda"])
def test_names_in_any_script_and_of_any_length_can_be_saved(tmp_path: Path, name: str) -> None:
    for content in (b"one", b"two"):
        write(tmp_path / name, content)
        assert (tmp_path / name).read_bytes() == content
        assert names(tmp_path) == [name]
    with claimed(tmp_path / name, "trained"), pytest.raises(HostError, match="is being trained already"):
        claimed(tmp_path / name, "trained").__enter__()
    assert names(tmp_path) == [name]


# What is left behind


def test_what_a_killed_save_has_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "drums.sda"
    write(path, b"old")
    process = _child(_write_forever, path)
    _wait_for(lambda: any(name.endswith(".tmp") for name in names(tmp_path)))
    process.kill()
    process.join()
    assert len(names(tmp_path)) == 3
    assert path.read_bytes() == b"old"
    write(path, b"new")
    assert names(tmp_path) == ["drums.sda"]
    assert path.read_bytes() == b"new"


def test_what_another_machine_writes_is_left_alone_for_a_day(tmp_path: Path) -> None:
    path = tmp_path / "drums.sda"
    theirs, of_yesterday, another = (
        tmp_path / f".{name}.tmp"
        for name in ("drums.sda.0badcafe-1", "drums.sda.0badcafe-2", "drums.sda.old.sda.0badcafe-3")
    )
    for each in (theirs, of_yesterday, another):
        each.touch()
    os.utime(of_yesterday, (time.time() - 25 * 3600,) * 2)
    write(path, b"new")
    assert theirs.exists()
    assert another.exists()
    assert not of_yesterday.exists()


# Two processes


def test_the_second_process_waits_and_says_for_whom(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "drums.sda"
    process = _child(_write_for_a_second, path)
    _wait_for(lambda: _has_holder(path, "lock"))
    write(path, b"second")
    process.join()
    assert path.read_bytes() == b"second"
    assert process.exitcode == 0
    assert f"waiting until drums.sda is written by process {process.pid} (" in caplog.text
    assert ", since " in caplog.text
    assert names(tmp_path) == ["drums.sda"]


def test_a_claim_keeps_others_from_training_and_nobody_from_saving(saved: Path, host: Host) -> None:
    process = _child(_claim_forever, saved)
    _wait_for(lambda: _has_holder(saved))
    with pytest.raises(HostError, match=rf"drums\.sda is being trained already, by process {process.pid} \("):
        host.claim(saved, "trained").__enter__()
    with pytest.raises(HostError, match=r"drums\.sda is being worked on already, by process"):
        Jobs().start(saved, "training", lambda job: "done")
    host.save_model(host.open_model(saved), saved)
    process.kill()
    process.join()
    with host.claim(saved, "trained"):
        pass
    assert names(saved.parent) == ["drums.sda"]
    assert Jobs().start(saved, "training", lambda job: "done").wait(10)


def test_a_training_is_refused_at_once_while_another_process_trains_that_model(saved: Path, sounds: Path) -> None:
    process = _child(_claim_forever, saved)
    _wait_for(lambda: _has_holder(saved))
    command = [sys.executable, "-m", "host_stubs.cli", "train", str(sounds), "-o", str(saved), "--overwrite"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    process.kill()
    process.join()
    assert second.returncode == 1
    assert f"drums.sda is being trained already, by process {process.pid} (" in second.stderr


def test_a_reader_never_sees_anything_but_a_whole_file(saved: Path, host: Host, no_plugins: Plugins) -> None:
    """A model that is opened while it is saved again and again is all of one save: its name and its tensors agree."""
    model, over = open_model(saved, no_plugins), threading.Event()

    def save_often() -> None:
        for number in range(40):
            model.name = str(number)
            model.bundle.put("number", {"is": number}, {"all": torch.full((1000,), number)})
            save_model(model, saved, no_plugins)
        over.set()

    writer = threading.Thread(target=save_often)
    writer.start()
    seen = set()
    while not over.is_set():
        opened = open_model(saved, no_plugins)
        entry = opened.bundle.get("number")
        if entry is not None:
            assert entry.facts["is"] == int(opened.name)
            assert (entry.tensors["all"] == int(opened.name)).all()
            seen.add(opened.name)
        assert opened.state is not None
    writer.join()
    assert len(seen) > 1
    assert host.open_model(saved).name == "39"


# Where there is no room, or no right


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 8 MB."""
    yield from _mounted(tmp_path / "disk", "size=8m")


def test_on_a_full_disk_the_old_file_is_untouched_and_it_is_said_what_to_do(
    model: Model, small_disk: Path, no_plugins: Plugins
) -> None:
    path = small_disk / "drums.sda"
    save_model(model, path, no_plugins)
    before = path.read_bytes()
    model.bundle.put("large", {}, {"zeros": torch.zeros(1_000_000)})
    with pytest.raises(
        HostError, match=r"No space left on device.*Make room on that disk, or save on another one\. Wh"
    ):
        save_model(model, path, no_plugins)
    assert path.read_bytes() == before
    assert names(small_disk) == ["drums.sda"]
    model.bundle.remove("large")
    (small_disk / "filler").write_bytes(bytes(small_disk.stat().st_blksize))
    save_model(model, path, no_plugins)
    _fill(small_disk)  # to the last byte: not even a lock can be noted
    with pytest.raises(HostError, match="No space left on device"):
        save_model(model, path, no_plugins)
    assert open_model(path, no_plugins).name == "tones"


def test_a_sound_that_finds_no_room_is_a_sentence_and_nothing_else(
    small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = small_disk / "new.wav"
    write_wav(path, np.zeros(1000), 48_000)
    before = path.read_bytes()
    with pytest.raises(HostError, match=r"new.wav could not be written \(No space left on device\)"):
        write_wav_blocks(path, (np.zeros(100_000) for _ in range(100)), 48_000)
    assert path.read_bytes() == before
    assert names(small_disk) == ["new.wav"]
    assert capfd.readouterr().err == ""


def test_on_a_disk_that_may_only_be_read_the_message_says_what_to_do(
    model: Model, tmp_path: Path, no_plugins: Plugins
) -> None:
    for disk in _mounted(tmp_path / "disk", "size=8m"):
        path = disk / "drums.sda"
        save_model(model, path, no_plugins)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        before = path.read_bytes()
        opened = open_model(path, no_plugins)
        with pytest.raises(HostError, match=r"write-protected|Save in a folder that you may write to"):
            save_model(opened, path, no_plugins)
        with pytest.raises(HostError, match=r"cannot be written to .*Save in a folder that you may write to"):
            check_writable(path.with_name("new.sda"))
        with claimed(path, "looked at"):  # where nothing can be saved, nothing needs a claim
            assert path.read_bytes() == before
        assert names(disk) == ["drums.sda"]


def test_a_state_is_none_only_where_there_is_no_file(tmp_path: Path) -> None:
    assert file_state(tmp_path / "nothing") is None
    (tmp_path / "file").touch()
    assert file_state(tmp_path / "file") is not None
    assert file_state(tmp_path / "file" / "inside") is None


def _child(work: object, path: Path) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=work, args=(path,), daemon=True)  # type: ignore[arg-type]
    process.start()
    return process


def _write_forever(path: Path) -> None:
    with new_file_in_place_of(path) as new:
        new.path.write_bytes(b"half of what there is to")
        time.sleep(60)


def _write_for_a_second(path: Path) -> None:
    with new_file_in_place_of(path) as new:
        new.path.write_bytes(b"first")
        time.sleep(1)


def _claim_forever(path: Path) -> None:
    with claimed(path, "trained"):
        time.sleep(60)


def _has_holder(path: Path, kind: str = "training.lock") -> bool:
    """Whether a process has a lock and has said so: its file alone is there a moment earlier."""
    lock = path.with_name(f".{path.name}.{kind}")
    return lock.exists() and lock.stat().st_size > 0


def _wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def _mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _fill(disk: Path) -> None:
    """Take all the room there is."""
    with (disk / "filler").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
