"""Sound from the loudspeaker, with PortAudio (sounddevice)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sounddevice

from host_stubs.ahead import Ahead
from host_stubs.errors import HostError

_WAIT = 0.1  # seconds, between two looks at whether it is to end
_FADE = 0.5  # seconds that it may take to fade out
_READY = 0.2  # seconds of sound that wait before it begins: the first pieces are short


@dataclass
class Gaps:
    """Where sound was due and there was none: how often, and how many samples."""

    count: int = 0
    samples: int = 0


def check_device(device: str | None, rate: int) -> int:
    """How many channels to play mono sound on: both of two.

    `device` is a name, a part of one, or a number; None for the system's own. Raises HostError if there is none like
    that, or it does not play at this rate.
    """
    wanted = _wanted(device)
    try:
        found: Any = sounddevice.query_devices(wanted, "output")
        channels = min(2, int(found["max_output_channels"]))
        sounddevice.check_output_settings(wanted, channels, "float32", samplerate=rate)
    except (ValueError, sounddevice.PortAudioError) as error:
        names = [str(each["name"]) for each in sounddevice.query_devices() if each["max_output_channels"]]
        there = f"There are: {', '.join(names)}" if names else "There is none at all"
        raise HostError(
            f"{device or 'The loudspeaker'} cannot play this sound: {error}. {there}; or use -o -"
        ) from error
    return channels


def play_sound(
    ahead: Ahead, device: str | None, rate: int, stop: threading.Event, look: Callable[[float], None]
) -> Gaps:
    """Play sound until it is over or `stop` is set. Raises HostError if the device fails.

    `look` is called again and again meanwhile, with the seconds that it may take.
    """
    channels, gaps, ended = check_device(device, rate), Gaps(), threading.Event()

    def fill(out: np.ndarray, frames: int, when: Any, status: sounddevice.CallbackFlags) -> None:
        """Called by PortAudio, in a thread of its own, with room for the samples that it needs next."""
        out[:] = 0
        if not ahead.begun and not ahead.wait(int(_READY * rate), 0):
            return
        count = ahead.take(out[:, 0])
        if stop.is_set():
            out[:, 0] *= np.linspace(1, 0, frames, dtype=np.float32)
        out[:, 1:] = out[:, :1]
        if stop.is_set() or (count < frames and ahead.over):
            raise sounddevice.CallbackStop
        if count < frames or status.output_underflow:
            gaps.count += 1
            gaps.samples += frames - count

    try:
        with sounddevice.OutputStream(
            rate, device=_wanted(device), channels=channels, dtype="float32", callback=fill, finished_callback=ended.set
        ):
            while not ended.is_set() and not stop.is_set():
                look(_WAIT)
            ended.wait(_FADE)
    except sounddevice.PortAudioError as error:
        raise HostError(f"The loudspeaker failed: {error}.") from error
    if not stop.is_set() and not ahead.over:
        raise HostError("The loudspeaker has stopped. Is it still connected?")
    return gaps


def _wanted(device: str | None) -> int | str | None:
    return int(device) if device is not None and device.isdecimal() else device
