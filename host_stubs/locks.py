"""Who writes a file, and who trains the model in it: locks between processes, which say who holds them.

A lock is a hidden file beside the one that it is for. The system lets go of it when its process ends, however that
ends; whoever gives it back removes it. A lock file that is left is a process's that died, and the next one takes it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from host_stubs.errors import HostError

logger = logging.getLogger("sda_host")

PATIENCE = 0.5
"""Seconds that a process waits for another one before it says so."""
_LOOK_EVERY = 0.01  # seconds, while waiting
_LONGEST_NAME = 200  # bytes of a hidden name, without its ending; most file systems take 255 in all
_LONGEST_COMMAND = 200  # characters
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what a file system without locks says


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock: its number, its machine, the command that it runs, and since when, ISO 8601."""

    process: int
    machine: str
    command: str
    since: str

    @classmethod
    def this_process(cls) -> Holder:
        """The process that asks."""
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:_LONGEST_COMMAND]
        return cls(os.getpid(), platform.node(), command, datetime.now().astimezone().isoformat(timespec="seconds"))

    def __str__(self) -> str:
        place = "" if self.machine == platform.node() else f" on {self.machine}"
        since = datetime.fromisoformat(self.since)
        today = since.date() == datetime.now().astimezone().date()
        return f"process {self.process}{place} ({self.command}), since {since:{'%H:%M:%S' if today else '%c'}}"


@contextmanager
def turn_to_write(target: Path) -> Iterator[bool]:
    """Hold the right to write `target`, a path without links, having waited for it and said for whom.

    Gives whether it is held: there are file systems without locks, and on those a model must be saved all the same.
    """
    with _lock_beside(target, ".lock") as lock:
        held = _take(lock, PATIENCE)
        if held is False:
            logger.warning("waiting until %s is written by %s", target.name, _holder_of(lock))
            held = _take(lock, -1)
        yield bool(held)


@contextmanager
def claimed(path: Path, what: str) -> Iterator[None]:
    """Claim a model file for work that takes long, so that nobody begins the like on it meanwhile.

    It keeps nobody from reading or saving the file. Where there can be no lock, there is no claim: in a folder that may
    only be read nothing needs one.

    Raises HostError, which says who has claimed it, if somebody has. `what` is what is done with it: "trained".
    """
    with _lock_beside(Path(os.path.realpath(path)), ".training.lock") as lock:
        if _take(lock, 0) is False:
            raise HostError(
                f"{path.name} is being {what} already, by {_holder_of(lock)}. Wait for that, stop it, or save under "
                "another name."
            )
        yield


def hidden_beside(target: Path, ending: str) -> Path:
    """A hidden name in the folder of `target`: its own name, cut if it is very long, and `ending`."""
    name = os.fsencode(target.name)
    if len(name) <= _LONGEST_NAME:
        return target.with_name(f".{target.name}{ending}")
    mark = hashlib.sha256(name).hexdigest()[:16]
    return target.with_name(f".{name[: _LONGEST_NAME - 17].decode('utf-8', 'ignore')}~{mark}{ending}")


@contextmanager
def _lock_beside(target: Path, ending: str) -> Iterator[BaseFileLock]:
    """A lock that can be taken inside the block, and is given back when it ends."""
    lock = FileLock(hidden_beside(target, ending), mode=0o666, thread_local=False, fallback_to_soft=False)
    try:
        yield lock
    finally:
        if lock.is_locked:
            with suppress(OSError):  # who has opened it before this sees that it is gone, and makes a new one
                os.unlink(lock.lock_file)
            with suppress(OSError):
                lock.release()


def _take(lock: BaseFileLock, seconds: float) -> bool | None:
    """Take a lock, waiting so long (-1: however long): whether it was taken, or None where there can be none."""
    if not Path(lock.lock_file).parent.is_dir():  # it would be made
        return None
    try:
        lock.acquire(timeout=seconds, poll_interval=_LOOK_EVERY)
    except Timeout:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            logger.warning(
                "%s lies where files cannot be locked: take care that nothing else writes there", lock.lock_file
            )
        return None
    with suppress(OSError):  # on a full disk it is not said who it is
        Path(lock.lock_file).write_text(json.dumps(asdict(Holder.this_process())), "utf-8")
    return True


def _holder_of(lock: BaseFileLock) -> str:
    """Who holds a lock, in words."""
    try:
        return str(Holder(**json.loads(Path(lock.lock_file).read_text("utf-8"))))
    except (OSError, ValueError, TypeError):
        return "another process"
