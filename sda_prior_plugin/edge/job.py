"""One training of a prior for a saved model, from the file to the file; the command and the page both run it."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.edge.bundle_entry import NAMESPACE, codebooks_digest
from sda_prior_plugin.edge.corpus_cache import CorpusCache, DamagedCorpus, corpus_key, default_cache
from sda_prior_plugin.edge.resumable import (
    SECONDS_BETWEEN_STATES,
    FileState,
    NewerState,
    StateFile,
    StateKeeper,
    Unfinished,
    now,
)
from sda_prior_plugin.edge.room import needed_bytes
from sda_prior_plugin.encoding import codes_per_second, encode_recordings
from sda_prior_plugin.errors import Diverged, PriorError
from sda_prior_plugin.events import TrainingEvent
from sda_prior_plugin.prior import Prior
from sda_prior_plugin.settings import KNOBS, KnobValue, PriorSettings, choose_tier, read_tiers
from sda_prior_plugin.training import PriorRun, train_prior
from sda_prior_plugin.training_state import NotResumable, TrainingState

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import DatasetCheck, Host, Manifest, Model

MOST_CHANGES = 100
"""Times that a file is seen to have changed before it is given up to."""
LISTED = 5
"""Files named in a message before the rest are counted."""


@dataclass(frozen=True)
class Saved:
    """Where a model with a new prior was saved, and a sentence on what was in the way, if anything was."""

    path: Path
    note: str


@dataclass(frozen=True)
class PriorJob:
    """A model that is ready to have its prior trained.

    Attributes:
        settings: every knob, resolved.
        given: the names of the knobs that the user set, here or in a config file.
        changed: files that are not as they were when the codec was trained.
        added: files in the dataset's folder that the codec was not trained on, and the prior is not either.
        files, seconds: recordings in the dataset, and seconds of sound to train on.
        encodings: recordings to encode; a single one counts twice, for its head and its held-out tail.
        dataset: where the recordings were said to be now; None for where they were.
        found: what was known of the model's file when it was opened.
        expected: the state, as the host has it, of the file that the prior is to be saved in.
        recordings: the same of each recording's file, before it was compared with what the model knows of it.
        cache: where codes are kept from one training to the next; None for nowhere.
        states: where the training's state is kept, should it be broken off.
        resumed: the training that was broken off and is to be continued, if so.
        unfinished: a sentence on a training that was broken off, and would be lost; empty if there is none.
        spoiled: a sentence on the state of one that cannot be continued anyway, and will be replaced; or empty.
    """

    host: Host
    model: Model
    settings: PriorSettings
    given: frozenset[str]
    changed: tuple[str, ...]
    added: tuple[str, ...]
    files: int
    seconds: float
    encodings: int
    dataset: Path | None
    found: FileState
    expected: object
    recordings: tuple[FileState, ...]
    cache: CorpusCache | None
    states: StateFile
    resumed: Unfinished | None = None
    unfinished: str = ""
    spoiled: str = ""

    @property
    def folder(self) -> str:
        """Where the recordings are."""
        return _manifest(self.model).folder

    def train(
        self,
        *,
        on_recording: Callable[[str], object] | None = None,
        on_part: Callable[[str, float], object] | None = None,
        on_note: Callable[[str], object] | None = None,
        on_event: Callable[[TrainingEvent], object] | None = None,
        stop: threading.Event | None = None,
        keeper: StateKeeper | None = None,
    ) -> PriorRun:
        """Encode the recordings and train, or go on with `resumed`.

        Touches no file but the cache, and the one that a `keeper` keeps. Raises as `corpus` and `train_prior` do.
        """
        if self.spoiled and on_note is not None:
            on_note(self.spoiled)

        def tell(event: TrainingEvent) -> None:
            if on_event is not None:
                on_event(event)
            if keeper is not None:
                keeper.on_event(event)

        corpus = self.corpus(on_recording=on_recording, on_part=on_part, on_note=on_note, stop=stop)
        state = None if self.resumed is None else self.resumed.state
        try:
            return train_prior(corpus, self.settings, on_event=tell, stop=stop, resume_from=state)
        except NotResumable as error:
            if keeper is not None:
                keeper.kept = None
            raise PriorError(not_resumable(self.states, error)) from error
        except Diverged:
            if keeper is not None:
                keeper.drop()
            raise

    def keeper(self, on_note: Callable[[str], object], seconds: float = SECONDS_BETWEEN_STATES) -> StateKeeper:
        """A keeper to `train` with.

        Args:
            on_note: called with a sentence when the state cannot be kept.
            seconds: between two states.
        """
        digest = codebooks_digest(self.model.codec)

        def about(state: TrainingState) -> Unfinished:
            return Unfinished(self.states.output.name, now(), digest, tuple(sorted(self.given)), self.found, state)

        resumed = None if self.resumed is None else self.resumed.without_tensors()
        return StateKeeper(self.states, about, on_note, resumed, seconds)

    def corpus(
        self,
        *,
        on_recording: Callable[[str], object] | None = None,
        on_part: Callable[[str, float], object] | None = None,
        on_note: Callable[[str], object] | None = None,
        stop: threading.Event | None = None,
    ) -> CodeCorpus:
        """The codes of the recordings: those of an earlier training, or else encoded now and kept for a later one.

        Args:
            on_recording: called with a recording's name once it is encoded.
            on_part: called with a long recording's name, again and again, and the share of it that is encoded.
            on_note: called with each sentence on where the codes come from that a person should read.
            stop: when set, encoding ends.

        Raises:
            PriorError: as `encode_recordings` does. That codes cannot be kept is no reason.
        """
        note = on_note or (lambda sentence: None)
        encode = functools.partial(
            encode_recordings,
            self.model.codec,
            self.host.recordings(self.model, "train"),
            self.host.recordings(self.model, "held_out"),
            start_offsets=self.settings.start_offsets,
            on_recording=on_recording,
            on_part=on_part,
            stop=stop,
        )
        if self.cache is None:
            return encode()
        codec, manifest = self.model.codec, _manifest(self.model)
        key = corpus_key(codec, manifest.files, self.hashes(), self.settings.start_offsets)
        try:
            found = self.cache.read(key, codec.codebooks)
        except DamagedCorpus as error:
            note(f"the codes kept from an earlier training are damaged ({error}); encoding again")
        else:
            if found is not None:
                note(f"codes of {counted(self.files)} found from an earlier training")
                return found
        corpus = encode()
        if recording_states(manifest) != self.recordings:
            return corpus  # what has changed meanwhile would be kept under the name of what it was before
        try:
            return self.cache.keep(key, corpus)
        except (OSError, DamagedCorpus) as error:
            reason = getattr(error, "strerror", None) or error
            note(f"the codes cannot be kept in {self.cache.folder} for the next training ({reason}); this one goes on")
            return corpus

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the recordings that have changed since the codec was trained, as they are now."""
        found, where = {}, _manifest(self.model).paths()
        for name in self.changed:
            try:
                with where[name].open("rb") as file:
                    found[name] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise PriorError(f"{name} cannot be read ({error.strerror}).") from error
        return found

    def save(self, run: PriorRun, output: Path) -> Saved:
        """Bundle the prior into the model, save it, and open the file again to see that it is there.

        Its state is then of no more use, and goes. Training takes a while: if `output` is no longer what it was when
        the training began, what is there now gets the prior, as long as that is the same model with no other prior; if
        not, it is left alone. Where nothing can be saved at `output`, the host saves the model elsewhere.

        Raises:
            PriorError: the saved file does not hold this prior.
        """
        self.model.prior = run.prior
        saved = self._saved(output)
        prior = self.host.open_model(saved.path).prior
        if not isinstance(prior, Prior) or prior.report != run.report:
            raise PriorError(f"{saved.path} was saved but does not hold the new prior; see the warnings above.")
        self.states.remove()
        return saved

    def _saved(self, output: Path) -> Saved:
        model, expected, note = self.model, self.expected, ""
        changed = f"{output.name} was changed by something else meanwhile"
        for _ in range(MOST_CHANGES):
            try:
                self.host.save_model(model, output, expected)
                return Saved(output, note)
            except Exception as error:
                if not getattr(error, "for_user", False):
                    raise
                if not getattr(error, "file_changed", False):
                    return self._elsewhere(output, str(error))
            expected = self.host.file_state(output)
            newer = self._newer(output)
            if newer is None:
                break
            model, note = newer, f"{changed}; the prior was put into what it is now."
        return self._elsewhere(output, f"{changed}, and is left alone.")

    def _elsewhere(self, output: Path, why: str) -> Saved:
        saved = self.host.save_elsewhere(self.model, output, why)
        return Saved(saved.path, saved.note)

    def _newer(self, output: Path) -> Model | None:
        """What the model's file is now, with the new prior; None if the prior is not for that, or not there to go."""
        if self.model.path is None or output.resolve() != self.model.path.resolve():
            return None
        try:
            newer = self.host.open_model(output)
        except Exception as error:
            if getattr(error, "for_user", False):
                return None
            raise
        same_codec = codebooks_digest(newer.codec) == codebooks_digest(self.model.codec)
        if not same_codec or prior_facts(newer) != prior_facts(self.model):
            return None
        if self.dataset is not None:
            self.host.set_dataset(newer, self.dataset)
        newer.prior = self.model.prior
        return newer


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
    tiers = read_tiers(config)
    states = StateFile(output or path)
    found, expected = file_state(output or path), host.file_state(output or path)
    model = host.open_model(path)
    if dataset is not None:
        host.set_dataset(model, dataset)
    recordings = recording_states(model.manifest)
    check = host.check_dataset(model)
    manifest = _manifest(model)
    if check.missing:
        raise PriorError(
            f"{len(check.missing)} of {len(manifest.files)} recordings are missing from {manifest.folder}: "
            f"{listed(check.missing)}.{renamed_to(check)} If they have moved, say where they are: --dataset DIR"
        )
    seconds = [entry.train[1] - entry.train[0] for entry in manifest.files if entry.train is not None]
    files = len(manifest.files)
    tier = choose_tier(tiers, files, sum(seconds), codes_per_second(model.codec))
    settings = PriorSettings.for_size(file_count=files, train_seconds=seconds, given=given, tiers=(tier,))
    given_names = tier.changed.union(given)
    resumed, unfinished, spoiled = None, "", ""
    if resume:
        resumed = resumable(states, model, settings, given_names)
        settings, given_names = resumed.state.settings, frozenset(resumed.given)
    else:
        unfinished, spoiled = left_unfinished(states, model)
    host.check_room(output or path, needed_bytes(model, settings, sum(seconds), states))
    return PriorJob(
        host=host,
        model=model,
        settings=settings,
        given=given_names,
        changed=tuple(check.changed),
        added=tuple(check.added),
        files=files,
        seconds=sum(seconds),
        encodings=sum((entry.train is not None) + (entry.held_out is not None) for entry in manifest.files),
        dataset=dataset,
        found=found,
        expected=expected,
        recordings=recordings,
        cache=default_cache() if cache else None,
        states=states,
        resumed=resumed,
        unfinished=unfinished,
        spoiled=spoiled,
    )


