"""Asks again and again what an open page has to show by now, and at once when the user chooses another model.

Not with a `gr.Timer`: for each of Gradio's events a browser is busy for some 40 ms, and more with every component that
an answer could change. Beside a training, which has use for every core, two timers took a tenth of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

SECONDS_BETWEEN_LOOKS = 1.0
MOVED, CHOSEN = "prior-moved", "prior-chosen"

_ASK = """
let asking = false, lost = false, chosen = null;
const ask = async () => {
  if (!element.isConnected) return end();
  if (asking || (document.hidden && chosen === null)) return;
  const choice = chosen;
  [asking, chosen] = [true, null];
  try {
    const {moved, news} = await server.look({page: props.value ?? '', lost: lost, chosen: choice});
    window.dispatchEvent(new CustomEvent('%(moved)s', {detail: moved}));
    lost = Object.keys(moved).length > 0;
    if (news) trigger('news');
    if (chosen !== null) queueMicrotask(ask);
  } catch {
    lost = true;
    chosen ??= choice;
  } finally {
    asking = false;
  }
};
const choose = event => {
  chosen = event.detail;
  ask();
};
const end = () => {
  clearInterval(timer);
  window.removeEventListener('%(chosen)s', choose);
};
const timer = setInterval(ask, %(milliseconds)d);
window.addEventListener('%(chosen)s', choose);
"""
_FOLLOW = """
const follow = event => {
  if (!element.isConnected) return window.removeEventListener('%(moved)s', follow);
  if (!('%(id)s' in event.detail)) return;
  props.value = event.detail['%(id)s'];
  delete event.detail['%(id)s'];
};
window.addEventListener('%(moved)s', follow);
"""
CHOOSE = f"value => {{ window.dispatchEvent(new CustomEvent('{CHOSEN}', {{detail: value}})); }}"
"""What the page does at once when the user chooses `value`."""


def pulse(look: Callable[[str, bool, str | None], tuple[dict[str, str], bool]]) -> gr.HTML:
    """A component without looks that asks every `SECONDS_BETWEEN_LOOKS`, as long as its page can be seen.

    Its value is the name of the page. `look` is called with that (empty before there is one), with whether something of
    its last answer did not arrive, and with what the user has just chosen, if so: then it is called at once. It returns
    the new contents of `following` components, by their id, and whether there is news for others: its event `news` is
    then triggered.
    """

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        moved, news = look(str(asked["page"]), bool(asked["lost"]), asked["chosen"])
        return {"moved": moved, "news": news}

    answer.__name__ = "look"  # what the script calls it
    script = _ASK % {"moved": MOVED, "chosen": CHOSEN, "milliseconds": 1000 * SECONDS_BETWEEN_LOOKS}
    return gr.HTML(html_template="<span hidden></span>", js_on_load=script, server_functions=[answer])


def following(elem_id: str, **how: Any) -> gr.HTML:
    """HTML whose value can also come with the pulse, once it is visible."""
    return gr.HTML(elem_id=elem_id, js_on_load=_FOLLOW % {"moved": MOVED, "id": elem_id}, **how)
