"""Looking for copies in what a run draws: on the way, and to choose the checkpoint that is kept in the end."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from sda_prior_plugin.compiled import compile_time
from sda_prior_plugin.extraction import extract, extraction_frames, first_variants
from sda_prior_plugin.judging import Checkpoint
from sda_prior_plugin.memorization import MemorizationReport
from sda_prior_plugin.run import Run
from sda_prior_plugin.sampling import Wanted, draw_grids
from sda_prior_plugin.watch import CONSECUTIVE, Bits

STEPS_BETWEEN_LOOKS = 200
"""Between two looks at whether the prior recites; each costs about as much as ten steps."""
EPOCHS_BETWEEN_HURRIED_LOOKS = 5
"""The same where the gap between training and held-out bits is wide."""
SOUNDS_IN_A_LOOK = 96
LOOK_SECONDS = 1.0
SOUNDS_IN_REPORT = 64
"""For each of the looks that its verdict takes."""


def look_if_due(run: Run, bits: Bits) -> None:
    """Look whether what the prior draws at the end of an epoch is copied, where that is due."""
    progress, epoch, began = run.progress, run.epoch, run.clock()
    hurried = run.watch.hurried(bits)
    progress = replace(progress, hurried_since=(progress.hurried_since or epoch) if hurried else 0)
    if hurried:
        between = EPOCHS_BETWEEN_HURRIED_LOOKS
        if not run.watch.undecided:  # the longer there was nothing, the less there is to hurry about
            between += (epoch - progress.hurried_since) // 8
        due = epoch - progress.looked_at[0] >= between
    else:
        due = progress.step - progress.looked_at[1] >= STEPS_BETWEEN_LOOKS
    if due:
        with compile_time(lambda: None) as compiling:
            grids = grids_to_look_at(run, hurried)
            run.watch.look(epoch, bits, grids)
        taken = run.clock() - began
        run.pace.choosing = choosing_seconds(run, grids, max(taken - compiling.seconds, 0.0))
        seconds = progress.looking_seconds + taken
        progress = replace(progress, looked_at=(epoch, progress.step), looking_seconds=seconds)
    run.progress = progress


def choosing_seconds(run: Run, grids: list[np.ndarray], taken: float) -> float:
    """About how long `chosen_checkpoint` will take, by how long a look at these grids has."""
    meter, sounds = run.watch.meter, CONSECUTIVE * SOUNDS_IN_REPORT
    if len(run.kept) > 1 and meter.copies_some(grids):
        sounds *= 2
    mean_frames = float(np.minimum(run.corpus.train_frames, meter.sample_frames).mean())
    frames = sounds * mean_frames + extraction_frames(meter.frame_seconds, meter.sketch.frames)
    return taken * frames / max(sum(map(len, grids)), 1)


def grids_to_look_at(run: Run, hurried: bool) -> list[np.ndarray]:
    """What to look for copies in; where it is `hurried` and short sounds show none, long ones, for long copies."""
    grids = drawn_grids(run, SOUNDS_IN_A_LOOK, LOOK_SECONDS, run.epoch)
    if hurried and run.watch.meter.measured(grids).telling is None:
        return drawn_grids(run, SOUNDS_IN_A_LOOK, math.inf, run.epoch)
    return grids


def drawn_grids(run: Run, count: int, seconds: float, stream: int) -> list[np.ndarray]:
    """What the candidate draws, `count` sounds of at most so many seconds."""
    meter = run.watch.meter
    frames = min(meter.sample_frames, max(2 * meter.shortest, round(min(seconds, 3600) / meter.frame_seconds)))
    wanted = Wanted(None, frames, run.settings.seed + stream, run.draws_by)
    mine = run.team.share(range(count))
    return run.team.shared_out(draw_grids(run.candidate, count, wanted, mine), count)


def chosen_checkpoint(run: Run) -> tuple[Checkpoint, MemorizationReport]:
    """The checkpoint to keep, now the candidate, and what is known of its memory.

    The one with the fewest held-out bits; of two that are as good within noise, the one that copies less.
    """
    meter, progress, began = run.watch.meter, run.progress, run.clock()
    *others, checkpoint = run.kept
    looks = looks_at(run, checkpoint)
    grids = list(itertools.chain(*looks))
    if others and meter.copies_some(grids):
        other_looks = looks_at(run, others[0])
        if meter.copies_more(grids, list(itertools.chain(*other_looks))):
            checkpoint, looks = others[0], other_looks
    run.candidate.load_state_dict(checkpoint.weights)
    extraction = extract(
        run.candidate, meter.sketch, first_variants(run.corpus.train), meter.pieces, meter.frame_seconds,
        run.settings.seed, run.team,
    )  # fmt: skip
    bits = Bits(math.log2(progress.train_perplexities[checkpoint.epoch - 1]), checkpoint.bits, run.kept[-1].bits)
    seconds = progress.looking_seconds + run.clock() - began
    return checkpoint, run.watch.report(progress.epochs, bits, looks, extraction, seconds)


def looks_at(run: Run, checkpoint: Checkpoint) -> list[list[np.ndarray]]:
    """What a checkpoint, now the candidate, draws for each look that its verdict takes."""
    run.candidate.load_state_dict(checkpoint.weights)
    return [drawn_grids(run, SOUNDS_IN_REPORT, math.inf, look << 30) for look in range(CONSECUTIVE)]
