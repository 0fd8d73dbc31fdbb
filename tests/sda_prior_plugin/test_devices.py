"""Which device a training runs on."""

from __future__ import annotations

import contextlib

import pytest
import torch

from sda_prior_plugin import CodeCorpus, PriorError, train_prior
from sda_prior_plugin.devices import chosen_device, moved, reproducible

from .conftest import small_settings


def test_auto_is_cuda_or_the_processor_also_where_there_is_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert chosen_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert chosen_device("mps").type == "mps", "but it can be asked for"


def test_a_device_that_is_not_there_is_refused(corpus: CodeCorpus) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(PriorError, match="“Device” is mps"):
        train_prior(corpus, small_settings(corpus, device="mps"))


class MovedCodec:
    """A codec that can be moved, and remembers where it has been."""

    def __init__(self) -> None:
        self.device, self.been = torch.device("cpu"), list[str]()

    def to(self, device: torch.device) -> None:
        self.device = device
        self.been.append(device.type)


def test_a_codec_encodes_on_the_device_of_the_training_and_is_then_back_where_it_was() -> None:
    codec = MovedCodec()
    with moved(codec, torch.device("cuda")):
        assert codec.device.type == "cuda"
    assert codec.been == ["cuda", "cpu"]


def test_a_codec_that_cannot_be_moved_and_one_for_the_processor_stay_where_they_are() -> None:
    codec = MovedCodec()
    with moved(codec, torch.device("cpu")):
        assert codec.been == []
    with moved(object(), torch.device("cuda")):
        pass


def test_on_a_gpu_all_is_reproducible_while_it_trains_and_torch_is_then_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert not torch.are_deterministic_algorithms_enabled()
    with contextlib.suppress(ZeroDivisionError), reproducible(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        raise ZeroDivisionError
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled()
    with reproducible(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()
