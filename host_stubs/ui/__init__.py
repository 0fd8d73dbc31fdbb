"""The page of `host ui`: a training tab, to which plugins add, over jobs that belong to the host and not to a page.

Only some of it knows Gradio, which comes with an extra. Parts are imported when they are first asked for (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from host_stubs.ui.jobs import Job, Jobs
    from host_stubs.ui.live import Live
    from host_stubs.ui.picture import draw
    from host_stubs.ui.saved import SavedModel, SavedModels
    from host_stubs.ui.server import serve

_HOME = {
    "Job": "jobs", "Jobs": "jobs", "Live": "live", "SavedModel": "saved", "SavedModels": "saved", "draw": "picture",
    "serve": "server",
}  # fmt: skip

__all__ = ["Job", "Jobs", "Live", "SavedModel", "SavedModels", "draw", "serve"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
