"""The hooks that the plugin implements; the entry point names this module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pluggy

from sda_prior_plugin import edge
from sda_prior_plugin.edge.command import train_prior_command
from sda_prior_plugin.edge.export_command import export_command

if TYPE_CHECKING:
    import click
    import numpy as np

    from sda_prior_plugin.edge.contract import Bundle, Host, Jobs, Live, Model, SavedModels
    from sda_prior_plugin.live import LiveSettings

hookimpl = pluggy.HookimplMarker("sda_host")


@hookimpl
def register_commands(cli: click.Group, host: Host) -> None:
    cli.add_command(train_prior_command(host))
    cli.add_command(export_command(host))


@hookimpl
def model_saving(model: Model, bundle: Bundle) -> None:
    edge.write_entry(model, bundle)


@hookimpl
def model_opened(model: Model, bundle: Bundle) -> None:
    model.prior = edge.read_entry(model, bundle) or model.prior


@hookimpl
def entries_checked(model: Model, bundle: Bundle) -> list[tuple[str, str]]:
    return edge.checked_entries(model, bundle)


@hookimpl
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
    return edge.generated(
        model,
        count,
        frames,
        seed=seed,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_frames=max_frames,
        max_copy=max_copy,
        start=start,
        kind=kind,
    )


@hookimpl
def stream_codes(
    model: Model, frames: int | None, max_copy: float | None, settings: Callable[[], LiveSettings]
) -> Iterator[np.ndarray] | None:
    return edge.streamed(model, settings, frames, max_copy)


@hookimpl
def codes_facts(model: Model, codes: np.ndarray) -> tuple[str, dict[str, Any]] | None:
    return edge.verbatim_facts(model, codes)


@hookimpl
def model_facts(model: Model) -> list[tuple[str, str]]:
    return edge.card_lines(model)


@hookimpl
def training_curves(model: Model) -> dict[str, Any] | None:
    return edge.model_curves(model)


@hookimpl
def training_tab(host: Host, models: SavedModels, jobs: Jobs, live: Live) -> None:
    edge.PriorSection(host, models, jobs, live)
