"""A model of five recordings, with a prior and without."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import host_stubs

from .running import QUICK, host


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five short synthesized recordings."""
    folder = tmp_path_factory.mktemp("recordings")
    host_stubs.write_demo_recordings(folder, seed=3, count=5)
    return folder


@pytest.fixture(scope="session")
def trained_codec(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a codec trained for an epoch and no prior."""
    path = tmp_path_factory.mktemp("model") / "small.sda"
    result = host("train", recordings, "-o", path, "--epochs", 1)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def model(trained_codec: Path, tmp_path: Path) -> Path:
    """A copy of the model without a prior, for one test alone."""
    return Path(shutil.copy(trained_codec, tmp_path / "small.sda"))


@pytest.fixture(scope="session")
def trained(trained_codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a prior."""
    path = tmp_path_factory.mktemp("trained") / "with-prior.sda"
    result = host("train-prior", trained_codec, "--output", path, *QUICK)
    assert result.exit_code == 0, result.output
    return path
