"""The device that a training runs on: which one, in what precision, and what of it decides the bits of the prior."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from sda_prior_plugin.errors import PriorError, setting

STREAMS = ("cpu", "cuda", "mps")
"""Random streams: the processor's, and that of the device where it is another one."""


def chosen_device(name: str) -> torch.device:
    """The device called `name`; "auto" is a CUDA GPU where there is one, and the processor elsewhere.

    Raises:
        PriorError: this machine has no such device.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":  # never mps: nobody has measured yet what training is like there
        name = "cuda" if present["cuda"] else "cpu"
    if not present[name]:
        raise PriorError(setting("device"), f" is {name}, but this machine has none; auto uses what there is.")
    return torch.device(name)


@contextlib.contextmanager
def moved(codec: Any, device: torch.device) -> Iterator[None]:
    """A codec on a device inside the block, and where it was after it; one that cannot be moved stays where it is."""
    if device.type == "cpu" or not hasattr(codec, "to"):
        yield
        return
    before = codec.device
    codec.to(device)
    try:
        yield
    finally:
        codec.to(before)


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Inside the block what is computed on an NVIDIA GPU has the same bits every time; elsewhere it has them anyway.

    cuDNN's attention is left out: it plans anew for each length, and the windows of hardly two batches are of the same.
    """
    if device.type != "cuda":
        yield
        return
    before, planned = torch.get_deterministic_debug_mode(), torch.backends.cuda.cudnn_sdp_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it torch refuses to say that it is
    torch.set_deterministic_debug_mode("error")
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.backends.cuda.enable_cudnn_sdp(planned)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def fastest_precision(device: torch.device) -> torch.dtype:
    """What to train in: bfloat16 on a GPU or processor that has instructions for its matrix products."""
    half = False
    if device.type == "cuda":
        half = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        half = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.bfloat16 if half else torch.float32


def machine_facts(device: torch.device, precision: torch.dtype) -> dict[str, str]:
    """What decides, besides a training's state, whether going on gives the same prior bit for bit."""
    processors = {"cpu": torch.backends.cpu.get_cpu_capability, "cuda": torch.cuda.get_device_name}
    return {
        "device": device.type,
        "processor": processors[device.type]() if device.type in processors else "",
        "precision": str(precision).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
    }


def random_streams(device: torch.device) -> dict[str, Tensor]:
    """Where the random streams that training on a device draws from are now."""
    streams = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        streams["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        streams["mps"] = torch.mps.get_rng_state()
    return streams


def set_random_streams(streams: Mapping[str, Tensor], device: torch.device) -> None:
    """Go to where `random_streams` was; on another kind of device its own stream stays where it is.

    Raises:
        RuntimeError: no stream is ever there.
    """
    torch.set_rng_state(streams["cpu"])
    if device.type == "cuda" and "cuda" in streams:
        torch.cuda.set_rng_state(streams["cuda"], device)
    elif device.type == "mps" and "mps" in streams:
        torch.mps.set_rng_state(streams["mps"])
