"""What a page was sent, so that it is only sent what is new to it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.blocks import Block

Properties = dict[str, Any]


class Sent:
    """The properties of components as one page has them."""

    def __init__(self) -> None:
        self._there: dict[Block, Properties] = {}
        self._lock = threading.Lock()

    def clear(self) -> None:
        """The page is new."""
        with self._lock:
            self._there.clear()

    def lost(self, components: Iterable[Block]) -> None:
        """The values of some components may not have arrived."""
        with self._lock:
            for component in components:
                self._there.get(component, {}).pop("value", None)

    def typed(self, components: Sequence[Block], values: Sequence[Any]) -> None:
        """What the user has put into components is on the page already."""
        with self._lock:
            for component, value in zip(components, values, strict=True):
                self._there.setdefault(component, {})["value"] = value

    def news(self, wanted: Mapping[Block, Properties]) -> dict[Block, Any]:
        """Gradio's updates for what is wanted and not on the page yet; it counts as being there from now on."""
        with self._lock:
            found = self._missing(wanted)
            self._note(found)
        return {component: gr.update(**properties) for component, properties in found.items()}

    def values(self, wanted: Mapping[Block, Properties]) -> dict[Block, Any]:
        """The new values of those components of which nothing else is new; they count as being there from now on."""
        with self._lock:
            found = self._missing(wanted)
            found = {component: properties for component, properties in found.items() if properties.keys() == {"value"}}
            self._note(found)
        return {component: properties["value"] for component, properties in found.items()}

    def lacks(self, wanted: Mapping[Block, Properties]) -> bool:
        """Whether anything is wanted that is not on the page yet."""
        with self._lock:
            return bool(self._missing(wanted))

    def _note(self, found: Mapping[Block, Properties]) -> None:
        for component, properties in found.items():
            self._there.setdefault(component, {}).update(properties)

    def _missing(self, wanted: Mapping[Block, Properties]) -> dict[Block, Properties]:
        found = {}
        for component, properties in wanted.items():
            there = self._there.get(component, {})
            missing = {name: value for name, value in properties.items() if name not in there or there[name] != value}
            if missing:
                found[component] = missing
        return found
