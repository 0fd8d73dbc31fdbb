"""A picture of a training: train and held-out perplexity, the best epoch, and where it went over to reciting."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from sda_prior_plugin.edge.printed import printable
from sda_prior_plugin.prior import Prior
from sda_prior_plugin.report import MOST_DRAWN, TrainingReport

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Model

LONGEST_NAME = 60
"""Characters of a model's name that there is room for."""


def draw_training(model: Model, path: Path) -> bool | None:
    """Draw the training of the model's prior as a PNG at `path`; None if it has none of this plugin's."""
    if not isinstance(model.prior, Prior):
        return None
    training_figure(model.prior.report, model.name).savefig(path, format="png", dpi=120)
    return True


def training_figure(report: TrainingReport, name: str) -> Figure:
    """The picture, nine by five inches."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, report.epochs_trained + 1)
    marker = "o" if report.epochs_trained < 40 else None
    axes.plot(epochs, report.train_perplexities, label="trained on", color="#777777", linestyle="--", marker=marker)
    axes.plot(epochs, report.held_out_perplexities, label="held out", color="#0b5fa5", marker=marker)
    axes.axvline(
        report.best_epoch,
        color="#0b5fa5",
        linestyle=":",
        label=f"kept: epoch {report.best_epoch}, perplexity {report.final_perplexity:.2f}",
    )
    for number, (first, last) in enumerate(report.memorization.memorizing_epochs if report.memorization else ()):
        label = None if number else "very likely memorizing"
        axes.axvspan(first - 0.5, last + 0.5, color="#d98200", alpha=0.25, hatch="//", label=label)
    title = printable(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…")
    axes.set_title(f"{title}: training of its prior", parse_math=False)
    axes.set_xlabel("epoch")
    axes.set_ylabel("perplexity (log scale)")
    axes.set_yscale("log")
    if max(filter(math.isfinite, [*report.train_perplexities, *report.held_out_perplexities])) > MOST_DRAWN:
        axes.set_ylim(top=max(MOST_DRAWN, report.final_perplexity))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
