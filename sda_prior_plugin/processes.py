"""A team of several processes, of one machine or many, by `torch.distributed`.

What they exchange goes over gloo; sums of what lies on NVIDIA GPUs over nccl, if each member has a GPU of its own.
Beside that there is a board, a small store of words that all of them reach: on it each member marks every second that
it is there, and why it has ended. So nobody waits for somebody who is gone: where a process dies its connections break
at once, and where a machine or a cable does, its marks stay away.
"""

from __future__ import annotations

import datetime
import json
import os
import pickle
import socket
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sda_prior_plugin.shared_memory import SharedMessages, shared_memory
from sda_prior_plugin.team import Team, TeamBroken, even_shares

if sys.platform == "linux":
    import fcntl

T = TypeVar("T")

ADDRESS_OF_INTERFACE = 0x8915
"""Linux's SIOCGIFADDR (netdevice(7))."""
BEAT_SECONDS = 1.0
"""Between two marks on the board."""
MISSED_BEATS = 5
"""After so many of this member's own marks without one of another, that one is gone."""
POLL = datetime.timedelta(seconds=0.5)
"""How long a member waits for the others before it looks whether they are still there."""
PATIENCE = datetime.timedelta(days=7)
"""How long members that are there are waited for."""
TO_COME = datetime.timedelta(minutes=5)
"""How long members are waited for that have not come yet."""
TO_SAY_WHY_SECONDS = 1.0
"""How long a member waits for another one to say why the team is at its end."""
STOPPED, ENDED = "stopped", "ended"


@dataclass(frozen=True)
class Place:
    """Where in a team a process stands.

    Attributes:
        rank, size, restarts: as `Team` has them.
        local: which of the members on its machine it is.
        beside: how many members are there, itself among them, as far as is known.
        address, port: of the board.
        hosted: whether somebody else, as torchrun does, keeps the board; the first member does otherwise.
    """

    rank: int
    size: int
    local: int
    beside: int
    restarts: int
    address: str
    port: int
    hosted: bool


class Board:
    """Words that all members can write and read: some as long as the team is one, some over its being started again.

    Args:
        keeps: whether this process keeps it.
        turn: how often this process has been in a team before, if that is known: the next one has words of its own.
    """

    def __init__(self, place: Place, *, keeps: bool = False, turn: int | None = None) -> None:
        self.lasting = dist.TCPStore(
            place.address, place.port, None if place.hosted else place.size, keeps, TO_COME, wait_for_workers=False
        )
        self.turn = self.lasting.add(f"turn {place.restarts} {place.rank}", 1) if turn is None else turn
        self.words = dist.PrefixStore(f"prior {place.restarts} {self.turn}", self.lasting)

    def word(self, name: str) -> str | None:
        """What is written there under a name."""
        return self.words.get(name).decode() if self.words.check([name]) else None

    def first(self, name: str, word: str) -> str:
        """Write a word unless there is one already; what is there then."""
        return self.words.compare_set(name, "", word).decode()


def interface_to(address: str) -> str | None:
    """The network interface over which an address is reached; None where that cannot be known.

    By itself gloo takes the address that the machine's own name stands for, which often is one that only the machine
    itself can reach.
    """
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # which sends nothing
        own = socket.inet_aton(probe.getsockname()[0])
        for _, name in socket.if_nameindex() if sys.platform == "linux" else ():
            with suppress(OSError):  # an interface without an address
                if fcntl.ioctl(probe, ADDRESS_OF_INTERFACE, struct.pack("256s", name.encode()))[20:24] == own:
                    return name
    return None


