"""What an open page has been sent, so that it is only sent what is new."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.blocks import Block

Properties = dict[str, Any]


class Shown:
    """The properties of components as one page has them."""

    def __init__(self) -> None:
        self._sent: dict[Block, Properties] = {}

    def news(self, wanted: Mapping[Block, Properties]) -> dict[Block, Any]:
        """Gradio's updates for what is wanted and not on the page yet."""
        found = {}
        for component, properties in wanted.items():
            sent = self._sent.setdefault(component, {})
            changed = {name: value for name, value in properties.items() if name not in sent or sent[name] != value}
            if changed:
                sent.update(changed)
                found[component] = gr.update(**changed)
        return found or gr.skip()  # Gradio takes an empty dictionary for a value

    def typed(self, component: Block, value: Any) -> None:
        """Note what the user has put into a component: that is on the page already."""
        self._sent.setdefault(component, {})["value"] = value

    def forget(self) -> None:
        """The page is new: nothing is on it."""
        self._sent.clear()
