"""How the page looks: fonts and styles of this machine, light and dark as its owner has set it."""

from __future__ import annotations

import gradio as gr

FONTS = ("system-ui", "sans-serif")
MONO_FONTS = ("ui-monospace", "monospace")

CSS = """
.gradio-container { width: 100% !important; max-width: 1100px !important; margin: 0 auto !important; }
.gradio-container h1 { font-size: 1.5rem; margin: 0.2rem 0; }
.gradio-container h2 { font-size: 1.2rem; margin: 0.6rem 0 0.2rem; }
.gradio-container p { margin: 0.2rem 0; }
.notice { position: sticky; top: 0; z-index: 100; margin: 0; padding: 0.6rem 1rem; font-weight: 600;
  background: var(--background-fill-secondary); border-bottom: 3px solid #d98200; }
.muted { color: var(--body-text-color-subdued); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; margin: 0; }
.facts dt { color: var(--body-text-color-subdued); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.said { border-left: 4px solid var(--border-color-primary); padding: 0.3rem 0.8rem; overflow-wrap: anywhere; }
.said.problem { border-left-color: var(--error-border-color); }
.block:has(.live:empty) { display: none; }
.live > div + div { margin-top: 0.6rem; }
.player { display: flex; flex-wrap: wrap; align-items: center; gap: 0.3rem 1rem; margin: 0; }
.player figcaption { flex: 1 1 100%; overflow-wrap: anywhere; }
.player audio { flex: 1 1 220px; height: 2.5rem; max-width: 480px; }
.dark :is(.player audio, .drop input) { color-scheme: dark; }
button.in-html { border: 1px solid var(--border-color-primary); border-radius: 4px; padding: 0.1rem 0.6rem; }
button.in-html:hover { background: var(--background-fill-secondary); }
.row-buttons, .drop { display: flex; flex-wrap: wrap; align-items: center; gap: 0.3rem 0.8rem; }
.row-buttons > * { margin: 0; }
.row-buttons :is(input, select) { background: var(--input-background-fill); color: var(--body-text-color);
  border: 1px solid var(--border-color-primary); border-radius: 4px; padding: 0.1rem 0.4rem; }
details summary { cursor: pointer; padding: 0.2rem 0; }
.warned { border: 3px solid #d98200 !important; border-radius: 8px; padding: 0.8rem !important; }
.warned p { font-weight: 600; overflow-wrap: anywhere; }
.chart { color: var(--body-text-color); --held-out: #0b5fa5; --marked: #d98200; }
.dark .chart { --held-out: #6cb6ff; --marked: #f0a830; }
.chart svg { display: block; width: 100%; max-width: 760px; height: auto; font: 13px system-ui, sans-serif; }
.chart text { fill: currentColor; }
.chart :is(.grid, .axis) { stroke: currentColor; opacity: 0.15; }
.chart .axis { opacity: 0.5; }
.chart .train { fill: none; stroke: currentColor; opacity: 0.7; stroke-width: 2; stroke-dasharray: 4 6; }
.chart :is(.train, .held-out) { stroke-linecap: round; }
.chart .held-out { fill: none; stroke: var(--held-out); stroke-width: 2.5; }
.chart .best { stroke: var(--held-out); stroke-width: 1.5; stroke-dasharray: 2 4; }
.chart .mark { fill: var(--held-out); }
.chart .marked { fill: var(--marked); opacity: 0.3; }
.chart .narrow { display: none; }
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
  .chart .wide { display: none; }
  .chart .narrow { display: block; }
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