class Processes(Team):
    """This process among others.

    Raises:
        TeamBroken: not all of them came.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place, self.rank, self.size, self.restarts = place, place.rank, place.size, place.restarts
        self._leaving, self._stopping, self._gone = threading.Event(), False, ""
        self._beats, self._cut_off = 0, False
        self._nccl: Any = None
        self._messages: dict[int, SharedMessages | None] = {}
        self._total = torch.empty(0)
        if (name := interface_to(place.address)) is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        try:
            self._board = Board(place, keeps=place.rank == 0 and not place.hosted)
            self._makes_all = not dist.is_initialized()  # and not who called
            if self._makes_all:
                store = dist.PrefixStore("gloo", self._board.words)
                dist.init_process_group("gloo", None, TO_COME, place.size, place.rank, store)
            self._group: Any = dist.new_group(backend="gloo", timeout=PATIENCE)
            own_board = Board(place, turn=self._board.turn)
            self._pulse = threading.Thread(target=self._beat, args=(own_board,), daemon=True)
        except (RuntimeError, ValueError) as error:
            raise TeamBroken(
                f"Not all {self.size} processes of the team came together at {place.address}:{place.port}: "
                f"{_first_line(error)}."
            ) from error
        self._pulse.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            with suppress(TeamBroken):  # nothing is lost by then
                self.gathered(None)  # the board goes with the leader
        else:
            self._end(_sentence(error, self))
        self._leaving.set()
        self._pulse.join(MISSED_BEATS * BEAT_SECONDS)  # in the middle of a word it must not be at the end
        self._group = self._nccl = None
        if self._makes_all:
            with suppress(RuntimeError):
                dist.destroy_process_group()

    @property
    def stopping(self) -> bool:
        return self._stopping

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        sizes = [tensor.numel() for tensor in tensors]
        device = here = tensors[0].device
        if device.type == "cuda" and self.place.beside > torch.cuda.device_count():
            here = torch.device("cpu")  # nccl refuses a GPU that several share
        stop = torch.full((1,), float(self.stop.is_set()), device=here)
        parts = [*(tensor.detach().flatten().to(here) for tensor in tensors), stop]
        shared = self._shared(here, sum(sizes) + 1)
        if shared is None:
            total = self._sum_of_sent(torch.cat(parts))
        else:
            total = self._added_up(shared.exchanged(self.rank, parts, self._meet))
        *sums, stopping = total.to(device).split([*sizes, 1])
        self._stopping = bool(stopping)
        return [one.view_as(tensor) for one, tensor in zip(sums, tensors, strict=True)]

    def worked_out(
        self, tensors: Sequence[Tensor], work: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    ) -> Sequence[Tensor]:
        shares = even_shares([tensor.numel() for tensor in tensors], self.size)
        lengths = [sum(tensors[number].numel() for number in share) for share in shares]
        shared = self._shared(tensors[0].device, max(lengths)) if tensors else None
        if shared is None:
            return work(tensors)
        mine = [one.flatten() for one in work([tensors[number] for number in shares[self.rank]])]
        found: list[Tensor] = [*tensors]
        for message, share in zip(shared.exchanged(self.rank, mine, self._meet), shares, strict=True):
            first = 0
            for number in share:
                last = first + tensors[number].numel()
                found[number], first = message[first:last].view_as(tensors[number]), last
        return found

    def _added_up(self, messages: Tensor) -> Tensor:
        """Their sum, one after another, where the last one was: new memory would take longer than adding up."""
        if self._total.numel() != messages.shape[1]:
            self._total = torch.empty(messages.shape[1])
        torch.add(messages[0], messages[1], out=self._total)
        for other in messages[2:]:
            self._total += other
        return self._total

    def _sum_of_sent(self, numbers: Tensor) -> Tensor:
        count = len(numbers)
        length = -(-count // self.size)
        room = numbers.new_zeros(self.size * length)
        room[:count] = numbers
        parts, total = torch.empty_like(room), torch.empty_like(room)
        group = self._group if numbers.device.type == "cpu" else self._fast_group()
        self._wait(dist.all_to_all_single(parts, room, group=group, async_op=True))
        mine, *others = parts.view(self.size, length)
        for part in others:  # one after another: that is what makes the bits
            mine += part
        self._wait(dist.all_gather_single(total, mine, group=group, async_op=True))
        return total[:count]

    def _shared(self, device: torch.device, count: int) -> SharedMessages | None:
        """Room for messages of so many numbers in memory that all members share; None where they do not."""
        if device.type != "cpu" or self.place.beside != self.size:
            return None
        if count not in self._messages:
            memory = shared_memory(self, SharedMessages.room_for(self.size, count))
            self._messages[count] = None if memory is None else SharedMessages(memory, self.size, count)
        return self._messages[count]

    def _meet(self) -> None:
        """Wait until all members are here."""
        here = torch.empty(self.size)
        self._wait(dist.all_gather_single(here, torch.zeros(1), group=self._group, async_op=True))

    def gathered(self, mine: T) -> list[T]:
        padded, lengths = self._padded(mine)
        found = torch.empty(self.size * len(padded), dtype=torch.uint8)
        self._wait(dist.all_gather_single(found, padded, group=self._group, async_op=True))
        parts = zip(found.view(self.size, -1), lengths, strict=True)
        return [pickle.loads(part[:length].numpy().data) for part, length in parts]

    def collected(self, mine: T) -> list[T] | None:
        padded, lengths = self._padded(mine)
        found = [torch.empty_like(padded) for _ in range(self.size)] if self.leads else None
        self._wait(dist.gather(padded, found, 0, group=self._group, async_op=True))
        if found is None:
            return None
        return [pickle.loads(part[:length].numpy().data) for part, length in zip(found, lengths, strict=True)]

    def _padded(self, mine: object) -> tuple[Tensor, list[int]]:
        """What this member sends, as bytes of the length that the longest of all members has, and all lengths."""
        sent = torch.frombuffer(bytearray(pickle.dumps(mine)), dtype=torch.uint8)
        lengths = torch.empty(self.size, dtype=torch.int64)
        self._wait(dist.all_gather_single(lengths, torch.tensor([len(sent)]), group=self._group, async_op=True))
        return torch.cat([sent, sent.new_zeros(int(lengths.max()) - len(sent))]), lengths.tolist()

    def told(self, word: T) -> T:
        told = torch.frombuffer(bytearray(pickle.dumps(word if self.leads else None)), dtype=torch.uint8)
        length = torch.tensor([len(told)])
        self._wait(dist.broadcast(length, 0, group=self._group, async_op=True))
        if not self.leads:
            told = torch.empty(int(length), dtype=torch.uint8)
        self._wait(dist.broadcast(told, 0, group=self._group, async_op=True))
        return word if self.leads else pickle.loads(told.numpy().data)

    def remember(self, name: str, word: str) -> None:
        self._board.lasting.set(f"kept {name}", word)

    def remembered(self, name: str) -> str | None:
        kept = self._board.lasting
        return kept.get(f"kept {name}").decode() if kept.check([f"kept {name}"]) else None

    def device(self, device: torch.device) -> torch.device:
        if device.type != "cuda":
            return device
        own = torch.device("cuda", self.place.local % torch.cuda.device_count())
        torch.cuda.set_device(own)
        return own

    def _fast_group(self) -> Any:
        if self._nccl is None:
            self._nccl = dist.new_group(backend="nccl", timeout=TO_COME)
        return self._nccl

    def _wait(self, work: Any) -> None:
        """Wait until all members have done their part in something. Raises TeamBroken where one never will."""
        beats, polls = self._beats, 0
        try:
            while True:
                with suppress(RuntimeError):
                    work.wait(POLL)
                    return
                if work.is_completed():
                    raise self._broken("Another process of the team is gone")
                beats, polls = self._beats, 0 if beats != self._beats else polls + 1
                if polls * POLL.total_seconds() >= MISSED_BEATS * BEAT_SECONDS:  # its own marks do not get there
                    self._cut_off = True
                    self._gone = self._gone or "This process is cut off from the others"
                if self._gone:
                    raise self._broken(self._gone)
        except BaseException:
            _never_let_go(work, self._group)
            raise

    def _broken(self, found: str) -> TeamBroken:
        """The error to raise, once it is clear who says why."""
        sentence = f"{found}; a team of {self.size} goes on together or not at all."
        waited = threading.Event()
        for _ in range(0 if self.leads or self._cut_off else round(TO_SAY_WHY_SECONDS / 0.1)):
            with suppress(RuntimeError):
                if self._board.word(ENDED) is not None:
                    break
            waited.wait(0.1)
        return self._end(sentence)

    def _end(self, sentence: str) -> TeamBroken:
        """Write on the board that this is the end, and why, unless it is there; the error that follows for this one."""
        rank, why = self.rank, sentence
        if not self._cut_off:
            with suppress(RuntimeError):  # who kept the board may be gone
                rank, why = json.loads(self._board.first(ENDED, json.dumps([rank, why])))
        return TeamBroken(why, first=rank == self.rank)

    def _beat(self, board: Board) -> None:
        """Mark that this member is there, until it leaves, and look for what the others have written."""
        marks, missed = [""] * self.size, [0] * self.size
        while not self._leaving.is_set():
            try:
                board.words.set(f"beat {self.rank}", str(self._beats))
                self._beats += 1
                if self.stop.is_set():
                    board.words.set(STOPPED, "1")
                elif board.words.check([STOPPED]):
                    self.stop.set()
                if board.words.check([ENDED]):
                    self._gone = "Another process of the team has ended"
                for rank in range(self.size):
                    mark = board.word(f"beat {rank}") or ""
                    missed[rank] = 0 if mark != marks[rank] else missed[rank] + 1
                    marks[rank] = mark
                    if missed[rank] >= MISSED_BEATS:
                        seconds = MISSED_BEATS * BEAT_SECONDS
                        self._gone = f"Process {rank + 1} of {self.size} was not heard of for {seconds:.0f} seconds"
            except RuntimeError:
                self._cut_off = True
                self._gone = f"What keeps the team together at {self.place.address}:{self.place.port} is gone"
            if self._gone:
                self.stop.set()
                return
            self._leaving.wait(BEAT_SECONDS)


def _never_let_go(*held: object) -> None:
    """Hold something until the process ends: to let go of what a thread of gloo still waits in would wait with it."""
    threading.Thread(target=lambda never, *held: never.wait(), args=(threading.Event(), *held), daemon=True).start()


def _sentence(error: BaseException, team: Team) -> str:
    """Why a member has ended, for a person who does not see what that one writes."""
    if getattr(error, "for_user", False):
        return str(error) if team.leads else f"{error} (Process {team.rank + 1} of {team.size}.)"
    if isinstance(error, KeyboardInterrupt):
        return "Stopped at once."
    return f"Process {team.rank + 1} of {team.size} has failed ({type(error).__name__}: {_first_line(error)})."


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
