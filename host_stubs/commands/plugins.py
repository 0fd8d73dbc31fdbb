"""`host plugins`: what is installed, and what of it does not work."""

from __future__ import annotations

import dataclasses

import click

from host_stubs.commands.console import json_option, show, table
from host_stubs.host import Host


@click.command()
@json_option
@click.pass_obj
def plugins(host: Host, as_json: bool) -> None:
    """List the installed plugins: distribution, version, the hooks each implements, and failures with their reason."""
    installed, failures = host.plugins.installed, host.plugins.failures
    lines = []
    if installed:
        rows = [(p.name, p.distribution or "", p.version or "", ", ".join(p.hooks)) for p in installed]
        lines += table([("plugin", "distribution", "version", "hooks"), *rows])
    if failures:
        failed = [(failure.plugin, failure.where, failure.reason) for failure in failures]
        lines += [""] * bool(lines) + table([("failed plugin", "in", "reason"), *failed])
    result = {
        "plugins": [dataclasses.asdict(plugin) for plugin in installed],
        "failures": [dataclasses.asdict(failure) for failure in failures],
    }
    show(result, as_json, lines or ["No plugins are installed."])
