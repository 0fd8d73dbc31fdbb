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
        """Gradio's updates for what is wanted and not on the page yet; it counts as being there from now on."""
        found = self._missing(wanted)
        for component, properties in found.items():
            self._sent.setdefault(component, {}).update(properties)
        return {component: gr.update(**properties) for component, properties in found.items()}

    def lacks(self, wanted: Mapping[Block, Properties]) -> bool:
        """Whether anything is wanted that is not on the page yet."""
        return bool(self._missing(wanted))

    def forget(self) -> None:
        """The page is new: nothing is on it."""
        self._sent.clear()

    def _missing(self, wanted: Mapping[Block, Properties]) -> dict[Block, Properties]:
        found = {}
        for component, properties in wanted.items():
            sent = self._sent.get(component, {})
            missing = {name: value for name, value in properties.items() if name not in sent or sent[name] != value}
            if missing:
                found[component] = missing
        return found
