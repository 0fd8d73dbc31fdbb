"""The contract between the host and its plugins, at a glance; docs/hooks.md explains each hook with an example.

A plugin is a distribution with an entry point in the group `sda_host` that names a module (or object) whose
functions are marked with `pluggy.HookimplMarker("sda_host")`. A hook takes as many of its arguments as it wants,
by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import click
    import gradio as gr
    import numpy as np

    from host_stubs.bundle import Bundle
    from host_stubs.host import Host
    from host_stubs.model import Model
    from host_stubs.playing import PlaySettings
    from host_stubs.ui.jobs import Jobs
    from host_stubs.ui.live import Live
    from host_stubs.ui.saved import SavedModels

PROJECT = "sda_host"
hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def register_commands(cli: click.Group, host: Host) -> None:
    """Add commands to the host's command line. Called once, when the command line is built: import nothing heavy."""


@hookspec
def model_saving(model: Model, bundle: Bundle) -> None:
    """Put what belongs to `model` into `bundle` before it is written. Called at each save, before any file is made."""


@hookspec
def model_opened(model: Model, bundle: Bundle) -> None:
    """Attach to `model` what `bundle` holds for this plugin. Called once for each model opened from a file."""


@hookspec
def entries_checked(model: Model, bundle: Bundle) -> list[tuple[str, str]] | None:
    """Check what `bundle` holds for this plugin, and raise what is wrong; give `(namespace, what was checked)` of each.

    Called by `host check`, for a model that no `model_opened` hook has seen.
    """


@hookspec(firstresult=True)
def generate_codes(
    model: Model,
    frames: int | None,
    max_frames: int,
    count: int,
    temperature: float,
    top_p: float,
    top_k: int,
    max_copy: float | None,
    start: np.ndarray | None,
    kind: str | None,
    seed: int,
) -> list[np.ndarray] | None:
    """Offer `count` new code grids, each int `[frames, bands, levels]`, or None to leave it to the next plugin.

    With `frames=None` a grid ends where the plugin says the sound is over, after at most `max_frames`. `top_p=1`
    and `top_k=0` mean no truncation. No stretch longer than `max_copy` seconds may be copied from the recordings. The
    codes follow those of `start`, int `[frames, bands, levels]`, which are not part of the answer. `kind` is what they
    are to be like, by a name that the plugin knows. While one of these three is not None, plugins that do not take it
    are not asked. The same `seed` gives the same codes.
    """


@hookspec(firstresult=True)
def stream_codes(
    model: Model, frames: int | None, max_copy: float | None, settings: Callable[[], PlaySettings]
) -> Iterator[np.ndarray] | None:
    """Offer new codes as they are asked for, int `[some, bands, levels]` each, or None to leave it to the next plugin.

    Together they are `frames`, or without end, and while `settings` gives the same those of `generate_codes` for these.
    It is to be called before each frame. While `max_copy` is not None, plugins that do not take it are not asked.
    """


@hookspec
def codes_facts(model: Model, codes: np.ndarray) -> tuple[str, dict[str, Any]] | None:
    """Say something of new codes, int `[frames, bands, levels]`: a line for a person, and the same as plain JSON."""


@hookspec
def model_facts(model: Model) -> list[tuple[str, str]] | None:
    """Give lines for the model card, each `(label, text)`, or None; `host info` and the model list show them."""


@hookspec(firstresult=True)
def training_curves(model: Model) -> dict[str, Any] | None:
    """Say how what makes the model's new codes was trained, for the host to draw; None where there is nothing to draw.

    Called by `host info --plot`.
    """


@hookspec
def training_tab(page: gr.Blocks, host: Host, models: SavedModels, jobs: Jobs, live: Live) -> None:
    """Add a section to the training tab of `host ui`. Called once, inside the tab's Gradio context.

    What the section shows, and what its controls do, it tells `live`. What takes long belongs into `jobs`.
    """
