"""A recording to go on from: the codes that new ones follow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from host_stubs.audio import peak_normalized
from host_stubs.codec import Codec
from host_stubs.errors import HostError
from host_stubs.reading import read_recording

MOST_SECONDS = 600.0


@dataclass(frozen=True)
class Start:
    """A recording as codes int `[frames, bands, levels]`: `lead` samples of silence, then its `samples`."""

    codes: np.ndarray
    lead: int
    samples: int


def read_start(path: Path, codec: Codec) -> Start:
    """The codes of a recording, prepared as a dataset's recordings are: mono, at the codec's rate, peak 1.

    Silence stands before it, less than a code frame, so that its end is the end of a frame: after it, there would be
    a hole between the recording and what follows.

    Raises HostError if it cannot be read, is silent, shorter than a code frame, or longer than ten minutes.
    """
    if not path.exists():
        raise HostError(f"There is no file {path}.")
    audio = peak_normalized(read_recording(path, codec.sample_rate, MOST_SECONDS))
    if not audio.any():
        raise HostError(f"{path} is silent: there is nothing to continue.")
    if len(audio) < codec.frame_samples:
        raise HostError(
            f"{path} is too short to continue ({len(audio) / codec.sample_rate:.2f} s); "
            f"{codec.frame_samples / codec.sample_rate:.2f} s is the least."
        )
    lead = -len(audio) % codec.frame_samples
    return Start(codec.encode(np.pad(audio, (lead, 0))), lead, len(audio))
