"""What the page says of a training, in words and a little HTML from the host's kit."""

from __future__ import annotations

from sda_prior_plugin.edge.contract import Job, Kit
from sda_prior_plugin.edge.printed import time_left
from sda_prior_plugin.edge.tab.training import PriorProgress
from sda_prior_plugin.events import CHOOSING
from sda_prior_plugin.report import perplexity_text

LATELY = 5
"""Epochs over which "lately" looks back."""


def banner(kit: Kit, progress: PriorProgress) -> str:
    """The warning that it recites."""
    return (
        f'<p role="alert">⚠ {kit.as_html(progress.finding)}</p>'
        "<p>Training goes on until you decide. The best checkpoint is kept in any case.</p>"
    )


def going(kit: Kit, job: Job) -> str:
    """A bar and a plain sentence on how a training goes, or went."""
    progress: PriorProgress = job.progress
    bar = "" if job.over else kit.bar("Training of the prior", progress.done, progress.epochs)
    return f"{bar}<p>{kit.as_html(f'{state(kit, job)} {trend(progress, job.over)}')}</p>"


def state(kit: Kit, job: Job) -> str:
    """What it is doing, and for how long yet."""
    progress: PriorProgress = job.progress
    if job.over:
        return ""
    if job.cancel_requested.is_set():
        return "Cancelling."
    if progress.saving:
        return "Saving."
    if job.stop_requested.is_set():
        return "Stopping: looking at the best checkpoint, then saving it."
    if job.state == "waiting":
        return "Waiting for another training to end."
    if progress.job is None:
        return "Opening the model and looking at its recordings."
    if not progress.done:
        doing = "Starting to train."
        if not progress.started:
            doing = f"Encoding recordings: {progress.encoded} of {progress.job.encodings}."
            if (part := progress.part) is not None:
                doing += f" {part[0]} is a long one: {part[1]:.0%} of it."
        return f"{progress.note} {doing}".strip()
    left = "" if progress.seconds_left is None else f", {time_left(progress.seconds_left)}"
    if progress.choosing:
        return f"{CHOOSING[:1].upper()}{CHOOSING[1:]}{left}."
    epoch = min(int(progress.done) + 1, progress.epochs)
    most = progress.job.settings.epochs
    early = "at most " if progress.epochs < most else ""
    finishing = f" {progress.finishing[:1].upper()}{progress.finishing[1:]}." if progress.finishing else ""
    return f"Epoch {epoch} of {early}{most}{left}.{finishing}"


def trend(progress: PriorProgress, over: bool = False) -> str:
    """A plain sentence on whether it still learns, or did at the end; nothing before the first epoch is over."""
    held_out = progress.held_out[:]
    judged = len(held_out)
    best = min(progress.best, judged)
    if not judged:
        return ""
    if not best:
        return "No epoch was of any use yet: the held-out perplexity is not finite."
    if judged == 1:
        return f"After the first epoch the held-out perplexity is {held_out[0]:.2f}."
    ago = judged - best
    if ago >= LATELY or ago >= max(judged // 4, 2):
        return (
            f"The best was epoch {best}, {ago} epochs {'before the end' if over else 'ago'}: held-out perplexity "
            f"{held_out[best - 1]:.2f}, {'at the end' if over else 'now'} {perplexity_text(held_out[-1])}."
        )
    first = max(best - LATELY, 1)
    if first == best:
        return f"The best was epoch {best} so far: held-out perplexity {held_out[best - 1]:.2f}."
    still = "It was still learning at the end" if over else "Still learning"
    return f"{still}: held-out perplexity {perplexity_text(held_out[first - 1])} → {held_out[best - 1]:.2f}."
