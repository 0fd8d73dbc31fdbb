"""One training of a prior for a saved model, from the file to the file; the command and the page both run it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sda_prior_plugin.encoding import encode_recordings
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.events import TrainingEvent
from sda_prior_plugin.prior import Prior
from sda_prior_plugin.settings import KnobValue, PriorSettings, choose_tier, read_tiers
from sda_prior_plugin.training import PriorRun, train_prior

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host, Manifest, Model

FileState = tuple[int, int, int] | None
LISTED = 5
"""Files named in a message before the rest are counted."""


@dataclass(frozen=True)
class PriorJob:
    """A model that is ready to have its prior trained.

    Attributes:
        settings: every knob, resolved.
        given: the names of the knobs that the user set, here or in a config file.
        changed: files that are not as they were when the codec was trained.
        files, seconds: recordings in the dataset, and seconds of sound to train on.
        encodings: recordings to encode; a single one counts twice, for its head and its held-out tail.
        found: what was known of the model's file when it was opened.
    """

    host: Host
    model: Model
    settings: PriorSettings
    given: frozenset[str]
    changed: tuple[str, ...]
    files: int
    seconds: float
    encodings: int
    found: FileState

    @property
    def folder(self) -> str:
        """Where the recordings are."""
        return _manifest(self.model).folder

    def train(
        self,
        *,
        on_recording: Callable[[str], object] | None = None,
        on_event: Callable[[TrainingEvent], object] | None = None,
        stop: threading.Event | None = None,
    ) -> PriorRun:
        """Encode the recordings and train. Touches no file; raises as `encode_recordings` and `train_prior` do."""
        corpus = encode_recordings(
            self.model.codec,
            self.host.recordings(self.model, "train"),
            self.host.recordings(self.model, "held_out"),
            start_offsets=self.settings.start_offsets,
            on_recording=on_recording,
            stop=stop,
        )
        return train_prior(corpus, self.settings, on_event=on_event, stop=stop)

    def save(self, run: PriorRun, output: Path) -> Path:
        """Bundle the prior into the model, save it, and open the file again to see that it is there.

        Training takes a while. If `output` is no longer what it was when the training began, it is left alone, and the
        model is saved beside it.

        Returns:
            where the model is saved.

        Raises:
            PriorError: the saved file does not hold this prior.
        """
        if file_state(output) != self.found:
            output = free_name_beside(output)
        self.model.prior = run.prior
        self.host.save_model(self.model, output)
        saved = self.host.open_model(output).prior
        if not isinstance(saved, Prior) or saved.report != run.report:
            raise PriorError(f"{output} was saved but does not hold the new prior; see the warnings above.")
        return output


def prepare_job(
    host: Host,
    path: Path,
    given: Mapping[str, KnobValue],
    *,
    output: Path | None = None,
    dataset: Path | None = None,
    config: Path | None = None,
) -> PriorJob:
    """Open a model and settle all that is needed to train its prior.

    Args:
        host: opens the model and finds its recordings.
        path: of the model.
        given: knobs that the user set.
        output: where it will be saved; None for `path`.
        dataset: where the recordings are now; None for where they were.
        config: a TOML file with other defaults.

    Raises:
        PriorError: the settings do not fit, or recordings are missing.
    """
    tiers = read_tiers(config)
    found = file_state(output or path)
    model = host.open_model(path)
    if dataset is not None:
        host.set_dataset(model, dataset)
    check = host.check_dataset(model)
    manifest = _manifest(model)
    if check.missing:
        raise PriorError(
            f"{len(check.missing)} of {len(manifest.files)} recordings are missing from {manifest.folder}: "
            f"{listed(check.missing)}. If they have moved, say where they are: --dataset DIR"
        )
    seconds = [entry.train[1] - entry.train[0] for entry in manifest.files if entry.train is not None]
    files = len(manifest.files)
    tier = choose_tier(tiers, files, sum(seconds))
    return PriorJob(
        host=host,
        model=model,
        settings=PriorSettings.for_size(file_count=files, train_seconds=seconds, given=given, tiers=(tier,)),
        given=tier.changed.union(given),
        changed=tuple(check.changed),
        files=files,
        seconds=sum(seconds),
        encodings=sum((entry.train is not None) + (entry.held_out is not None) for entry in manifest.files),
        found=found,
    )


def file_state(path: Path) -> FileState:
    """What tells a file from a later one of the same name: its number, size and time of change, or None without one."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def free_name_beside(path: Path) -> Path:
    """A name like `path`'s, in its folder, that no file has."""
    names = (path.with_name(f"{path.stem}-prior{number}{path.suffix}") for number in ["", *map(str, range(2, 1000))])
    return next(name for name in names if not name.exists())


def listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _manifest(model: Model) -> Manifest:
    if model.manifest is None:
        raise PriorError(f"{model.name} does not say which recordings it was trained on. Name them: --dataset DIR")
    return model.manifest
