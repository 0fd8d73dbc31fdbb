"""Kinds of training copies: what recordings are turned into, for a prior to hear more than there is.

A prior is told the kind of whatever it learns from, and draws as recorded unless it is asked for another (distribution
augmentation: Jun et al. 2020). What kinds there are stands here alone; `copies.py` makes the sound.
"""

from __future__ import annotations

from dataclasses import dataclass

AS_RECORDED = "as-recorded"
"""Kind 0: no copy."""
LATER = "later"
"""The last kind that a prior is told: as recorded, but from a start inside a code frame, with some silence before it.
What is drawn as recorded then begins as the recordings do."""
LONGEST_COPIED = 120.0
"""Seconds of a recording that there are copies of, at most: a longer one is encoded as it is read, never as a whole."""
MOST_COPIED = 2 * 3600.0
"""Seconds of copies of all recordings together, at most: of hours of sound there are few copies, or none."""


@dataclass(frozen=True)
class Kind:
    """A kind of copies.

    Attributes:
        semitones: by which it is played faster and sounds higher, as a tape does; slower and lower below 0.
        decibels: by which it is louder; quieter below 0.
    """

    semitones: float = 0.0
    decibels: int = 0

    @property
    def name(self) -> str:
        """What a user calls it."""
        moved = f"{'faster' if self.semitones > 0 else 'slower'}-{abs(self.semitones):g}"
        scaled = f"{'louder' if self.decibels > 0 else 'quieter'}-{abs(self.decibels)}"
        parts = [moved] * bool(self.semitones) + [scaled] * bool(self.decibels)
        return "-".join(parts) or AS_RECORDED

    @property
    def speed(self) -> float:
        """How many times as fast it is."""
        return 2.0 ** (self.semitones / 12)

    @property
    def level(self) -> float:
        """What its samples are multiplied by."""
        return 10.0 ** (self.decibels / 20)


KINDS: tuple[Kind, ...] = (
    Kind(),
    *(Kind(away * semitones) for semitones in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17) for away in (-1, 1)),
    *(Kind(decibels=decibels) for decibels in (6, 3, -3, -6)),
    *(Kind(*both) for both in ((-1, -6), (1, 6), (-2, 6), (2, -6), (-3, -6), (3, 6))),
)
"""All kinds; a prior is told their numbers, and its file their names.

They are as much louder as quieter and as much faster as slower: what a prior draws as recorded leans to what else it
was told, and with quieter ones alone it was too quiet.
"""


def copies_of_each(train_seconds: float) -> int:
    """Copies of each recording, each of another kind, of so many seconds in all."""
    return min(len(KINDS) - 1, int(MOST_COPIED / max(train_seconds, 1e-3)))


def kinds_of(recording: int, copies: int) -> list[int]:
    """The kinds of so many copies of a recording: other ones of the next, so that there are as many of each kind."""
    return [1 + (recording * copies + number) % (len(KINDS) - 1) for number in range(copies)]
