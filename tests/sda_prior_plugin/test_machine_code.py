"""Machine code is kept for the next process, and is a cache: whatever is wrong with it, it is made anew."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sda_prior_plugin.machine_code import DIGEST_BYTES, MOST_VERSIONS, CodeFolder

ROOT = Path(__file__).parents[2]
INNER = """
from sda_prior_plugin.compiled import compiled_in_order
@compiled_in_order
def more(number):
    return number + 1
"""
OUTER = """
from sda_prior_plugin.compiled import compiled_in_order
from sda_prior_plugin.inner import more
@compiled_in_order
def twice(number):
    return 2 * more(number)
"""
TWICE = """
from sda_prior_plugin.compiled import compile_time
from sda_prior_plugin.outer import twice
with compile_time(lambda: None) as compiling:
    print(twice(3), "compiled" if compiling.seconds else "kept")
"""
NOBODY = """
import pwd
def of_none(number):
    raise KeyError(number)
pwd.getpwuid = of_none
"""
VERSION, NAME, ENTRY = "version", "function-1", b"code"


def package(folder: Path) -> Path:
    """A copy of the plugin, with a compiled function that calls one of another module."""
    shutil.copytree(ROOT / "sda_prior_plugin", folder / "sda_prior_plugin", ignore=shutil.ignore_patterns("__pyc*"))
    (folder / "sda_prior_plugin" / "inner.py").write_text(INNER)
    (folder / "sda_prior_plugin" / "outer.py").write_text(OUTER)
    return folder


def started(source: Path, environment: dict[str, str | None], script: str = TWICE) -> subprocess.Popen[str]:
    """A process that runs the package in `source`; None takes a variable out of its environment."""
    given = {"PYTHONPATH": str(source), "NUMBA_CACHE_DIR": None, **environment}
    names = {**os.environ, **given}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={name: value for name, value in names.items() if value is not None},
        cwd=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed(process: subprocess.Popen[str]) -> str:
    """What a process prints that ends well, and without a word on stderr."""
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    return output.strip()


def printed_with_cache(source: Path, cache: Path) -> str:
    return printed(started(source, {"XDG_CACHE_HOME": str(cache)}))


def entries(cache: Path) -> list[Path]:
    """The files of code in a user's cache folder."""
    return sorted(path for path in cache.glob("sda-prior-plugin/compiled-*/*/*") if not path.name.startswith("."))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def filled(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the code of the package in `source`."""
    cache = tmp_path_factory.mktemp("filled")
    assert printed_with_cache(source, cache) == "8 compiled"
    return cache


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Iterator[Path]:
    """The same, to be spoiled."""
    yield shutil.copytree(filled, tmp_path / "cache")
    for folder in tmp_path.rglob("compiled-*"):
        folder.chmod(0o700)


@pytest.mark.slow
def test_another_environment_of_the_same_version_finds_the_code(source: Path, cache: Path, tmp_path: Path) -> None:
    assert printed_with_cache(package(tmp_path / "clone"), cache) == "8 kept"


@pytest.mark.slow
def test_a_change_in_another_module_means_new_code(cache: Path, tmp_path: Path) -> None:
    """The sources change in place; the caller's own file stays as it is."""
    here = package(tmp_path / "clone")
    (here / "sda_prior_plugin" / "inner.py").write_text(INNER.replace("+ 1", "+ 2"))
    assert printed_with_cache(here, cache) == "10 compiled"
    assert printed_with_cache(here, cache) == "10 kept"
    (here / "sda_prior_plugin" / "inner.py").write_text(INNER)
    assert printed_with_cache(here, cache) == "8 kept"


@pytest.mark.slow
def test_code_of_sources_that_changed_after_they_were_loaded_is_not_kept(cache: Path, tmp_path: Path) -> None:
    here = package(tmp_path / "clone")
    inner = here / "sda_prior_plugin" / "inner.py"
    script = TWICE.replace("with", f"open({str(inner)!r}, 'w').write({INNER.replace('+ 1', '+ 2')!r})\nwith")
    assert printed(started(here, {"XDG_CACHE_HOME": str(cache)}, script)) == "8 compiled"
    assert printed_with_cache(here, cache) == "10 compiled"


@pytest.mark.slow
def test_code_that_is_compiled_otherwise_is_other_code(source: Path, cache: Path) -> None:
    where = {"XDG_CACHE_HOME": str(cache)}
    assert printed(started(source, {**where, "NUMBA_BOUNDSCHECK": "1"})) == "8 compiled"
    assert printed(started(source, {**where, "NUMBA_CPU_NAME": "generic"})) == "8 compiled"
    assert printed(started(source, where)) == "8 kept"


@pytest.mark.slow
def test_numbas_own_variable_says_where_code_is_kept(source: Path, cache: Path, tmp_path: Path) -> None:
    where: dict[str, str | None] = {"XDG_CACHE_HOME": str(cache), "NUMBA_CACHE_DIR": str(tmp_path / "chosen")}
    assert printed(started(source, where)) == "8 compiled"
    assert printed(started(source, where)) == "8 kept"
    assert list((tmp_path / "chosen").glob("compiled-*/*/outer.twice-*"))


def emptied(path: Path) -> None:
    """A power cut before anything but the file's name was on disk."""
    path.write_bytes(b"")


def partly_zeros(path: Path) -> None:
    """A power cut before all blocks were on disk."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)


def writable_by_others(path: Path) -> None:
    path.chmod(0o666)


def somebody_elses(path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give a file away")
    os.chown(path, 4711, 4711)


def linked(path: Path) -> None:
    """A link to a file of the user's own that somebody else has chosen."""
    path.symlink_to(path.rename(path.with_name("elsewhere")))


def of_another_function(path: Path) -> None:
    if path.name.startswith("outer."):
        shutil.copyfile(next(one for one in path.parent.iterdir() if one != path), path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil", [emptied, partly_zeros, writable_by_others, somebody_elses, linked, of_another_function]
)
def test_code_that_is_not_what_was_written_is_made_anew(
    spoil: Callable[[Path], None], source: Path, cache: Path
) -> None:
    for path in entries(cache):
        spoil(path)
    assert printed_with_cache(source, cache) == "8 compiled"
    assert printed_with_cache(source, cache) == "8 kept"


@pytest.mark.slow
def test_a_folder_that_others_can_write_to_is_replaced(source: Path, cache: Path) -> None:
    (folder,) = (cache / "sda-prior-plugin").iterdir()
    folder.chmod(0o777)
    assert printed_with_cache(source, cache) == "8 compiled"
    assert printed_with_cache(source, cache) == "8 kept"
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_a_file_in_place_of_the_folder_is_replaced(source: Path, cache: Path) -> None:
    (folder,) = (cache / "sda-prior-plugin").iterdir()
    shutil.rmtree(folder)
    folder.write_text("a file")
    assert printed_with_cache(source, cache) == "8 compiled"
    assert printed_with_cache(source, cache) == "8 kept"


@pytest.mark.slow
def test_where_nothing_can_be_written_it_runs_all_the_same(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    assert printed(started(source, {"NUMBA_CACHE_DIR": str(tmp_path / "file")})) == "8 compiled"
    assert printed_with_cache(source, tmp_path / "file") == "8 compiled"


@pytest.mark.slow
def test_without_a_home_it_runs_all_the_same_and_leaves_nothing_behind(tmp_path: Path) -> None:
    here = package(tmp_path / "clone")
    before = sorted(here.iterdir())
    homeless: dict[str, str | None] = {"HOME": None, "XDG_CACHE_HOME": None}
    assert printed(started(here, homeless, NOBODY + TWICE)) == "8 compiled"
    assert sorted(here.iterdir()) == before


@pytest.mark.slow
def test_a_disk_that_is_full_is_no_error(source: Path, tmp_path: Path) -> None:
    """No file may grow beyond 1000 bytes: what is written ends in the middle of the code, and nothing of it stays."""
    script = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.RLIM_INFINITY}))\n{TWICE}"
    where: dict[str, str | None] = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    assert printed(started(source, where, script)) == "8 compiled"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_processes_that_compile_at_once_do_each_other_no_harm(source: Path, tmp_path: Path) -> None:
    processes = [started(source, {"XDG_CACHE_HOME": str(tmp_path)}) for _ in range(4)]
    assert {printed(process).split()[0] for process in processes} == {"8"}
    assert printed_with_cache(source, tmp_path) == "8 kept"


