"""What a prior makes, decoded, beside the recordings: how it sounds, in numbers, how diverse it is and how much copied.

Everything is heard through the codec, so that a dull codec is not held against the prior: what is drawn is compared
with the recordings trained on, as the codec gives them back. The ruler stands beside it: the recordings held out, and
random choices of as many recordings, whatever side they are on. Run it with `make bench-sound`, which trains the
default prior on each corpus and beside it one that is not told which of what it learns from are copies, or with
`--model FILE.sda` for a prior that is there; the tables go to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

import host_stubs
from benchmarks.corpora import Dataset, demo_dataset, encodec_like_dataset, legacy_datasets, sitar_dataset
from benchmarks.pitch import pitches
from benchmarks.reference import reference_samples, train_reference
from benchmarks.results import machine, write_section
from benchmarks.texture import direction, level, texture
from benchmarks.two_sets import Sound, auc, auc_of_some, discrepancy, spread, standardized
from sda_prior_plugin import CodeCorpus, Prior, train_prior
from sda_prior_plugin.dataset import CodeSequences

LONGEST_SECONDS = 20.0
RANDOM_CHOICES = 20
RESAMPLED = 400


class Untold(CodeSequences):
    """Sequences of which a prior is told that all are as recorded, whatever they are."""

    def told(self, later: int) -> np.ndarray:
        """int64 `[sequences]`, 0."""
        return np.zeros(len(self), np.int64)


@dataclass(frozen=True)
class Heard:
    """A set of sounds and what was measured of each.

    Attributes:
        textures: the statistics of each sound's windows.
        seconds, levels, directions: `[sounds]`.
        pitches: Hz of each sound's frames that have a pitch.
        copied, near: `[sounds]`, shares that are verbatim and nearly so; empty where that is not asked, or not known.
    """

    name: str
    textures: list[Sound]
    seconds: np.ndarray
    levels: np.ndarray
    directions: np.ndarray
    pitches: list[np.ndarray]
    copied: np.ndarray
    near: np.ndarray

    @classmethod
    def of(
        cls, name: str, sounds: Sequence[tuple[str, np.ndarray]], rate: int, grids: Sequence[np.ndarray] = (),
        prior: Prior | None = None,
    ) -> Heard:  # fmt: skip
        """Measure sounds, each a name and float `[samples]`; with their codes and a prior, what is copied, too."""
        audio = [samples for _, samples in sounds]
        return cls(
            name=name,
            textures=[Sound(label, texture(samples, rate)) for label, samples in sounds],
            seconds=np.array([len(samples) / rate for samples in audio]),
            levels=np.array([level(samples) for samples in audio]),
            directions=np.array([direction(samples, rate) for samples in audio]),
            pitches=[pitches(samples, rate) for samples in audio],
            copied=np.array([prior.verbatim(grid)[0] for grid in grids] if prior else []),
            near=np.array([prior.near_share(grid) for grid in grids] if prior and prior.sketch else []),
        )


@dataclass(frozen=True)
class Listening:
    """The recordings of a corpus and what its codec makes of codes, to measure a prior by."""

    dataset: Dataset
    prior: Prior

    def recordings(self, part: str) -> list[tuple[str, np.ndarray]]:
        """Name and sound of each recording of a part, with silence after it that fills its last code frame."""
        codec = self.dataset.codec
        found = [(one.name, one.audio) for one in self.dataset.manifest.recordings(part, codec.sample_rate)]
        return [(name, np.pad(audio, (0, -len(audio) % codec.frame_samples))) for name, audio in found]

    def as_they_are(self, name: str, sounds: Sequence[tuple[str, np.ndarray]]) -> Heard:
        """Sounds that no codec has changed."""
        return Heard.of(name, sounds, self.dataset.codec.sample_rate)

    def through_the_codec(self, name: str, sounds: Sequence[tuple[str, np.ndarray]], copies: bool = False) -> Heard:
        """Sounds as the codec gives them back; how much of them is copied only where that is wanted."""
        codec = self.dataset.codec
        grids = [codec.encode(audio) for _, audio in sounds]
        again = [(label, codec.decode(grid)) for (label, _), grid in zip(sounds, grids, strict=True)]
        return Heard.of(name, again, codec.sample_rate, grids, self.prior if copies else None)

    def from_other_starts(self, name: str, sounds: Sequence[tuple[str, np.ndarray]]) -> Heard:
        """The same after a silence shorter than a code frame, as a prior is taught them."""
        rng, size = np.random.default_rng(0), self.dataset.codec.frame_samples
        leads = rng.integers(0, size, len(sounds)).tolist()
        later = [(label, np.pad(audio, (lead, 0))) for (label, audio), lead in zip(sounds, leads, strict=True)]
        return self.through_the_codec(name, later)

    def drawn(self, name: str, grids: Sequence[np.ndarray]) -> Heard:
        """Codes, decoded; empty ones are left out."""
        codec, some = self.dataset.codec, [grid for grid in grids if len(grid)]
        sounds = [(f"{name} {number}", codec.decode(grid)) for number, grid in enumerate(some)]
        return Heard.of(name, sounds, codec.sample_rate, some, self.prior)

    def whole_sounds(self, count: int, temperature: float, top_p: float, by: Prior | None = None) -> Heard:
        """So many sounds as long as the prior makes them, or as another one makes them that was not told of copies."""
        prior, name = (by, "not told of copies") if by else (self.prior, "drawn")
        most = math.ceil(LONGEST_SECONDS / prior.frame_seconds)
        grids = prior.samples(count, None, temperature=temperature, top_p=top_p, max_frames=most)
        return self.drawn(f"{name}, temperature {temperature:g}, top-p {top_p:g}", grids)

    def of_the_reference(self, count: int) -> Heard:
        """So many sounds of a second of the existing host's prior, trained anew."""
        train, held_out = self.dataset.train_pieces(), self.dataset.held_out_pieces()
        reference = train_reference(train, held_out, self.dataset.codec.codebook_size, seed=0).model
        return self.drawn("the existing host's prior", list(reference_samples(reference, train[0].shape, count, 0)))


