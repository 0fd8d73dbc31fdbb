"""The environment that the page is served in. To be entered before anything imports Gradio."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

ALONE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "NO_PROXY": "*",  # for whatever address; what else there is of proxies is then not even looked at
    "no_proxy": "*",
    "SSL_CERT_DIR": None,
    "SSL_CERT_FILE": None,
}
"""Gradio reports nothing to anybody, and looks at its own server without proxies or certificates of other places.

It makes clients for HTTP when it is imported. A proxy that is not there, or any of these that is not as it should be,
would keep the page from starting.
"""


@contextmanager
def gradio_at_home() -> Iterator[None]:
    """Gradio alone with itself, and the sounds of pages in a folder that goes when the server ends."""
    with (
        tempfile.TemporaryDirectory(prefix="host-ui-", ignore_cleanup_errors=True) as folder,
        _environment(ALONE | {"GRADIO_TEMP_DIR": folder}),
    ):
        yield


@contextmanager
def _environment(settings: Mapping[str, str | None]) -> Iterator[None]:
    """The environment with these settings inside the block; None for one that is not to be there."""
    before = {name: os.environ.get(name) for name in settings}
    _set(settings)
    try:
        yield
    finally:
        _set(before)


def _set(settings: Mapping[str, str | None]) -> None:
    for name, value in settings.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
