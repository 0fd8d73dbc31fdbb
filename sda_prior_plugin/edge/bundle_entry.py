"""The prior in a model file: the namespace "prior", written when a model is saved and read when it is opened."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from sda_prior_plugin.encoding import Codec, code_shape
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.prior import Prior
from sda_prior_plugin.report import TrainingReport
from sda_prior_plugin.settings import PriorSettings

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Bundle, Model

NAMESPACE = "prior"


def write_entry(model: Model, bundle: Bundle) -> None:
    """Put the model's prior into the bundle, if it has one of this plugin's."""
    if isinstance(model.prior, Prior):
        prior: Prior = model.prior
        facts = {
            "settings": prior.settings.as_dict(),
            **prior.report.as_dict(),
            "codebooks_sha256": codebooks_digest(model.codec),
        }
        bundle.put(NAMESPACE, facts, prior.weights)
        bundle.has_prior = True


def read_entry(model: Model, bundle: Bundle) -> Prior | None:
    """The prior that the bundle holds for this model, or None.

    Raises:
        PriorError: the entry is damaged, or belongs to another codec.
    """
    entry = bundle.get(NAMESPACE)
    if entry is None:
        return None
    facts, settings = entry.facts, entry.facts.get("settings")
    if not isinstance(settings, dict):
        raise PriorError("The prior in this file has no settings; train it again with train-prior --overwrite.")
    if facts.get("codebooks_sha256") != codebooks_digest(model.codec):
        raise PriorError(
            "The prior in this file belongs to another codec; train it again with train-prior --overwrite."
        )
    return Prior.from_weights(
        entry.tensors,
        PriorSettings.from_dict(settings),
        TrainingReport.from_dict(facts),
        shape=code_shape(model.codec),
        codebooks=model.codec.codebooks,
        frame_seconds=model.codec.frame_samples / model.codec.sample_rate,
    )


def codebooks_digest(codec: Codec) -> str:
    """SHA-256 of the codebooks: a prior means something only to the codec that it was trained on."""
    return hashlib.sha256(np.ascontiguousarray(codec.codebooks, dtype="<f4").tobytes()).hexdigest()


def generated(model: Model, count: int, frames: int | None, **how: Any) -> list[np.ndarray] | None:
    """New code grids from the model's prior, or None if it has none of this plugin's; see `Prior.samples`."""
    return model.prior.samples(count, frames, **how) if isinstance(model.prior, Prior) else None


def card_lines(model: Model) -> list[tuple[str, str]]:
    """What the model card says of the prior."""
    if not isinstance(model.prior, Prior):
        return []
    settings, report = model.prior.settings, model.prior.report
    heads = f", {settings.heads} heads" if settings.architecture == "transformer" else ""
    stopped = "" if report.ended == "finished" else f" ({report.ended} early)"
    return [
        (
            "Prior",
            f"{settings.architecture}, {settings.layers} layers of {settings.hidden_size}{heads}, "
            f"{report.parameters / 1e6:.2f} M parameters",
        ),
        (
            "Held-out perplexity",
            f"{report.final_perplexity:.2f} ({report.bits_per_code:.3f} bits per code), "
            f"on {len(report.held_out)} {'recording' if len(report.held_out) == 1 else 'recordings'}",
        ),
        ("Prior trained", f"{report.training_date}, {report.epochs_trained} epochs{stopped}, best {report.best_epoch}"),
    ]
