"""The one exception type that the host shows to a user, and how a value stands in its sentence."""

_SHOWN = 60  # characters


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


def shown(value: object) -> str:
    """What a file says, for a sentence: on one line, without control characters, and not all of it if it is long."""
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
