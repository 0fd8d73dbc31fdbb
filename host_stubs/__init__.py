"""The smallest real host for `.sda` models. Everything here loads when it is first used, so that importing is quick."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from host_stubs.errors import HostError

if TYPE_CHECKING:
    from host_stubs.ahead import Ahead
    from host_stubs.audio import between, peak_normalized, write_wav, write_wav_blocks
    from host_stubs.bundle import Bundle, Entry
    from host_stubs.checking import Checked, check_file
    from host_stubs.codec import Codec
    from host_stubs.continuation import Start, read_start
    from host_stubs.decoded import DecodedSound
    from host_stubs.folder import find_recordings
    from host_stubs.host import Host
    from host_stubs.keyboard import pressed_keys
    from host_stubs.legacy import read_legacy
    from host_stubs.locks import claimed
    from host_stubs.loudspeaker import check_device, play_sound
    from host_stubs.manifest import DatasetManifest, build_manifest
    from host_stubs.model import Model, open_model, save_model, save_model_beside
    from host_stubs.piping import check_pipe, write_sound
    from host_stubs.plugins import Plugins, load_plugins
    from host_stubs.reading import read_recording
    from host_stubs.recording import Recording, RecordingEntry
    from host_stubs.replace import FileState, check_writable, file_state, new_file_in_place_of
    from host_stubs.sda import read_document
    from host_stubs.synth import write_demo_recordings
    from host_stubs.training import EpochDone, VqvaeRun, VqvaeSettings, codec_bytes, train_vqvae

_HOME = {
    "Ahead": "ahead",
    "Bundle": "bundle",
    "Checked": "checking",
    "Codec": "codec",
    "DatasetCheck": "dataset_check",
    "DatasetManifest": "manifest",
    "DecodedSound": "decoded",
    "Entry": "bundle",
    "EpochDone": "training",
    "FileState": "replace",
    "Host": "host",
    "Model": "model",
    "Plugins": "plugins",
    "Recording": "recording",
    "RecordingEntry": "recording",
    "Start": "continuation",
    "VqvaeRun": "training",
    "VqvaeSettings": "training",
    "between": "audio",
    "build_manifest": "manifest",
    "check_device": "loudspeaker",
    "check_file": "checking",
    "check_pipe": "piping",
    "check_writable": "replace",
    "claimed": "locks",
    "codec_bytes": "training",
    "file_state": "replace",
    "find_recordings": "folder",
    "load_plugins": "plugins",
    "new_file_in_place_of": "replace",
    "open_model": "model",
    "peak_normalized": "audio",
    "play_sound": "loudspeaker",
    "pressed_keys": "keyboard",
    "read_document": "sda",
    "read_legacy": "legacy",
    "read_recording": "reading",
    "read_start": "continuation",
    "save_model": "model",
    "save_model_beside": "model",
    "train_vqvae": "training",
    "write_demo_recordings": "synth",
    "write_sound": "piping",
    "write_wav": "audio",
    "write_wav_blocks": "audio",
}

__all__ = [
    "Ahead",
    "Bundle",
    "Checked",
    "Codec",
    "DatasetCheck",
    "DatasetManifest",
    "DecodedSound",
    "Entry",
    "EpochDone",
    "FileState",
    "Host",
    "HostError",
    "Model",
    "Plugins",
    "Recording",
    "RecordingEntry",
    "Start",
    "VqvaeRun",
    "VqvaeSettings",
    "between",
    "build_manifest",
    "check_device",
    "check_file",
    "check_pipe",
    "check_writable",
    "claimed",
    "codec_bytes",
    "file_state",
    "find_recordings",
    "load_plugins",
    "new_file_in_place_of",
    "open_model",
    "peak_normalized",
    "play_sound",
    "pressed_keys",
    "read_document",
    "read_legacy",
    "read_recording",
    "read_start",
    "save_model",
    "save_model_beside",
    "train_vqvae",
    "write_demo_recordings",
    "write_sound",
    "write_wav",
    "write_wav_blocks",
]


def __getattr__(name: str) -> Any:
    """Import the module that a public name lives in when the name is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
