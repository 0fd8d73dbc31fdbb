"""A safetensors file as the bytes that it is, one piece after another: to be written, and to be compared with a file.

The pieces of the tensors are their own memory, so that a save takes no more of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from io import FileIO

import torch
from torch import Tensor

from host_stubs.errors import HostError
from host_stubs.header import DTYPES

NAMES = {dtype: name for name, dtype in DTYPES.items()}
"""What the format calls each type of number."""
_AT_ONCE = 1 << 18  # bytes


def pieces(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[memoryview]:
    """The bytes of a file with these tensors: its header, then each tensor, those with the widest numbers first.

    Raises HostError if the format has no name for a tensor's type.
    """
    plain = {name: tensor.detach().cpu().resolve_conj().resolve_neg().contiguous() for name, tensor in tensors.items()}
    ordered = sorted(plain, key=lambda name: (-plain[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in ordered:
        begin, end = end, end + plain[name].nbytes
        header[name] = {
            "dtype": _type_name(name, plain[name]),
            "shape": list(plain[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = [plain[name].reshape(-1).view(torch.uint8).numpy().data for name in ordered if plain[name].numel()]
    return [memoryview(len(text).to_bytes(8, "little") + text), *data]


def holds(file: FileIO, parts: Iterable[memoryview]) -> bool:
    """Whether an open, unbuffered file, read from its start, has exactly these bytes."""
    buffer = bytearray(_AT_ONCE)
    for piece in parts:
        for begin in range(0, len(piece), _AT_ONCE):
            wanted = piece[begin : begin + _AT_ONCE]
            found = buffer if len(wanted) == _AT_ONCE else bytearray(len(wanted))
            if file.readinto(found) != len(wanted) or found != wanted:
                return False
    return not file.read(1)


def _type_name(name: str, tensor: Tensor) -> str:
    if tensor.dtype not in NAMES:
        raise HostError(f"{name} holds numbers of type {tensor.dtype}, which no .sda can hold.")
    return NAMES[tensor.dtype]
