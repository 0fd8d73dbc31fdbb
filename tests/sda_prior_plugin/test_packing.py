"""Packed windows: what training computes is what the network says of each window alone, padding or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sda_prior_plugin.batches import Batch
from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.cores import NetworkSettings
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.optimizing import batch_loss
from sda_prior_plugin.packing import Packing, cuts, packed_length
from sda_prior_plugin.prior import window_log2_probs

SHAPE = CodeShape(bands=3, levels=2, codebook_size=8)
CPU = torch.device("cpu")


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8), most_parts=st.integers(1, 4))
def test_what_looks_along_rows_sees_each_from_its_start_on_and_no_other(lengths: list[int], most_parts: int) -> None:
    """Sums along rows of the number of each, and of ones: of its places, and only of itself."""
    packing = Packing.of(np.array(lengths), most_parts, CPU)
    numbers = (1.0 + packing.rows) * packing.counts
    sums = packing.by_rows(torch.stack([numbers, packing.counts.float()], 1), lambda rows: rows.cumsum(1))
    count = sum(lengths)
    assert packing.counts.tolist() == [True] * count + [False] * (len(numbers) - count)
    assert sums[:count, 1].tolist() == (packing.places[:count] + 1).tolist()
    assert sums[:count, 0].tolist() == (numbers[:count] * sums[:count, 1]).tolist()
    assert not sums[count:].any()
    assert torch.bincount(packing.rows[:count], minlength=len(lengths)).tolist() == lengths
    assert len(packing.parts) <= most_parts
    assert packing.longest == max(lengths)


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_the_first_cut_of_rows_saves_the_most_and_another_one_saves_more(lengths: list[int]) -> None:
    falling = np.sort(np.array(lengths))[::-1]

    def computed(at: list[int]) -> int:
        ends = [*at, len(falling)]
        return sum((end - begin) * int(falling[begin]) ** 2 for begin, end in zip([0, *at], ends, strict=True))

    assert cuts(falling, 1) == []
    two = cuts(falling, 2)
    assert computed(two) == min(computed([row]) if row else computed([]) for row in range(len(falling)))
    assert computed(cuts(falling, 3)) <= computed(two)


@given(positions=st.integers(0, 100_000))
def test_positions_are_padded_by_less_than_an_eighth_in_few_lengths(positions: int) -> None:
    length = packed_length(positions)
    assert positions <= length <= max(positions * 1.125, 1)
    octave = 1 << max(length.bit_length() - 1, 0)
    assert length % max(1, octave // 8) == 0


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_the_loss_of_a_batch_is_of_its_windows_one_by_one_frames_farther_in_counting_less(
    architecture: str,
) -> None:
    """Of three windows of different lengths, one of which ends its recording, one a copy, one from another start."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    codebooks = rng.normal(size=(2, 8, 4)).astype(np.float32)
    sizes = NetworkSettings(architecture, hidden_size=16, layers=2, heads=2, context_frames=6, copy_kinds=2)
    network = PriorNetwork(SHAPE, codebooks, sizes)
    lengths, kinds, ends = np.array([6, 2, 4]), np.array([0, 1, 2]), np.array([True, False, False])
    frames = rng.integers(0, 8, (3, 7, SHAPE.frame_codes))
    for row, length in enumerate(lengths):
        frames[row, 1 + length :] = 8
    batch = Batch(frames, np.array([0, 5, 70]), lengths, ends, kinds)
    bits, recorded = batch_loss(network, batch, CPU, torch.float32)
    bits.backward()
    gradients = [weights.grad.clone() for weights in network.parameters() if weights.grad is not None]
    network.zero_grad()

    expected, expected_recorded = torch.zeros(()), torch.zeros(())
    for row, length in enumerate(lengths):
        window = torch.as_tensor(frames[row : row + 1, : 1 + length])
        # one frame more, whatever its codes: before it the network says whether the recording is over
        more = torch.cat([window, window[:, -1:]], dim=1)
        first, kind = torch.as_tensor(batch.first_frame[row : row + 1]), torch.as_tensor(kinds[row : row + 1])
        logits, over, _ = network(more, first, kinds=kind)
        codes = -window_log2_probs(logits[:, :length], over[:, :length], window)[0].sum(-1)
        end = -torch.nn.functional.logsigmoid(over[0, length]) / np.log(2) * bool(ends[row])
        far = np.minimum(batch.first_frame[row] + np.arange(length + 1), 6) / (6 / 24)
        weights = torch.as_tensor((1 + far) ** -0.5, dtype=torch.float32)
        expected = expected + (torch.stack([*codes, end]) * weights).sum()
        expected_recorded = expected_recorded + codes.sum() * (kinds[row] != 1)
    expected.backward()
    assert bits.item() == pytest.approx(expected.item(), rel=1e-5)
    assert recorded.item() == pytest.approx(expected_recorded.item(), rel=1e-5)
    for found, weights in zip(gradients, [w for w in network.parameters() if w.grad is not None], strict=True):
        torch.testing.assert_close(found, weights.grad, rtol=1e-4, atol=1e-4)
