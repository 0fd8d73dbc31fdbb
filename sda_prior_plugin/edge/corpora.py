"""The codes that a job trains on: found in the cache, or encoded by all members of the team and put together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.devices import chosen_device, moved
from sda_prior_plugin.edge.corpus_cache import CorpusCache, DamagedCorpus, corpus_key
from sda_prior_plugin.edge.file_state import FileState
from sda_prior_plugin.edge.recordings import counted, manifest_of, recording_hashes, recording_states
from sda_prior_plugin.encoding import Encoding
from sda_prior_plugin.kinds import KINDS
from sda_prior_plugin.settings import PriorSettings
from sda_prior_plugin.team import Team

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host, Model


def ignore(*told: object) -> None:
    """What is told to nobody."""


@dataclass(frozen=True)
class Hearing:
    """Who is told how encoding goes.

    Attributes:
        on_recording: called with a recording's name once it is encoded.
        on_part: called with a long recording's name, again and again, and the share of it that is encoded.
        on_note: called with each sentence on where the codes come from that a person should read.
        stop: when set, encoding ends.
    """

    on_recording: Callable[[str], object] = ignore
    on_part: Callable[[str, float], object] = ignore
    on_note: Callable[[str], object] = ignore
    stop: threading.Event | None = None


@dataclass(frozen=True)
class Codes:
    """The codes of a model's recordings, which may be in a cache.

    Attributes:
        settings: from how many starting points they are encoded, and whether there are copies of them.
        changed: recordings that are not as they were when the codec was trained.
        recordings: what was known of each recording's file before it was compared with what the model says of it.
        cache: where codes are kept; None for nowhere.
    """

    host: Host
    model: Model
    settings: PriorSettings
    changed: tuple[str, ...]
    recordings: tuple[FileState, ...]
    cache: CorpusCache | None

    def corpus(self, hearing: Hearing, team: Team) -> CodeCorpus:
        """Those of an earlier training, or else encoded now and kept for a later one.

        What no member has found, all of them encode, each its share; the leader puts it together and into the cache,
        where the others find it. Those that do not share its cache are sent it.

        Raises:
            PriorError: as `encode_recordings` does. That codes cannot be kept is no reason.
        """
        key = team.told(self._key() if team.leads and self.cache is not None else "")
        corpus = self._found(key, hearing)
        have = team.gathered(corpus is not None)
        if all(have):
            return _there(corpus)
        if not have[0]:
            encoded = self._encoded(hearing, team)
            if encoded is not None:
                corpus = self._kept(key, encoded, hearing)
            team.told(None)  # the leader has kept them
        if not team.leads and corpus is None:
            corpus = self._found(key, hearing)
        if all(team.gathered(corpus is not None)):
            return _there(corpus)
        sent = team.told(corpus)
        return _there(sent if corpus is None else corpus)

    def _key(self) -> str:
        codec, manifest = self.model.codec, manifest_of(self.model)
        kinds = KINDS if self.settings.augmented_share else ()
        hashes = recording_hashes(manifest, self.changed)
        return corpus_key(codec, manifest.files, hashes, self.settings.start_offsets, kinds)

    def _found(self, key: str, hearing: Hearing) -> CodeCorpus | None:
        if self.cache is None or not key:
            return None
        try:
            found = self.cache.read(key, self.model.codec.codebooks)
        except DamagedCorpus as error:
            hearing.on_note(f"the codes kept from an earlier training are damaged ({error}); encoding again")
            return None
        if found is not None:
            files = len(manifest_of(self.model).files)
            hearing.on_note(f"codes of {counted(files)} found from an earlier training")
        return found

    def _encoded(self, hearing: Hearing, team: Team) -> CodeCorpus | None:
        """The leader's corpus of what all have encoded; None for the others."""
        train, held_out = (self.host.recordings(self.model, part) for part in ("train", "held_out"))
        copies = self.settings.augmented_share > 0
        encoding = Encoding(self.model.codec, train, held_out, self.settings.start_offsets, copies=copies)
        with moved(self.model.codec, team.device(chosen_device(self.settings.device))):
            mine = encoding.grids(encoding.share(team), hearing.on_recording, hearing.on_part, hearing.stop)
        parts = team.collected(mine)
        if parts is None:
            return None
        for part in parts[1:]:
            for number in part:
                hearing.on_recording(encoding.names[number])
        return encoding.corpus({number: grids for part in parts for number, grids in part.items()})

    def _kept(self, key: str, corpus: CodeCorpus, hearing: Hearing) -> CodeCorpus:
        if self.cache is None or recording_states(manifest_of(self.model)) != self.recordings:
            return corpus  # what has changed meanwhile would be kept under the name of what it was before
        try:
            return self.cache.keep(key, corpus)
        except (OSError, DamagedCorpus) as error:
            reason = getattr(error, "strerror", None) or error
            hearing.on_note(
                f"the codes cannot be kept in {self.cache.folder} for the next training ({reason}); this one goes on"
            )
            return corpus


def _there(corpus: CodeCorpus | None) -> CodeCorpus:
    """A corpus that must be there by now: the leader always has one."""
    assert corpus is not None
    return corpus
