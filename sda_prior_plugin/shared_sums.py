"""Sums over processes of one machine by memory that they share, instead of by messages that go through its network."""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sda_prior_plugin.team import Team


class SharedSums:
    """Sums of as many numbers as there is room for.

    There is room for one message of each member, twice: who is ahead writes where nobody reads any more.

    Args:
        memory: from `shared_memory`.
        members: of the team.
        count: numbers.
    """

    def __init__(self, memory: mmap.mmap, members: int, count: int) -> None:
        self._rooms = list(torch.frombuffer(memory, dtype=torch.float32).view(2, members, count))
        self._total = torch.empty(count)

    @staticmethod
    def room_for(members: int, count: int) -> int:
        """Bytes that they need."""
        return 2 * members * count * torch.float32.itemsize

    def sum(self, rank: int, parts: Sequence[Tensor], wait_for_all: Callable[[], object]) -> Tensor:
        """The sum of what each member gives, float32 `[count]` in `parts`, taken in the order of the members.

        It is good until the next call.
        """
        self._rooms.reverse()
        messages = self._rooms[0]
        torch.cat([*parts], out=messages[rank])
        wait_for_all()
        torch.add(messages[0], messages[1], out=self._total)
        for others in messages[2:]:
            self._total += others
        return self._total


def shared_memory(team: Team, size: int) -> mmap.mmap | None:
    """So many bytes that all members of a team have in common; None, for all of them, where that cannot be.

    It has no name that could outlive them, and is gone with the last of them.
    """
    made = _made(size) if team.leads else None
    place = team.told(
        None if made is None else (f"/proc/{os.getpid()}/fd/{made}", os.readlink(f"/proc/self/fd/{made}"))
    )
    memory = None if place is None else _opened(*place, size)
    opened = all(team.gathered(memory is not None))
    if made is not None:
        os.close(made)
    return memory if opened else None


def _made(size: int) -> int | None:
    """The number of a file in memory; None where there are none, or not of that size."""
    if not hasattr(os, "memfd_create"):
        return None
    made = None
    try:
        made = os.memfd_create(secrets.token_hex(16))
        os.posix_fallocate(made, 0, size)  # so that it is short of memory now, and not later, which would kill
    except OSError:
        if made is not None:
            os.close(made)
        return None
    return made


def _opened(path: str, name: str, size: int) -> mmap.mmap | None:
    """The memory of that name, and nothing else that may have the path on another machine."""
    try:
        if os.readlink(path) == name:
            with open(path, "r+b") as file:
                return mmap.mmap(file.fileno(), size)
    except OSError:
        pass
    return None
