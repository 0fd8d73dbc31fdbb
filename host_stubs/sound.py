"""An open sound file, whoever reads it, and what may be wrong with one."""

from __future__ import annotations

from collections.abc import Generator
from enum import Enum
from typing import Protocol

import numpy as np


class Fault(Enum):
    """Why a sound file is not used to its end, or what else is wrong with it."""

    NONE = "nothing"
    CUT_OFF = "it ends before its sound does"
    DAMAGED = "what comes then cannot be decoded"
    NOT_FINITE = "what comes then are no finite numbers"
    INCOMPLETE = "some of it is missing in its middle, or was never there"
    UNFINISHED = "its header knows of less sound than there is"


class OpenSound(Protocol):
    """A sound file that is read from its beginning, once.

    Attributes:
        rate: Hz.
        step: the smallest step of its samples, of full scale; 0 where that is finer than can be heard.
        fault: what is wrong with it, as far as it is known so far: all of it after the last block.
    """

    rate: int
    step: float
    fault: Fault

    @property
    def promised(self) -> float | None:
        """How many seconds of sound the file says it holds; None where it does not say."""
        ...

    def blocks(self) -> Generator[np.ndarray, None, None]:
        """Its samples, float32 `[samples, channels]`, up to its end or to where it is damaged."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...
