"""Which device a training runs on."""

from __future__ import annotations

import pytest
import torch

from sda_prior_plugin import CodeCorpus, PriorError, train_prior
from sda_prior_plugin.devices import chosen_device

from .conftest import small_settings


def test_auto_is_cuda_or_the_processor_also_where_there_is_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert chosen_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert chosen_device("mps").type == "mps", "but it can be asked for"


def test_a_device_that_is_not_there_is_refused(corpus: CodeCorpus) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(PriorError, match="--device is mps"):
        train_prior(corpus, small_settings(corpus, device="mps"))