def interval(values: Sequence[np.ndarray], middle: Callable[[np.ndarray], float]) -> tuple[float, float, float]:
    """A figure of the values of all sounds, `[any]` each, and where nine tenths of it lie with other such sounds.

    The bootstrap (Efron 1979), with the sounds as units.
    """
    rng = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLED):
        some = np.concatenate([values[one] for one in rng.integers(0, len(values), len(values))])
        if len(some):
            found.append(middle(some))
    if not found:
        return math.nan, math.nan, math.nan
    least, most = np.quantile(found, [0.05, 0.95])
    return middle(np.concatenate(values)), float(least), float(most)


def shown(values: Sequence[np.ndarray], middle: Callable[[np.ndarray], float], digits: int) -> str:
    """Such a figure for the table."""
    figure, least, most = interval(values, middle)
    return "none" if math.isnan(figure) else f"{figure:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def known(figure: float) -> str:
    """A figure for the table; nothing where there were too few sounds to know it."""
    return "" if math.isnan(figure) else f"{figure:.3f}"


def among(values: Sequence[float], digits: int) -> str:
    """The mean of some figures, and between what nine tenths of them lie."""
    least, most = np.quantile(values, [0.05, 0.95])
    return f"{np.mean(values):.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def mean(values: np.ndarray) -> float:
    """The mean of `[any]`."""
    return float(values.mean())


def median(values: np.ndarray) -> float:
    """The median of `[any]`."""
    return float(np.median(values))


def compared(ours: Heard, theirs: Heard, few: int) -> list[str]:
    """The columns of the first table, for sounds beside the recordings trained on; `few` are held out."""
    mine, other = (standardized(each.textures, by=theirs.textures) for each in (ours, theirs))
    return [
        str(len(mine)),
        f"{ours.seconds.mean():.1f} s",
        known(auc(mine, other)),
        known(auc_of_some(mine, other, few)),
        f"{1000 * discrepancy(mine, other):.1f}",
        f"{spread(mine, other):.2f}",
        f"{ours.copied.mean():.1%}" if len(ours.copied) else "",
        f"{ours.near.mean():.1%}" if len(ours.near) else "",
    ]


def random_choices(heard: Sequence[Heard], few: int) -> list[str]:
    """The same columns for so many recordings at random beside all others, on average."""
    sounds, rng = [sound for each in heard for sound in each.textures], np.random.default_rng(0)
    aucs, discrepancies = [], []
    for _ in range(RANDOM_CHOICES):
        order = rng.permutation(len(sounds)).tolist()
        theirs = [sounds[one] for one in order[few:]]
        mine, other = standardized([sounds[one] for one in order[:few]], by=theirs), standardized(theirs, by=theirs)
        aucs.append(auc(mine, other))
        discrepancies.append(1000 * discrepancy(mine, other))
    both = [among(values, digits) for values, digits in ((aucs, 3), (discrepancies, 1))]
    return [str(few), "", both[0], both[0], both[1], "", "", ""]


def sounding(ours: Heard) -> list[str]:
    """The columns of the second table."""
    return [
        shown(list(ours.levels[:, None]), mean, 1),
        shown(ours.pitches, median, 0),
        shown(list(ours.directions[:, None]), median, 2),
        f"{(ours.directions < 0).mean():.0%}",
    ]


