"""Compiling in a process of its own.

What LLVM needs for it, some 200 MB, would stay with a training to its end: an allocator gives back little of what was
freed among what is kept. The process that needs the machine code reads it from the folder that `machine_code.py` keeps.
"""

from __future__ import annotations

import importlib
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from numba.core.event import Event, Listener, install_listener, trigger_event
from numba.core.serialize import dumps

from sda_prior_plugin.machine_code import COMPILES, MISSING

IDLE_SECONDS = 2.0
"""After so long without anything to compile the other process ends; the next one takes a third of a second to begin."""
DONE = b"."
PROGRAM = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {__name__} import serve; serve()"


@contextmanager
def compiled_aside(ahead: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Have a process of its own compile what is called inside the block and was never compiled on this machine.

    Where it cannot, or where no code is kept, what calls compiles as ever. `ahead` is called by a thread of its own,
    so that what it calls is compiled while the block does something else. It is broken off at the end of the block, and
    where it would compile in this process.
    """
    compiler, thread = CompilerProcess(), threading.Thread(target=quietly, args=(ahead,), daemon=True)
    with install_listener(MISSING, compiler), install_listener(COMPILES, Elsewhere(thread)):
        thread.start()
        try:
            yield
        finally:
            compiler.end()
            thread.join()


class Elsewhere(Listener):
    """Ends a thread that is about to compile in this process: the block could not end before it has."""

    def __init__(self, thread: threading.Thread) -> None:
        self.thread = thread

    def on_start(self, event: Event) -> None:
        """numba says what it will compile; what is compiled elsewhere comes with nothing."""
        if event.data is not None and threading.current_thread() is self.thread:
            raise SystemExit

    def on_end(self, event: Event) -> None:
        """There is nothing to do."""


class CompilerProcess(Listener):
    """Compiles functions elsewhere, when it is told that their code is missing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._over = False
        self._process: subprocess.Popen[bytes] | None = None
        self._idle: threading.Timer | None = None
        self._works = True

    def on_start(self, event: Event) -> None:
        """Compile a function, if that is possible; it is in the folder then."""
        function, signature = event.data["function"], event.data["signature"]
        with self._lock:
            self._stay()
            if self._works and not self._over:
                with trigger_event(COMPILES):  # so that it is told of, and measured
                    self._works = self._compiled(function, signature)
            self._idle = threading.Timer(IDLE_SECONDS, self.close)
            self._idle.daemon = True
            self._idle.start()

    def on_end(self, event: Event) -> None:
        """There is nothing to do."""

    def end(self) -> None:
        """End the process for good, whatever it is doing."""
        self._over = True
        process = self._process
        if process is not None:
            process.kill()  # who waits for it, and keeps others from closing, is answered
        self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._stay()
            if self._process is not None:
                self._process.kill()
                self._process.communicate()
                self._process = None

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _compiled(self, function: Callable[..., object], signature: Any) -> bool:
        """Whether there was an answer."""
        try:
            if self._process is None:
                self._process = begun_process()
            if self._over:  # it ended just now, and has not seen this process
                return False
            requests, answers = self._process.stdin, self._process.stdout
            assert requests is not None
            assert answers is not None
            requests.write(dumps((function.__module__, function.__qualname__, signature)))
            requests.flush()
            return answers.read(len(DONE)) == DONE
        except (OSError, TypeError, pickle.PicklingError):  # no Python, or none that is known; or it has ended
            return False


def quietly(call: Callable[[], object]) -> None:
    """Call what may fail: it is wanted for speed alone."""
    with suppress(Exception):
        call()


def begun_process() -> subprocess.Popen[bytes]:
    """A process that compiles what it is told. It ends when this one does, and not by Ctrl-C."""
    return subprocess.Popen(
        # -P: a file in the folder at hand may have the name of any module
        [sys.executable, "-P", "-c", PROGRAM, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def serve() -> None:
    """Compile what standard input asks for, one after another, and say when each is done."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    while (asked := next_request(requests)) is not None:
        module, name, signature = asked
        with suppress(Exception):  # the other process finds no code then, and compiles, or fails, itself
            getattr(importlib.import_module(module), name).compile(signature)
        answers.write(DONE)
        answers.flush()


def next_request(requests: IO[bytes]) -> tuple[str, str, Any] | None:
    """The module and the name of a function, and the types to compile it for; None at the end."""
    try:
        module, name, signature = pickle.load(requests)
    except EOFError:
        return None
    return module, name, signature