def test_what_was_written_is_read_by_its_version_and_name(tmp_path: Path) -> None:
    folder = CodeFolder(tmp_path / "compiled")
    folder.write(VERSION, NAME, ENTRY)
    assert folder.read(VERSION, NAME) == ENTRY
    for version, name in (("other", NAME), (VERSION, "function-2")):
        with pytest.raises(FileNotFoundError):
            folder.read(version, name)


def test_any_byte_that_differs_or_lacks_is_seen(tmp_path: Path) -> None:
    folder = CodeFolder(tmp_path / "compiled")
    folder.write(VERSION, NAME, ENTRY)
    (path,) = (tmp_path / "compiled" / VERSION).iterdir()
    written = path.read_bytes()
    assert len(written) == DIGEST_BYTES + len(ENTRY)
    for place in range(len(written)):
        for spoiled in (written[:place], written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :]):
            path.write_bytes(spoiled)
            with pytest.raises(ValueError, match="damaged"):
                folder.read(VERSION, NAME)


def test_versions_that_were_not_used_for_long_go(tmp_path: Path) -> None:
    folder = CodeFolder(tmp_path / "compiled")
    for number in range(MOST_VERSIONS):
        folder.write(str(number), NAME, ENTRY)
        os.utime(folder.folder / str(number), (number, number))
    left = folder.folder / ".making-left"
    left.write_text("by a process that was killed")
    os.utime(left, (0, 0))
    folder.read("0", NAME)
    folder.write("new", NAME, ENTRY)
    kept = {path.name for path in folder.folder.iterdir()}
    assert kept == {"0", "new", *map(str, range(2, MOST_VERSIONS))}
