"""Machine code of compiled functions, kept on disk for the next process.

numba's own cache looks at the file of the function alone, so that callers keep the old code of other modules, and takes
what it finds for whole. Here a folder belongs to all that code is made of: the sources of this package, the versions of
what compiles them, and the processor. All environments of the same version share it. What is wrong with it in any way
counts as not there.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import pickle
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs
from numba import config
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.event import trigger_event
from numba.core.serialize import dumps

PACKAGE = Path(__file__).parent
COMPILERS = ("llvmlite", "numba", "numpy")
MOST_VERSIONS = 8
"""Folders of code that are kept; the one that was not used for the longest time goes first."""
LEFT_BEHIND_SECONDS = 24 * 3600
"""After so long what an interrupted process was making or removing is cleared away."""
COMPILES = "numba:compile"
"""Numba's own event, of a function that is compiled."""
MISSING = "sda_prior_plugin:missing"
"""The kind of numba event that says which `function`'s code for which `signature` is not in the folder."""
DIGEST_BYTES = hashlib.sha256().digest_size


def code_folder() -> Path | None:
    """Where code is kept: in the folder that NUMBA_CACHE_DIR names, or else in the user's cache folder.

    None where there is no such folder. It has the user's number in its name, for several may share a folder, or a home.
    """
    chosen: str = config.CACHE_DIR  # type: ignore[attr-defined] # numba's hints leave it out
    folder = Path(chosen or platformdirs.user_cache_dir("sda-prior-plugin", appauthor=False))
    user = os.getuid() if hasattr(os, "getuid") else "own"
    # a user without a home is given one in the folder at hand, "~"
    return folder / f"compiled-{user}" if folder.is_absolute() or chosen else None


def sources_digest() -> str:
    """SHA-256 of all modules outside the edge as they are on disk now: code of one may be part of another's."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.glob("*.py")):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def loaded_sources_digest() -> str:
    """The same when the first of them was compiled or looked up; empty where they cannot be read."""
    try:
        return sources_digest()
    except OSError:
        return ""


@functools.cache
def compiler_versions() -> list[str]:
    """Versions of what makes machine code."""
    return [importlib.metadata.version(name) for name in COMPILERS]


def version_name(processor: tuple[Any, ...]) -> str:
    """The name of the folder for code of these sources, compiled by what is installed and set, for a `processor`."""
    about = [
        loaded_sources_digest(),
        sys.implementation.cache_tag,
        sys.hexversion,
        compiler_versions(),
        config.USING_SVML,  # type: ignore[attr-defined] # set where numba looks for it
        sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_") and item[0] != "NUMBA_CACHE_DIR"),
        processor,
    ]
    return hashlib.sha256(repr(about).encode()).hexdigest()[:32]


class CodeFolder:
    """Entries of bytes by name in a folder for each version. Several processes may use it at once.

    Only what nobody but the user can have written is read: whoever can change machine code can run code.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, version: str, name: str) -> bytes:
        """What was written. Raises OSError or ValueError where that is not there, or not all of it."""
        check_own(self.folder.lstat(), stat.S_ISDIR)
        path = self.folder / version / name
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            check_own(os.fstat(file.fileno()), stat.S_ISREG)
            content = file.read()
        digest, entry = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if digest != _entry_digest(name, entry):
            raise ValueError(f"{path} is damaged")
        with suppress(OSError):  # without it, it looks as if it had not been used for longer than is true
            os.utime(path.parent)
        return entry

    def write(self, version: str, name: str, entry: bytes) -> None:
        """Keep an entry, whatever stood in its place. Raises OSError."""
        self._make_own()
        self._make_version(version)
        number, making = tempfile.mkstemp(prefix=".making-", dir=self.folder)
        try:
            with open(number, "wb") as file:
                file.write(_entry_digest(name, entry) + entry)
            os.replace(making, self.folder / version / name)
        except OSError:
            with suppress(OSError):
                os.unlink(making)
            raise

    def _make_own(self) -> None:
        """Make the folder, in place of what nobody but the user should be able to write to."""
        try:
            check_own(self.folder.lstat(), stat.S_ISDIR)
        except FileNotFoundError:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except PermissionError:
            going = Path(tempfile.mkdtemp(prefix=".removing-", dir=self.folder.parent))
            try:
                self.folder.rename(going / self.folder.name)
                self.folder.mkdir(mode=0o700, exist_ok=True)
            finally:
                _remove(going)

    def _make_version(self, version: str) -> None:
        try:
            (self.folder / version).mkdir(mode=0o700)
        except FileExistsError:
            return
        versions = []
        for path in self.folder.iterdir():
            with suppress(OSError):  # another process has removed it meanwhile
                used = path.stat().st_mtime
                if not path.name.startswith("."):
                    versions.append((used, path))
                elif time.time() - used > LEFT_BEHIND_SECONDS:
                    _remove(path)
        for _, path in sorted(versions)[:-MOST_VERSIONS]:
            _remove(path)


def check_own(found: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    """Raises PermissionError where a file or folder is of another kind, or others than the user could have made it."""
    private = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
    if not (private and is_kind(found.st_mode)):
        raise PermissionError("others can write there")


class KeptMachineCode(_Cache):
    """What numba asks for a function's machine code before it compiles, and gives it to afterwards."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        self.known = Path(function.__code__.co_filename).parent == PACKAGE and bool(loaded_sources_digest())

    @property
    def cache_path(self) -> str | None:
        """The folder of all functions' code."""
        folder = code_folder()
        return None if folder is None else str(folder)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """The code for a signature, or None.

        What numba can compile is not loaded for it, as its own cache does: that would take ten times as long.
        """
        try:
            folder = self._folder()
            if folder is None:
                return None
            version, name = version_name(target_context.codegen().magic_tuple()), self._entry_name(sig)
            try:
                entry = folder.read(version, name)
            except (OSError, ValueError):
                with trigger_event(MISSING, {"function": self.function, "signature": sig}):
                    pass  # whoever hears it may compile it
                entry = folder.read(version, name)
            return CompileResult._rebuild(target_context, *pickle.loads(entry))
        except Exception:  # whatever comes of another numba's code, or of reading something else
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature, where that is possible."""
        if data.lifted or data.library.has_dynamic_globals:
            return
        with suppress(Exception):  # a full disk, no right to write, another numba's code: it is compiled again
            folder = self._folder()
            if folder is not None:
                entry = dumps(data._reduce())
                folder.write(version_name(data.codegen.magic_tuple()), self._entry_name(sig), entry)

    def enable(self) -> None:
        """There is nothing to do."""

    def disable(self) -> None:
        """There is nothing to do."""

    def flush(self) -> None:
        """There is nothing to do: what is of no use is not found."""

    def _folder(self) -> CodeFolder | None:
        """Where code is kept; None where there is none, or where sources have changed since they were loaded."""
        folder = code_folder()
        if folder is None or not self.known or sources_digest() != loaded_sources_digest():
            return None
        return CodeFolder(folder)

    def _entry_name(self, sig: Any) -> str:
        return f"{self.name}-{hashlib.sha256(repr(sig).encode()).hexdigest()[:32]}"


def _entry_digest(name: str, entry: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + entry).digest()


def _remove(path: Path) -> None:
    """Remove a file or folder, as far as that is possible."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()
