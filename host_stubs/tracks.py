"""Recordings as spectrograms from which crops are taken: in memory or, where there are many, in a temporary file."""

from __future__ import annotations

import io
import math
import tempfile
import weakref
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from host_stubs.audio import peak_normalized
from host_stubs.errors import HostError
from host_stubs.mel import Mel
from host_stubs.network import STRIDE

CROP = 96  # mel frames: 1 s at 48 kHz, rounded up to whole code frames
MOST_IN_MEMORY = 128 * 2**20  # bytes of spectrograms: 45 minutes
_MOST_GAIN = 10.0  # the quiet end of a sound is made at most this much louder
_BLOCK = 1024  # mel frames computed at once


class Tracks:
    """The spectrograms of recordings, with the largest sample of the hop around each mel frame.

    What goes beyond `MOST_IN_MEMORY` is kept in a temporary file that nobody else sees and that goes with this object.

    Attributes:
        frames: mel frames of each track.
    """

    def __init__(self, mel: Mel) -> None:
        self.frames: list[int] = []
        self._mel = mel
        self._kept: list[np.ndarray | int] = []  # float32 [mel frames, n_mels], or where it begins in the file
        self._peaks: list[np.ndarray] = []
        self._bytes = 0
        self._file: io.BufferedRandom | None = None

    @classmethod
    def of(cls, recordings: Iterable[np.ndarray], mel: Mel) -> Tracks:
        """One track for each recording, float `[samples]`, that is not empty."""
        tracks = cls(mel)
        for audio in recordings:
            if len(audio):
                tracks.add(audio)
        return tracks

    def __len__(self) -> int:
        return len(self.frames)

    def add(self, audio: np.ndarray) -> None:
        """Keep the spectrogram of one more recording, float `[samples]`.

        Raises HostError if it is not finite, or cannot be kept.
        """
        if not np.isfinite(audio).all():
            raise HostError("A recording to train on holds samples that are not finite numbers.")
        samples = torch.from_numpy(peak_normalized(np.asarray(audio, np.float32)))
        hop, frames = self._mel.settings.hop_length, self._mel.frame_count(len(samples))
        padded = self._mel.padded(samples[None])
        blocks = [
            self._mel.log_mel_frames(padded, start, min(start + _BLOCK, frames))[0].T.numpy()
            for start in range(0, frames, _BLOCK)
        ]
        around = F.pad(samples.abs_(), (hop // 2, frames * hop - len(samples) - hop // 2))
        # torch's own memory would keep a hole open in the heap for each recording
        self._peaks.append(around.view(frames, hop).amax(1).numpy().copy())
        self.frames.append(frames)
        self._keep(np.concatenate(blocks))

    def starts(self, track: int) -> int:
        """How many mel frames a crop can start at. The last ones reach beyond the end, as a recording's last code
        frame does."""
        frames = self.frames[track]
        return min(frames, max(0, frames - CROP) + STRIDE)

    def crop(self, track: int, start: int) -> Tensor:
        """`[16 bands, CROP]`, zeros where the recording is over."""
        part = torch.from_numpy(self._read(track, start)).T
        return F.pad(part, (0, CROP - part.shape[1], 0, -len(part) % STRIDE))

    def louder(self, track: int, start: int, share: float) -> Tensor:
        """A crop `share` (0 to 1) of the way, in decibels, to a peak of 1, as if it were a recording of its own."""
        peak = float(self._peaks[track][start : start + CROP].max())
        gain = min(_MOST_GAIN, 1 / max(peak, 1e-9)) ** share
        return torch.log1p(self.crop(track, start).expm1() * gain**2)

    def spread(self, most: int) -> Tensor:
        """The recordings in crops, one after the other, `[crops, 1, 16 bands, CROP]`; of many, some from all over."""
        counts = np.array([math.ceil(frames / CROP) for frames in self.frames])
        ends = np.cumsum(counts)
        chosen = np.linspace(0, ends[-1] - 1, min(ends[-1], most)).round().astype(int)
        tracks = np.searchsorted(ends, chosen, side="right")
        starts = CROP * (chosen - (ends - counts)[tracks])
        crops = [self.crop(track, start) for track, start in zip(tracks, starts.tolist(), strict=True)]
        return torch.stack(crops)[:, None]

    def _keep(self, log_mel: np.ndarray) -> None:
        self._bytes += log_mel.nbytes
        if self._bytes <= MOST_IN_MEMORY:
            self._kept.append(log_mel)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="spectrograms-")  # noqa: SIM115 - closed below
                weakref.finalize(self, self._file.close)
            self._kept.append(self._file.seek(0, io.SEEK_END))
            self._file.write(log_mel.data)
            self._file.flush()  # where there is no room it shows here, and not when a crop is read
        except OSError as error:
            raise HostError(
                f"So many recordings need room in {tempfile.gettempdir()} while they are learned from; there it failed "
                f"({error.strerror}). Make room there, or set TMPDIR to another folder."
            ) from error

    def _read(self, track: int, start: int) -> np.ndarray:
        """float32 `[up to CROP mel frames, n_mels]`"""
        kept, end = self._kept[track], min(start + CROP, self.frames[track])
        if isinstance(kept, np.ndarray):
            return kept[start:end]
        assert self._file is not None
        width = self._mel.settings.n_mels
        part = np.empty((end - start, width), np.float32)
        self._file.seek(kept + start * width * part.itemsize)
        if self._file.readinto(part.data) < part.nbytes:
            raise HostError("The temporary file of what is learned from the recordings has been cut off.")
        return part
