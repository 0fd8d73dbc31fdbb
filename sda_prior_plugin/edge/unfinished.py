"""A training of a model that was broken off: whether there is one, and whether it can go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sda_prior_plugin.edge.bundle_entry import codebooks_digest
from sda_prior_plugin.edge.resumable import NewerState, StateFile, Unfinished
from sda_prior_plugin.errors import SET_BACK, START_ANEW, PriorError
from sda_prior_plugin.settings import KNOBS, PriorSettings
from sda_prior_plugin.training_state import NotResumable

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Model


def resumable(states: StateFile, model: Model, settings: PriorSettings, given: frozenset[str]) -> Unfinished:
    """The training that was broken off, if it can go on with this model and these `given` settings.

    Raises:
        PriorError: it cannot, or there is none.
    """
    try:
        unfinished = states.read()
        if unfinished is None:
            raise PriorError(f"There is no unfinished training of {states.output.name} to continue; ", START_ANEW, ".")
        check_belongs(unfinished, states, model)
    except NotResumable as error:
        raise not_resumable(states, error) from error
    for knob in KNOBS:
        then, wanted = (getattr(each, knob.name) for each in (unfinished.state.settings, settings))
        if knob.name in given and then != wanted:
            raise PriorError(
                knob.term, f" is {wanted}, but the unfinished training has {then}; ", SET_BACK, ", or ", START_ANEW, "."
            )
    return unfinished


def left_unfinished(states: StateFile, model: Model) -> tuple[str, str]:
    """Sentences on a training that was broken off, one of them empty: on one that would be a loss, and on any other."""
    try:
        unfinished = states.look()
        if unfinished is None:
            return "", ""
        check_belongs(unfinished, states, model)
    except NewerState:
        return f"{states.output.name} has an unfinished training of a newer version of this program.", ""
    except NotResumable as error:
        return "", f"an unfinished training in {states.path.name} is of no use, and will be replaced: {error.reason}"
    return unfinished.sentence, ""


def written(states: StateFile) -> str:
    """When what there is of a training that was broken off was written; empty where nothing can be made of it."""
    try:
        unfinished = states.look()
    except NotResumable:
        return ""
    return "" if unfinished is None else unfinished.written


def check_belongs(unfinished: Unfinished, states: StateFile, model: Model) -> None:
    """See that a training is one of this model's; that its recordings are the same shows once they are encoded.

    Raises:
        NotResumable: it is not.
    """
    if unfinished.output != states.output.name:
        raise NotResumable(f"it is that of {unfinished.output}")
    if unfinished.codebooks != codebooks_digest(model.codec):
        raise NotResumable(f"it has learned the codes of another codec than {states.output.name} has now")


def not_resumable(states: StateFile, error: NotResumable) -> PriorError:
    """Why a training cannot be continued, for a person."""
    return PriorError(f"The training in {states.path} cannot be continued: {error.reason}; ", START_ANEW, ".")
