"""The model that a page has chosen: what is known of it, its dataset, and the settings its prior would get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sda_prior_plugin.dates import day
from sda_prior_plugin.edge.file_state import FileState, file_state
from sda_prior_plugin.edge.printed import printable
from sda_prior_plugin.edge.recordings import counted, listed, renamed_to
from sda_prior_plugin.edge.resumable import StateFile
from sda_prior_plugin.edge.unfinished import left_unfinished
from sda_prior_plugin.encoding import codes_per_second
from sda_prior_plugin.prior import Prior
from sda_prior_plugin.settings import HOST_CODES_PER_SECOND, KnobValue, PriorSettings

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import DatasetCheck, Host, ManifestEntry, Model, SavedModels

SECONDS_TO_LOOK = 5.0
"""For the recordings of a model that is chosen."""


@dataclass(frozen=True)
class ChosenModel:
    """A model file as it was when it was looked at.

    Attributes:
        path, state: the file, and what `seen` gave for it.
        model: None if it cannot be opened; `problem` says why.
        card: lines of the model card.
        folder: where the recordings are, as the user said or as the model does; None if nobody has.
        unfinished: a sentence on the training that was broken off, and could be continued; empty if there is none.
    """

    path: Path
    state: tuple[FileState, FileState]
    model: Model | None
    problem: str
    card: tuple[tuple[str, str], ...]
    folder: Path | None
    unfinished: str = ""

    @property
    def prior(self) -> Prior | None:
        """The prior, if it has one that can be used."""
        return self.model.prior if self.model is not None and isinstance(self.model.prior, Prior) else None

    @property
    def has_prior(self) -> bool:
        """Whether the file holds a prior, whoever can use it."""
        return self.model is not None and self.model.bundle.has_prior

    @property
    def files(self) -> Sequence[ManifestEntry]:
        """Recordings in the dataset; none where that is not known."""
        manifest = None if self.model is None else self.model.manifest
        return () if manifest is None else manifest.files

    @property
    def recordings(self) -> list[tuple[str, str]]:
        """Path and SHA-256 of each recording."""
        return [(entry.path, entry.sha256) for entry in self.files]

    def same_dataset(self, other: ChosenModel | None) -> bool:
        """Whether another look at a model found the same recordings in the same place."""
        known = (self.path, self.folder, self.recordings)
        return other is not None and known == (other.path, other.folder, other.recordings)

    @property
    def train_seconds(self) -> list[float]:
        """Length of each recording to train on."""
        return [entry.train[1] - entry.train[0] for entry in self.files if entry.train is not None]

    def settings(self, given: Mapping[str, KnobValue]) -> PriorSettings:
        """Every knob, `given` ones as they are and the others by the size of the dataset.

        Raises:
            PriorError: they do not go together, or there is nothing to train on.
        """
        rate = HOST_CODES_PER_SECOND if self.model is None else codes_per_second(self.model.codec)
        return PriorSettings.for_size(
            file_count=len(self.files), train_seconds=self.train_seconds, codes_per_second=rate, given=given
        )


def seen(path: Path) -> tuple[FileState, FileState]:
    """What tells a model's file, and the state of its unfinished training, from later ones."""
    return file_state(path), file_state(StateFile(path).path)


def look_at(host: Host, models: SavedModels, path: Path, folder: Path | None) -> ChosenModel:
    """Open a model file; `folder` is where its recordings are now, None for where it says they are.

    What is wrong stands in the result: a page goes on with another model.
    """
    state = seen(path)
    try:
        model = host.open_model(path)
        if folder is not None:
            host.set_dataset(model, folder)
        card = tuple(models.card(model))
    except Exception as error:
        if not getattr(error, "for_user", False):
            raise
        return ChosenModel(path, state, None, str(error), (), folder)
    known = folder or (None if model.manifest is None else Path(model.manifest.folder))
    unfinished, _ = left_unfinished(StateFile(path), model)
    return ChosenModel(path, state, model, "", card, known, unfinished)


@dataclass(frozen=True)
class Recordings:
    """What a look at the recordings of a model gave: a sentence, and whether they can be trained on."""

    sentence: str
    usable: bool


def look_at_recordings(host: Host, chosen: ChosenModel, *, named: bool) -> Recordings:
    """Which recordings will be used, or which are missing. Reads them, for `SECONDS_TO_LOOK` at most.

    A file from elsewhere may name whatever it likes: unless the user has `named` the folder, that is asked first.
    """
    model = chosen.model
    if model is None:
        return Recordings("", False)
    if model.manifest is None:
        return Recordings("This model does not say which recordings it was trained on. Say where they are:", False)
    if not (named or host.dataset_known(model)):
        return Recordings(
            "As far as is known here, this file is not from this machine; nothing that it names has been looked at. It "
            f"says that its recordings are in {chosen.folder}. Say where they are:",
            False,
        )
    try:
        check: DatasetCheck = host.check_dataset(model, SECONDS_TO_LOOK)
    except Exception as error:
        if not getattr(error, "for_user", False):
            raise
        return Recordings(str(error), False)
    if check.missing:
        return Recordings(
            f"{len(check.missing)} of {len(chosen.files)} recordings are missing from {chosen.folder}: "
            f"{listed(check.missing)}.{renamed_to(check)} Say where they are now:",
            False,
        )
    sentence = f"It learns from the recordings of this model: {counted(len(chosen.files))} in {chosen.folder}."
    if check.changed:
        sentence += (
            f" {len(check.changed)} of them changed since the VQ-VAE was trained; it learns from what is there now: "
            f"{listed(check.changed)}."
        )
    if check.added:
        sentence += (
            f" {len(check.added)} more in that folder are not used, for the VQ-VAE was not trained on them: "
            f"{listed(check.added)}."
        )
    if not check.complete:
        sentence += f" In {SECONDS_TO_LOOK:g} seconds not all of them could be looked at; the training does that."
    return Recordings(sentence, True)


def replacing(chosen: ChosenModel) -> str:
    """The question before a prior, or a training that was broken off, is replaced."""
    lost = f"{chosen.unfinished} Starting anew, it is lost." if chosen.unfinished else ""
    if not chosen.has_prior:
        return lost
    known = "that cannot be read"
    if chosen.prior is not None:
        report = chosen.prior.report
        known = f"of {day(report.training_date)}, held-out perplexity {report.final_perplexity:.2f}"
    question = f"{chosen.path.name} has a prior already, {known}. Replace it once the new one is complete?"
    return f"{lost} {question}".strip()


def choices(models: SavedModels) -> list[tuple[str, str]]:
    """The saved models for a dropdown, pairs of label and value; those with a prior are marked."""
    return [
        (printable(saved.path.stem) + (" (with a prior)" if saved.has_prior else ""), printable(str(saved.path)))
        for saved in models.all()
    ]


def chosen_path(models: SavedModels, choice: str) -> Path | None:
    """The model's file that is meant by the value of a choice, which has to be text whatever the file's name is.

    None if it is none of the models that are offered: no other file is opened.
    """
    return next((saved.path for saved in models.all() if printable(str(saved.path)) == choice), None)


def newest(models: SavedModels) -> Path | None:
    """The model that was saved last."""
    found: Sequence[Path] = [saved.path for saved in models.all()]
    return max(found, key=lambda path: (file_state(path) or (0, 0, 0))[2], default=None)
