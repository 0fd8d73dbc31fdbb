"""What a page was sent, so that it is only sent what is new to it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.blocks import Block

Properties = dict[str, Any]


class Sent:
    """The properties of components as one page has them. Gradio copies one for each page; a copy starts empty."""

    def __init__(self) -> None:
        self._there: dict[Block, Properties] = {}
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Sent:
        return Sent()

    def clear(self) -> None:
        """The page is new."""
        with self._lock:
            self._there.clear()

    def typed(self, components: Sequence[Block], values: Sequence[Any]) -> None:
        """What the user has put into components is on the page already."""
        with self._lock:
            for component, value in zip(components, values, strict=True):
                self._there.setdefault(component, {})["value"] = value

    def news(self, wanted: Mapping[Block, Properties]) -> dict[Block, Any]:
        """Gradio's updates for what is wanted and not on the page yet; it counts as being there from now on."""
        with self._lock:
            found = self._missing(wanted)
            for component, properties in found.items():
                self._there.setdefault(component, {}).update(properties)
        return {component: gr.update(**properties) for component, properties in found.items()}

    def lacks(self, wanted: Mapping[Block, Properties]) -> bool:
        """Whether anything is wanted that is not on the page yet."""
        with self._lock:
            return bool(self._missing(wanted))

    def _missing(self, wanted: Mapping[Block, Properties]) -> dict[Block, Properties]:
        found = {}
        for component, properties in wanted.items():
            there = self._there.get(component, {})
            missing = {name: value for name, value in properties.items() if name not in there or there[name] != value}
            if missing:
                found[component] = missing
        return found
