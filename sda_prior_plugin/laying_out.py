"""The weights of a network, laid out for drawing one code after another: what `weights.py` holds.

The affine parts of the norms are multiplied into the maps that follow them. What is summed for that is summed in double
precision: a processor that sums in another order has the same weights, but for the last digit of a few. Shapes: L
levels, C codebook size, D hidden size.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

from sda_prior_plugin.cores import GruCore
from sda_prior_plugin.network import KNOWN_FRAMES, PriorNetwork
from sda_prior_plugin.weights import Attention, CodeWeights, Recurrence, Weights

ROTATION_BASE = 10_000.0

Parts = TypeVar("Parts", CodeWeights, Attention, Recurrence)


@torch.no_grad()
def weights_of(network: PriorNetwork, kind: int = 0) -> Weights:
    """What drawing reads of a network, wherever it is, to draw a kind of copies: 0 is as recorded."""
    learned = {name: _array(tensor) for name, tensor in network.state_dict().items()}
    recurs = isinstance(network.core, GruCore)
    return Weights(
        codes=_contiguous(_code_weights(network, learned, kind)),
        attention=None if recurs else _contiguous(_attention(network, learned)),
        recurrence=_contiguous(_recurrence(network, learned)) if recurs else None,
    )


def _code_weights(network: PriorNetwork, learned: dict[str, np.ndarray], kind: int) -> CodeWeights:
    tables = network.tables(torch.float64)
    known = torch.arange(max([KNOWN_FRAMES - 1, *network.stretches]) + 1, device=network.time.device)
    level_up, level_up_bias = _after_norm(learned, "within_band.0", "within_band.1")
    end, end_bias = _after_norm(learned, "norm", "end")
    logits = _array(tables.logits)  # [L, C, D]
    return CodeWeights(
        previous=_array(tables.previous),
        frame_back=_array(tables.frame_back),
        coarser=_array(tables.coarser),
        same_level=_array(tables.same_level),
        band=learned["band"] + learned["kind"][kind - 1] if kind else learned["band"],
        time=_array(network.told_time(known, torch.float64)),
        level=learned["level"],
        level_up=level_up,
        level_up_bias=level_up_bias[None],
        level_down=learned["within_band.3.weight"].T,
        level_down_bias=learned["within_band.3.bias"][None],
        logits=(logits * learned["norm.weight"]).transpose(0, 2, 1),
        logits_bias=learned["logits.bias"] + _product(logits, learned["norm.bias"]),
        end=end[:, 0],
        end_bias=float(end_bias[0]),
    )


def _attention(network: PriorNetwork, learned: dict[str, np.ndarray]) -> Attention:
    blocks = [f"core.blocks.{layer}" for layer in range(network.settings.layers)]
    attention = _stacked([_after_norm(learned, f"{one}.norm", f"{one}.attention.inputs") for one in blocks])
    up = _stacked([_after_norm(learned, f"{one}.mlp.0", f"{one}.mlp.1") for one in blocks])
    half = network.settings.hidden_size // network.settings.heads // 2
    return Attention(
        heads=network.settings.heads,
        rates=ROTATION_BASE ** (-np.arange(half) / half),
        attention=attention[0],
        attention_bias=attention[1],
        attended=np.stack([learned[f"{one}.attention.output.weight"].T for one in blocks]),
        up=up[0],
        up_bias=up[1],
        down=np.stack([learned[f"{one}.mlp.3.weight"].T for one in blocks]),
        down_bias=np.stack([learned[f"{one}.mlp.3.bias"] for one in blocks]),
    )


def _recurrence(network: PriorNetwork, learned: dict[str, np.ndarray]) -> Recurrence:
    layers = [f"core.layers.{layer}" for layer in range(network.settings.layers)]
    norms = [f"core.norms.{layer}" for layer in range(network.settings.layers)]
    inputs = _stacked([_after_norm(learned, *names, "_ih_l0") for names in zip(norms, layers, strict=True)])
    return Recurrence(
        inputs=inputs[0],
        inputs_bias=inputs[1],
        hidden=np.stack([learned[f"{one}.weight_hh_l0"].T for one in layers]),
        hidden_bias=np.stack([learned[f"{one}.bias_hh_l0"] for one in layers]),
    )


def _contiguous(parts: Parts) -> Parts:
    """The same in the order in which it is read: transposing alone moves nothing."""
    matrices = ((name, part) for name, part in parts._asdict().items() if isinstance(part, np.ndarray))
    found: dict[str, Any] = {name: np.ascontiguousarray(matrix) for name, matrix in matrices}
    return parts._replace(**found)


def _after_norm(
    learned: dict[str, np.ndarray], norm: str, linear: str, ending: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Matrix `[in, out]` and bias of a linear map that holds the affine part of the norm before it."""
    weight = learned[f"{linear}.weight{ending}"]
    bias = learned.get(f"{linear}.bias{ending}", np.float32(0))
    return (weight * learned[f"{norm}.weight"]).T, _product(weight, learned[f"{norm}.bias"]) + bias


def _product(matrices: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return np.asarray(matrices @ vector.astype(np.float64), np.float32)


def _stacked(layers: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([matrix for matrix, _ in layers]), np.stack([bias for _, bias in layers])


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.float().cpu().numpy())
