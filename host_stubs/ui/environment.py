"""The environment that the page is served in. To be entered before anything imports Gradio."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

SET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "NO_PROXY": "*",  # for whatever address; what else there is of proxies is then not even looked at
    "no_proxy": "*",
}
UNSET = ("SSL_CERT_DIR", "SSL_CERT_FILE")
"""Gradio reports nothing to anybody, and looks at its own server without proxies or certificates of other places.

It makes clients for HTTP when it is imported. A proxy that is not there, or any of these that is not as it should be,
would keep the page from starting.
"""


@contextmanager
def gradio_at_home() -> Iterator[None]:
    """Gradio alone with itself, and the sounds of pages in a folder that goes when the server ends."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="host-ui-", ignore_cleanup_errors=True) as folder:
        os.environ.update(SET, GRADIO_TEMP_DIR=folder)
        for name in UNSET:
            os.environ.pop(name, None)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
