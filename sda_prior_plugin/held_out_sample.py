"""What a prior is judged by where hours are held out: stretches of them, the same ones always.

Judging is done again and again, and looking for what is held out in what is trained on costs more than that. Both are
to be done in a part of the time that training takes, however much is held out.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from sda_prior_plugin.dataset import CodeCorpus, CodeSequences

MOST_JUDGED_CODES = 2**18
"""Half an hour of sound in the host's own codec, and half as many codes as a part of an epoch learns from."""
STRETCH_SECONDS = 16.0
"""Short, for the unit of whatever is said of what is held out is the recording: there are to be a hundred of them."""


def judged_by_a_sample(corpus: CodeCorpus) -> CodeCorpus:
    """The corpus, with a sample in the place of what is held out, if that has more than MOST_JUDGED_CODES."""
    most = MOST_JUDGED_CODES // corpus.shape.frame_codes
    if len(corpus.held_out.codes) <= most:
        return corpus
    stretch = max(1, round(STRETCH_SECONDS / corpus.frame_seconds))
    return dataclasses.replace(corpus, held_out=stretches(corpus.held_out, most, stretch))


def stretches(sequences: CodeSequences, most: int, frames: int) -> CodeSequences:
    """At most so many frames of some sequences, in stretches of at most `frames`, or of half of that at least.

    One of each recording, then another one of each, until there is enough: recordings and stretches in random order.
    Names are those of the recordings that are left.
    """
    lengths, rng = sequences.lengths, np.random.default_rng(0)
    counts = -(-lengths // frames)
    sequence = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)
    first, end = (one * lengths[sequence] // counts[sequence] for one in (number, number + 1))
    order = np.lexsort((rng.random(len(sequence)), sequences.recordings[sequence]))  # recording by recording
    recordings = sequences.recordings[sequence[order]]
    turn = np.arange(len(order)) - np.searchsorted(recordings, recordings)
    order = order[np.lexsort((rng.random(len(order)), turn))]
    chosen = np.sort(order[np.cumsum((end - first)[order]) <= most])
    begins = sequences.starts[sequence[chosen]]
    kept, numbers = np.unique(sequences.recordings[sequence[chosen]], return_inverse=True)
    return CodeSequences(
        codes=np.concatenate(
            [
                np.asarray(sequences.codes[begin + one : begin + other])
                for begin, one, other in zip(begins, first[chosen], end[chosen], strict=True)
            ]
        ),
        starts=np.concatenate([[0], np.cumsum((end - first)[chosen])]),
        recordings=numbers,
        names=tuple(sequences.names[recording] for recording in kept),
        inside=first[chosen] > 0,
        sample_of=len(sequences.codes),
    )
