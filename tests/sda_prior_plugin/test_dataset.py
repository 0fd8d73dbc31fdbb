"""The corpus."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sda_prior_plugin import CodeCorpus, PriorError
from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.dataset import CodeSequences

from .conftest import counting_grids

SHAPE = CodeShape(bands=2, levels=2, codebook_size=300)
CODEBOOKS = np.ones((2, 300, 4), np.float32)


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_sequences_come_back_as_they_were_and_empty_ones_are_left_out(lengths: list[int]) -> None:
    grids = counting_grids(lengths)
    sequences = CodeSequences.from_grids(grids, SHAPE)
    kept = [grid for grid in grids if len(grid)]
    assert len(sequences) == len(kept)
    for index, grid in enumerate(kept):
        np.testing.assert_array_equal(sequences[index], grid)


def test_codes_are_held_in_the_smallest_type_that_also_has_room_for_no_code() -> None:
    assert CodeShape(1, 1, 255).dtype == np.uint8
    assert CodeShape(1, 1, 256).dtype == np.uint16


def test_sequences_of_one_name_are_variants_of_one_recording() -> None:
    sequences = CodeSequences.from_grids(counting_grids([2, 3, 4]), SHAPE, ["a", "b", "a"])
    assert sequences.names == ("a", "b")
    assert sequences.lengths.tolist() == [2, 4, 3]
    assert sequences.recordings.tolist() == [0, 0, 1]


def test_variants_do_not_make_a_corpus_larger() -> None:
    one = counting_grids([5])
    corpus = CodeCorpus.from_sequences(one * 8, one, codebooks=CODEBOOKS, train_names=["a"] * 8)
    assert corpus.train_codes == 5 * 4


@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        ([], counting_grids([3]), "no codes to train on"),
        (counting_grids([3]), [np.zeros((0, 2, 2), int)], "no codes to judge it by"),
        ([np.zeros((3, 2, 3), int)], counting_grids([3]), "expected"),
        ([np.zeros((3, 4), int)], counting_grids([3]), "expected"),
        ([np.full((3, 2, 2), 300)], counting_grids([3]), "expected 0 to 299"),
        ([np.zeros((3, 2, 2))], counting_grids([3]), "must be integers"),
    ],
)
def test_codes_that_cannot_be_a_corpus_are_refused(train: list, held_out: list, message: str) -> None:
    with pytest.raises(PriorError, match=message):
        CodeCorpus.from_sequences(train, held_out, codebooks=CODEBOOKS)
