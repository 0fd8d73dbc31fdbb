"""Whether two sets of sounds are told apart: by a kernel, and by a classifier. And how different those of one are.

A set is a list of sounds, each with a name and the statistics of its windows, `[windows, features]`. The unit is the
sound: the windows of one are alike, and never on both sides of a comparison that asks whether others are. Two sounds of
one name are the same recording, and are kept apart as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FOLDS, ROUNDS = 5, 4
CHOICES = 100
"""Of some sounds among many. The AUC of five to nine has a deviation of 0.11 to 0.13 from choice to choice, and the
mean of ten choices still one of 0.04, as large as the differences that are asked about."""
RIDGE = 0.02
"""Of the classifier's weights, beside a mean loss in nats of features with a deviation of 1."""
NEWTON_STEPS = 8


@dataclass(frozen=True)
class Sound:
    """A sound by name, and the statistics of its windows, float `[windows, features]`."""

    name: str
    windows: np.ndarray


def standardized(sounds: Sequence[Sound], by: Sequence[Sound]) -> list[Sound]:
    """The same sounds, their features with the mean 0 and the deviation 1 that those of other ones have."""
    windows = np.concatenate([sound.windows for sound in by])
    scale = windows.std(0)
    scale[scale < 1e-6 * max(float(scale.max()), 1e-12)] = 1.0
    return [Sound(sound.name, (sound.windows - windows.mean(0)) / scale) for sound in sounds]


def discrepancy(ours: Sequence[Sound], theirs: Sequence[Sound]) -> float:
    """The squared maximum mean discrepancy between two sets, 0 on average where they are of one kind.

    The unbiased estimate (Gretton et al. 2012, lemma 6, https://jmlr.org/papers/v13/gretton12a.html), of sounds: a
    sound's kernel with another is the mean over their windows, and none is compared with itself. The kernel is a
    Gaussian, as wide as the median distance between windows of `theirs`.
    """
    width = _median_distance(theirs)
    return _kernel(ours, ours, width) + _kernel(theirs, theirs, width) - 2 * _kernel(ours, theirs, width)


def spread(ours: Sequence[Sound], theirs: Sequence[Sound]) -> float:
    """The mean distance between windows of different sounds of ours, over the same of theirs."""
    found = []
    for sounds in (ours, theirs):
        squares = _squared_distances(_windows(sounds), _windows(sounds))
        found.append(_mean_of_others(np.sqrt(squares), sounds, sounds))
    return found[0] / found[1]


def auc(ours: Sequence[Sound], theirs: Sequence[Sound], seed: int = 0) -> float:
    """How often a classifier takes a window of ours for more likely ours than one of theirs: 0.5 is chance, 1 always.

    A logistic regression with a ridge, trained on some sounds and asked about the others, in folds that share no name;
    all sounds count the same, and both sets. The mean over several divisions into folds.
    """
    rng = np.random.default_rng(seed)
    return float(np.mean([_auc_in_folds(ours, theirs, rng) for _ in range(ROUNDS)]))


def auc_of_some(ours: Sequence[Sound], theirs: Sequence[Sound], count: int) -> float:
    """The mean AUC of so many of our sounds at a time: of more of them a classifier learns more."""
    rng = np.random.default_rng(0)
    if count >= len(ours):
        return auc(ours, theirs)
    chosen = (rng.permutation(len(ours))[:count] for _ in range(CHOICES))
    return float(np.mean([_auc_in_folds([ours[one] for one in some], theirs, rng) for some in chosen]))


def _auc_in_folds(ours: Sequence[Sound], theirs: Sequence[Sound], rng: np.random.Generator) -> float:
    folds = min(FOLDS, len(ours), len(theirs))
    if folds < 2:
        return math.nan
    fold = _folds(ours, theirs, folds, rng)
    found = []
    for one in range(folds):
        inside = [[sound for sound in sounds if fold[sound.name] == one] for sounds in (ours, theirs)]
        outside = [[sound for sound in sounds if fold[sound.name] != one] for sounds in (ours, theirs)]
        if not (all(inside) and all(outside)):
            continue
        weights = _fitted(*outside)
        scores = [[sound.windows @ weights[1:] for sound in sounds] for sounds in inside]
        found.append(np.mean([_above(mine, other) for mine in scores[0] for other in scores[1]]))
    return float(np.mean(found)) if found else math.nan


def _folds(ours: Sequence[Sound], theirs: Sequence[Sound], folds: int, rng: np.random.Generator) -> dict[str, int]:
    """The fold of each name; names of either set are spread evenly."""
    their_names = list(dict.fromkeys(sound.name for sound in theirs))
    own_names = [name for name in dict.fromkeys(sound.name for sound in ours) if name not in set(their_names)]
    return {
        names[place]: number % folds
        for names in (their_names, own_names)
        for number, place in enumerate(rng.permutation(len(names)))
    }


def _fitted(ours: Sequence[Sound], theirs: Sequence[Sound]) -> np.ndarray:
    """`[1 + features]`: offset and weights of a logistic regression that tells ours (1) from theirs (0)."""
    x = np.concatenate([_windows(ours), _windows(theirs)])
    x = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    share = [
        np.full(len(sound.windows), 0.5 / len(sounds) / len(sound.windows))
        for sounds in (ours, theirs)
        for sound in sounds
    ]
    counts, is_ours = np.concatenate(share), np.zeros(len(x))
    is_ours[: sum(len(sound.windows) for sound in ours)] = 1
    penalty = np.full(x.shape[1], RIDGE)
    penalty[0] = 1e-6
    weights = np.zeros(x.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        slope = x.T @ (counts * (p - is_ours)) + penalty * weights
        bend = (x * (counts * p * (1 - p))[:, None]).T @ x + np.diag(penalty)
        weights -= np.linalg.solve(bend, slope)
    return weights


def _above(scores: np.ndarray, others: np.ndarray) -> float:
    """The share of pairs in which a score is above another one; equal ones count half."""
    differences = scores[:, None] - others[None]
    return float((differences > 0).mean() + (differences == 0).mean() / 2)


def _windows(sounds: Sequence[Sound]) -> np.ndarray:
    return np.concatenate([sound.windows for sound in sounds])


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T, 0)


def _median_distance(sounds: Sequence[Sound]) -> float:
    squares = _squared_distances(_windows(sounds), _windows(sounds))
    return math.sqrt(float(np.median(squares[np.triu_indices(len(squares), 1)])))


def _kernel(ours: Sequence[Sound], theirs: Sequence[Sound], width: float) -> float:
    return _mean_of_others(np.exp(-_squared_distances(_windows(ours), _windows(theirs)) / (2 * width**2)), ours, theirs)


def _mean_of_others(values: np.ndarray, ours: Sequence[Sound], theirs: Sequence[Sound]) -> float:
    """The mean over pairs of sounds that are not of one name of the mean of `values` `[windows, windows]` of each."""
    sums = np.add.reduceat(np.add.reduceat(values, _starts(ours), axis=0), _starts(theirs), axis=1)
    counts = [np.array([len(sound.windows) for sound in sounds]) for sounds in (ours, theirs)]
    others = np.array([[mine.name != other.name for other in theirs] for mine in ours])
    return float((sums / np.outer(*counts))[others].mean())


def _starts(sounds: Sequence[Sound]) -> np.ndarray:
    return np.cumsum([0, *(len(sound.windows) for sound in sounds)])[:-1]
