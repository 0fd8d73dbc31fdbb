"""What host and plugin print: both have a function of their own for it, for neither knows the other; it is the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_stubs.errors import printable as of_the_host
from sda_prior_plugin.edge.printed import printable as of_the_plugin


@pytest.mark.parametrize("printable", [of_the_host, of_the_plugin], ids=["host", "plugin"])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("kick [dry].wav", "kick [dry].wav"),
        ("Glöckchen, o\u0308, 鐘, 🥁, \ufffd, a\u00a0b", "Glöckchen, o\u0308, 鐘, 🥁, \ufffd, a\u00a0b"),
        ("C:\\Drums", "C:\\Drums"),
        ("\x1b[2J\x07\x7f\x9b", r"\x1b[2J\x07\x7f\x9b"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("kick\u202evaw.exe", r"kick\u202evaw.exe"),
        ("\u200bkick\ufeff\U000e0041", r"\u200bkick\ufeff\U000e0041"),
        ("caf\udce9 \ud800", r"caf\xe9 \ud800"),
        ("ki\u200dck\u200c", r"ki\u200dck\u200c"),
        ("👩\u200d🚀 \u06cc\u200c\u062e", "👩\u200d🚀 \u06cc\u200c\u062e"),
    ],
    ids=ascii,
)
def test_text_is_shown_as_it_is_but_for_what_is_obeyed_or_not_seen(
    printable: Callable[[str], str], text: str, shown: str
) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


@given(st.text(st.characters()))
def test_host_and_plugin_show_the_same_on_one_line_of_valid_text(text: str) -> None:
    shown = of_the_host(text)
    assert shown == of_the_plugin(text)
    shown.encode()
    assert not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in shown)
