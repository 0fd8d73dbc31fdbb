"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("busy", deadline=None)  # how long a case takes says how busy the machine is
settings.load_profile("busy")


@pytest.fixture(scope="session")
def done() -> Callable[[Generator[Callable[[], Any], Any, None]], None]:
    """Goes through with an act of a page, whatever takes long in it."""

    def go_through(steps: Generator[Callable[[], Any], Any, None]) -> None:
        try:
            long = next(steps)
            while True:
                try:
                    result = long()
                except Exception as error:
                    long = steps.throw(error)
                else:
                    long = steps.send(result)
        except StopIteration:
            return

    return go_through


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folders of the tests' own, here and in the processes that they start: the user's are the user's."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        environment.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
