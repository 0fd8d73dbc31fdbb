"""Where the plugin meets its host: hooks, the command, the training tab, the bundle entry.

What knows about priors stands outside this folder and knows nothing of it. Like the package's, this face imports
its parts when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sda_prior_plugin.lazy import lazy_face

if TYPE_CHECKING:
    from sda_prior_plugin.edge.bundle_entry import (
        card_lines,
        checked_entries,
        generated,
        read_entry,
        streamed,
        verbatim_facts,
        write_entry,
    )
    from sda_prior_plugin.edge.console import ConsoleProgress
    from sda_prior_plugin.edge.curves import model_curves
    from sda_prior_plugin.edge.exporting import export_lines, export_model
    from sda_prior_plugin.edge.job import PriorJob
    from sda_prior_plugin.edge.recordings import counted, listed
    from sda_prior_plugin.edge.settling import prepare_job
    from sda_prior_plugin.edge.tab.section import PriorSection
    from sda_prior_plugin.edge.together import Settled, follow

__all__ = [
    "ConsoleProgress",
    "PriorJob",
    "PriorSection",
    "Settled",
    "card_lines",
    "checked_entries",
    "counted",
    "export_lines",
    "export_model",
    "follow",
    "generated",
    "listed",
    "model_curves",
    "prepare_job",
    "read_entry",
    "streamed",
    "verbatim_facts",
    "write_entry",
]

__getattr__ = lazy_face(
    __name__,
    {
        "card_lines": "bundle_entry",
        "checked_entries": "bundle_entry",
        "generated": "bundle_entry",
        "read_entry": "bundle_entry",
        "streamed": "bundle_entry",
        "verbatim_facts": "bundle_entry",
        "write_entry": "bundle_entry",
        "ConsoleProgress": "console",
        "export_lines": "exporting",
        "export_model": "exporting",
        "PriorJob": "job",
        "model_curves": "curves",
        "counted": "recordings",
        "listed": "recordings",
        "prepare_job": "settling",
        "PriorSection": "tab.section",
        "Settled": "together",
        "follow": "together",
    },
)
