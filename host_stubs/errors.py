"""The one exception type that the host shows to a user."""


class HostError(Exception):
    """Something a user can understand and act on: one sentence that says what is wrong and what to do.

    `for_user` marks the message as written for a person. Plugins mark their own errors the same way, so that
    the host can show them as they are without importing the plugin.
    """

    for_user = True
