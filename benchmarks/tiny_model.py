"""A real model of the smallest kind, and a file of it that says how often it was saved."""

from __future__ import annotations

from pathlib import Path

import torch

import host_stubs
from host_stubs.codec import Codec
from host_stubs.mel import MelSettings
from host_stubs.model import Model, open_model, save_model
from host_stubs.network import Decoder, Encoder
from host_stubs.plugins import Plugins

DIM, LEVELS, SIZE = 8, 2, 16
NUMBERS = 1 << 16


def make_recordings(folder: Path, count: int = 3) -> Path:
    """A folder of a few short recordings, made if it is not there."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        host_stubs.write_demo_recordings(folder, seed=1, count=count)
    return folder


def tiny_model(recordings: Path) -> Model:
    """A model of some recordings, not saved, whose codec has learned nothing: it encodes all the same."""
    torch.manual_seed(0)
    tensors = {f"encoder.{name}": tensor for name, tensor in Encoder(DIM).state_dict().items()}
    tensors |= {f"decoder.{name}": tensor for name, tensor in Decoder(DIM).state_dict().items()}
    for level in range(LEVELS):
        tensors[f"quantizer.rvq.layers.{level}._codebook.embed"] = torch.randn(1, SIZE, DIM)
    settings = {"mel": vars(MelSettings()), "dim": DIM, "levels": LEVELS, "codebook_size": SIZE}
    return Model("tiny", Codec.from_parts(settings, tensors), host_stubs.build_manifest(recordings).manifest)


class NumberedModel:
    """A model file that is saved again and again: a number in it counts how often, and fills a tensor.

    The host alone saves it, without plugins.
    """

    def __init__(self, path: Path, namespace: str = "number") -> None:
        self.path, self.namespace, self.plugins = path, namespace, Plugins()

    def number(self) -> int:
        """The number in the file, as a reader finds it. Raises AssertionError where the file is not of one piece."""
        return self.number_of(self.opened())

    def number_of(self, model: Model) -> int:
        """The number in an open model."""
        entry = model.bundle.get(self.namespace)
        if entry is None:
            return 0
        number = int(entry.facts["is"])
        if not (entry.tensors["all"] == number).all():
            raise AssertionError(f"{self.path} is not of one piece")
        return number

    def opened(self) -> Model:
        """The model in the file."""
        return open_model(self.path, self.plugins)

    def save_next(self, model: Model) -> None:
        """Save the model with the next number."""
        number = self.number_of(model) + 1
        model.bundle.put(self.namespace, {"is": number}, {"all": torch.full((NUMBERS,), number)})
        save_model(model, self.path, self.plugins)
