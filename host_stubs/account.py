"""What became of the files of a folder: which are used, which in part, which not, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LISTED = 5  # names in a line before the rest are counted
_ROWS = 20  # of one kind, before the rest are counted

Said = tuple[str, str]
"""A file's path relative to the folder, and a sentence on it."""


@dataclass(frozen=True)
class Account:
    """The one account that is given of a folder: on the console, on the page, in `--json` and in a model's card.

    Attributes:
        whole: recordings that are used as they are.
        in_part: those of which a part is not used, or which are not read as they are, each with what that is.
        skipped: files that are not used, each with the reason.
        more_skipped: how many more are not used, that are only counted.
    """

    whole: int
    in_part: tuple[Said, ...] = ()
    skipped: tuple[Said, ...] = ()
    more_skipped: int = 0

    @property
    def unremarkable(self) -> bool:
        """Whether every file is used as it is: then there is nothing to account for."""
        return not (self.in_part or self.skipped or self.more_skipped)

    def rows(self) -> list[tuple[str, str]]:
        """A table of lines `(what became of them, which and why)`; none where every file is used as it is.

        Files of which the same is said share a line, and of many lines the last counts the rest.
        """
        if self.unremarkable:
            return []
        whole = "1 recording" if self.whole == 1 else f"{self.whole} recordings"
        return [
            ("Used", f"{whole} as {'it is' if self.whole == 1 else 'they are'}"),
            *(("Used in part", line) for line in _lines(self.in_part, 0)),
            *(("Skipped", line) for line in _lines(self.skipped, self.more_skipped)),
        ]

    def to_json(self) -> dict[str, Any]:
        """The same for programs: every file that there is something to say of."""
        in_part, skipped = ([{"path": path, "why": why} for path, why in each] for each in (self.in_part, self.skipped))
        return {"used": self.whole, "in_part": in_part, "skipped": skipped, "more_skipped": self.more_skipped}


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _lines(files: Sequence[Said], more: int) -> list[str]:
    """A line for each thing that is said of files; the first sentence stands for all that say the same."""
    alike: dict[str, list[Said]] = {}
    for path, sentence in files:
        alike.setdefault(sentence.removeprefix(path), []).append((path, sentence))
    groups = sorted(alike.values(), key=len)  # what is said of one file alone is not lost behind what is said of many
    lines = [
        sentence + (f" So it is with {listed([path for path, _ in rest])}." if rest else "")
        for (_, sentence), *rest in groups[:_ROWS]
    ]
    left = sum(map(len, groups[_ROWS:])) + more
    where = "" if more else "; host info --json says which"
    return [*lines, f"… and {left} more{where}"] if left else lines
