"""Drawing must know exactly what the network knows."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from sda_prior_plugin import CodeShape, PriorRun
from sda_prior_plugin.cores import NetworkSettings
from sda_prior_plugin.inference import Memory, Room, follow
from sda_prior_plugin.kernels import add_product, exponentials, gelu
from sda_prior_plugin.laying_out import weights_of
from sda_prior_plugin.network import PriorNetwork
from sda_prior_plugin.sampling import Wanted, draw_for_each, draw_grids
from sda_prior_plugin.sequences import Draw

COPY_KINDS = 2


def random_network(
    architecture: str, hidden_size: int = 48, heads: int = 4, bands: int = 4, timed_frames: int = 0
) -> PriorNetwork:
    """A network with weights that leave nothing at zero, one or the other way round."""
    torch.manual_seed(0)
    shape, rng = CodeShape(bands=bands, levels=3, codebook_size=40), np.random.default_rng(0)
    settings = NetworkSettings(
        architecture, hidden_size=hidden_size, layers=2, heads=heads, context_frames=20, copy_kinds=COPY_KINDS,
        timed_frames=timed_frames,
    )  # fmt: skip
    network = PriorNetwork(shape, rng.normal(size=(3, 40, 16)).astype(np.float32), settings).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights += 0.1 * torch.randn_like(weights)
    return network


@torch.no_grad()
def logits_of(network: PriorNetwork, codes: np.ndarray, kind: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """What the torch module says of codes `[frames, frame codes]`: logits of each, and how probable each end is."""
    kinds = None if kind is None else torch.tensor([kind])
    before = np.full((1, codes.shape[1]), network.shape.codebook_size)
    frames, found, state = torch.as_tensor(np.concatenate([before, codes])[None]), [], None
    for first in range(0, len(codes), 10):
        logits, ends, state = network(frames[:, first : first + 11], torch.tensor([first]), state, kinds=kinds)
        found.append((logits[0].flatten(1, 2), torch.sigmoid(ends[0])))
    return torch.cat([logits for logits, _ in found]).numpy(), torch.cat([ends for _, ends in found]).numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "hidden_size", "heads", "kind", "timed_frames"),
    [("transformer", 48, 4, 2, 0), ("transformer", 20, 2, 0, 100), ("gru", 42, 1, 1, 150)],
)
def test_logits_and_ends_are_those_of_the_torch_module(
    architecture: str, hidden_size: int, heads: int, kind: int, timed_frames: int
) -> None:
    """Over more than 2 000 random codes, several times the context, so that the transformer's window slides."""
    network = random_network(architecture, hidden_size, heads, timed_frames=timed_frames)
    codes = np.random.default_rng(1).integers(0, 40, (180, network.shape.frame_codes))
    expected, expected_ends = logits_of(network, codes, kind)
    memory, found, ends = Memory.of_nothing(network, 1, len(codes)), np.empty_like(expected), np.empty(len(codes))
    room = Room.for_rows(network, 1, memory.keys.shape[3])
    follow(*weights_of(network, kind), memory, room, codes, found, ends)
    assert codes.size >= 2000
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(ends, expected_ends, atol=1e-5)


