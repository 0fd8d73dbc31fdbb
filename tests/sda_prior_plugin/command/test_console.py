"""What the console shows of a training."""

from __future__ import annotations

import io
from pathlib import Path

from numba import njit
from rich.console import Console

from host_stubs.host import Host
from host_stubs.plugins import load_plugins
from sda_prior_plugin import (
    ChoosingStarted,
    MemorizingFound,
)
from sda_prior_plugin.edge import ConsoleProgress, prepare_job
from sda_prior_plugin.memorization import CopyRate
from sda_prior_plugin.watch import Finding


def test_the_warning_names_the_key_that_stops(trained_codec: Path) -> None:
    job = prepare_job(Host(load_plugins()), trained_codec, {})
    text = io.StringIO()
    progress = ConsoleProgress(job, Console(file=text, width=200))
    finding = Finding(CopyRate(1 / 3, 2, 0.52, 900, 0.11, 120, 0.001), 0.5, 3.0, 2.0)
    progress.on_event(MemorizingFound(epoch=30, best_epoch=20, finding=finding))
    assert "52% of the 0.3 s stretches that this prior generates now are verbatim" in text.getvalue()
    assert "recordings share 11% with each other; best checkpoint: epoch 20." in text.getvalue()
    assert "Press Ctrl-C once to stop and use the best checkpoint" in text.getvalue()


def test_the_look_at_the_end_is_told_of(trained_codec: Path) -> None:
    job = prepare_job(Host(load_plugins()), trained_codec, {})
    text = io.StringIO()
    progress = ConsoleProgress(job, Console(file=text, width=200))
    progress.on_event(ChoosingStarted(9.0))
    progress.on_event(ChoosingStarted(0.0))
    sentence = "looking for copies in what the best checkpoint draws"
    assert text.getvalue() == f"{sentence}, 0:09 left\n{sentence}\n"


def test_compiling_is_told_of_and_its_time_is_apart(trained_codec: Path) -> None:
    job = prepare_job(Host(load_plugins()), trained_codec, {})
    text = io.StringIO()
    with ConsoleProgress(job, Console(file=text, width=200)) as progress:
        assert text.getvalue() == ""
        njit(lambda number: number + 1)(1)
        assert text.getvalue() == "compiling the fast loops for this machine, once\n"
    assert progress.compiling.seconds > 0
    assert f"compiling took {progress.compiling.seconds:.1f} s, beside the rest where it could; it" in text.getvalue()
    with ConsoleProgress(job, Console(file=text, width=200)) as progress:
        pass
    assert progress.compiling.seconds == 0
    assert text.getvalue().count("compiling took") == 1
