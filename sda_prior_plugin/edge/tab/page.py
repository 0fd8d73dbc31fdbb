"""What one open page has chosen and typed, and what it can do: the section without its looks."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakValueDictionary

from sda_prior_plugin.edge.printed import printable
from sda_prior_plugin.edge.resumable import FileState
from sda_prior_plugin.edge.tab.model import (
    ChosenModel,
    Recordings,
    chosen_path,
    look_at,
    look_at_recordings,
    newest,
    seen,
)
from sda_prior_plugin.edge.tab.training import PriorProgress, PriorWork
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.settings import Knob, KnobValue, PriorSettings, meaningful

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host, Job, Jobs, SavedModels, Steps

Looks: TypeAlias = WeakValueDictionary[tuple[Path, tuple[FileState, FileState]], ChosenModel]
"""What pages see of model files, by path and state, as long as one of them does."""
TITLE = "training of the prior"


class PriorPage:
    """One page's part of the section.

    Attributes:
        chosen, recordings: the model, and its recordings once they have been looked at.
        folder: where the user says that they are.
        given, wrong: knobs that the user has set, and what is wrong with those that cannot be so.
        emptied: knobs whose field the user has emptied and not left yet: they are auto, but nothing is put there.
        settings: every knob as it would be; None where there is no model to train one for.
        asking: whether the user is being asked if the prior, or an unfinished training, may be replaced.
        unsettled: why the knobs that are set do not go together, if so.
        problem: what was wrong with the last thing that the user did.
        page: what the sections of a page tell each other.
    """

    def __init__(self, host: Host, models: SavedModels, jobs: Jobs, looks: Looks) -> None:
        self.host, self.models, self.jobs = host, models, jobs
        self.looks = looks
        self.page = SimpleNamespace()
        self._looking_at: ChosenModel | None = None
        self.open()

    def open(self) -> None:
        """The page is new: it finds the training under way, or else the newest model."""
        under_way = [job for job in self.jobs.all() if isinstance(job.progress, PriorProgress) and not job.over]
        self.turn_to(under_way[0].path if under_way else newest(self.models))

    def turn_to(self, path: Path | None) -> None:
        """Choose another model, or none. What was typed for the one before is gone."""
        self.folder: Path | None = None
        self.given: dict[str, KnobValue] = {}
        self.wrong: dict[str, str] = {}
        self.emptied: set[str] = set()
        self.asking = False
        self.problem = ""
        self.settings: PriorSettings | None = None
        self.recordings: Recordings | None = None
        self.chosen = None if path is None else self._look_at(path)
        self.settle()

    def _look_at(self, path: Path) -> ChosenModel:
        """A model file with the recordings where it says; pages that look at the same file share what they see."""
        chosen = self.looks.get((path, seen(path)))
        if chosen is None:
            chosen = look_at(self.host, self.models, path, None)
            self.looks[path, chosen.state] = chosen
        return chosen

    def choose(self, path: str) -> None:
        """Turn to another model, by its value among `choices`, if it is another."""
        if self.chosen is None or path != printable(str(self.chosen.path)):
            self.turn_to(found := chosen_path(self.models, path))
            if found is None:
                raise PriorError("That model is not there any more. Choose another one.")

    def look(self) -> Steps:
        """Time has passed: has the model's file changed, or gone? Are its recordings there?"""
        self.look_again()
        self.page.model = None if self.chosen is None else self.chosen.path
        return self.look_at_recordings()

    def look_again(self) -> None:
        """See whether the model's file has changed, or gone, or whether there is one at last."""
        if self.chosen is None:
            path = newest(self.models)
            if path is not None and not self.problem:
                self.turn_to(path)
            return
        now = seen(self.chosen.path)
        if now[0] is None:
            name = self.chosen.path.name
            self.turn_to(None)
            self.problem = f"{name} is not there any more. Choose another model."
        elif now != self.chosen.state:
            self._follow(self.chosen)

    def _follow(self, before: ChosenModel) -> None:
        """The model's file has changed. If it is about other recordings now, what was known of those is of no use."""
        found = self._look_at(before.path)
        if self.folder is not None and found.recordings == before.recordings:
            found = look_at(self.host, self.models, before.path, self.folder)
        else:
            self.folder = None
        if not found.same_dataset(before):
            self.recordings = None
        self.chosen = found
        self.settle()

    def look_at_recordings(self) -> Steps:
        """See whether the recordings are there, if that is not known."""
        chosen = self.chosen
        if chosen is None or self.recordings is not None or chosen.same_dataset(self._looking_at):
            return
        self._looking_at, named = chosen, self.folder is not None
        try:
            found = yield functools.partial(look_at_recordings, self.host, chosen, named=named)
        finally:
            self._looking_at = None
        if chosen.same_dataset(self.chosen):
            self.recordings = found

    def say_where(self, folder: str) -> Steps:
        """The recordings are in this folder."""
        chosen = self.chosen
        if chosen is None or not folder.strip():
            return
        place = Path(os.path.expanduser(folder.strip()))
        known = chosen.folder
        if known is not None and printable(str(known)).strip() == folder.strip():  # as this page has put it there
            place = known
        found = yield functools.partial(look_at, self.host, self.models, chosen.path, place)
        if self.chosen is not chosen:  # the user has gone on to another model
            return
        if found.model is None:
            raise PriorError(found.problem)
        self.chosen, self.folder, self.recordings = found, place, None
        self.settle()

    def turn(self, value: object, knob: Knob) -> None:
        """Set a knob, or make it auto with nothing."""
        self.give_back(knob)
        if value is None or value == "":
            self.emptied.add(knob.name)
            return
        try:
            self.given[knob.name] = knob.checked(value)
        except PriorError as error:
            self.wrong[knob.name] = str(error)
        self.settle()

    def give_back(self, knob: Knob) -> None:
        """Make a knob auto again."""
        self.given.pop(knob.name, None)
        self.wrong.pop(knob.name, None)
        self.emptied.discard(knob.name)
        self.settle()

    def leave(self, knob: Knob) -> None:
        """The user goes on from a knob's field: if it is empty, what is auto appears there."""
        self.emptied.discard(knob.name)

    def settle(self) -> None:
        """Work out the settings from what is given. Where that does not go together, they stay as they were."""
        self.unsettled = ""
        if self.chosen is None or not self.chosen.files:
            self.settings = None
            return
        try:
            self.settings = self.chosen.settings(self.meant())
        except PriorError as error:
            self.unsettled = str(error)

    def meant(self) -> dict[str, KnobValue]:
        """The knobs that are set, without those that mean nothing to the architecture."""
        return {} if self.chosen is None else meaningful(self.given, self.chosen.settings({}).architecture)

    def ask_to_train(self) -> None:
        """Start, but ask first where there is a prior already, or a training that could be continued."""
        lost = self.chosen is not None and (self.chosen.has_prior or self.chosen.unfinished != "")
        self.asking = lost and self.under_way is None
        if not self.asking:
            self.start()

    def keep(self) -> None:
        """Keep what there is."""
        self.asking = False

    def go_on(self) -> None:
        """Continue the training that was broken off."""
        self.start(resume=True)

    def start(self, *, resume: bool = False) -> None:
        """Start the training that the page describes, or say why not."""
        self.asking = False
        wrong = [*self.wrong.values(), self.unsettled]
        if self.chosen is None:
            raise PriorError("Choose a model first.")
        if sentence := next(filter(None, wrong), ""):
            raise PriorError(sentence)
        path = self.chosen.path
        self.host.check_writable(path)
        self.jobs.start(path, TITLE, PriorWork(self.host, path, self.meant(), self.folder, resume), PriorProgress())

    @property
    def job(self) -> Job | None:
        """The training of the chosen model's prior: the one under way, or the last one."""
        job = None if self.chosen is None else self.jobs.of(self.chosen.path)
        return job if job is not None and isinstance(job.progress, PriorProgress) else None

    @property
    def under_way(self) -> Job | None:
        """The same, if it is under way."""
        job = self.job
        return None if job is None or job.over else job

    def stop(self) -> None:
        """End the training early and keep the best checkpoint."""
        if (job := self.under_way) is not None:
            job.stop()

    def cancel(self) -> None:
        """End the training and leave the file as it is."""
        if (job := self.under_way) is not None:
            job.cancel()
