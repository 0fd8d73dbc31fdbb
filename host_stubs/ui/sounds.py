"""Sounds that pages play, in files that they fetch: those of the list, to be kept or removed, and those of plugins.

They outlive a page, but not the server.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from host_stubs.audio import write_wav, write_wav_blocks
from host_stubs.errors import HostError
from host_stubs.names import as_text

MOST_SOUNDS = 100
"""In the list of a model; the oldest goes when there are more."""
BITS = (16, 24)
LONGEST_NAME = 60
"""Characters of a file's name that are kept, its last ones: a file system takes 255 bytes, four for some characters."""
KEPT = 8
"""Files of the latest sounds of plugins that stay in any case: a page may still show one that another has replaced."""


@dataclass
class NewSound:
    """A sound in the list.

    Attributes:
        number: of its own.
        path: its file in the server's folder, with 24 bits a sample.
        title: what it is, in short.
        settings: how it was drawn, in words.
        facts: sentences on it.
        kept: where it is kept, if it is.
    """

    number: int
    path: Path
    title: str
    settings: str
    facts: tuple[str, ...] = ()
    kept: Path | None = None


class NewSounds:
    """The sounds of each model, the latest first, as all pages see them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._of: dict[Path, list[NewSound]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def of(self, model: Path) -> list[NewSound]:
        """The sounds of a model's file."""
        with self._lock:
            return list(self._of.get(model, ()))

    def add(
        self,
        model: Path,
        name: str,
        audio: Iterable[np.ndarray],
        rate: int,
        *,
        title: str,
        settings: str,
        facts: Iterable[str] = (),
    ) -> None:
        """Write a sound that comes in blocks, and put it at the head of the model's list.

        Raises HostError if it cannot be written.
        """
        path = _new_file(self._folder, name)
        write_wav_blocks(path, audio, rate, bits=max(BITS), title=title, comment=settings)
        with self._lock:
            listed = self._of.setdefault(model, [])
            listed.insert(0, NewSound(next(self._numbers), path, title, settings, tuple(facts)))
            gone = listed[MOST_SOUNDS:]
            del listed[MOST_SOUNDS:]
        for sound in gone:
            sound.path.unlink(missing_ok=True)

    def remove(self, number: int) -> None:
        """Forget a sound. What is kept of it stays."""
        with self._lock:
            for listed in self._of.values():
                for sound in [one for one in listed if one.number == number]:
                    listed.remove(sound)
                    sound.path.unlink(missing_ok=True)

    def keep(self, number: int, folder: Path, name: str, bits: int) -> Path:
        """Keep a sound as a WAV file of that name, with its settings in the tags; where it is now.

        Raises HostError if the name is none, or taken, or if it cannot be written.
        """
        with self._lock:
            sound = next((one for listed in self._of.values() for one in listed if one.number == number), None)
        if sound is None:
            raise HostError("That sound is not there any more.")
        name = name.strip()
        if not name or name != Path(name).name or name.startswith("."):
            raise HostError(f"A sound cannot be called {name!r}: give a name without slashes or a dot before it.")
        path = folder / f"{name.removesuffix('.wav')}.wav"
        if path.exists():
            raise HostError(f"{path.name} exists already; give another name.")
        rate = soundfile.info(sound.path).samplerate
        write_wav_blocks(path, _blocks(sound.path), rate, bits=bits, title=sound.title, comment=sound.settings)
        sound.kept = path
        return path


class SoundFiles:
    """Files of sounds that are in memory: objects with `name`, `rate` in Hz and `audio`, float `[samples]`.

    A file is written once, with 16 bits a sample. It goes when its sound is forgotten and some others have come.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: weakref.WeakKeyDictionary[Any, Path] = weakref.WeakKeyDictionary()
        self._latest: deque[Any] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def of(self, sound: Any) -> Path:
        """The file of a sound. Raises HostError if it cannot be written."""
        with self._lock:
            if (path := self._paths.get(sound)) is None:
                path = _new_file(self._folder, sound.name)
                write_wav(path, sound.audio, sound.rate)
                self._paths[sound] = path
                weakref.finalize(sound, path.unlink, missing_ok=True)
                self._latest.append(sound)
            return path


def _new_file(folder: Path, name: str) -> Path:
    """A place for a WAV file of that name, beside which there is none."""
    path = folder / secrets.token_hex(8) / f"{as_text(name)[-LONGEST_NAME:]}.wav"
    path.parent.mkdir(parents=True)
    return path


def _blocks(path: Path) -> Iterator[np.ndarray]:
    yield from soundfile.blocks(path, blocksize=1 << 18, dtype="float32")
