"""What can go wrong that a user can act on."""


class PriorError(Exception):
    """One sentence that says what is wrong and what to do; every error of this package meant for a user is one.

    `for_user` marks the message as written for a person: the host shows it as it is.
    """

    for_user = True


class NothingTrained(PriorError):  # noqa: N818 - a state that callers handle, named as they would say it
    """Training ended before the first checkpoint: there is no prior to keep."""


class Diverged(PriorError):  # noqa: N818 - what is the case, as callers would say it
    """Training went wrong before it had learned anything, and would again from any of its states."""
