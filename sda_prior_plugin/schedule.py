"""How training is cut into epochs, and when it ends: plain arithmetic that the defaults, batches and steps follow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

ROUND_WINDOWS = 256
"""About how many windows a round has at least, where recordings can be visited in several variants."""
EPOCH_WINDOWS = 512
"""About how many windows of a round an epoch has at most, so that a validation never is far away, ..."""
EPOCH_STEPS = 40
"""About how many steps an epoch has at most where a round visits all recordings several times: long windows are many
steps, and whether a training still gains is seen an epoch at a time."""
MOST_PARTS = 256
"""... but for rounds that would be cut into more than so many: what is judged in no time is learned in hours."""
GAIN = 0.03
"""Share of the held-out perplexity that a gain is: for less no training goes on. It is not one of the bits per code:
where those are many most are noise, and so much of them is a great deal."""
PATIENT_STEPS, STEPS_GETTING_WORSE = 320, 120
"""Steps without a gain, and without a better epoch, that a training goes on for at least, in whole epochs: it may rest,
and then gain again, ..."""
LEAST_PATIENCE, PATIENCE_OF_SHORT_EPOCHS = 3, 8
"""... but not fewer epochs than so many, for one or two are soon chance, and no more where epochs are short."""

DECAY_OF_A_CODE, LEAST_DECAY, MOST_DECAY = 1216.9, 0.5, 8.0
"""The default weight decay of a code to learn from, were it not bounded: what little there is to learn from would be
learned by heart. It falls by the power two thirds of how many there are, as was seen from 17 seconds to 300 of the
host's codec, and so a codec that makes more codes of a second gets by with less. The least is reasoned, for hours were
not measured."""


def decay_for(codes: float) -> float:
    """The default weight decay where there are so many codes to train on, to two figures."""
    decay = DECAY_OF_A_CODE / max(codes, 1.0) ** (2 / 3)
    return float(f"{min(max(decay, LEAST_DECAY), MOST_DECAY):.2g}")


def windows_once(lengths: Iterable[float], context: float) -> int:
    """Windows of at most `context` that recordings of these `lengths` are cut into; both in one unit."""
    return sum(max(1, math.ceil(length / context - 1e-6)) for length in lengths)


def visits_per_round(windows: int, variants: int) -> int:
    """How often a round visits each recording, each time in another of its `variants`.

    As often as makes about ROUND_WINDOWS of the `windows` that visiting all recordings once gives.
    """
    return min(variants, max(1, round(ROUND_WINDOWS / max(windows, 1))))


def variants_heard(recorded: int, copies: int, augmented_share: float) -> int:
    """How many of a recording's variants a round can visit that about `augmented_share` of are copies.

    Args:
        recorded, copies: its variants as recorded, and those that are copies.
        augmented_share: below 1.
    """
    return recorded + min(copies, round(recorded * augmented_share / (1 - augmented_share)))


def epochs_per_round(once: int, visits: int, batch_size: int) -> int:
    """Over how many epochs a round is shared out, of `visits` of all recordings, each of so many windows.

    An epoch is long enough to hear all recordings about once, but for large corpora.
    """
    windows = once * visits
    parts = min(round(windows / batch_size / EPOCH_STEPS), visits)
    return min(max(1, round(windows / EPOCH_WINDOWS), parts), MOST_PARTS)


def as_good_as_best(perplexities: Sequence[float], best: float) -> int:
    """The first epoch, from 1, whose perplexity is within `GAIN` of the `best`; 0 where none is finite."""
    bound = best * (1 + GAIN)
    return next((epoch for epoch, one in enumerate(perplexities, 1) if math.isfinite(one) and one <= bound), 0)


def last_epoch_after(gained: int, best: int, patience: float, steps: int) -> int:
    """The epoch with which a training ends where none gains over `gained`, nor is better than the `best`.

    That is `gained` and a share `patience` of it, or, if sooner, `best` and a third of such a share: what gets worse is
    over sooner than what rests. Beyond three epochs it goes on for no more than half as many as the best took, or for
    that share: after a best one that came early most of a training would be waiting. An epoch has about so many
    `steps`.
    """
    rest = max(_epochs_of(PATIENT_STEPS, steps), math.ceil(patience * gained - 1e-6))
    short = min(_epochs_of(STEPS_GETTING_WORSE, steps), max(LEAST_PATIENCE, best // 2))
    return min(gained + rest, best + max(short, math.ceil(patience * best / 3 - 1e-6)))


def _epochs_of(patient_steps: int, steps: int) -> int:
    return min(max(LEAST_PATIENCE, math.ceil(patient_steps / steps)), PATIENCE_OF_SHORT_EPOCHS)