def rows(
    dataset: Dataset,
    prior: Prior,
    count: int,
    settings: Sequence[tuple[float, float]],
    *,
    untold: Prior | None = None,
    reference: bool = False,
) -> tuple[list[list[str]], list[list[str]]]:
    """The lines of both tables for a corpus, its prior, and others beside it: one not told of copies, the reference."""
    listening = Listening(dataset, prior)
    recordings = listening.recordings("train")
    trained = listening.through_the_codec("recordings trained on", recordings)
    held_out = listening.through_the_codec("recordings held out", listening.recordings("held_out"), copies=True)
    few = len(held_out.textures)

    def sets() -> Iterator[Heard]:
        yield held_out
        yield listening.as_they_are("recordings trained on, not through the codec", recordings)
        yield listening.from_other_starts("recordings trained on, from other start offsets", recordings)
        for temperature, top_p in settings:
            yield listening.whole_sounds(count, temperature, top_p)
        if untold:
            yield listening.whole_sounds(count, 1.0, untold.default_top_p, by=untold)
        if reference:
            yield listening.of_the_reference(count)

    near = [[dataset.name, "any recordings, as many as are held out", *random_choices([trained, held_out], few)]]
    sound = [[dataset.name, trained.name, *sounding(trained)]]
    print(near[-1], sound[-1], flush=True)
    for heard in sets():
        near.append([dataset.name, heard.name, *compared(heard, trained, few)])
        sound.append([dataset.name, heard.name, *sounding(heard)])
        print(near[-1], sound[-1][2:], flush=True)
    return near, sound


def corpora_named(names: Sequence[str]) -> Iterator[Dataset]:
    """The corpora of these names, or all."""
    for each in (*legacy_datasets(), *sitar_dataset(), *encodec_like_dataset(), demo_dataset()):
        if not names or each.name in names:
            yield each


def told_nothing(corpus: CodeCorpus) -> CodeCorpus:
    """The same to learn from, without being told which are copies, nor from which start."""
    train = Untold(**{field.name: getattr(corpus.train, field.name) for field in fields(corpus.train)})
    return replace(corpus, train=train)


def default_priors(dataset: Dataset) -> tuple[Dataset, Prior, Prior]:
    """A corpus, the prior of a training without any setting, and that of the same without being told of copies."""
    settings = dataset.default_settings()
    corpus = dataset.corpus_for(settings)
    return dataset, train_prior(corpus, settings).prior, train_prior(told_nothing(corpus), settings).prior


def of_model(path: Path) -> tuple[Dataset, Prior]:
    """The recordings, codec and prior of a model."""
    model = host_stubs.open_model(path)
    if model.manifest is None or model.prior is None:
        raise SystemExit(f"{path} has no prior, or does not say what it was trained on.")
    return Dataset(model.name, model.manifest, model.codec, len(model.manifest.files)), model.prior


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, action="append", help="a model with a prior, instead of the corpora")
    parser.add_argument("--only", nargs="*", default=[], help="corpora, by name")
    parser.add_argument("--count", type=int, default=64, help="sounds to draw")
    parser.add_argument("--temperature", type=float, nargs="+", default=[1.0])
    parser.add_argument("--top-p", type=float, nargs="+", default=[1.0, 0.9, 0.8, 0.7])
    parser.add_argument("--no-reference", action="store_true", help="without the existing host's prior")
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md as it is")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    corpora: Iterable[tuple[Dataset, Prior, Prior | None]] = (
        ((*of_model(path), None) for path in arguments.model)
        if arguments.model
        else map(default_priors, corpora_named(arguments.only))
    )
    settings = list(itertools.product(arguments.temperature, arguments.top_p))
    near, sound = [], []
    for dataset, prior, untold in corpora:
        print(dataset.name, flush=True)
        found = rows(dataset, prior, arguments.count, settings, untold=untold, reference=not arguments.no_reference)
        near += found[0]
        sound += found[1]
    write(near, sound, arguments.no_write)


def write(near: list[list[str]], sound: list[list[str]], no_write: bool) -> None:
    """Both sections of RESULTS.md, or only to the screen."""
    where = {"path": None} if no_write else {}
    write_section(
        "Sound: how near what is drawn is to the recordings",
        f"Everything as the codec gives it back, beside the recordings trained on, {machine()}. AUC: how often a "
        "classifier of half seconds of log-mel texture takes a drawn one for drawn rather than a recording's, 0.5 "
        "being chance; and the same of as many sounds at a time as recordings are held out, which is what the ruler "
        "has. MMD: squared, unbiased, times 1000. Spread: how far apart the sounds are, over how far apart the "
        "recordings are. Copied: shares of the sound. The first line of a corpus is the mean of "
        f"{RANDOM_CHOICES} choices, and between what nine tenths of them lie.",
        [
            [
                "corpus", "sounds", "how many", "mean length", "AUC", "AUC, as many as held out", "MMD", "spread",
                "verbatim", "nearly so",
            ],
            *near,
        ],
        **where,
    )  # fmt: skip
    write_section(
        "Sound: level, pitch and direction",
        "Of the same sounds: their mean level against full scale; the median of the pitches of their frames (YIN); and "
        "the median of how much more often their bands fall than rise, from -1 to 1, with the share of sounds in which "
        "they rise more often, as in reverse. In brackets where nine tenths of each lie with other such sounds "
        "(bootstrap of the sounds).",
        [["corpus", "sounds", "level, dB", "pitch, Hz", "direction", "backwards"], *sound],
        **where,
    )


if __name__ == "__main__":
    main()
