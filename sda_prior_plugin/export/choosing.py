"""From the logits of one code to the code that is drawn: `drawing.py` again, in TorchScript."""

from __future__ import annotations

import torch
from torch import Tensor


def _total(p: Tensor) -> Tensor:
    """The sum in the order of the codes, as the loops take it."""
    return p.cumsum(0)[-1]


def probabilities(logits: Tensor, temperature: float, top_k: int, top_p: float, held: int) -> Tensor:
    """float64 `[C]` of `logits [C]`: `drawing.probabilities`."""
    exact = logits.double()
    p = ((exact - exact.max()) / temperature).exp()
    p = p / _total(p)
    if 0 < top_k < p.size(0):
        p = torch.where(p < p.sort(descending=True)[0][top_k - 1], torch.zeros_like(p), p)
        p = p / _total(p)
    if top_p < 1:
        enough = top_p
        if held < p.size(0) and float(logits[held]) >= float(logits.max()):
            enough = float(p[held]) + top_p * (1.0 - float(p[held]))
        ordered = p.sort(descending=True)[0]
        place = int((ordered.cumsum(0) < enough).sum())
        p = torch.where(p < ordered[min(place, p.size(0) - 1)], torch.zeros_like(p), p)
        p = p / _total(p)
    return p


def drawn(p: Tensor, uniform: float) -> int:
    """The code that `uniform` in 0..1 picks from `p [C]`: `drawing.drawn`."""
    edges = p.cumsum(0)
    code = int((edges <= uniform * edges[-1]).sum())
    if code == p.size(0):
        code = int(p.nonzero()[-1])
    return code


def drawn_but_for(
    logits: Tensor, temperature: float, top_k: int, top_p: float, held: int, ruled_out: Tensor, uniform: float
) -> int:
    """A code that is not `ruled_out`, bool `[C]`, or empty for none: `drawing.drawn_but_for`, -1 where all are."""
    p = probabilities(logits, temperature, top_k, top_p, held)
    if ruled_out.size(0) == 0:
        return drawn(p, uniform)
    p = p.masked_fill(ruled_out, 0.0)
    if float(p.sum()) > 0:
        return drawn(p, uniform)
    p = probabilities(logits, temperature, 0, 1.0, held).masked_fill(ruled_out, 0.0)
    return drawn(p, uniform) if float(p.sum()) > 0 else -1
