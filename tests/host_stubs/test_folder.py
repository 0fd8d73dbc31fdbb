"""What is in a folder is a recording, or is named with the reason; nothing in it can end or hold up the look."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host_stubs.folder import find_recordings, holds_recordings, look_through
from host_stubs.ui.saved import dataset_folders

LOOK_AS_NOBODY = """
import os, sys
from pathlib import Path
from host_stubs.folder import look_through
os.setgid(65534)
os.setuid(65534)
print(look_through(Path(sys.argv[1])))
"""


def reasons(folder: Path) -> dict[str, str]:
    found = look_through(folder)
    assert all(reason.startswith(str(path)) and reason.endswith(".") for path, reason in found.left_out)
    return {path.name: reason.removeprefix(f"{path} ") for path, reason in found.left_out}


def test_content_decides_and_not_the_name(own_sounds: Path) -> None:
    recordings = find_recordings(own_sounds)
    recordings[0].rename(own_sounds / "without a suffix")
    recordings[1].rename(own_sounds / "notes.txt")
    recordings[2].rename(own_sounds / "photo.jpg")
    (own_sounds / "kick.py").write_text("print('kick')")
    found = look_through(own_sounds)
    assert len(found.recordings) == 6
    assert reasons(own_sounds) == {"kick.py": "is no sound file."}


def test_samples_without_a_header_are_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "take.pcm").write_bytes(b"\1\2" * 5_000)
    assert "without a header" in reasons(tmp_path)["take.pcm"]
    assert "make it a WAV file" in reasons(tmp_path)["take.pcm"]


def test_what_is_no_file_is_named_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    (tmp_path / "self.wav").symlink_to("self.wav")
    (tmp_path / "device.wav").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket.wav"))
        assert reasons(tmp_path).keys() == {path.name for path in tmp_path.iterdir()}
    assert not holds_recordings(tmp_path / "deeper", deeper=True)


@pytest.fixture
def shown_to_all() -> Iterator[Path]:
    """A folder that every user may look into, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="only root can become another")
def test_what_a_user_may_not_read_is_named_and_ends_nothing(shown_to_all: Path, sounds: Path) -> None:
    locked, folder = shown_to_all / "locked", Path(shutil.copytree(sounds, shown_to_all / "sounds"))
    (locked / "below").mkdir(parents=True)
    shutil.copy(find_recordings(folder)[0], locked / "a.wav")
    (folder / "0" / "link.wav").symlink_to(locked / "a.wav")
    (folder / "link to a folder").symlink_to(locked / "below")
    shutil.copy(locked / "a.wav", folder / "mine.wav")
    (folder / "closed").mkdir()
    for closed in (locked, folder / "mine.wav", folder / "closed"):
        closed.chmod(0)
    folder.chmod(0o755)
    command = [sys.executable, "-c", LOOK_AS_NOBODY, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("link.wav", "mine.wav", "link to a folder"):
        assert f"{name} cannot be read (Permission denied)" in done.stdout
    assert "closed cannot be looked into (Permission denied)" in done.stdout
    assert all(f"tone{number}.wav" in done.stdout for number in range(6))


def test_what_is_known_to_be_a_recording_is_not_opened(own_sounds: Path) -> None:
    names = [path.relative_to(own_sounds).as_posix() for path in find_recordings(own_sounds)]
    (own_sounds / names[0]).write_bytes(b"")
    (own_sounds / names[0]).rename(own_sounds / "changed")
    assert len(find_recordings(own_sounds, names)) == 5
    assert len(find_recordings(own_sounds, [*names, "changed"])) == 6


def test_the_page_offers_folders_that_hold_recordings(tmp_path: Path, write_sound: Callable[..., Path]) -> None:
    write_sound(tmp_path / "named" / "a.wav")
    write_sound(tmp_path / "deep" / "er" / "a.wav")
    write_sound(tmp_path / "nameless" / "a.wav").rename(tmp_path / "nameless" / "a")
    write_sound(tmp_path / "too" / "deep" / "for" / "a.wav")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no sound")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    assert [path.name for path in dataset_folders(tmp_path)] == ["deep", "named", "nameless"]
