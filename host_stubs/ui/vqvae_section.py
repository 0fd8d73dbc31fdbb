"""The section of the training tab that trains a VQ-VAE on a folder of recordings."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from host_stubs.errors import HostError, printable
from host_stubs.host import Host
from host_stubs.kinds import COMMON_KINDS
from host_stubs.names import as_text, model_file_name
from host_stubs.playing import MOST_SEED
from host_stubs.training import EpochDone
from host_stubs.ui.forms import field, texts, whole
from host_stubs.ui.jobs import WAITING, Job, Jobs
from host_stubs.ui.kit import as_html, bar, chart, clock, facts, muted, said
from host_stubs.ui.live import Live
from host_stubs.ui.saved import SavedModels, dataset_folders
from host_stubs.ui.vqvae_job import VqvaeProgress, VqvaeWork

MOST_EPOCHS = 100_000
TITLE = "training of the VQ-VAE"
LOSS = "The loss is how far what comes back is from the recording; less is better, and what counts is what is held out."
HEALTH = (
    "How well each level's codes are used: the more in use, and the fewer dead, the finer the sound that comes back."
)


class VqvaePage:
    """What one open page has in this section."""

    def __init__(self) -> None:
        self.problem = ""
        self.replacing: Path | None = None
        self.folders: list[Path] = []


class VqvaeSection:
    """The section's components and what they do. To be made inside the page's Gradio context."""

    def __init__(self, host: Host, models: SavedModels, datasets: Path, jobs: Jobs, live: Live) -> None:
        self.host, self.models, self.datasets, self.jobs = host, models, datasets, jobs
        gr.HTML(
            "<h2>Train a model</h2><p>A VQ-VAE learns to turn your recordings into codes and back. It comes first; "
            "what makes new sound builds on it.</p>"
        )
        with gr.Row():
            self.folder = gr.Dropdown(
                [],
                value=None,
                allow_custom_value=True,
                label="Folder with recordings",
                info=f"{COMMON_KINDS}, in subfolders too. Choose one, or type where it is.",
                elem_id="vqvae-folder",
                scale=2,
                min_width=300,
            )
            self.name = field("Name of the model", "Left empty: that of the folder.", "vqvae-name")
        with gr.Accordion("Advanced", open=False, elem_id="vqvae-advanced"), gr.Row():
            self.epochs = field("Epochs", "Left empty: until nothing gets better.", "vqvae-epochs")
            self.seed = field("Seed", "Makes a CPU run repeatable.", "vqvae-seed", "0")
            self.device = gr.Dropdown(
                ["auto", "cpu", "cuda", "mps"],
                value="auto",
                label="Device",
                info="auto takes a CUDA GPU if there is one, or else the processor.",
                min_width=120,
            )
        self.train = gr.Button("Train VQ-VAE", variant="primary", elem_id="vqvae-train")
        with gr.Row(visible=False) as self.asking:
            self.replace = gr.Button("Replace the model", variant="stop", elem_id="vqvae-replace")
            self.keep = gr.Button("Keep it as it is", elem_id="vqvae-keep")
        self.message = live.html("vqvae-message")
        self.going = live.html("vqvae-going", elem_classes="going")
        with gr.Row(visible=False) as self.ending:
            self.stop = gr.Button("Stop and use best epoch", elem_id="vqvae-stop")
            self.cancel = gr.Button("Cancel and write nothing", elem_id="vqvae-cancel")
        section = live.section(self._opened, self._wanted)
        form = (self.folder, self.name, self.epochs, self.seed, self.device)
        section.on(self.folder.focus, self._look_for_folders)
        section.on(self.train.click, self._train, *form)
        section.on(self.replace.click, self._train_in_place, *form)
        section.on(self.keep.click, self._keep)
        section.on(self.stop.click, lambda own: self._tell(Job.stop))
        section.on(self.cancel.click, lambda own: self._tell(Job.cancel))

    def _opened(self) -> VqvaePage:
        own = VqvaePage()
        self._look_for_folders(own)
        return own

    def _look_for_folders(self, own: VqvaePage) -> None:
        own.folders = dataset_folders(self.datasets)

    def _train(self, own: VqvaePage, *form: str | None) -> None:
        own.replacing = None
        path, work = self._settled(own, *form)
        if path.exists():
            own.replacing = path
        else:
            self.jobs.start(path, TITLE, work, VqvaeProgress())

    def _train_in_place(self, own: VqvaePage, *form: str | None) -> None:
        asked, own.replacing = own.replacing, None
        path, work = self._settled(own, *form)
        if path != asked:  # the name was changed after the question: it is another question now
            own.replacing = path if path.exists() else None
            raise HostError("The name has changed since; press Train VQ-VAE again.")
        self.jobs.start(path, TITLE, work, VqvaeProgress())

    def _keep(self, own: VqvaePage) -> None:
        own.replacing = None

    def _tell(self, how: Callable[[Job], None]) -> None:
        job = self._job()
        if job is not None and not job.over:
            how(job)

    def _settled(self, own: VqvaePage, *form: str | None) -> tuple[Path, VqvaeWork]:
        """The model file and the work, from the form. Raises HostError where something is missing or wrong."""
        folder, name, epochs, seed, device = texts(form)
        if not folder:
            raise HostError("Choose a folder with recordings first.")
        recordings = next(
            (each for each in own.folders if printable(str(each)).strip() == folder), Path(os.path.expanduser(folder))
        )
        if not os.path.isdir(recordings):  # unlike Path's, it takes what may not be looked at for none
            raise HostError(f"There is no folder {recordings}.")
        name = as_text(name or recordings.resolve().name or "model")
        if name != Path(name).name or name.startswith("."):
            raise HostError(f"A model cannot be called {name!r}: give a name without slashes or a dot before it.")
        path = self.models.folder / model_file_name(name)
        self.host.check_writable(path)
        most = whole(epochs, "Epochs", 1, MOST_EPOCHS) if epochs else None
        from_seed = whole(seed or "0", "Seed", 0, MOST_SEED)
        return path, VqvaeWork(self.host, recordings, name, most, from_seed, device, self.host.file_state(path))

    def _job(self) -> Job | None:
        """The VQ-VAE training to show: the one that runs, or the last one."""
        trainings = [job for job in self.jobs.all() if isinstance(job.progress, VqvaeProgress)]
        return next((job for job in trainings if not job.over), trainings[-1] if trainings else None)

    def _wanted(self, own: VqvaePage) -> dict[Block, Any]:
        job = self._job()
        message = said(own.problem, problem=True)
        if own.replacing is not None:
            message = said(
                f"{own.replacing.name} exists already. Replace it once the new model is complete? "
                "A prior that it has goes with it."
            )
        elif not message and job is not None and job.over:
            message = said(job.message, problem=job.state == "failed")
        return {
            self.folder: {"choices": [printable(str(path)) for path in own.folders]},
            self.asking: own.replacing is not None,
            self.message: message,
            self.going: "" if job is None else _going(job),
            self.ending: job is not None and not job.over,
        }


def _going(job: Job) -> str:
    """How a training goes, as HTML."""
    progress: VqvaeProgress = job.progress
    epochs = progress.epochs[:]
    parts = [f"<p><strong>{as_html(job.path.name)}</strong>: {_state(job, epochs)}</p>"]
    if epochs:
        last = epochs[-1]
        parts.append("" if job.over else bar("Epochs of the VQ-VAE", last.epoch, last.epochs))
        parts += [chart(_curves(epochs)), muted(LOSS), _levels(last)]
    elif not job.over:
        parts.append(bar("Looking at the recordings"))
    parts.append(facts(progress.account))
    parts += [muted(note) for note in progress.notes]
    return "".join(parts)


def _curves(epochs: Sequence[EpochDone]) -> dict[str, Any]:
    """The training for a chart: there is one where recordings are held out."""
    last, held_out = epochs[-1], [each.held_out_loss for each in epochs]
    best = last.best_epoch if math.isfinite(min(held_out)) else 0
    losses = [each.train_loss for each in epochs]
    return {"measure": "loss", "trained_on": losses, "held_out": held_out, "best": best, "planned": last.epochs}


def _state(job: Job, epochs: Sequence[EpochDone]) -> str:
    if job.state == WAITING:
        return "waiting for another training to end."
    if not epochs:
        return "looking at the recordings."
    last = epochs[-1]
    going = f"epoch {last.epoch} of {last.epochs}"
    if job.over:
        return f"{going}."
    if job.stop_requested.is_set():
        return f"{going}. Ending after the current step."
    left = f"{clock(last.seconds_left)} left"
    return f"{going}. Finishing: {left}." if last.finishing else f"{going}, at most {left}."


def _levels(event: EpochDone) -> str:
    """Codebook health of each level as a table."""
    rows = "".join(
        f'<tr><td>{number}</td><td><meter min="0" max="1" value="{health.utilization:.3f}" '
        f'aria-label="Share of codes in use, level {number}"></meter>{health.utilization:.0%}</td>'
        f"<td>{health.perplexity:.1f}</td><td>{health.dead_codes}</td></tr>"
        for number, health in enumerate(event.levels)
    )
    head = "<tr><th>Level</th><th>Codes in use</th><th>Perplexity</th><th>Dead codes</th></tr>"
    return f'<table class="levels"><caption class="muted">{HEALTH}</caption>{head}{rows}</table>' if rows else ""