def resumable(states: StateFile, model: Model, settings: PriorSettings, given: frozenset[str]) -> Unfinished:
    """The training that was broken off, if it can go on with this model and these `given` settings.

    Raises:
        PriorError: it cannot, or there is none.
    """
    try:
        unfinished = states.read()
        if unfinished is None:
            raise PriorError(
                f"There is no unfinished training of {states.output.name} to continue; leave out --resume to start one."
            )
        check_belongs(unfinished, states, model)
    except NotResumable as error:
        raise PriorError(not_resumable(states, error)) from error
    for knob in KNOBS:
        then, wanted = (getattr(each, knob.name) for each in (unfinished.state.settings, settings))
        if knob.name in given and then != wanted:
            raise PriorError(
                f"{knob.flag} is {wanted}, but the unfinished training has {then}; leave it out, or leave out --resume "
                "to start anew."
            )
    return unfinished


def left_unfinished(states: StateFile, model: Model) -> tuple[str, str]:
    """Sentences on a training that was broken off, one of them empty: on one that would be a loss, and on any other."""
    try:
        unfinished = states.look()
        if unfinished is None:
            return "", ""
        check_belongs(unfinished, states, model)
    except NewerState:
        return f"{states.output.name} has an unfinished training of a newer version of this program.", ""
    except NotResumable as error:
        return "", f"an unfinished training in {states.path.name} is of no use, and will be replaced: {error.reason}"
    return unfinished.sentence, ""


