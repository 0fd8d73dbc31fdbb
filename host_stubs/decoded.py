"""Sound files read with FFmpeg (PyAV): what libsndfile cannot read, or is wrong about."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.stream import Discard

from host_stubs.chunks import Rewritten
from host_stubs.errors import HostError
from host_stubs.kinds import Kind, counts_its_frames
from host_stubs.sound import Fault

_GATHERED = 1 << 16  # samples given at once; what FFmpeg gives at once is a few hundred
_PROMISING = frozenset(
    {"aiff", "ape", "au", "avi", "caf", "flac", "mov", "mpc", "mpc8", "nistsphere", "tak", "tta", "wv"}
)
"""Demuxers of kinds whose header says how long the sound is; for the others FFmpeg guesses from the size."""
_CHECKED = {"err_detect": "crccheck+explode"}
"""Of these codecs, whose frames carry a checksum, a frame that does not match its own is not given."""
_CHECKED_CODECS = frozenset({"ac3", "ape", "eac3", "flac", "mlp", "tak", "truehd", "tta", "wavpack"})
_WITH_EXACT_TIMES = frozenset({"asf", "flac", "matroska"})  # demuxers
_WITH_PAUSES = frozenset({"matroska"})  # of them: where nothing is to be heard, a call's recording has no frames
_GAP_SECONDS = 0.05
"""What is missing in the middle of a file whose frames say when they are."""


class DecodedSound:
    """An open sound file. Only its best sound track is decoded, and nothing else than this file is ever opened.

    Attributes:
        rate: Hz.
        step: the smallest step of its samples, of full scale; 0 where that is finer than can be heard.
        fault: what is wrong with it, as far as it is known so far.
    """

    def __init__(self, path: Path, kind: Kind, good: int | None = None) -> None:
        """Open it, or as many bytes of it as are good.

        Raises HostError if there is no sound in it that can be decoded, OSError if it cannot be read.
        """
        self._kind, self.fault = kind, Fault.NONE
        self._file = path.open("rb")
        try:
            self._counted = kind.demuxer != "mp3" or counts_its_frames(self._file)
            self._file.seek(0)
            self._container: InputContainer = av.open(
                Rewritten(self._file, None, good),
                format=kind.demuxer,
                metadata_errors="replace",
                io_open=_refused,
                buffer_size=1 << 16,
                mode="r",
            )
            stream = self._container.streams.best("audio")
            if stream is None or stream.codec_context is None:
                raise HostError(f"{path} holds no sound that can be decoded.")
            for other in self._container.streams:
                if other is not stream:
                    other.discard = Discard.all
            self._stream: Any = stream
            self._stream.codec_context.thread_count = 1
            if self._stream.codec_context.name in _CHECKED_CODECS:
                self._stream.codec_context.options = _CHECKED
            self._frames = self._decoded()
            first = next(self._frames, None)
            if first is not None:
                _samples(first)
        except (av.error.FFmpegError, ValueError) as error:
            self.close()
            raise HostError(f"{path} cannot be read as sound: {_reason(error)}.") from error
        except BaseException:
            self.close()
            raise
        if first is None:
            self.close()
            raise HostError(f"{path} holds no sound that can be decoded.")
        self._first: AudioFrame = first
        self.rate = first.sample_rate
        self.step = 1 / 128 if first.format.bits == 8 else 0.0

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_container"):
            self._container.close()
        self._file.close()

    @property
    def promised(self) -> float | None:
        """How many seconds of sound the file says it holds; None where it does not say."""
        if self._kind.demuxer == "matroska" and self._container.duration:
            return self._container.duration / av.time_base
        if self._kind.demuxer in _PROMISING or (self._kind.demuxer == "mp3" and self._counted):
            return float(self._stream.duration * self._stream.time_base) if self._stream.duration else None
        return None

    def blocks(self) -> Generator[np.ndarray, None, None]:
        """Its samples, float32 `[samples, channels]`, up to its end or to where it is damaged. To be asked for once."""
        waiting: list[np.ndarray] = []
        gathered = 0
        for frame in self._whole_frames():
            waiting.append(_samples(frame))
            gathered += frame.samples
            if gathered >= _GATHERED:
                yield np.concatenate(waiting)
                waiting, gathered = [], 0
        if waiting:
            yield np.concatenate(waiting)

    def _whole_frames(self) -> Iterator[AudioFrame]:
        """Frames of the first one's form, one following the other in time."""
        form = self._first.sample_rate, self._first.layout.nb_channels, self._first.format.name
        end = None
        for frame in self._with_first():
            if (frame.sample_rate, frame.layout.nb_channels, frame.format.name) != form:
                self.fault = Fault.DAMAGED
                return
            if self._kind.demuxer in _WITH_EXACT_TIMES and frame.pts is not None and frame.time_base:
                start = float(frame.pts * frame.time_base)
                if end is not None and start - end > _GAP_SECONDS:
                    self.fault = Fault.INCOMPLETE if self._kind.demuxer in _WITH_PAUSES else Fault.DAMAGED
                    if self.fault is Fault.DAMAGED:
                        return
                end = start + frame.samples / frame.sample_rate
            yield frame

    def _with_first(self) -> Iterable[AudioFrame]:
        yield self._first
        yield from self._frames

    def _decoded(self) -> Iterator[AudioFrame]:
        """Frames up to the first fault behind one of them. What cannot be decoded before it is left out: a piece of a
        stream begins in the middle of a frame."""
        packets = self._container.demux(self._stream)
        begun = failed = False
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                frames = packet.decode()
            except av.error.EOFError:
                break
            except av.error.FFmpegError:
                failed = begun
                continue
            if failed and packet.size:
                if frames:
                    self.fault = Fault.DAMAGED
                    return
                continue
            if failed:  # what a decoder still holds when there is no more to decode
                break
            for frame in frames:
                begun = True
                yield frame
        if failed:
            self.fault = Fault.CUT_OFF


def _samples(frame: AudioFrame) -> np.ndarray:
    """A frame as float32 `[samples, channels]`, full scale at 1."""
    values = frame.to_ndarray()
    channels = frame.layout.nb_channels
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    if values.dtype.kind == "i":
        return values.astype(np.float32) * np.float32(0.5 ** (8 * values.itemsize - 1))
    return np.ascontiguousarray(values, np.float32)


def _refused(url: str, flags: int, options: dict[str, str]) -> object:
    """A sound file that names other files, or addresses, gets none of them."""
    raise PermissionError(url)


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
