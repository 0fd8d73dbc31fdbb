"""Asks again and again what an open page has to show by now.

Not with a `gr.Timer`: for each of Gradio's events a browser is busy for some 40 ms, and more with every component that
an answer could change. On two cores that a training uses, this would cost it a tenth of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

SECONDS_BETWEEN_LOOKS = 1.0
MOVED = "prior-moved"

_ASK = """
let asking = false, lost = false;
const ask = async () => {
  if (!element.isConnected) return clearInterval(timer);
  if (asking || document.hidden) return;
  asking = true;
  try {
    const {moved, news} = await server.look({page: props.value ?? '', lost: lost});
    window.dispatchEvent(new CustomEvent('%s', {detail: moved}));
    lost = Object.keys(moved).length > 0;
    if (news) trigger('news');
  } catch {
    lost = true;
  } finally {
    asking = false;
  }
};
const timer = setInterval(ask, %d);
"""
_FOLLOW = """
const follow = event => {
  if (!element.isConnected) return window.removeEventListener('%s', follow);
  if (!('%s' in event.detail)) return;
  props.value = event.detail['%s'];
  delete event.detail['%s'];
};
window.addEventListener('%s', follow);
"""


def pulse(look: Callable[[str, bool], tuple[dict[str, str], bool]]) -> gr.HTML:
    """A component without looks that asks every `SECONDS_BETWEEN_LOOKS`, as long as its page can be seen.

    Its value is the name of the page. `look` is called with that (empty before there is one) and with whether
    something of its last answer did not arrive. It returns the new contents of `following` components, by their id,
    and whether there is news for others: its event `news` is then triggered.
    """

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        moved, news = look(str(asked["page"]), bool(asked["lost"]))
        return {"moved": moved, "news": news}

    answer.__name__ = "look"  # what the script calls it
    script = _ASK % (MOVED, 1000 * SECONDS_BETWEEN_LOOKS)
    return gr.HTML(html_template="<span hidden></span>", js_on_load=script, server_functions=[answer])


def following(elem_id: str, **how: Any) -> gr.HTML:
    """HTML whose value can also come with the pulse, once it is visible."""
    return gr.HTML(elem_id=elem_id, js_on_load=_FOLLOW % (MOVED, elem_id, elem_id, elem_id, MOVED), **how)
