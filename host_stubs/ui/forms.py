"""Fields of the page, and what is typed into them."""

from __future__ import annotations

import gradio as gr

from host_stubs.errors import HostError


def field(label: str, info: str, elem_id: str, value: str = "") -> gr.Textbox:
    """A field of one line; `info` says what may be typed. Inside a Gradio context."""
    return gr.Textbox(value, label=label, info=info, elem_id=elem_id, max_lines=1, min_width=120)


def texts(form: tuple[str | None, ...]) -> list[str]:
    """What is typed into the fields of a form, without the spaces around it."""
    return [(text or "").strip() for text in form]


def number(text: str, name: str, most: float) -> float | None:
    """A number above 0; None for nothing. Raises HostError if it is none, or out of bounds."""
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = 0.0
    if not 0 < value <= most:
        raise HostError(f"{name} must be a number above 0, up to {most:g}.")
    return value


def whole(text: str, name: str, least: int, most: int) -> int:
    """A whole number. Raises HostError if it is none, or out of bounds."""
    if not text.isdecimal() or not least <= int(text) <= most:
        raise HostError(f"{name} must be a whole number from {least} to {most}.")
    return int(text)
