"""The batches that training reads: filled from the flat array of codes by one compiled loop, into memory made once."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.dataset import CodeCorpus, CodeSequences
from sda_prior_plugin.filling import fill
from sda_prior_plugin.mapped import give_back
from sda_prior_plugin.windows import Rounds, Windows

STRETCH_BATCHES = 16
"""About so many batches' windows are shared out among these batches by their lengths."""


class Batch(NamedTuple):
    """Windows of several recordings, padded to one length.

    What a prior is given are `frames[:, :-1]`, what it is to predict are `frames[:, 1:]`. The start token is the frame
    of "no code" before a recording, the end token is `ends`; the mask follows from `lengths`.

    Attributes:
        frames: int64 `[batch, 1 + window, frame_codes]`; the first frame is the one before the window, and holds
            `codebook_size` everywhere ("no code") where the recording starts with the window; padding likewise.
        first_frame: int64 `[batch]`, where in its recording each window starts.
        lengths: int64 `[batch]`, frames of each window that are not padding.
        ends: bool `[batch]`, whether the recording ends with the window.
        kinds: int64 `[batch]`, which kind each window is of, of those that are told: 0 for as recorded and from its
            start, the last for as recorded and from another one, those between for copies; all 0 where none is told.
    """

    frames: np.ndarray
    first_frame: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True)
class BatchPlan:
    """What goes where in some batches, as the compiled loop takes it.

    Attributes:
        rows: int64 `[rows of all batches, 7]`; of each row of a batch the place in the flat array of the first code to
            copy, how many codes of "no code" stand before it, how many are copied, and the window's first frame, its
            frames, whether the recording ends with it, and its kind.
        batches: the rows of each batch.
        windows: frames that each batch is padded to, without the frame before the window.
    """

    rows: np.ndarray
    batches: Sequence[slice]
    windows: Sequence[int]

    @classmethod
    def of(cls, sequences: CodeSequences, windows: Windows, chosen: Sequence[np.ndarray], later: int = 0) -> BatchPlan:
        """The plan of the batches of the `chosen` windows, int `[rows]` each, in rows as long as the longest one.

        `later` is the kind of recordings from another start than their own, where it is told.
        """
        ends = np.cumsum([len(one) for one in chosen])
        batches = [slice(int(end) - len(one), int(end)) for one, end in zip(chosen, ends, strict=True)]
        frame_codes = math.prod(sequences.codes.shape[1:])
        sequence, first, frames = vars(windows[np.concatenate(chosen)]).values()
        begin = sequences.starts[sequence] + first
        before = first > 0  # a frame of the recording stands before the window
        rows = np.empty((len(frames), 7), np.int64)
        rows[:, 0] = (begin - before) * frame_codes
        rows[:, 1] = ~before * frame_codes
        rows[:, 2] = (frames + before) * frame_codes
        rows[:, 3] = first
        rows[:, 4] = frames
        rows[:, 5] = begin + frames == sequences.starts[sequence + 1]
        rows[:, 6] = sequences.told(later)[sequence] if later else 0
        return cls(rows, batches, [int(frames[batch].max()) for batch in batches])

    def padded_to_contexts(self, context: int) -> BatchPlan:
        """The same with each batch in rows of a power of two, up to the `context`, or of some contexts."""
        return replace(self, windows=[padded_length(window, context) for window in self.windows])


