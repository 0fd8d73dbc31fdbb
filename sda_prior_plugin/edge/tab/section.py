"""The prior's section of the training tab: its components, and what a page has to show in them."""

from __future__ import annotations

import copy
import functools
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import gradio as gr
from gradio.blocks import Block

from sda_prior_plugin.edge.printed import printable
from sda_prior_plugin.edge.tab.chart import Curve, chart
from sda_prior_plugin.edge.tab.knobs import AUTO, SET, WRONG, KnobControl, for_the_page, knob_controls, title
from sda_prior_plugin.edge.tab.model import choices, replacing
from sda_prior_plugin.edge.tab.page import MOST_SECONDS, PriorPage
from sda_prior_plugin.edge.tab.pulse import CHOOSE, following, pulse
from sda_prior_plugin.edge.tab.sent import Properties, Sent
from sda_prior_plugin.edge.tab.sounds import Sound, SoundFiles
from sda_prior_plugin.edge.tab.training import PriorProgress
from sda_prior_plugin.edge.tab.words import STYLE, banner, facts, going, said

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host, Jobs, SavedModels

STOP = "Stop and use best checkpoint"
CANCEL = "Cancel and keep the file as it was"
CONTINUE = "Continue the unfinished training"
REPLACE, START_ANEW = "Replace the prior", "Start anew"
QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


NOTHING: dict[Any, Any] = gr.skip()
"""Gradio's word for it: it would take an empty dictionary for a value."""


class OpenPage:
    """A page that somebody has open, and what it was sent. Gradio copies one for each page; a copy starts afresh."""

    def __init__(self, page: PriorPage) -> None:
        self.page, self.sent, self.name = page, Sent(), secrets.token_hex(16)

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenPage:
        return OpenPage(copy.deepcopy(self.page, memo))


