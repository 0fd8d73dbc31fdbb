"""What one open page has chosen and typed, and what it can do: the section without its looks."""

from __future__ import annotations

import math
import os
import secrets
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

from sda_prior_plugin.edge.bundle_entry import verbatim_facts
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
from sda_prior_plugin.edge.tab.sounds import Sound
from sda_prior_plugin.edge.tab.training import PriorProgress, PriorWork
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.settings import Knob, KnobValue, PriorSettings, is_number, meaningful

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host, Job, Jobs, SavedModels

Looks: TypeAlias = WeakValueDictionary[tuple[Path, tuple[FileState, FileState]], ChosenModel]
"""What pages see of model files, by path and state, as long as one of them does."""
TITLE = "training of the prior"
MOST_SECONDS = 600.0
HIGHEST_TEMPERATURE = 10.0
LARGEST_SEED = 2**32 - 1


class PriorPage:
    """One page's part of the section. Gradio copies one for each page; a copy starts afresh.

    Several requests of a page may run at once: whoever reads or changes it holds `lock`, but for what takes long.

    Attributes:
        chosen, recordings: the model, and its recordings once they have been looked at.
        folder: where the user says that they are.
        given, wrong: knobs that the user has set, and what is wrong with those that cannot be so.
        emptied: knobs whose field the user has emptied and not left yet: they are auto, but nothing is put there.
        settings: every knob as it would be; None where there is no model to train one for.
        asking: whether the user is being asked if the prior, or an unfinished training, may be replaced.
        unsettled: why the knobs that are set do not go together, if so.
        problem: what was wrong with the last thing that the user did; `listening_problem` with the last new sound.
        drawn: the last new sound, and what there is to say of it.
        playing_until: the player is left alone until then, in monotonic seconds.
    """

    def __init__(self, host: Host, models: SavedModels, jobs: Jobs, shared: Looks | None = None) -> None:
        self.host, self.models, self.jobs = host, models, jobs
        self._shared = WeakValueDictionary() if shared is None else shared
        self.lock = threading.Lock()
        self.playing_until = 0.0
        self._looking_at: ChosenModel | None = None
        self.turn_to(None)

    def __deepcopy__(self, memo: dict[int, Any]) -> PriorPage:
        return PriorPage(self.host, self.models, self.jobs, self._shared)

    def turn_to(self, path: Path | None) -> None:
        """Choose another model, or none. What was typed for the one before is gone."""
        self.folder: Path | None = None
        self.given: dict[str, KnobValue] = {}
        self.wrong: dict[str, str] = {}
        self.emptied: set[str] = set()
        self.asking = False
        self.problem = self.listening_problem = ""
        self.drawn: tuple[Sound, str] | None = None
        self.settings: PriorSettings | None = None
        self.recordings: Recordings | None = None
        self.chosen = None if path is None else self._look_at(path)
        self.settle()

    def _look_at(self, path: Path) -> ChosenModel:
        """A model file with the recordings where it says; pages that look at the same file share what they see."""
        chosen = self._shared.get((path, seen(path)))
        if chosen is None:
            chosen = look_at(self.host, self.models, path, None)
            self._shared[path, chosen.state] = chosen
        return chosen

    def choose(self, path: str) -> None:
        """Turn to another model, by its value among `choices`, if it is another."""
        if self.chosen is None or path != printable(str(self.chosen.path)):
            self.turn_to(found := chosen_path(self.models, path))
            if found is None:
                self.problem = "That model is not there any more. Choose another one."

    def open(self) -> None:
        """A page is new: it finds the training under way, or else the newest model."""
        under_way = [job for job in self.jobs.all() if isinstance(job.progress, PriorProgress) and not job.over]
        self.turn_to(under_way[0].path if under_way else newest(self.models))

    def look_again(self) -> None:
        """Time has passed: has the model's file changed, or gone? Is there one at last?"""
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

    def look_at_recordings(self) -> None:
        """See whether the recordings are there, if that is not known. Takes its time, and the lock only around it."""
        with self.lock:
            chosen = self.chosen
            if chosen is None or self.recordings is not None or chosen.same_dataset(self._looking_at):
                return
            self._looking_at, named = chosen, self.folder is not None
        try:
            found = look_at_recordings(self.host, chosen, named=named)
        finally:
            with self.lock:
                self._looking_at = None
        with self.lock:
            if chosen.same_dataset(self.chosen):
                self.recordings = found

    def say_where(self, folder: str) -> None:
        """The recordings are in this folder. Takes its time if that does not answer, and the lock only around it."""
        with self.lock:
            self.problem, chosen = "", self.chosen
        if chosen is None or not folder.strip():
            return
        place = Path(os.path.expanduser(folder.strip()))
        known = chosen.folder
        if known is not None and printable(str(known)).strip() == folder.strip():  # as this page has put it there
            place = known
        found = look_at(self.host, self.models, chosen.path, place)
        with self.lock:
            if self.chosen is not chosen:  # the user has gone on to another model
                return
            if found.model is None:
                self.problem = found.problem
                return
            self.chosen, self.folder, self.recordings = found, place, None
            self.settle()

    def turn(self, knob: Knob, value: object, title: str) -> None:
        """Set a knob, or make it auto with nothing; `title` is what the page calls it."""
        self.give_back(knob)
        if value is None or value == "":
            self.emptied.add(knob.name)
            return
        try:
            self.given[knob.name] = knob.checked(value, title)
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
        self.problem = ""
        lost = self.chosen is not None and (self.chosen.has_prior or self.chosen.unfinished != "")
        self.asking = lost and self.under_way is None
        if not self.asking:
            self.start()

    def keep(self) -> None:
        """Keep what there is."""
        self.asking = False

    def go_on(self) -> None:
        """Continue the training that was broken off, or note why not."""
        self.start(resume=True)

    def start(self, *, resume: bool = False) -> None:
        """Start the training that the page describes, or note why not."""
        self.problem, self.asking = "", False
        wrong = [*self.wrong.values(), self.unsettled]
        if self.chosen is None:
            self.problem = "Choose a model first."
        elif sentence := next(filter(None, wrong), ""):
            self.problem = sentence
        else:
            path = self.chosen.path
            try:
                self.host.check_writable(path)
                work = PriorWork(self.host, path, self.meant(), self.folder, resume)
                self.jobs.start(path, TITLE, work, PriorProgress())
            except Exception as error:
                self.problem = _for_user(error)

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

    def play(self) -> None:
        """The user listens to the training's latest sound: it stays on the page until it is over."""
        sound = None if self.job is None else self.job.progress.sound
        self.playing_until = time.monotonic() + (0 if sound is None else sound.seconds + 1)

    def play_no_more(self) -> None:
        """The user has stopped listening."""
        self.playing_until = 0.0

    def draw(self, seconds: object, temperature: object, seed: object) -> None:
        """Draw a new sound from the model's prior. Takes its time, and the lock only at the end."""
        chosen, drawn, problem = self.chosen, None, ""
        try:
            drawn = drawn_sound(
                chosen,
                _number(seconds, "Seconds", MOST_SECONDS),
                _number(temperature, "Temperature", HIGHEST_TEMPERATURE),
                _seed(seed),
            )
        except Exception as error:
            problem = _for_user(error)
        with self.lock:
            if self.chosen is not None and chosen is not None and self.chosen.path == chosen.path:
                self.drawn, self.listening_problem = drawn or self.drawn, problem