def padded_length(frames: int, context: int) -> int:
    """`frames` or more: a power of two up to the `context`, or some contexts, so that batches come in few shapes.

    For each new shape the libraries below torch make code, and keep it.
    """
    if frames > context:
        return -(-frames // context) * context
    return min(1 << (frames - 1).bit_length(), context)


class BatchBuffers:
    """Memory for batches, used again for each of them: what a batch holds is overwritten by the next one.

    With `pin_memory` it is page-locked, from where a GPU fetches faster.
    """

    def __init__(self, frame_codes: int, *, pin_memory: bool = False) -> None:
        self.frame_codes, self.pin_memory = frame_codes, pin_memory
        self._codes, self._counts = np.empty(0, np.int64), np.empty(0, np.int64)
        self._ends = np.empty(0, np.bool_)
        self._batches: dict[tuple[int, int], tuple[Batch, np.ndarray, np.ndarray, np.ndarray]] = {}

    def reserve(self, shapes: Iterable[tuple[int, int]]) -> None:
        """Make room for batches of so many windows of at most so many frames, where there is none yet."""
        wanted = list(shapes)
        codes = max(batch * (1 + window) for batch, window in wanted) * self.frame_codes
        rows = max(batch for batch, _ in wanted)
        if codes > len(self._codes) or rows > len(self._ends):
            self._batches.clear()
            self._codes = self._empty(max(codes, len(self._codes)), torch.int64)
            rows = max(rows, len(self._ends))
            self._counts, self._ends = self._empty(3 * rows, torch.int64), self._empty(rows, torch.bool)

    def views(self, batch: int, window: int) -> tuple[Batch, np.ndarray, np.ndarray, np.ndarray]:
        """The batch of this shape, and its frames, counts and ends as `fill` takes them."""
        found = self._batches.get((batch, window))
        if found is None:
            self.reserve([(batch, window)])
            frames = self._codes[: batch * (1 + window) * self.frame_codes].reshape(batch, -1)
            counts = self._counts[: 3 * batch].reshape(3, batch)
            made = Batch(
                frames=frames.reshape(batch, 1 + window, self.frame_codes),
                first_frame=counts[0],
                lengths=counts[1],
                ends=self._ends[:batch],
                kinds=counts[2],
            )
            found = self._batches[batch, window] = made, frames, counts, made.ends
        return found

    def _empty(self, size: int, dtype: torch.dtype) -> np.ndarray:
        return torch.empty(size, dtype=dtype, pin_memory=self.pin_memory).numpy()


def filled_batches(
    codes: np.ndarray, plan: BatchPlan, numbers: Iterable[int], no_code: int, buffers: BatchBuffers
) -> Iterator[Batch]:
    """The batches of a plan with these numbers, one after another in the same memory.

    After the first one nothing allocates memory for arrays.
    """
    shapes = [(rows.stop - rows.start, window) for rows, window in zip(plan.batches, plan.windows, strict=True)]
    buffers.reserve(shapes)
    views = {shape: buffers.views(*shape) for shape in set(shapes)}
    for number in numbers:
        batch, frames, counts, ends = views[shapes[number]]
        fill(codes, plan.rows[plan.batches[number]], no_code, frames, counts, ends)
        yield batch


def sorted_in_stretches(lengths: np.ndarray, stretch: int) -> np.ndarray:
    """Rows in an order in which neighbours are of about the same length: sorted in stretches of so many."""
    number = np.arange(len(lengths)) // stretch
    longest_first = number * (1 + int(lengths.max())) + np.where(number % 2, lengths, lengths.max() - lengths)
    return np.argsort(longest_first, kind="stable")  # in every second stretch longest last, for its ends to fit


def equal_batches(lengths: np.ndarray, rows: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Neighbours among `rows` for each batch, int `[rows of it]`, `batch_size` on average, the batches in random order.

    Each has about as many frames, given the `lengths` of all rows.
    """
    frames = np.cumsum(lengths[rows])
    count, least, most = -(-len(lengths) // batch_size), int(lengths.max()), int(frames[-1])
    while least < most:  # to the least that the largest has to hold
        middle = (least + most) // 2
        least, most = (least, middle) if len(_ends_of(frames, middle)) <= count else (middle + 1, most)
    batches = np.split(rows, _ends_of(frames, most)[:-1])
    return [batches[one] for one in rng.permutation(len(batches))]


def mixed_batches(lengths: np.ndarray, frames: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of all lengths for each batch, int `[rows of it]`, the batches in random order.

    All have about so many `frames`, so that they come in few shapes: of the rows in a stretch the longest is taken
    first, and each goes to the batch that has the fewest frames so far (Graham 1969, https://doi.org/10.1137/0117039).
    """
    batches: list[np.ndarray] = []
    for rows in np.array_split(np.arange(len(lengths)), max(1, round(lengths.sum() / (STRETCH_BATCHES * frames)))):
        chosen: list[list[int]] = [[] for _ in range(min(len(rows), max(1, round(lengths[rows].sum() / frames))))]
        filled = [(0, number) for number in range(len(chosen))]
        for row in rows[np.argsort(-lengths[rows], kind="stable")].tolist():
            least, number = filled[0]
            chosen[number].append(row)
            heapq.heapreplace(filled, (least + int(lengths[row]), number))
        batches += [np.array(one) for one in chosen]
    return [batches[one] for one in rng.permutation(len(batches))]


def _ends_of(frames: np.ndarray, most: int) -> list[int]:
    """Where batches of at most `most` frames end, by the `frames` up to and with each row."""
    ends, before = list[int](), 0
    while not ends or ends[-1] < len(frames):
        first = ends[-1] if ends else 0
        ends.append(max(first + 1, int(np.searchsorted(frames, before + most, side="right"))))
        before = int(frames[ends[-1] - 1])
    return ends


class CodeBatches(IterableDataset[Batch]):
    """The training batches of a corpus, epoch after epoch; the same seed, epoch and number give the same batch.

    Iterating it gives the batches of the epoch that `set_epoch` has set, at first those of epoch 1. All have about as
    many frames. Windows of about the same length share a batch, so that little of it is padding; with `mixed`, windows
    of all lengths do, so that each batch tells of several recordings. Each batch overwrites the one before: finish with
    it, or copy it, before the next.

    In a `DataLoader` give `batch_size=None`, for these are batches already; they come as tensors. Its workers share the
    batches among them without overlap, and give copies. Workers that live on from epoch to epoch
    (`persistent_workers`) do not hear of `set_epoch`.

    Args:
        corpus: its training part is read.
        context: the most frames of a window.
        batch_size: windows of a batch, on average.
        seed: of the windows and their order.
        rank, world_size: this process among those that share an epoch: it gets every `world_size`-th batch.
        pin_memory: whether a GPU will fetch the batches.
        augmented_share: about the share of the windows that are of copies, where there are some; kinds are told if it
            is not 0.
        mixed: whether windows of all lengths share a batch.
    """

    def __init__(
        self,
        corpus: CodeCorpus,
        *,
        context: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = False,
        augmented_share: float = 0.0,
        mixed: bool = False,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}; of {world_size} processes it must be from 0 to {world_size - 1}")
        self.sequences, self.shape = corpus.train, corpus.shape
        self.context, self.batch_size, self.seed = context, batch_size, seed
        self.rank, self.world_size, self.mixed = rank, world_size, mixed
        self.later = len(corpus.kinds) if augmented_share else 0
        self.rounds = Rounds(corpus.train, context, seed, batch_size=batch_size, augmented_share=augmented_share)
        self._buffers = BatchBuffers(corpus.shape.frame_codes, pin_memory=pin_memory)
        self.set_epoch(1)

    def set_epoch(self, epoch: int, batch: int = 0) -> None:
        """Go to an epoch, counted from 1, and past the first so many of the batches that this process has in it."""
        windows = self.rounds.epoch(epoch)
        rng = np.random.default_rng([self.seed, epoch, 1])
        if self.mixed:
            chosen = mixed_batches(windows.frames, self.batch_size * self.rounds.mean_frames, rng)
        else:
            rows = sorted_in_stretches(windows.frames, STRETCH_BATCHES * self.batch_size)
            chosen = equal_batches(windows.frames, rows, self.batch_size, rng)
        self._plan = BatchPlan.of(self.sequences, windows, chosen, self.later)
        self._numbers = range(self.rank, len(chosen), self.world_size)[batch:]

    def __len__(self) -> int:
        """Batches that iterating gives, all workers of a `DataLoader` together."""
        return len(self._numbers)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        numbers = self._numbers if worker is None else self._numbers[worker.id :: worker.num_workers]
        codes = np.asarray(self.sequences.codes).reshape(-1)
        for batch in filled_batches(codes, self._plan, numbers, self.shape.codebook_size, self._buffers):
            # A worker sends a batch while it already makes the next one.
            yield batch if worker is None else Batch(*(array.copy() for array in batch))
        give_back(self.sequences.codes)


def held_out_batches(sequences: CodeSequences, shape: CodeShape, *, context: int, batch_size: int) -> Iterator[Batch]:
    """Every held-out sequence once and whole, those of about the same length together.

    Each batch overwrites the one before.
    """
    by_length = np.argsort(-sequences.lengths, kind="stable")
    whole = Windows(by_length, np.zeros(len(sequences), dtype=np.int64), sequences.lengths[by_length])
    full = len(whole) - len(whole) % batch_size
    rows = np.arange(len(whole))
    codes = np.asarray(sequences.codes).reshape(-1)
    buffers = BatchBuffers(shape.frame_codes)
    chosen = [*rows[:full].reshape(-1, batch_size), *([rows[full:]] if full < len(rows) else [])]
    plan = BatchPlan.of(sequences, whole, chosen).padded_to_contexts(context)
    yield from filled_batches(codes, plan, range(len(chosen)), shape.codebook_size, buffers)
    give_back(sequences.codes)
