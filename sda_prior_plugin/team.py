"""The processes that train one prior together; alone, a process is a team of one, which costs nothing.

Each member of a team has the whole network and plans the same batches, and takes its share of what is to be done. The
first one leads: it alone decides, tells and writes. What several processes need to be a team stands in `processes`.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, cast

from sda_prior_plugin.errors import PriorError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
STARTED_WITH = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun`, or who does as it does, has put into the environment of each process that it has started."""


class TeamBroken(PriorError):  # noqa: N818 - what is the case, as a person would say it
    """Another member has ended or is not heard of, so that what is left of the team cannot go on.

    `first` is whether this member is the one to say so: all others have found out from it, or at the same time.
    """

    def __init__(self, sentence: str, *, first: bool = True) -> None:
        super().__init__(sentence)
        self.first = first


class Team:
    """A team of one, and what every team can do. It is open as a context manager.

    All members call the same methods in the same order; each call is where they wait for each other.

    Attributes:
        rank: which member this process is, counted from 0.
        size: members.
        restarts: how often the whole team was started again after it had lost a member.
    """

    rank, size, restarts = 0, 1, 0

    def __init__(self) -> None:
        self.stop = threading.Event()

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave. With an error the others end too: each of their calls raises `TeamBroken` with its sentence."""

    @property
    def leads(self) -> bool:
        """Whether this process is the one that decides, tells and writes."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Those of `items`, the same ones for all members, that are this member's to do."""
        return items[self.rank :: self.size]

    def shared_out(self, done: Sequence[T], count: int) -> list[T]:
        """What all members have made of their `share` of `count` items, in the order of the items."""
        parts = self.gathered(done)
        return [parts[number % self.size][number // self.size] for number in range(count)]

    def sum(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """The sum of each float32 tensor over all members, taken in their order: the same bits for all of them.

        It is good until the next call.
        """
        return tensors

    def worked_out(
        self, tensors: Sequence[Tensor], work: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    ) -> Sequence[Tensor]:
        """What `work` makes of some tensors, of each its own, the same for all members, float32 or less, in its shape.

        Members on one machine share the work out; over a network it would take longer to tell than to do. It is good
        until the next call.
        """
        return work(tensors)

    def gathered(self, mine: T) -> list[T]:
        """What each member gives, in their order."""
        return [mine]

    def collected(self, mine: T) -> list[T] | None:
        """What each member gives, in their order, for the leader alone; None for the others."""
        return [mine]

    def told(self, word: T) -> T:
        """What the leader gives, for all; what the others give counts for nothing."""
        return word

    def follow(self, stop: threading.Event) -> None:
        """From now on have `stop` set within two seconds of any member's being set, or of one's end."""
        self.stop = stop

    @property
    def stopping(self) -> bool:
        """Whether all members stop now: for several of them, whether any one's `stop` was set at the last `sum`.

        So all see the same, while `stop` itself is set for each of them at another moment.
        """
        return self.stop.is_set()

    def remember(self, name: str, word: str) -> None:
        """Keep a word until the team is gone for good, over its being started again. This is the leader's alone."""

    def remembered(self, name: str) -> str | None:
        """The word that was kept under a name. Nobody waits for it."""
        return None

    def device(self, device: torch.device) -> torch.device:
        """Which of this machine's devices of that kind is this member's."""
        return device


def even_shares(sizes: Sequence[int], members: int) -> list[list[int]]:
    """The numbers of things of some sizes, shared out among members: the largest first, each to whom has least."""
    shares: list[list[int]] = [[] for _ in range(members)]
    taken = [0] * members
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        least = taken.index(min(taken))
        shares[least].append(number)
        taken[least] += sizes[number]
    return shares


def joined(environment: Mapping[str, str] = os.environ) -> Team:
    """The team that this process was started into, as its environment says, or else a team of one.

    Raises:
        PriorError: the environment speaks of a team that cannot be.
        TeamBroken: the others did not come.
    """
    if any(name not in environment for name in STARTED_WITH):
        return Team()
    try:
        rank, size, port = (int(environment[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
        local, beside = int(environment.get("LOCAL_RANK", "0")), int(environment.get("LOCAL_WORLD_SIZE", "1"))
        restarts = int(environment.get("TORCHELASTIC_RESTART_COUNT", "0"))
    except ValueError as error:
        raise PriorError(f"What the environment says of the team is no number: {error}.") from error
    if not 0 <= rank < size:
        raise PriorError(f"RANK is {rank}; in a team of {size} (WORLD_SIZE) it must be from 0 to {size - 1}.")
    if size == 1:
        return Team()
    processes = importlib.import_module("sda_prior_plugin.processes")  # which needs torch.distributed
    hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    place = processes.Place(rank, size, local, beside, restarts, environment["MASTER_ADDR"], port, hosted)
    return cast(Team, processes.Processes(place))
