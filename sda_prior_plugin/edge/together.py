"""`host train-prior` in several processes: the first one is the command, the others work for it without a word.

What the first one has settled it keeps on the team's board. There it finds it again if the whole team is started once
more, as `torchrun --max-restarts` does when one has died.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sda_prior_plugin.edge.corpora import Codes, Hearing
from sda_prior_plugin.edge.corpus_cache import default_cache
from sda_prior_plugin.edge.resumable import StateFile
from sda_prior_plugin.edge.settling import open_with_recordings
from sda_prior_plugin.edge.unfinished import written
from sda_prior_plugin.settings import PriorSettings
from sda_prior_plugin.team import Team
from sda_prior_plugin.training import train_prior

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host

AGREED, SAVED = "agreed", "saved"


def follow(host: Host, team: Team, path: Path, *, dataset: Path | None, cache: bool) -> int:
    """Work for the leader, whose model is at `path` here, too. Gives the exit code that the leader ends with."""
    with host.stop_on_interrupt(quiet=True) as stop:
        opened = open_with_recordings(host, path, dataset)
        settings: PriorSettings | None = team.told(None)
        if settings is not None:
            kept = default_cache() if cache else None
            codes = Codes(host, opened.model, settings, (), opened.recordings, kept)
            team.follow(stop)
            train_prior(codes.corpus(Hearing(stop=stop), team), settings, stop=stop, team=team)
        return team.told(0)


class Settled:
    """What the leader has settled before the team was started again, if it was.

    Args:
        team: of the leader.
        output: where the prior is to be saved.
    """

    def __init__(self, team: Team, output: Path) -> None:
        self.team, self.states = team, StateFile(output)
        self._agreed = team.remembered(AGREED)

    @property
    def agreed(self) -> bool:
        """Whether the training was begun, so that whatever there was to ask is answered."""
        return self._agreed is not None

    @property
    def goes_on(self) -> bool:
        """Whether there is a state of this very training, and not of one that it was to replace."""
        return self.agreed and written(self.states) not in ("", self._agreed)

    def agree(self, *, resumed: bool) -> None:
        """Remember that the training begins, `resumed` or in the place of whatever there is."""
        if not self.agreed:
            self.team.remember(AGREED, "" if resumed else written(self.states))

    def saved(self) -> tuple[int, str] | None:
        """Exit code and result of a training that was saved when a member was lost."""
        found = self.team.remembered(SAVED)
        return None if found is None else tuple(json.loads(found))

    def save(self, code: int, result: str) -> None:
        """Remember that all is done."""
        self.team.remember(SAVED, json.dumps([code, result]))
