"""Putting a new prior into its model's file, which may have become another since the training began."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sda_prior_plugin.edge.bundle_entry import NAMESPACE, codebooks_digest
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.prior import Prior

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host, Model

MOST_CHANGES = 100
"""Times that a file is seen to have changed before it is given up to."""


@dataclass(frozen=True)
class Saved:
    """Where a model with a new prior was saved, and a sentence on what was in the way, if anything was."""

    path: Path
    note: str


def save_prior(host: Host, model: Model, output: Path, expected: object, dataset: Path | None) -> Saved:
    """Save a model with the prior that it was just given, and open the file again to see that it is there.

    If `output` is no longer what it was, what is there now gets the prior, as long as that is the same model with no
    other prior; if not, it is left alone. Where nothing can be saved at `output`, the host saves the model elsewhere.

    Args:
        host: opens and saves.
        model: with the new prior.
        output: where it is wanted.
        expected: the state of `output`, as the host has it, when the training began.
        dataset: where the recordings were said to be now; None for where the model says.

    Raises:
        PriorError: the saved file does not hold this prior.
    """
    saved = _saved(host, model, output, expected, dataset)
    prior = host.open_model(saved.path).prior
    if not isinstance(prior, Prior) or prior.report != model.prior.report:
        raise PriorError(f"{saved.path} was saved but does not hold the new prior; see the warnings above.")
    return saved


def _saved(host: Host, model: Model, output: Path, expected: object, dataset: Path | None) -> Saved:
    to_save, note = model, ""
    changed = f"{output.name} was changed by something else meanwhile"
    for _ in range(MOST_CHANGES):
        try:
            host.save_model(to_save, output, expected)
            return Saved(output, note)
        except Exception as error:
            if not getattr(error, "for_user", False):
                raise
            if not getattr(error, "file_changed", False):
                return _elsewhere(host, model, output, str(error))
        expected = host.file_state(output)
        newer = _newer(host, model, output, dataset)
        if newer is None:
            break
        to_save, note = newer, f"{changed}; the prior was put into what it is now."
    return _elsewhere(host, model, output, f"{changed}, and is left alone.")


def _elsewhere(host: Host, model: Model, output: Path, why: str) -> Saved:
    saved = host.save_elsewhere(model, output, why)
    return Saved(saved.path, saved.note)


def _newer(host: Host, model: Model, output: Path, dataset: Path | None) -> Model | None:
    """What the model's file is now, with the new prior; None if the prior is not for that, or not there to go."""
    if model.path is None or output.resolve() != model.path.resolve():
        return None
    try:
        newer = host.open_model(output)
    except Exception as error:
        if getattr(error, "for_user", False):
            return None
        raise
    same_codec = codebooks_digest(newer.codec) == codebooks_digest(model.codec)
    if not same_codec or _prior_facts(newer) != _prior_facts(model):
        return None
    if dataset is not None:
        host.set_dataset(newer, dataset)
    newer.prior = model.prior
    return newer


def _prior_facts(model: Model) -> dict[str, Any] | None:
    """What a model's file says of its prior, as it was opened; None without one."""
    entry = model.bundle.get(NAMESPACE)
    return None if entry is None else entry.facts
