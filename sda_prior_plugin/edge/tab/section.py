"""The prior's section of the training tab: its components, and what a page has to show in them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import gradio as gr
from gradio.blocks import Block

from sda_prior_plugin.edge.curves import model_curves
from sda_prior_plugin.edge.printed import printable
from sda_prior_plugin.edge.tab.knobs import AUTO, SET, WRONG, knob_controls
from sda_prior_plugin.edge.tab.model import choices, replacing
from sda_prior_plugin.edge.tab.page import Looks, PriorPage
from sda_prior_plugin.edge.tab.training import PriorProgress
from sda_prior_plugin.edge.tab.words import banner, going

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host, Jobs, Live, SavedModels

STOP = "Stop and use best checkpoint"
CANCEL = "Cancel and keep the file as it was"
CONTINUE = "Continue the unfinished training"
MAIN = (
    "File", "Dataset", "Used", "Used in part", "Skipped", "Held-out perplexity", "Prior trained", "Memorization",
)  # fmt: skip
"""Lines of the card that matter: what it learned from, how good it is, when it was trained, and whether it recites."""
PERPLEXITY = (
    "Perplexity is how many codes it hesitates between on average; less is better, and what counts is what is held out."
)
REPLACE, START_ANEW = "Replace the prior", "Start anew"


class PriorSection:
    """The section. To be made once, inside the page's Gradio context; every page that is opened shows it."""

    def __init__(self, host: Host, models: SavedModels, jobs: Jobs, live: Live) -> None:
        self.models, self.live, self.kit = models, live, live.kit
        self._add_model()
        self.knobs = knob_controls()
        self.knob_problem = live.html("prior-knob-problem")
        self._add_start()
        self._add_training()
        looks: Looks = WeakValueDictionary()
        section = live.section(functools.partial(PriorPage, host, models, jobs, looks), self.wanted, PriorPage.look)
        section.on(self.model.input, PriorPage.choose, self.model)
        for event in (self.look.click, self.folder.submit):
            section.on(event, PriorPage.say_where, self.folder)
        for control in self.knobs:
            section.on(control.field.input, functools.partial(PriorPage.turn, knob=control.knob), control.field)
            section.on(control.field.blur, functools.partial(PriorPage.leave, knob=control.knob))
            section.on(control.back.click, functools.partial(PriorPage.give_back, knob=control.knob))
        section.on(self.train.click, PriorPage.ask_to_train)
        section.on(self.go_on.click, PriorPage.go_on)
        section.on(self.replace.click, PriorPage.start)
        section.on(self.keep.click, PriorPage.keep)
        for button in (self.stop, self.stop_in_banner):
            section.on(button.click, PriorPage.stop)
        section.on(self.cancel.click, PriorPage.cancel)

    def _add_model(self) -> None:
        gr.HTML(
            "<h2>Teach a model to make new sound</h2><p>A prior learns which codes tend to follow which in a model's "
            "recordings. It is saved in the model's file.</p>"
        )
        self.model = gr.Dropdown(
            [], value=None, label="Model", info="Those with a prior say so.", elem_id="prior-model"
        )
        self.card = self.live.html("prior-card")
        self.dataset = self.live.html("prior-dataset")
        with gr.Row(visible=False) as self.elsewhere:
            self.folder = gr.Textbox(
                label="Folder where the recordings are now", elem_id="prior-folder", scale=3, max_lines=1
            )
            self.look = gr.Button("Look there", elem_id="prior-look", scale=1)

    def _add_start(self) -> None:
        self.unfinished = self.live.html("prior-unfinished")
        with gr.Row():
            self.train = gr.Button("Train prior", variant="primary", interactive=False, elem_id="prior-train")
            self.go_on = gr.Button(CONTINUE, visible=False, elem_id="prior-continue")
        with gr.Column(visible=False, elem_id="prior-question") as self.asking:
            self.question = self.live.html()
            with gr.Row():
                self.replace = gr.Button(REPLACE, variant="stop", elem_id="prior-replace")
                self.keep = gr.Button("Keep it as it is", elem_id="prior-keep")
        self.message = self.live.html("prior-message")

    def _add_training(self) -> None:
        with gr.Column(visible=False, elem_id="prior-banner", elem_classes="warned") as self.banner:
            self.warning = self.live.html()
            self.stop_in_banner = gr.Button(STOP, variant="primary", elem_id="prior-banner-stop")
        self.progress = self.live.html("prior-progress", elem_classes="going")
        with gr.Row(visible=False) as self.ending:
            self.stop = gr.Button(STOP, elem_id="prior-stop")
            self.cancel = gr.Button(CANCEL, elem_id="prior-cancel")
        self.chart = self.live.html("prior-chart")
        self.player = self.live.html("prior-player")

    def wanted(self, page: PriorPage) -> dict[Block, Any]:
        """What a page has to show in every component that changes."""
        return {
            **self._model_wanted(page),
            **self._knobs_wanted(page),
            **self._training_wanted(page),
        }

    def _model_wanted(self, page: PriorPage) -> dict[Block, Any]:
        chosen, recordings, said = page.chosen, page.recordings, self.kit.said
        lost = recordings is not None and not recordings.usable
        if chosen is None:
            card = said("" if page.problem else "There are no models in the folder yet. Train one above.")
        else:
            card = said(chosen.problem, problem=True) if chosen.model is None else self.kit.facts(chosen.card, MAIN)
        looking = "" if chosen is None or chosen.model is None else "Looking at the recordings."
        return {
            self.model: {
                "choices": choices(self.models),
                "value": None if chosen is None else printable(str(chosen.path)),
            },
            self.card: card,
            self.dataset: said(recordings.sentence, problem=lost) if recordings else said(looking),
            self.elsewhere: lost and chosen is not None and chosen.model is not None,
            self.folder: "" if chosen is None or chosen.folder is None else printable(str(chosen.folder)),
        }

    def _knobs_wanted(self, page: PriorPage) -> dict[Block, Any]:
        """The knobs as they are in the training under way, or else as they would be."""
        training = None if page.under_way is None else page.under_way.progress.job
        running = training is not None
        settings = page.settings if training is None else training.settings
        given = page.given if training is None else training.given
        wanted: dict[Block, Any] = {}
        for control in self.knobs:
            name = control.knob.name
            wrong = name in page.wrong and not running
            mark = WRONG if wrong else SET if name in given else AUTO
            field: dict[str, Any] = {"label": control.label(mark), "interactive": not running}
            if settings is not None and (running or name not in page.wrong.keys() | page.emptied):
                field["value"] = getattr(settings, name)
            wanted[control.place] = settings is not None and control.knob.architecture in (None, settings.architecture)
            wanted[control.field] = field
            wanted[control.back] = {"visible": mark != AUTO and not running}
        sentence = " ".join([*page.wrong.values(), page.unsettled]).strip()
        return wanted | {self.knob_problem: self.kit.said(sentence, problem=True)}

    def _training_wanted(self, page: PriorPage) -> dict[Block, Any]:
        job, chosen, said = page.job, page.chosen, self.kit.said
        going_on = job is not None and not job.over
        progress = PriorProgress() if job is None else job.progress
        message = said(page.problem, problem=True)
        if not message and job is not None and job.over:
            message = said(job.message, problem=job.state == "failed")
        usable = page.recordings is not None and page.recordings.usable
        warned = going_on and progress.memorizing and progress.finding != ""
        asked = job is not None and job.stop_requested.is_set()
        unfinished = chosen.unfinished if chosen is not None and not going_on else ""
        finished = None if going_on or chosen is None or chosen.model is None else model_curves(chosen.model)
        drawn, sound = self.kit.chart(finished or progress.curves), progress.sound
        return {
            self.unfinished: said(unfinished),
            self.go_on: {"visible": unfinished != "", "interactive": usable},
            self.train: {"interactive": usable},
            self.asking: page.asking,
            self.replace: REPLACE if chosen is not None and chosen.has_prior else START_ANEW,
            self.question: said(replacing(chosen)) if page.asking and chosen is not None else "",
            self.message: message,
            self.banner: warned,
            self.warning: banner(self.kit, progress) if warned else "",
            self.stop_in_banner: {"interactive": not asked},
            self.progress: "" if job is None else going(self.kit, job),
            self.ending: going_on,
            self.stop: {"interactive": not asked},
            self.cancel: {"interactive": job is not None and not job.cancel_requested.is_set()},
            self.chart: f"{drawn}{self.kit.muted(PERPLEXITY)}" if drawn else "",
            self.player: "" if sound is None else self.live.player(sound),
        }
