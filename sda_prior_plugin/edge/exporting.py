"""Exporting a model: prior and codec in one TorchScript file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sda_prior_plugin.edge.printed import printable
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.export.instrument import instrument
from sda_prior_plugin.prior import Prior

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host


def export_model(host: Host, path: Path, output: Path) -> dict[str, Any]:
    """Export the model at `path` to `output`; what there is to say of the file, as plain JSON.

    Raises:
        PriorError: the model has no prior of this plugin's, or a codec that cannot be exported.
    """
    model = host.open_model(path)
    if not isinstance(model.prior, Prior):
        raise PriorError(f"{path} has no prior that could play; train one first: host train-prior {path}")
    scripted = getattr(model.codec, "scripted", None)
    if scripted is None:
        raise PriorError(f"{path} cannot be exported: its codec cannot be given to programs without Python.")
    module = instrument(model.prior, scripted(), model.codec.frame_samples)
    file = io.BytesIO()
    torch.jit.save(module, file)
    host.write_file(output, file.getvalue())
    return {
        "model": str(path),
        "path": str(output),
        "bytes": len(file.getvalue()),
        "sample_rate": model.codec.sample_rate,
        "least_block": model.codec.frame_samples,
        "methods": list(module.methods),
        "attributes": list(module.attributes),
    }


def export_lines(facts: dict[str, Any]) -> list[str]:
    """The same for a person."""
    size, rate, block = facts["bytes"] / 1e6, facts["sample_rate"], facts["least_block"]
    return [
        printable(f"{facts['path']}  {size:.1f} MB, {rate} Hz, blocks of {block} samples or more"),
        f"Methods     {', '.join(facts['methods'])}",
        f"Attributes  {', '.join(facts['attributes'])}",
    ]
