"""What the plugin prints: names as they are, and nothing that a terminal would obey."""

from __future__ import annotations

import unicodedata

import click

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of what is obeyed or breaks lines instead of being seen: control characters, format characters
such as those that reverse text, halves of surrogate pairs, and separators of lines and paragraphs."""
_JOINERS = "\u200c\u200d"  # how letters of some scripts are written, and emoji of several parts


def say(message: str) -> None:
    """A message for the user, on stderr, on a line of its own."""
    click.echo(printable(message), err=True)


def printable(text: str) -> str:
    """`text` as it is, on one line, but for what a terminal might obey or an eye not see, which is escaped: `\\x1b`.

    Everything that may hold a name, or what a file says, goes through here on its way to a person. Bytes of a file's
    name that are no text, which Python gives as halves of surrogate pairs, are shown as bytes: `\\xe9`.
    """
    if text.isprintable():
        return text
    return "".join(
        _escaped(letter) if unicodedata.category(letter) in _UNSEEN and not _joins(text, place) else letter
        for place, letter in enumerate(text)
    )


def time_left(seconds: tuple[float, float]) -> str:
    """How long something takes yet, at least and at most: "1:32 left", or "0:40 to 1:32 left"."""
    least, most = (clock(each) for each in seconds)
    return f"{most} left" if least == most else f"{least} to {most} left"


def clock(seconds: float) -> str:
    """A time for people: 1:32."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _joins(text: str, place: int) -> bool:
    """Whether this is a joiner between two signs of a script that has them; elsewhere it would hide in a name."""
    around = text[place - 1 : place] + text[place + 1 : place + 2]
    return text[place] in _JOINERS and len(around) == 2 and around.isprintable() and min(around) > "\x7f"


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")
