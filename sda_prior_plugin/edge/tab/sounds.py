"""Sounds that a page can play, and the files in which it fetches them."""

from __future__ import annotations

import secrets
import threading
import wave
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sda_prior_plugin.edge.printed import printable

KEPT = 8
"""Files of the latest sounds that stay in any case: a page may still show one that another has replaced."""


LONGEST_NAME = 60
"""Characters of a file's name that are kept, its last ones: a file system takes 255 bytes, four for some characters."""


@dataclass(frozen=True, eq=False)
class Sound:
    """A new sound: float `[samples]` in -1..1 at `rate` Hz, a name for its file, and what to call it."""

    name: str
    title: str
    rate: int
    audio: np.ndarray

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.rate


class SoundFiles:
    """WAV files of sounds, each written once, in a folder of their own.

    A file goes when its sound is forgotten and some others have come.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: weakref.WeakKeyDictionary[Sound, Path] = weakref.WeakKeyDictionary()
        self._latest: deque[Sound] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def of(self, sound: Sound) -> Path:
        """The file of a sound, 16 bits a sample."""
        with self._lock:
            if (path := self._paths.get(sound)) is None:
                path = self._paths[sound] = self._folder / secrets.token_hex(8) / printable(sound.name)[-LONGEST_NAME:]
                path.parent.mkdir(parents=True)
                with wave.open(str(path), "wb") as file:
                    file.setnchannels(1)
                    file.setsampwidth(2)
                    file.setframerate(sound.rate)
                    file.writeframes((np.clip(sound.audio, -1, 1) * 32767).astype("<i2").tobytes())
                weakref.finalize(sound, path.unlink, missing_ok=True)
                self._latest.append(sound)
            return path