class PriorSection:
    """The section. To be made once, inside the page's Gradio context; every page that is opened shows it."""

    def __init__(self, page: gr.Blocks, host: Host, models: SavedModels, jobs: Jobs) -> None:
        self.models = models
        self.open_pages: WeakValueDictionary[str, OpenPage] = WeakValueDictionary()
        self.pulse = pulse(self.news_for)
        self._add_model()
        self.knobs = knob_controls()
        self.knob_problem = gr.HTML(elem_id="prior-knob-problem")
        self._add_start()
        self._add_training()
        self._add_listening()
        self.files = SoundFiles(Path(self.player.GRADIO_CACHE) / "prior")
        self._connect(page, OpenPage(PriorPage(host, models, jobs)))

    def _add_model(self) -> None:
        gr.HTML(
            f"{STYLE}<h2>Teach a model to make new sound</h2><p>A prior learns which codes tend to follow which in a "
            "model's recordings. It is saved in the model's file.</p>"
        )
        self.model = gr.Dropdown(
            [], value=None, label="Model", info="Those with a prior say so.", elem_id="prior-model"
        )
        self.card = following("prior-card")
        self.dataset = gr.HTML(elem_id="prior-dataset")
        with gr.Row(visible=False) as self.elsewhere:
            self.folder = gr.Textbox(
                label="Folder where the recordings are now", elem_id="prior-folder", scale=3, max_lines=1
            )
            self.look = gr.Button("Look there", elem_id="prior-look", scale=1)

    def _add_start(self) -> None:
        self.unfinished = gr.HTML(elem_id="prior-unfinished")
        with gr.Row():
            self.train = gr.Button("Train prior", variant="primary", interactive=False, elem_id="prior-train")
            self.go_on = gr.Button(CONTINUE, visible=False, elem_id="prior-continue")
        with gr.Column(visible=False, elem_id="prior-question") as self.asking:
            self.question = gr.HTML()
            with gr.Row():
                self.replace = gr.Button(REPLACE, variant="stop", elem_id="prior-replace")
                self.keep = gr.Button("Keep it as it is", elem_id="prior-keep")
        self.message = gr.HTML(elem_id="prior-message")

    def _add_training(self) -> None:
        with gr.Column(visible=False, elem_id="prior-banner", elem_classes="prior-banner") as self.banner:
            self.warning = gr.HTML()
            self.stop_in_banner = gr.Button(STOP, variant="primary", elem_id="prior-banner-stop")
        self.progress = following("prior-progress", elem_classes="prior-going")
        with gr.Row(visible=False) as self.ending:
            self.stop = gr.Button(STOP, elem_id="prior-stop")
            self.cancel = gr.Button(CANCEL, elem_id="prior-cancel")
        self.chart = following("prior-chart")
        self.player = gr.Audio(
            visible=False, interactive=False, label="New sound", elem_id="prior-player", buttons=["download"]
        )

    def _add_listening(self) -> None:
        with gr.Column(visible=False, elem_id="prior-listening") as self.listening:
            gr.HTML("<h2>Listen</h2>")
            with gr.Row():
                self.seconds = gr.Number(
                    5, label="Seconds", info=f"Up to {MOST_SECONDS:g}.", elem_id="listen-seconds", min_width=120
                )
                self.temperature = gr.Number(
                    1.0,
                    step=0.1,
                    label="Temperature",
                    info="Below 1 more predictable, above 1 more surprising.",
                    elem_id="listen-temperature",
                    min_width=120,
                )
                self.random = gr.Textbox(
                    label="Seed",
                    info="The same seed gives the same sound. Left empty: another one each time.",
                    max_lines=1,
                    elem_id="listen-seed",
                    min_width=120,
                )
            self.listen = gr.Button("Listen", variant="primary", elem_id="prior-listen")
            self.heard = gr.HTML(elem_id="listen-said", min_height=24)
            self.drawn = gr.Audio(
                visible=False, interactive=False, label="New sound", elem_id="listen-player", buttons=["download"]
            )

    def _connect(self, page: gr.Blocks, fresh: OpenPage) -> None:
        outputs = [*self.wanted(fresh)]
        state, more = gr.State(fresh), gr.Number(0, label="There is more", visible="hidden")

        def some(there: OpenPage, components: list[Block]) -> dict[Block, Any]:
            """Send what is new in these components. Where there is more, the page is told to ask for all of it: a
            browser is busy for a while with every component that an answer could change, whether or not it does."""
            wanted = self.wanted(there)
            news = there.sent.news({component: wanted.pop(component) for component in components})
            return {**news, more: time.monotonic()} if there.sent.lacks(wanted) else news or NOTHING

        def on(event: Callable[..., Any], act: Callable[..., None], *inputs: Block, **how: Any) -> Any:
            """Let `act` change what the page has, then send what is new, `first` in some components if that is given.
            What is long takes the lock by itself."""
            long, first = how.pop("long", False), how.pop("first", None)

            def handle(there: OpenPage, *values: Any) -> dict[Block, Any]:
                self.open_pages[there.name] = there
                there.sent.typed(inputs, values)
                if long:
                    act(there.page, *values)
                with there.page.lock:
                    if not long:
                        act(there.page, *values)
                    return some(there, first) if first else there.sent.news(self.wanted(there)) or NOTHING

            return event(handle, [state, *inputs], [*first, more] if first else outputs, **{**QUICK, **how})

        def open_page(there: OpenPage) -> dict[Block, Any]:
            self.open_pages[there.name] = there
            there.sent.clear()
            with there.page.lock:
                there.page.open()
                return there.sent.news(self.wanted(there)) or NOTHING

        opened = page.load(open_page, state, outputs, **QUICK)
        self.model.input(None, self.model, js=CHOOSE, api_visibility="private")
        news = on(self.pulse.news, PriorPage.look_again)
        moved = [
            on(event, PriorPage.say_where, self.folder, long=True) for event in (self.look.click, self.folder.submit)
        ]
        looked_at = [self.dataset, self.elsewhere, self.train, self.go_on]
        for looking in (opened, news, *moved):
            on(looking.then, PriorPage.look_at_recordings, long=True, first=looked_at)
        on(more.change, lambda own: None)
        self._connect_knobs(on)
        self._connect_training(on)
        self._connect_listening(on)

    def _connect_knobs(self, on: Callable[..., Any]) -> None:
        for control in self.knobs:
            own = [control.field, control.back, self.knob_problem]
            on(
                control.field.input, functools.partial(_turn, control), control.field,
                preprocess=False, trigger_mode="always_last", first=own,
            )  # fmt: skip
            on(control.field.blur, functools.partial(_leave, control), first=own)
            on(control.back.click, functools.partial(_give_back, control), first=own)

    def _connect_training(self, on: Callable[..., Any]) -> None:
        starting = [self.asking, self.question, self.message, self.ending, self.progress, self.go_on]
        on(self.train.click, PriorPage.ask_to_train, first=starting)
        on(self.go_on.click, PriorPage.go_on, first=starting)
        on(self.replace.click, PriorPage.start, first=starting)
        on(self.keep.click, PriorPage.keep, first=starting)
        ending = [self.stop, self.stop_in_banner, self.cancel, self.progress]
        for button in (self.stop, self.stop_in_banner):
            on(button.click, PriorPage.stop, first=ending)
        on(self.cancel.click, PriorPage.cancel, first=ending)
        on(self.player.play, PriorPage.play, first=[self.player])
        for event in (self.player.pause, self.player.stop):
            on(event, PriorPage.play_no_more, first=[self.player])

    def _connect_listening(self, on: Callable[..., Any]) -> None:
        on(
            self.listen.click, PriorPage.draw, self.seconds, self.temperature, self.random, long=True, queue=True,
            preprocess=False, show_progress="minimal", show_progress_on=self.heard,
        )  # fmt: skip

    def news_for(self, name: str, lost: bool, chosen: str | None) -> tuple[dict[str, str], bool]:
        """What a page has to show by now, of which another model may just have been `chosen`: contents of what is to
        appear quickly, or moves while a prior is trained, and whether there is more. A page that is not known, because
        the server has started anew, for one, asks for all of it."""
        there = self.open_pages.get(name)
        if there is None:
            return {}, True
        quick = (self.card, self.progress, self.chart)
        with there.page.lock:
            if chosen is None:
                there.page.look_again()
            else:
                there.sent.typed([self.model], [chosen])
                there.page.choose(chosen)
            if lost:
                there.sent.lost(quick)
            wanted = self.wanted(there)
            moved = there.sent.values({component: wanted[component] for component in quick})
            return {str(component.elem_id): value for component, value in moved.items()}, there.sent.lacks(wanted)

    def wanted(self, there: OpenPage) -> dict[Block, Properties]:
        """What a page has to show: the properties of every component that changes."""
        page = there.page
        return {
            self.pulse: {"value": there.name},
            **self._model_wanted(page),
            **self._knobs_wanted(page),
            **self._training_wanted(page),
            **self._listening_wanted(page),
        }

    def _model_wanted(self, page: PriorPage) -> dict[Block, Properties]:
        chosen, recordings = page.chosen, page.recordings
        lost = recordings is not None and not recordings.usable
        if chosen is None:
            card = said("" if page.problem else "There are no models in the folder yet. Train one above.")
        else:
            card = said(chosen.problem, problem=True) if chosen.model is None else facts(chosen.card)
        looking = "" if chosen is None or chosen.model is None else "Looking at the recordings."
        return {
            self.model: {
                "choices": choices(self.models),
                "value": None if chosen is None else printable(str(chosen.path)),
            },
            self.card: _html(card),
            self.dataset: _html(said(recordings.sentence, problem=lost) if recordings else said(looking)),
            self.elsewhere: {"visible": lost and chosen is not None and chosen.model is not None},
            self.folder: {"value": "" if chosen is None or chosen.folder is None else printable(str(chosen.folder))},
        }

    def _knobs_wanted(self, page: PriorPage) -> dict[Block, Properties]:
        """The knobs as they are in the training under way, or else as they would be."""
        training = None if page.under_way is None else page.under_way.progress.job
        running = training is not None
        settings = page.settings if training is None else training.settings
        given = page.given if training is None else training.given
        wanted: dict[Block, Properties] = {}
        for control in self.knobs:
            name = control.knob.name
            wrong = name in page.wrong and not running
            mark = WRONG if wrong else SET if name in given else AUTO
            field: Properties = {"label": control.label(mark), "interactive": not running}
            if settings is not None and (running or name not in page.wrong.keys() | page.emptied):
                field["value"] = getattr(settings, name)
            means_something = settings is not None and control.knob.architecture in (None, settings.architecture)
            wanted[control.place] = {"visible": means_something}
            wanted[control.field] = field
            wanted[control.back] = {"visible": mark != AUTO and not running}
        sentence = " ".join([*page.wrong.values(), page.unsettled]).strip()
        return wanted | {self.knob_problem: _html(said(for_the_page(sentence), problem=True))}

    def _training_wanted(self, page: PriorPage) -> dict[Block, Properties]:
        job, chosen = page.job, page.chosen
        going_on = job is not None and not job.over
        progress = PriorProgress() if job is None else job.progress
        message = said(for_the_page(page.problem), problem=True)
        if not message and job is not None and job.over:
            message = said(for_the_page(job.message), problem=job.state == "failed")
        usable = page.recordings is not None and page.recordings.usable
        warned = going_on and progress.memorizing and progress.finding != ""
        asked = job is not None and job.stop_requested.is_set()
        unfinished = chosen.unfinished if chosen is not None and not going_on else ""
        return {
            self.unfinished: _html(said(unfinished)),
            self.go_on: {"visible": unfinished != "", "interactive": usable},
            self.train: {"interactive": usable},
            self.asking: {"visible": page.asking},
            self.replace: {"value": REPLACE if chosen is not None and chosen.has_prior else START_ANEW},
            self.question: {"value": said(replacing(chosen)) if page.asking and chosen is not None else ""},
            self.message: _html(message),
            self.banner: {"visible": warned},
            self.warning: {"value": banner(progress) if warned else ""},
            self.stop_in_banner: {"interactive": not asked},
            self.progress: _html("" if job is None else going(job)),
            self.ending: {"visible": going_on},
            self.stop: {"interactive": not asked},
            self.cancel: {"interactive": job is not None and not job.cancel_requested.is_set()},
            self.chart: _html(chart(curve_of(progress))),
            self.player: self._player_wanted(page, progress.sound),
        }

    def _player_wanted(self, page: PriorPage, sound: Sound | None) -> Properties:
        if sound is None:
            return {"visible": False}
        if time.monotonic() < page.playing_until:
            return {}
        return {"visible": True, "label": sound.title, "value": str(self.files.of(sound))}

    def _listening_wanted(self, page: PriorPage) -> dict[Block, Properties]:
        can = page.chosen is not None and page.chosen.prior is not None
        drawn: Properties = {"visible": False}
        sentence = page.listening_problem
        if page.drawn is not None:
            sound, what = page.drawn
            drawn = {"visible": True, "value": str(self.files.of(sound))}
            sentence = sentence or what
        return {
            self.listening: {"visible": can},
            self.heard: {"value": said(sentence, problem=page.listening_problem != "")},
            self.drawn: drawn,
        }


def _html(value: str) -> Properties:
    """A piece of HTML, which takes no room where there is none."""
    return {"value": value, "visible": value != ""}


def _turn(control: KnobControl, page: PriorPage, value: object) -> None:
    page.turn(control.knob, value, title(control.knob))


def _leave(control: KnobControl, page: PriorPage) -> None:
    page.leave(control.knob)


def _give_back(control: KnobControl, page: PriorPage) -> None:
    page.give_back(control.knob)


def curve_of(progress: PriorProgress) -> Curve:
    """What the chart shows of a training that may go on meanwhile."""
    best = progress.best  # before the curve that it is an epoch of, which may grow meanwhile
    judged = len(progress.held_out)
    return Curve(
        epochs=progress.epochs,
        train=progress.train[:judged],
        held_out=progress.held_out[:judged],
        best=best,
        reciting=progress.reciting[:judged],
    )
