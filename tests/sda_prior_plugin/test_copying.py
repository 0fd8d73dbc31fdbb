"""Verbatim copies: found exactly where they are, and kept out of new codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sda_prior_plugin import CodeCorpus, PriorError, PriorRun, train_prior
from sda_prior_plugin.copying import CopyGuard, Heard, copied_windows, covered, moving
from sda_prior_plugin.dataset import CodeSequences
from sda_prior_plugin.window_hashes import completing, frame_hashes

from .conftest import BANDS, LEVELS, SIZE, loops, small_settings

SMALL = st.lists(st.lists(st.integers(0, 2), min_size=0, max_size=14), min_size=1, max_size=5)


def as_grids(rows: list[list[int]]) -> list[np.ndarray]:
    """Grids `[frames, 1, 2]` in which few different frames make many coincidences."""
    return [np.stack([np.array(row, np.int64), np.zeros(len(row), np.int64)], axis=-1)[:, None] for row in rows]


def sequences(grids: list[np.ndarray]) -> CodeSequences:
    return CodeSequences(
        codes=np.concatenate(grids),
        starts=np.cumsum([0, *map(len, grids)]),
        recordings=np.arange(len(grids)),
        names=tuple(f"{number}.wav" for number in range(len(grids))),
    )


def windows(grid: np.ndarray, frames: int) -> list[bytes]:
    """Every window of a grid, by its very codes."""
    flat = np.ascontiguousarray(grid, np.int64)
    return [flat[first : first + frames].tobytes() for first in range(len(flat) - frames + 1)]


def holds_copy(grid: np.ndarray, learned: list[np.ndarray], frames: int) -> bool:
    """Whether any window of the grid occurs in any of the others, by comparing codes one by one."""
    return bool(set(windows(grid, frames)) & {window for other in learned for window in windows(other, frames)})


@settings(deadline=None, max_examples=200)
@given(SMALL, SMALL, st.integers(1, 6))
def test_the_windows_found_are_those_that_a_search_by_hand_finds(
    learned: list[list[int]], new: list[list[int]], frames: int
) -> None:
    learned_grids, grids = as_grids(learned), as_grids(new)
    known = {window for grid in learned_grids for window in windows(grid, frames)}
    heard = Heard.of(sequences(learned_grids))
    (copied, _), (counted, _) = copied_windows(heard, grids, [frames, frames + 2])
    for index, grid in enumerate(grids):
        more_than_one = [len({*map(bytes, grid[i : i + frames])}) > 1 for i in range(max(len(grid) - frames + 1, 0))]
        assert counted[index] == len(more_than_one)
        assert copied[index] == sum(
            window in known and counts for window, counts in zip(windows(grid, frames), more_than_one, strict=True)
        )


@settings(deadline=None, max_examples=200)
@given(SMALL, st.lists(st.integers(0, 2), min_size=1, max_size=20))
def test_passages_are_copies_from_where_they_say_and_the_longest_is_found(
    learned: list[list[int]], new: list[int]
) -> None:
    learned_grids, (grid,) = as_grids(learned), as_grids([new])
    heard = Heard.of(sequences(learned_grids))
    by_name = dict(zip(heard.names, learned_grids, strict=True))
    for passage in heard.passages(grid, 2):
        assert passage.frames >= 2
        original = by_name[passage.name][passage.at : passage.at + passage.frames]
        assert np.array_equal(grid[passage.first : passage.first + passage.frames], original)
    longest = heard.longest_passage([grid], 2)
    hashes = frame_hashes(grid)
    lengths = [
        frames
        for frames in range(2, len(grid) + 1)
        if (moving(hashes, frames) & (heard.places(hashes, frames) >= 0)).any()
    ]
    assert (longest.frames if longest else 0) == max(lengths, default=0)


def test_silence_and_a_sustained_code_are_no_copies() -> None:
    silence = np.zeros((12, BANDS, LEVELS), np.int64)
    copied, counted = copied_windows(Heard.of(sequences([silence])), [silence], [3])
    assert (copied.tolist(), counted.tolist()) == ([[0]], [[10]])


def test_the_share_that_is_copied_counts_each_frame_once() -> None:
    original = np.random.default_rng(0).integers(0, SIZE, (20, BANDS, LEVELS))
    new = np.random.default_rng(1).integers(0, SIZE, (10, BANDS, LEVELS))
    new[2:7] = original[11:16]
    share, passages = covered(Heard.of(sequences([original])), new, 2)
    assert share == pytest.approx(0.5)
    assert [(passage.first, passage.frames, passage.name, passage.at) for passage in passages] == [(2, 5, "0.wav", 11)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frames", "how"), [(2, {}), (1, {"top_k": 1}), (4, {"temperature": 0.05}), (2, {"top_p": 0.3})]
)
def test_with_the_guard_no_window_is_a_copy(
    run: PriorRun, corpus: CodeCorpus, frames: int, how: dict[str, float]
) -> None:
    """Sounds one after another, so that copies across their seams would be seen too."""
    learned = [corpus.train[index] for index in range(len(corpus.train))]
    max_copy = (frames - 1) * run.prior.frame_seconds
    grids = run.prior.samples(4, 60, seed=5, max_copy=max_copy, **how)  # type: ignore[arg-type]
    assert [len(grid) for grid in grids] == [60] * 4
    assert not any(holds_copy(grid, learned, frames) for grid in grids)
    unguarded = run.prior.samples(4, 60, seed=5, **how)  # type: ignore[arg-type]
    assert any(holds_copy(grid, learned, frames) for grid in unguarded), "there must have been something to keep out"


@pytest.mark.slow
def test_ten_minutes_with_max_copy_half_a_second_hold_no_half_second_of_the_recordings(
    run: PriorRun, corpus: CodeCorpus
) -> None:
    seconds = run.prior.frame_seconds
    grids = run.prior.samples(10, round(60 / seconds), seed=1, max_copy=0.5)
    assert sum(len(grid) for grid in grids) * seconds == pytest.approx(600, abs=1)
    frames = next(count for count in range(1, 100) if count * seconds > 0.5)
    learned = [corpus.train[index] for index in range(len(corpus.train))]
    assert not any(holds_copy(grid, learned, frames) for grid in grids)
    assert any(holds_copy(grid, learned, frames - 1) for grid in grids)


def test_the_guard_changes_nothing_where_there_is_nothing_to_keep_out(run: PriorRun, corpus: CodeCorpus) -> None:
    longer_than_any = 100 * run.prior.frame_seconds
    free, guarded = (run.prior.sample(40, seed=2, max_copy=max_copy) for max_copy in (None, longer_than_any))
    assert np.array_equal(free, guarded)


def test_the_last_codes_of_a_frame_are_ruled_out_that_would_complete_what_was_heard() -> None:
    grid = np.zeros((SIZE, 1, 2), np.int64)
    grid[:, 0, 1] = np.arange(SIZE)  # after a first code 0 every second one was heard
    heard, ruled_out = Heard.of(sequences([grid])), np.empty(SIZE, np.bool_)
    alone, pairs = CopyGuard.against(heard, 1), CopyGuard.against(heard, 2)
    none = np.zeros(0, np.uint64)
    completing(alone.table, none, np.array([0, -1]), ruled_out)
    assert ruled_out.all()
    completing(alone.table, none, np.array([1, -1]), ruled_out)
    assert not ruled_out.any()
    completing(pairs.table, frame_hashes(grid[3:4]), np.array([0, -1]), ruled_out)
    assert np.flatnonzero(ruled_out).tolist() == [4]


def test_the_guard_knows_what_a_sound_goes_on_from(run: PriorRun, corpus: CodeCorpus) -> None:
    """The first new frame would complete a copy with the frames before it."""

    def goes_on_as_it_was(recording: np.ndarray, max_copy: float | None) -> bool:
        (frame,) = run.prior.sample(1, top_k=1, start=recording[:3], max_copy=max_copy)
        return np.array_equal(frame, recording[3])

    recordings = [corpus.train[index] for index in range(len(corpus.train)) if len(corpus.train[index]) > 3]
    copied = [recording for recording in recordings if goes_on_as_it_was(recording, None)]
    assert copied
    assert not any(goes_on_as_it_was(recording, 3 * run.prior.frame_seconds) for recording in copied)


def test_a_limit_that_leaves_nothing_to_draw_is_said(codebooks: np.ndarray) -> None:
    every = np.stack(np.meshgrid([0, 1], [0, 1]), axis=-1).reshape(4, 1, 2)  # every frame there is
    tiny = CodeCorpus.from_sequences([every] * 6, [every] * 3, codebooks=codebooks[:, :2])
    prior = train_prior(tiny, small_settings(tiny, epochs=1)).prior
    with pytest.raises(PriorError, match=r"nothing to draw .* allow more"):
        prior.sample(5, max_copy=0.0)


def test_copies_are_recognized_at_any_start_offset(corpus: CodeCorpus) -> None:
    """Variants of a recording are all heard; the passage names the recording."""
    grids = loops(3, seed=9, frames=(10, 11))
    heard = Heard.of(CodeSequences.from_grids(grids, corpus.shape, ["a.wav", "a.wav", "b.wav"]))
    (passage,) = heard.passages(grids[1][2:9], 2)[:1]
    assert (passage.first, passage.frames, passage.name) == (0, 7, "a.wav")


def test_a_passage_of_a_slower_copy_is_told_where_it_is_in_the_recording(corpus: CodeCorpus) -> None:
    rng = np.random.default_rng(0)
    recorded, slower = (rng.integers(0, SIZE, (frames, BANDS, LEVELS)) for frames in (20, 30))
    heard = Heard.of(CodeSequences.from_grids([slower, recorded], corpus.shape, ["a.wav"] * 2, [1, 0]))
    for copied, at in ((recorded[12:18], 12), (slower[18:26], 12)):
        (passage,) = heard.passages(copied, 6)
        assert (passage.frames, passage.at) == (len(copied), at)
