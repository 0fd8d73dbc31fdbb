"""What can go wrong that a user can act on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """What a sentence means, in words that are plain everywhere. Who has better ones, the command line for one, knows
    it by its key.
    """

    key: str
    words: str


class PriorError(Exception):
    """One sentence that says what is wrong and what to do; every error of this package meant for a user is one.

    It is made of texts and terms. `for_user` marks it as written for a person: the host shows it as it is.
    """

    for_user = True

    def __init__(self, *parts: str | Term) -> None:
        super().__init__(*parts)

    def said(self, words: Mapping[str, str]) -> str:
        """The sentence, with other words for the terms whose key is among them."""
        return "".join(words.get(part.key, part.words) if isinstance(part, Term) else part for part in self.args)

    def __str__(self) -> str:
        return self.said({})


def setting(name: str) -> Term:
    """A setting, by the name of its knob."""
    return Term(name, f"“{name.replace('_', ' ').capitalize()}”")


TRAIN_AGAIN = Term("train again", "train it again")
SAY_WHERE = Term("say where", "say where they are")
SET_BACK, START_ANEW = Term("set back", "set it back"), Term("start anew", "train anew")


class NothingTrained(PriorError):  # noqa: N818 - a state that callers handle, named as they would say it
    """Training ended before the first checkpoint: there is no prior to keep."""


class Diverged(PriorError):  # noqa: N818 - what is the case, as callers would say it
    """Training went wrong before it had learned anything, and would again from any of its states."""