def drawn_sound(chosen: ChosenModel | None, seconds: float, temperature: float, seed: int) -> tuple[Sound, str]:
    """A new sound of a model, and a sentence on it.

    Raises:
        PriorError: the model has no prior.
    """
    if chosen is None or chosen.prior is None or chosen.model is None:
        raise PriorError("This model has no prior yet; train one first.")
    codec = chosen.model.codec
    codes = chosen.prior.sample(
        math.ceil(seconds * codec.sample_rate / codec.frame_samples), seed=seed, temperature=temperature
    )
    audio = codec.decode(codes)[: round(seconds * codec.sample_rate)]
    verbatim = verbatim_facts(chosen.model, codes)
    sentence = f"Seed {seed}. {verbatim[0]}." if verbatim else f"Seed {seed}."
    return Sound(f"{chosen.path.stem}-{seed}.wav", "New sound", codec.sample_rate, audio), sentence


def _number(value: object, name: str, most: float) -> float:
    if not is_number(value) or not 0 < value <= most:
        raise PriorError(f"{name} must be a number above 0, up to {most:g}.")
    return float(value)


def _seed(value: object) -> int:
    """A seed as typed; another one each time for nothing."""
    text = "" if value is None else str(value).strip()
    if not text:
        return secrets.randbelow(LARGEST_SEED + 1)
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise PriorError(f"Seed must be a whole number from 0 to {LARGEST_SEED}, or empty.")
    return int(text)


def _for_user(error: Exception) -> str:
    """An error as a sentence; one that is not meant for a person is raised on."""
    if getattr(error, "for_user", False):
        return str(error)
    raise error
