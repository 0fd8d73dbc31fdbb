"""Memory that processes of one machine share, for what they would have to send each other through its network."""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sda_prior_plugin.team import Team


class SharedMessages:
    """One message of each member of a team, where all can read it.

    There is room for it twice: who is ahead writes where nobody reads any more.

    Args:
        memory: from `shared_memory`.
        members: of the team.
        count: numbers in a message.
    """

    def __init__(self, memory: mmap.mmap, members: int, count: int) -> None:
        self._rooms = list(torch.frombuffer(memory, dtype=torch.float32).view(2, members, count))

    @staticmethod
    def room_for(members: int, count: int) -> int:
        """Bytes that they need."""
        return 2 * members * count * torch.float32.itemsize

    def exchanged(self, rank: int, parts: Sequence[Tensor], wait_for_all: Callable[[], object]) -> Tensor:
        """The messages of all, float32 `[members, count]`, from the `parts` of this one's, which are as long or less.

        They are good until the next call.
        """
        self._rooms.reverse()
        messages = self._rooms[0]
        if parts:
            torch.cat([*parts], out=messages[rank, : sum(part.numel() for part in parts)])
        wait_for_all()
        return messages


def shared_memory(team: Team, size: int) -> mmap.mmap | None:
    """So many bytes that all members of a team have in common; None, for all of them, where that cannot be.

    It has no name that could outlive them, and is gone with the last of them.
    """
    made = _made(size) if team.leads else None
    place = team.told(None if made is None else (f"/proc/{os.getpid()}/fd/{made[0]}", made[1]))
    memory = None if place is None else _opened(*place, size)
    opened = all(team.gathered(memory is not None))
    if made is not None:
        os.close(made[0])
    return memory if opened else None


def _made(size: int) -> tuple[int, str] | None:
    """The number of a file in memory, and its name; None where there are none, or not of that size."""
    if not hasattr(os, "memfd_create"):
        return None
    made = None
    try:
        made = os.memfd_create(secrets.token_hex(16))
        os.posix_fallocate(made, 0, size)  # so that it is short of memory now, and not later, which would kill
        return made, os.readlink(f"/proc/self/fd/{made}")
    except OSError:
        if made is not None:
            os.close(made)
        return None


def _opened(path: str, name: str, size: int) -> mmap.mmap | None:
    """The memory of that name, and nothing else that may have the path on another machine."""
    try:
        if os.readlink(path) == name:
            with open(path, "r+b") as file:
                return mmap.mmap(file.fileno(), size)
    except OSError:
        pass
    return None
