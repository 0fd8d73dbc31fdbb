"""What the page says of a training, in words and a little HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable

from sda_prior_plugin.edge.contract import Job
from sda_prior_plugin.edge.printed import printable, time_left
from sda_prior_plugin.edge.tab.chart import STYLE as CHART_STYLE
from sda_prior_plugin.edge.tab.training import PriorProgress
from sda_prior_plugin.report import perplexity_text

STYLE = (
    CHART_STYLE
    + """<style>
.prior-facts { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; margin: 0; }
.prior-facts dt { color: var(--body-text-color-subdued); }
.prior-facts dd { margin: 0; overflow-wrap: anywhere; }
.prior-said { border-left: 4px solid var(--border-color-primary); padding: 0.3rem 0.8rem; overflow-wrap: anywhere; }
.prior-said.problem { border-left-color: var(--error-border-color); }
.prior-knob > .block { flex-grow: 1; }
.prior-knob .block > label { display: flex; flex-direction: column; height: 100%; }
.prior-knob .block > label > :last-child { margin-top: auto; }
.prior-going progress { width: 100%; height: 0.8rem; appearance: none; border: 1px solid var(--body-text-color); }
.prior-going progress::-webkit-progress-bar { background: var(--background-fill-secondary); }
.prior-going progress::-webkit-progress-value { background: var(--color-accent); }
.prior-going progress::-moz-progress-bar { background: var(--color-accent); }
.prior-banner { border: 3px solid #d98200 !important; border-radius: 8px; padding: 0.8rem !important; }
.prior-banner p { font-weight: 600; overflow-wrap: anywhere; }
@media (max-width: 600px) {
  .prior-facts { grid-template-columns: 1fr; gap: 0; }
  .prior-facts dd { margin-bottom: 0.4rem; }
}
</style>"""
)
LATELY = 5
"""Epochs over which "lately" looks back."""


def as_html(text: str) -> str:
    """Text as HTML that shows it."""
    return html.escape(printable(text))


def facts(lines: Iterable[tuple[str, str]]) -> str:
    """Lines `(label, text)` as HTML."""
    rows = "".join(f"<dt>{as_html(label)}</dt><dd>{as_html(text)}</dd>" for label, text in lines)
    return f'<dl class="prior-facts">{rows}</dl>' if rows else ""


def said(sentence: str, *, problem: bool = False) -> str:
    """A sentence as HTML that a screen reader announces; nothing for none."""
    if not sentence:
        return ""
    kind, role = ("prior-said problem", "alert") if problem else ("prior-said", "status")
    return f'<p class="{kind}" role="{role}">{"Problem: " if problem else ""}{as_html(sentence)}</p>'


def banner(progress: PriorProgress) -> str:
    """The warning that it recites."""
    return (
        f'<p role="alert">⚠ {as_html(progress.finding)}</p>'
        "<p>Training goes on until you decide. The best checkpoint is kept in any case.</p>"
    )


def going(job: Job) -> str:
    """A bar and a plain sentence on how a training goes, or went."""
    progress: PriorProgress = job.progress
    total = progress.epochs
    value = f' max="{total}" value="{progress.done:.2f}"' if progress.done and total else ""
    bar = "" if job.over else f'<progress{value} aria-label="Training of the prior"></progress>'
    return f'{bar}<p class="prior-going-text">{as_html(state(job))} {as_html(trend(progress, job.over))}</p>'


def state(job: Job) -> str:
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
    if progress.done >= progress.epochs:
        return "Looking at the best checkpoint, then saving it."
    epoch = int(progress.done) + 1
    left = "" if progress.seconds_left is None else f", {time_left(progress.seconds_left)}"
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
