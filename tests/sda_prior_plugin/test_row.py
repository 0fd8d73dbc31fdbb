"""Weights side by side in one row of numbers."""

from __future__ import annotations

import copy

import torch
from torch import nn

from sda_prior_plugin.row import Row


def test_a_row_holds_each_tensor_in_the_order_of_its_stretches() -> None:
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros(4), "c": torch.zeros(1, 5)}
    row = Row.of(tensors, (["c", "a"], [], ["b"]))
    assert row.ends == (11, 11, 15)
    numbers = torch.arange(15.0)
    views = row.views(numbers)
    assert {name: view.flatten().tolist() for name, view in views.items()} == {
        "c": [0, 1, 2, 3, 4],
        "a": [5, 6, 7, 8, 9, 10],
        "b": [11, 12, 13, 14],
    }
    assert {name: view.shape for name, view in views.items()} == {name: one.shape for name, one in tensors.items()}
    views["a"].fill_(-1)
    assert numbers.tolist() == [0, 1, 2, 3, 4, *[-1] * 6, 11, 12, 13, 14]


def test_a_network_whose_weights_moved_into_a_row_is_the_same_and_follows_the_row() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    before = copy.deepcopy(network)
    names = [name for name, _ in network.named_parameters()]
    numbers = Row.of(dict(network.named_parameters()), (names[::-1],)).moved_in(network)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(x), before(x))
    network.load_state_dict(before.state_dict())
    numbers.mul_(2)
    assert all(torch.equal(now, 2 * then) for now, then in zip(network.parameters(), before.parameters(), strict=True))
