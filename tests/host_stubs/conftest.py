"""Small real sounds and a small real codec, made once, for the tests of the host."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from host_stubs.codec import Codec
from host_stubs.hookspecs import PROJECT
from host_stubs.manifest import build_manifest
from host_stubs.mel import MelSettings
from host_stubs.model import Model
from host_stubs.network import Decoder, Encoder
from host_stubs.plugins import Plugins

WriteSound = Callable[..., Path]


def write_sound(path: Path, seconds: float = 0.5, *, pitch: float = 440.0, rate: int = 16_000) -> Path:
    """A decaying tone in a WAV file."""
    time = np.arange(round(seconds * rate)) / rate
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * pitch * time) * np.exp(-3 * time), rate)
    return path


@pytest.fixture(name="write_sound", scope="session")
def _write_sound() -> WriteSound:
    return write_sound


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short recordings. To be left as they are: copy them to change them."""
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(6):
        write_sound(folder / f"{number % 2}" / f"tone{number}.wav", 0.4 + 0.1 * number, pitch=200.0 + 90 * number)
    return folder


@pytest.fixture
def own_sounds(sounds: Path, tmp_path: Path) -> Path:
    """The same recordings, for one test to change."""
    return Path(shutil.copytree(sounds, tmp_path / "own-sounds"))


@pytest.fixture(scope="session")
def codec() -> Codec:
    """A codec whose network has not learned anything yet: enough wherever only its shapes matter."""
    torch.manual_seed(0)
    dim, levels, size = 16, 2, 32
    tensors = {f"encoder.{name}": tensor for name, tensor in Encoder(dim).state_dict().items()}
    tensors |= {f"decoder.{name}": tensor for name, tensor in Decoder(dim).state_dict().items()}
    tensors |= {f"quantizer.rvq.layers.{n}._codebook.embed": torch.randn(1, size, dim) for n in range(levels)}
    settings = {"mel": vars(MelSettings()), "dim": dim, "levels": levels, "codebook_size": size}
    return Codec.from_parts(settings, tensors)


@pytest.fixture
def model(codec: Codec, sounds: Path) -> Model:
    """A model over the six recordings, not saved yet, with no plugin's entry in its bundle."""
    report = {"epochs_trained": 2, "codebook_health": [{"utilization": 0.5, "perplexity": 9.0, "dead_codes": 16}]}
    return Model("tones", codec, build_manifest(sounds).manifest, report=report)


@pytest.fixture
def no_plugins() -> Plugins:
    """A host without plugins, whatever is installed where the tests run."""
    return Plugins()


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a module with this source as a plugin of this name, the way a wheel would: an entry point on the path."""

    def install(name: str, source: str) -> None:
        site = tmp_path / f"site-{name}"
        info = site / f"{name}_dist-1.2.3.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}_module.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.2.3\n")
        (info / "entry_points.txt").write_text(f"[{PROJECT}]\n{name} = {name}_module\n")
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, f"{name}_module", raising=False)  # another test's plugin of that name

    return install


@pytest.fixture
def ordinary_user(tmp_path: Path) -> Iterator[None]:
    """What the test does, it does as a user for whom permissions count, and `tmp_path` is theirs."""
    if os.geteuid():
        yield
        return
    nobody = 65534
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005 and folder.stat().st_uid == 0:
            folder.chmod(folder.stat().st_mode | 0o055)
    os.chown(tmp_path, nobody, nobody)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small work on one thread: where tests share their processors, two threads that wait for each other crawl."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
