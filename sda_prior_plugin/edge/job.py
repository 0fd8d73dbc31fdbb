"""A training whose settings are settled, from the recordings to the file; the command and the page both run it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sda_prior_plugin.compiler_process import compiled_aside
from sda_prior_plugin.compiling_ahead import compile_for_training
from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.edge.bundle_entry import codebooks_digest
from sda_prior_plugin.edge.corpora import Codes, Hearing, ignore
from sda_prior_plugin.edge.corpus_cache import CorpusCache
from sda_prior_plugin.edge.file_state import FileState
from sda_prior_plugin.edge.recordings import manifest_of
from sda_prior_plugin.edge.resumable import SECONDS_BETWEEN_STATES, StateFile, StateKeeper, Unfinished, now
from sda_prior_plugin.edge.saving import Saved, save_prior
from sda_prior_plugin.edge.unfinished import not_resumable
from sda_prior_plugin.encoding import code_shape
from sda_prior_plugin.errors import Diverged
from sda_prior_plugin.events import TrainingEvent
from sda_prior_plugin.settings import PriorSettings
from sda_prior_plugin.team import Team
from sda_prior_plugin.training import PriorRun, train_prior
from sda_prior_plugin.training_state import NotResumable, TrainingState

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host, Model


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
        recordings: what was known of each recording's file before it was compared with what the model says of it.
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
        return manifest_of(self.model).folder

    def train(
        self,
        *,
        on_recording: Callable[[str], object] | None = None,
        on_part: Callable[[str, float], object] | None = None,
        on_note: Callable[[str], object] | None = None,
        on_event: Callable[[TrainingEvent], object] | None = None,
        stop: threading.Event | None = None,
        keeper: StateKeeper | None = None,
        team: Team | None = None,
    ) -> PriorRun:
        """Encode the recordings and train, or go on with `resumed`, in a `team` or alone.

        Touches no file but the cache, and the one that a `keeper` keeps. Raises as `corpus` and `train_prior` do.
        """
        if self.spoiled and on_note is not None:
            on_note(self.spoiled)

        def tell(event: TrainingEvent) -> None:
            if on_event is not None:
                on_event(event)
            if keeper is not None:
                keeper.on_event(event)

        team = team or Team()
        if stop is not None:
            team.follow(stop)
        state = None if self.resumed is None else self.resumed.state
        try:
            with compiled_aside(lambda: compile_for_training(self.settings.architecture, code_shape(self.model.codec))):
                corpus = self.corpus(on_recording=on_recording, on_part=on_part, on_note=on_note, stop=stop, team=team)
                return train_prior(corpus, self.settings, on_event=tell, stop=stop, resume_from=state, team=team)
        except NotResumable as error:
            if keeper is not None:
                keeper.kept = None
            raise not_resumable(self.states, error) from error
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
        team: Team | None = None,
    ) -> CodeCorpus:
        """The codes of the recordings, as `Codes.corpus` gives them.

        Args:
            on_recording: called with a recording's name once it is encoded.
            on_part: called with a long recording's name, again and again, and the share of it that is encoded.
            on_note: called with each sentence on where the codes come from that a person should read.
            stop: when set, encoding ends.
            team: that encodes; None for this process alone.
        """
        codes = Codes(self.host, self.model, self.settings, self.changed, self.recordings, self.cache)
        hearing = Hearing(on_recording or ignore, on_part or ignore, on_note or ignore, stop)
        return codes.corpus(hearing, team or Team())

    def save(self, run: PriorRun, output: Path) -> Saved:
        """Bundle the prior into the model and save it as `save_prior` does; its state is then of no use, and goes.

        Raises:
            PriorError: the saved file does not hold this prior.
        """
        self.model.prior = run.prior
        saved = save_prior(self.host, self.model, output, self.expected, self.dataset)
        self.states.remove()
        return saved
