"""The knobs as controls of the page, made from their one definition."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from sda_prior_plugin.settings import KNOBS, Knob

AUTO, SET, WRONG = "auto", "set", "not valid"


@dataclass(frozen=True)
class KnobControl:
    """A knob on the page: where it is turned, and the button that gives it back to the adaptive default."""

    knob: Knob
    place: gr.Column
    field: gr.Number | gr.Dropdown
    back: gr.Button

    def label(self, mark: str) -> str:
        """Its name, and whether it is auto, set or not valid."""
        return f"{title(self.knob)} ({mark})"


def title(knob: Knob) -> str:
    """A knob's name on the page."""
    return knob.name.replace("_", " ").capitalize()


def knob_controls() -> list[KnobControl]:
    """A control for every knob, the main ones first, the others in a closed part. Inside a Gradio context."""
    with gr.Row(equal_height=True):
        controls = [_control(knob) for knob in KNOBS if knob.main]
    with gr.Accordion("Advanced", open=False, elem_id="prior-advanced"), gr.Row(equal_height=True):
        controls += [_control(knob) for knob in KNOBS if not knob.main]
    return controls


def _control(knob: Knob) -> KnobControl:
    with gr.Column(min_width=200, visible=False, elem_classes="prior-knob") as place:
        field: gr.Number | gr.Dropdown
        if knob.choices:
            field = gr.Dropdown(
                list(knob.choices), value=None, label=title(knob), info=knob.help, elem_id=f"knob-{knob.name}"
            )
        else:
            field = gr.Number(
                value=None,
                label=title(knob),
                info=f"{knob.help[:-1]}, {knob.bounds}.",
                minimum=knob.minimum,
                maximum=knob.maximum,
                precision=0 if knob.kind is int else None,
                step=1 if knob.kind is int else 0.001,
                elem_id=f"knob-{knob.name}",
            )
        back = gr.Button(f"{title(knob)}: back to auto", size="sm", visible=False, elem_id=f"auto-{knob.name}")
    return KnobControl(knob, place, field, back)
