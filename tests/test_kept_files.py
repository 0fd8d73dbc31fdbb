"""Files that earlier versions have written are kept in tests/fixtures, and open in this one."""

from __future__ import annotations

import json
import lzma
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import fuzz
from host_stubs.bundle import Entry
from host_stubs.cli import build_cli
from host_stubs.errors import HostError
from host_stubs.model import open_model, save_model
from host_stubs.plugins import Plugins
from host_stubs.sda import VERSION
from sda_prior_plugin import Prior, PriorError
from sda_prior_plugin.edge import plugin as prior_plugin
from sda_prior_plugin.edge import read_entry

FIXTURES = Path(__file__).parent / "fixtures"
FIRST_FRAMES = [
    [[8, 5], [15, 7], [8, 6], [6, 4], [5, 7], [6, 15], [5, 9], [11, 8]],
    [[9, 4], [9, 1], [2, 10], [6, 2], [6, 3], [6, 7], [6, 7], [15, 14]],
    [[7, 2], [6, 14], [8, 5], [6, 6], [6, 15], [1, 4], [3, 10], [15, 5]],
]
"""What the kept prior drew with the seed 7 when it was made."""


@pytest.fixture
def plugins() -> Plugins:
    loaded = Plugins()
    loaded.add(prior_plugin, "prior")
    return loaded


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "version-2.sda"
    path.write_bytes(lzma.decompress((FIXTURES / "version-2.sda.xz").read_bytes()))
    return path


def test_a_file_of_version_2_opens_and_makes_the_sound_that_it_made(kept: Path, plugins: Plugins) -> None:
    model = open_model(kept, plugins)
    assert plugins.failures == []
    assert model.name == "six sounds"
    assert model.manifest is not None
    assert model.manifest.files[0].path == "001_string.wav"
    assert isinstance(model.prior, Prior)
    codes = model.prior.sample(frames=3, seed=7, top_p=1.0)
    assert codes.tolist() == FIRST_FRAMES
    assert model.prior.verbatim(codes)[0] == 0
    sound = model.codec.decode(codes)
    assert sound.shape == (3 * 8192,)
    assert 0.05 < float(np.sqrt(np.mean(sound**2))) < 0.3
    assert (model.codec.encode(sound) == codes).mean() > 0.3, "the sound has these codes, as far as sound can"


def test_a_file_of_version_2_is_whole_and_survives_a_save(kept: Path, plugins: Plugins, tmp_path: Path) -> None:
    save_model(open_model(kept, plugins), tmp_path / "again.sda", plugins)
    for path in (kept, tmp_path / "again.sda"):
        result = CliRunner().invoke(build_cli(plugins), ["check", str(path)])
        assert result.exit_code == 0, result.stderr
        assert [line.split()[1] for line in result.stdout.splitlines()] == ["ok"] * 5


def test_a_newer_versions_file_is_refused_by_name(kept: Path, plugins: Plugins) -> None:
    content = kept.read_bytes()
    newer = content.replace(b'\\"version\\": 2', b'\\"version\\": 3')
    assert newer != content
    kept.write_bytes(newer)
    with pytest.raises(HostError, match=rf"version-2\.sda is of \.sda version 3; this host reads up to {VERSION}"):
        open_model(kept, plugins)


def test_host_check_says_what_is_wrong_with_a_prior_and_opening_goes_on_without_it(
    kept: Path, plugins: Plugins
) -> None:
    content = kept.read_bytes()
    wrong = content.replace(b'\\"hidden_size\\": 32', b'\\"hidden_size\\": 64')
    assert wrong != content
    kept.write_bytes(wrong)
    assert open_model(kept, plugins).prior is None
    result = CliRunner().invoke(build_cli(plugins), ["check", str(kept), "--json"])
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "fails the check of plugin 'prior': The prior's band is" in line
    alone = CliRunner().invoke(build_cli(Plugins()), ["check", str(kept), "--json"])
    assert alone.exit_code == 0
    assert json.loads(alone.stdout)["parts"][-1] == {
        "part": "prior", "what": "in its place; no installed plugin knows what it should be", "known": False,
    }  # fmt: skip


def _heard(part: str, *numbers: int) -> Callable[[Entry], Any]:
    return lambda entry: (entry.facts, entry.tensors | {f"heard.{part}": torch.tensor(numbers)})


def _fact(name: str, value: Any) -> Callable[[Entry], Any]:
    return lambda entry: (entry.facts | {name: value}, entry.tensors)


@pytest.mark.parametrize(
    "change",
    [
        _heard("ends", 2**63 - 1, -2, 0),
        _heard("recordings", -1),
        lambda entry: (entry.facts, {name: t for name, t in entry.tensors.items() if name != "heard.ends"}),
        lambda entry: ({name: fact for name, fact in entry.facts.items() if name != "heard"}, entry.tensors),
        lambda entry: (entry.facts, entry.tensors | {"heard.more": torch.zeros(1)}),
        lambda entry: (entry.facts, entry.tensors | {"end.bias": torch.tensor([math.nan])}),
        lambda entry: (entry.facts, entry.tensors | {"end.bias": torch.zeros(2)}),
        lambda entry: ({}, entry.tensors),
        _fact("settings", {}),
        _fact("epochs_trained", 10**400),
        _fact("memorization", {"longest": ""}),
        _fact("memorization", [1]),
        _fact("codebooks_sha256", None),
    ],
)
def test_a_prior_that_something_is_wrong_with_is_refused_as_one(
    kept: Path, plugins: Plugins, change: Callable[[Entry], Any]
) -> None:
    """With the plugin's own error, whatever it is: no other exception, and nothing outside its memory is touched."""
    model = open_model(kept, plugins)
    entry = model.bundle.get("prior")
    assert entry is not None
    model.bundle.put("prior", *change(entry))
    with pytest.raises(PriorError):
        read_entry(model, model.bundle)


def test_opening_does_not_wait_for_what_nobody_asks_for(kept: Path, plugins: Plugins, tmp_path: Path) -> None:
    """With a namespace of 4 GiB it takes as long as without; `make bench` says how long."""
    content, more = kept.read_bytes(), 2**32
    length = int.from_bytes(content[:8], "little")
    header, size = json.loads(content[8 : 8 + length]), len(content) - 8 - length
    header["future.recordings"] = {"dtype": "U8", "shape": [more], "data_offsets": [size, size + more]}
    text = json.dumps(header).encode()
    large = tmp_path / "large.sda"
    large.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    os.truncate(large, large.stat().st_size + more)
    assert open_model(large, plugins).bundle.names() == ["future", "prior"]
    alone, with_it = (min(opening(path, plugins) for _ in range(5)) for path in (kept, large))
    assert with_it < 1.5 * alone + 0.01
    assert alone < 0.3


def opening(path: Path, plugins: Plugins) -> float:
    """Seconds of processor time that opening a model with its prior takes."""
    start = time.process_time()
    assert open_model(path, plugins).prior is not None
    return time.process_time() - start


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is only measured on Linux")
def test_mutants_of_it_open_to_a_working_model_or_are_refused(tmp_path: Path) -> None:
    """A few seconds of what `make fuzz` does."""
    tally = fuzz.run(2_000, seed=11, folder=tmp_path, seconds=5)
    print(tally)
    assert tally.files > 50
    assert tally.opened > 5
    assert len(tally.reasons) > 10
