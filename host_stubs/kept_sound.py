"""Sound that is kept while recordings are compared: what comes first in memory, the rest in a temporary file."""

from __future__ import annotations

import mmap
import tempfile
from typing import IO

import numpy as np

from host_stubs.errors import HostError

_IN_MEMORY = 1 << 26  # samples: an hour and more


class KeptSound:
    """Samples, one after another, of each the 16 bits of its float32 that say most (bfloat16), rounded: wrong by a
    500th part at most, however faint the sound. To float16 numpy converts what is faint a hundred times slower.

    The file is one that nobody else sees, and goes with this object.

    Attributes:
        samples: how many there are.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._memory = np.empty(_IN_MEMORY, np.uint16)  # takes room as it is filled
        self._file: IO[bytes] | None = None
        self._mapped: np.ndarray = np.zeros(0, np.uint16)

    def close(self) -> None:
        self._mapped = np.zeros(0, np.uint16)
        if self._file is not None:
            self._file.close()

    def add(self, sound: np.ndarray) -> None:
        """Keep more, float32. Raises HostError if there is no room for it."""
        halves = ((sound.view(np.uint32) + np.uint32(0x8000)) >> 16).astype(np.uint16)
        here = self._memory[self.samples : self.samples + len(halves)]
        here[:] = halves[: len(here)]
        self.samples += len(halves)
        if len(here) < len(halves):
            self._write(halves[len(here) :])

    def _write(self, halves: np.ndarray) -> None:
        try:
            if self._file is None:
                # a context of one `with` would end before what is kept is asked for
                self._file = tempfile.TemporaryFile(buffering=0, prefix="sounds-")  # noqa: SIM115 - closed by `close`
            left = halves.data.cast("B")
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise HostError(
                f"So many recordings need room in {tempfile.gettempdir()} while they are compared; there it failed "
                f"({error.strerror}). Make room there, or set TMPDIR to another folder."
            ) from error

    def between(self, start: int, end: int) -> np.ndarray:
        """The samples from `start` to `end`, all of which there are, float32."""
        halves = self._memory[start:end]
        if self._file is not None and end > len(self._memory):
            first, last = max(0, start - len(self._memory)), end - len(self._memory)
            if last > len(self._mapped):
                file = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
                self._mapped = np.frombuffer(file, np.uint16)
            halves = np.concatenate([halves, self._mapped[first:last]]) if len(halves) else self._mapped[first:last]
        whole = halves.astype(np.uint32)
        whole <<= 16
        return whole.view(np.float32)
