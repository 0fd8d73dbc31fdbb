"""How the training of a prior went, for the chart that the host draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sda_prior_plugin.prior import Prior

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Model


def curves(
    train: Sequence[float], held_out: Sequence[float], best: int, epochs: int, reciting: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Perplexity by epoch, the best epoch, and stretches of epochs in which the prior very likely recited."""
    return {
        "measure": "perplexity",
        "trained_on": train,
        "held_out": held_out,
        "best": best,
        "planned": epochs,
        "marked": reciting,
        "mark": "very likely memorizing",
    }


def model_curves(model: Model) -> dict[str, Any] | None:
    """The same of the prior that a model has; None if it has none of this plugin's."""
    if not isinstance(model.prior, Prior):
        return None
    report = model.prior.report
    reciting = report.memorization.memorizing_epochs if report.memorization else ()
    perplexities = report.train_perplexities, report.held_out_perplexities
    return curves(*perplexities, report.best_epoch, report.epochs_trained, reciting)
