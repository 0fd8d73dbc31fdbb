"""The page: the training tab with the host's own section, and below it those of the plugins."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from host_stubs.host import Host
from host_stubs.plugins import invoke
from host_stubs.ui.drops import Drops
from host_stubs.ui.jobs import Jobs
from host_stubs.ui.kit import as_html
from host_stubs.ui.listening import ListeningSection
from host_stubs.ui.live import Live
from host_stubs.ui.saved import SavedModels
from host_stubs.ui.vqvae_section import VqvaeSection

TITLE = "host"
SECONDS_BETWEEN_LOOKS_AT_QUEUE = 1.0
ALONE = (
    "<p>No installed plugin adds anything here. To make new sound: "
    "<code>pip install sda-prior-plugin</code>, then start <code>host ui</code> again.</p>"
)


def build_page(host: Host, models: SavedModels, datasets: Path, jobs: Jobs, live: Live, drops: Drops) -> gr.Blocks:
    """The page, not served yet. A plugin whose section fails is named on it and takes nothing else down."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.HTML(
            f"<h1>host</h1><p class='muted'>Models in {as_html(str(models.folder.resolve()))}. "
            "Everything stays on this machine.</p>"
        )
        with gr.Tabs(), gr.Tab("Training"):
            VqvaeSection(host, models, datasets, jobs, live)
            given = {"page": page, "host": host, "models": models, "jobs": jobs, "live": live}
            sections = host.plugins.implementations("training_tab")
            for implementation in sections:
                with gr.Column() as place:
                    try:
                        invoke(implementation, given)
                    except Exception as error:
                        host.plugins.failed(implementation.plugin_name, "training_tab", error)
                        place.visible = False
                        failed = implementation.plugin_name
                    else:
                        continue
                gr.HTML(f"<p>The plugin {as_html(failed)} could not add its section; the log says why.</p>")
            if host.plugins.implementations("generate_codes"):
                ListeningSection(host, models, live, drops)
            if not sections:
                gr.HTML(ALONE, elem_id="no-sections")
        live.connect(page)
    # Gradio looks a thousand times a second whether anything is queued, in the process that trains. Nothing ever is.
    page._queue.sleep_when_free = page._queue.progress_update_sleep_when_free = SECONDS_BETWEEN_LOOKS_AT_QUEUE
    return page