DRAWING = """
from hashlib import sha256
from sda_prior_plugin.sampling import Wanted, draw_grids
from tests.sda_prior_plugin.test_inference import random_network
for architecture in ("transformer", "gru"):
    for grid in draw_grids(random_network(architecture), 3, Wanted(400, 400, seed=1)):
        print(sha256(grid.tobytes()).hexdigest())
"""
PLAIN = {"NUMBA_CPU_NAME": "generic", "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
"""Registers no wider than all processors of this kind have them, and nothing multiplied and added at once."""


@pytest.mark.slow
def test_a_processor_that_sums_in_another_order_draws_the_same_codes() -> None:
    """Here this one, with what all of its kind can do: 14 400 codes of each network."""

    def drawn(**how: str) -> str:
        command = [sys.executable, "-c", DRAWING]
        return subprocess.run(command, env={**os.environ, **how}, check=True, capture_output=True, text=True).stdout

    assert drawn().count("\n") == 6
    assert drawn(**PLAIN) == drawn()


def test_what_is_as_recorded_is_told_nothing() -> None:
    network = random_network("transformer")
    codes = np.random.default_rng(1).integers(0, 40, (10, network.shape.frame_codes))
    (untold, _), (recorded, _), (copy, _) = (logits_of(network, codes, kind) for kind in (None, 0, 1))
    np.testing.assert_array_equal(untold, recorded)
    assert np.abs(copy - recorded).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_codes_are_drawn_from_the_distribution_of_the_torch_module(architecture: str) -> None:
    """A chi-square test at each of the codes of two frames, given all before it.

    Sums over independent places are chi-square too; a level of 0.001 for the sum accuses a right sampler never, with
    these seeds, and a sampler that is off by a few percent at once.
    """
    network = random_network(architecture, bands=2)
    network.end.bias.data.fill_(-1e9)
    start = np.random.default_rng(2).integers(0, 40, (3, 2, 3))
    wanted = Wanted(2, 2, seed=5, draw=Draw(top_p=1.0), start=start)
    grids = np.stack(draw_grids(network, 4000, wanted)).reshape(4000, -1)
    statistic, freedom = 0.0, 0
    for place in (0, 1, 5):  # the first code; the second, given the first; one that all the rest of the frame precedes
        prefixes, counts = np.unique(grids[:, :place], axis=0, return_counts=True)
        prefix = prefixes[counts.argmax()]
        rows = grids[(grids[:, :place] == prefix).all(1)]
        frame = np.concatenate([prefix, np.zeros(6 - place, int)])
        logits, _ = logits_of(network, np.concatenate([start.reshape(3, 6), frame[None]]))
        p = np.exp(logits[-1, place] - logits[-1, place].max())
        expected = len(rows) * p / p.sum()
        seen = np.bincount(rows[:, place], minlength=40)
        common = expected >= 5
        table = [(seen[common], expected[common]), ([seen[~common].sum()], [expected[~common].sum()])]
        for observed, hoped in table:
            statistic += float(((np.asarray(observed) - hoped) ** 2 / np.maximum(hoped, 1e-9)).sum())
        freedom += int(common.sum())
    limit = freedom + 3.1 * math.sqrt(2 * freedom)  # normal approximation of the 0.999 quantile
    assert freedom > 20
    assert statistic < limit


def test_a_code_that_goes_on_does_so_no_longer_than_its_probabilities_say() -> None:
    """One that is 95 % probable in every frame; by its share alone, top-p would draw it for ever."""
    network = random_network("transformer")
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        network.logits.bias[:, 0] = math.log(0.95 / (0.05 / 39))
        network.end.bias.fill_(-1e9)
    (grid,) = draw_grids(network, 1, Wanted(500, 500, draw=Draw(top_p=0.9), seed=0))
    assert not grid[0].any()  # nothing goes on yet: the code alone is 0.9 and more
    assert 0.03 < (grid != 0).mean() < 0.07


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_what_goes_on_from_codes_remembers_more_of_them_than_the_last_frame(architecture: str) -> None:
    network = random_network(architecture)
    one, other = np.random.default_rng(2).integers(0, 40, (2, 6, 4, 3))
    other[-1] = one[-1]
    after_one, after_other = (draw_grids(network, 5, Wanted(4, 4, seed=5, start=start)) for start in (one, other))
    assert any((a != b).any() for a, b in zip(after_one, after_other, strict=True))


def test_an_hour_needs_no_more_memory_than_the_context() -> None:
    network = random_network("transformer")
    context, hour = (Memory.of_nothing(network, 1, frames) for frames in (20, 21_000))
    assert sum(part.nbytes for part in hour) == sum(part.nbytes for part in context)


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_several_wishes_at_once_give_what_each_would(architecture: str) -> None:
    network, rng = random_network(architecture), np.random.default_rng(0)
    shape = network.shape
    wishes = [
        Wanted(3, 3, seed, start=rng.integers(0, shape.codebook_size, (frames, shape.bands, shape.levels)))
        for seed, frames in ((0, 2), (5, 7), (5, 1))
    ]
    together = draw_for_each(network, 2, wishes)
    assert [len(grids) for grids in together] == [2, 2, 2]
    for wish, grids in zip(wishes, together, strict=True):
        assert np.array_equal(draw_grids(network, 2, wish), grids)


def test_what_is_drawn_costs_the_bits_that_the_prior_expects_it_to(run: PriorRun) -> None:
    """On the mean over thousands of codes, of its own distributions: their entropy."""
    network, surplus = run.prior.network, []
    for grid in draw_grids(network, 200, Wanted(None, 10, seed=1, draw=Draw(top_p=1.0))):
        codes = grid.reshape(len(grid), -1).astype(np.int64)
        memory, logits = (
            Memory.of_nothing(network, 1, len(codes)),
            np.empty((*codes.shape, run.prior.shape.codebook_size)),
        )
        follow(*weights_of(network), memory, Room.for_rows(network, 1, memory.keys.shape[3]), codes, logits, None)
        log2_p = (logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)) / math.log(2)
        entropy = -(np.exp2(log2_p) * log2_p).sum(axis=2)
        surplus.append((-np.take_along_axis(log2_p, codes[..., None], 2)[..., 0] - entropy).ravel())
    bits = np.concatenate(surplus)
    assert len(bits) > 2000
    assert abs(bits.mean()) < 4 * bits.std() / math.sqrt(len(bits))


@pytest.mark.parametrize(("rows", "size", "width"), [(1, 160, 640), (3, 17, 5), (16, 8, 33), (2, 3, 1)])
def test_a_product_is_that_of_numpy(rows: int, size: int, width: int) -> None:
    rng = np.random.default_rng(0)
    x, matrix, y = (rng.normal(size=size) for size in ((rows, size), (size, width), (rows, width)))
    matrix = matrix.astype(np.float32)
    expected = y + x @ matrix
    add_product(rows, x, matrix, np.arange(rows), y)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_gelu_is_that_of_torch() -> None:
    x = np.linspace(-12, 12, 4001)[None]
    expected = torch.nn.functional.gelu(torch.as_tensor(x)).numpy()
    gelu(1, x)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10)


def test_exponentials_are_those_of_numpy() -> None:
    x = np.linspace(-800, 3, 2001)
    bits = np.zeros(len(x), np.int64)
    expected = np.exp(x - 3)
    total = exponentials(x, len(x), 3.0, bits, bits.view(np.float64))
    np.testing.assert_allclose(x, expected, rtol=1e-12, atol=1e-300)
    assert total == pytest.approx(expected.sum(), rel=1e-12)
