"""Settling what there is to train: the model, its recordings, the settings, and a training that was broken off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sda_prior_plugin.edge.corpus_cache import default_cache
from sda_prior_plugin.edge.file_state import FileState, file_state
from sda_prior_plugin.edge.job import PriorJob
from sda_prior_plugin.edge.recordings import check_all_there, manifest_of, recording_states
from sda_prior_plugin.edge.resumable import StateFile
from sda_prior_plugin.edge.room import needed_bytes
from sda_prior_plugin.edge.unfinished import left_unfinished, resumable
from sda_prior_plugin.encoding import codes_per_second
from sda_prior_plugin.settings import KnobValue, PriorSettings, choose_tier, read_tiers

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import DatasetCheck, Host, Manifest, Model


def prepare_job(
    host: Host,
    path: Path,
    given: Mapping[str, KnobValue],
    *,
    output: Path | None = None,
    dataset: Path | None = None,
    config: Path | None = None,
    cache: bool = True,
    resume: bool = False,
) -> PriorJob:
    """Open a model and settle all that is needed to train its prior, or to go on training it.

    Args:
        host: opens the model and finds its recordings.
        path: of the model.
        given: knobs that the user set.
        output: where it will be saved; None for `path`.
        dataset: where the recordings are now; None for where they were.
        config: a TOML file with other defaults.
        cache: whether codes are kept from one training to the next, in the user's cache folder.
        resume: whether to continue the training for `output` that was broken off, with its settings.

    Raises:
        PriorError: the settings do not fit, recordings are missing, or there is nothing that could be continued with
            this model and what is `given`. (The host's own error says that there is no room on the disk.)
    """
    tiers, output = read_tiers(config), output or path
    states, found, expected = StateFile(output), file_state(output), host.file_state(output)
    opened = open_with_recordings(host, path, dataset)
    seconds, files = opened.train_seconds, len(opened.manifest.files)
    rate = codes_per_second(opened.model.codec)
    tier = choose_tier(tiers, files, sum(seconds), rate)
    settings = PriorSettings.for_size(
        file_count=files, train_seconds=seconds, codes_per_second=rate, given=given, tiers=(tier,)
    )
    names = tier.changed.union(given)
    resumed, unfinished, spoiled = None, "", ""
    if resume:
        resumed = resumable(states, opened.model, settings, names)
        settings, names = resumed.state.settings, frozenset(resumed.given)
    else:
        unfinished, spoiled = left_unfinished(states, opened.model)
    host.check_room(output, needed_bytes(opened.model, settings, sum(seconds), states))
    return PriorJob(
        host=host, model=opened.model, settings=settings, given=names,
        changed=tuple(opened.check.changed), added=tuple(opened.check.added),
        files=files, seconds=sum(seconds), encodings=opened.encodings,
        dataset=dataset, found=found, expected=expected, recordings=opened.recordings,
        cache=default_cache() if cache else None,
        states=states, resumed=resumed, unfinished=unfinished, spoiled=spoiled,
    )  # fmt: skip


class Opened(NamedTuple):
    """A model with recordings that can be trained on, all of them there.

    Attributes:
        check: how the recordings differ from those that the codec was trained on.
        recordings: what was known of each recording's file before it was compared.
    """

    model: Model
    manifest: Manifest
    check: DatasetCheck
    recordings: tuple[FileState, ...]

    @property
    def train_seconds(self) -> list[float]:
        """Seconds of each recording that is trained on."""
        return [entry.train[1] - entry.train[0] for entry in self.manifest.files if entry.train is not None]

    @property
    def encodings(self) -> int:
        """Recordings to encode; a single one counts twice, for its head and its held-out tail."""
        return sum((entry.train is not None) + (entry.held_out is not None) for entry in self.manifest.files)


def open_with_recordings(host: Host, path: Path, dataset: Path | None = None) -> Opened:
    """Open a model and look at its recordings; `dataset` is where they are now, None for where they were.

    Raises:
        PriorError: the model does not say which they are, or some are missing.
    """
    model = host.open_model(path)
    if dataset is not None:
        host.set_dataset(model, dataset)
    recordings = recording_states(model.manifest)
    check = host.check_dataset(model)
    manifest = manifest_of(model)
    check_all_there(check, manifest)
    return Opened(model, manifest, check, recordings)
