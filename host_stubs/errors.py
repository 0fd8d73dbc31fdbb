"""The one exception type that the host shows to a user, how a value stands in its sentence, and how a name is shown."""

from __future__ import annotations

import logging
import unicodedata

logger = logging.getLogger("sda_host")

_SHOWN = 60  # characters
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of what is obeyed or breaks lines instead of being seen: control characters, format characters
such as those that reverse text, halves of surrogate pairs, and separators of lines and paragraphs."""
_JOINERS = "\u200c\u200d"  # how letters of some scripts are written, and emoji of several parts


class HostError(Exception):
    """Something a user can understand and act on: one sentence that says what is wrong and what to do.

    `for_user` marks the message as written for a person. Plugins mark their own errors the same way, so that
    the host can show them as they are without importing the plugin.
    """

    for_user = True


class FileChanged(HostError):  # noqa: N818 - a state of a file, not a fault
    """A file is not what it was when it was last looked at, and was therefore not replaced.

    `file_changed` says so to plugins, which cannot import this class.
    """

    file_changed = True


def sentence(error: BaseException, what: str = "") -> str:
    """An error as a sentence for a person; one that is meant for nobody goes to the log, with `what` failed."""
    if getattr(error, "for_user", False):
        return str(error)
    logger.error("%s", what or "the page", exc_info=error)
    return f"Something unexpected went wrong ({type(error).__name__}). The details are in the log."


def shown(value: object) -> str:
    """What a file says, for a sentence: on one line, without control characters, and not all of it if it is long."""
    text = repr(value)  # which escapes what is not to be seen
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


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


def _joins(text: str, place: int) -> bool:
    """Whether this is a joiner between two signs of a script that has them; elsewhere it would hide in a name."""
    around = text[place - 1 : place] + text[place + 1 : place + 2]
    return text[place] in _JOINERS and len(around) == 2 and around.isprintable() and min(around) > "\x7f"


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")
