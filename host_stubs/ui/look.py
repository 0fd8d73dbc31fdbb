"""How the page looks: fonts and styles of this machine, light and dark as its owner has set it."""

from __future__ import annotations

import html
from collections.abc import Iterable

import gradio as gr

from host_stubs.errors import printable

FONTS = ("system-ui", "sans-serif")
MONO_FONTS = ("ui-monospace", "monospace")

CSS = """
.gradio-container { width: 100% !important; max-width: 1100px !important; margin: 0 auto !important; }
.gradio-container h1 { font-size: 1.5rem; margin: 0.2rem 0; }
.gradio-container h2 { font-size: 1.2rem; margin: 0.6rem 0 0.2rem; }
.gradio-container p { margin: 0.2rem 0; }
.muted { color: var(--body-text-color-subdued); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; margin: 0; }
.facts dt { color: var(--body-text-color-subdued); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.said { border-left: 4px solid var(--border-color-primary); padding: 0.3rem 0.8rem; overflow-wrap: anywhere; }
.said.problem { border-left-color: var(--error-border-color); }
.going progress { width: 100%; height: 0.8rem; appearance: none; border: 1px solid var(--body-text-color); }
.going progress::-webkit-progress-bar { background: var(--background-fill-secondary); }
.going progress::-webkit-progress-value { background: var(--color-accent); }
.going progress::-moz-progress-bar { background: var(--color-accent); }
.going .levels { border-collapse: collapse; width: 100%; }
.going .levels, .going .levels :is(thead, tbody) { border: 0; }
.going .levels caption { text-align: left; }
.going .levels tr, .going .levels th, .going .levels td {
  text-align: left; padding: 0.2rem 0.6rem 0.2rem 0; border: 0; border-bottom: 1px solid var(--border-color-primary);
}
.levels meter { width: 40%; min-width: 4rem; vertical-align: middle; margin-right: 0.5rem; }
@media (max-width: 600px) {
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: 0.4rem; }
}
"""


def theme() -> gr.themes.Base:
    """Gradio's plain theme with the fonts of the machine: nothing is fetched. Text and buttons have more contrast."""
    grey: dict[str, str] = {}
    for name in (
        "body_text_color_subdued",
        "block_info_text_color",
        "block_label_text_color",
        "block_title_text_color",
    ):
        grey |= {name: "*neutral_700", f"{name}_dark": "*neutral_200"}
    return gr.themes.Default(primary_hue="blue", font=FONTS, font_mono=MONO_FONTS).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        **grey,
    )


def as_html(text: str) -> str:
    """Text as HTML that shows it."""
    return html.escape(printable(text))


def said(sentence: str, *, problem: bool = False) -> str:
    """A sentence to the user as HTML, announced by screen readers; nothing for no sentence."""
    if not sentence:
        return ""
    kind, role = ("said problem", "alert") if problem else ("said", "status")
    return f'<p class="{kind}" role="{role}">{"Problem: " if problem else ""}{as_html(sentence)}</p>'


def facts(lines: Iterable[tuple[str, str]]) -> str:
    """Lines `(label, text)` as HTML."""
    rows = "".join(f"<dt>{as_html(label)}</dt><dd>{as_html(fact)}</dd>" for label, fact in lines)
    return f'<dl class="facts">{rows}</dl>'