def check_belongs(unfinished: Unfinished, states: StateFile, model: Model) -> None:
    """See that a training is one of this model's; that its recordings are the same shows once they are encoded.

    Raises:
        NotResumable: it is not.
    """
    if unfinished.output != states.output.name:
        raise NotResumable(f"it is that of {unfinished.output}")
    if unfinished.codebooks != codebooks_digest(model.codec):
        raise NotResumable(f"it has learned the codes of another codec than {states.output.name} has now")


def not_resumable(states: StateFile, error: NotResumable) -> str:
    """Why a training cannot be continued, for a person."""
    return f"The training in {states.path} cannot be continued: {error.reason}. Leave out --resume to start anew."


def file_state(path: Path) -> FileState:
    """What tells a file from a later one of the same name: its number, size and time of change, or None without one."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def recording_states(manifest: Manifest | None) -> tuple[FileState, ...]:
    """What tells the files of a dataset from later ones."""
    return () if manifest is None else tuple(map(file_state, manifest.paths().values()))


def prior_facts(model: Model) -> dict[str, Any] | None:
    """What a model's file says of its prior, as it was opened; None without one."""
    entry = model.bundle.get(NAMESPACE)
    return None if entry is None else entry.facts


def renamed_to(check: DatasetCheck) -> str:
    """What the missing recordings are called now, as far as their contents were found."""
    names = [f"{old} is now {new}" for old, new in check.renamed.items()]
    return f" Renamed, it seems: {listed(names)}. Give back the old names, or train the codec again." if names else ""


def counted(recordings: int) -> str:
    """So many recordings, in words."""
    return f"{recordings} recording{'' if recordings == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _manifest(model: Model) -> Manifest:
    if model.manifest is None:
        raise PriorError(f"{model.name} does not say which recordings it was trained on. Name them: --dataset DIR")
    return model.manifest
