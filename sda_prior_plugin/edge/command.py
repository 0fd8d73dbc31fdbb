"""`host train-prior`: flags made from the knobs, messages on stderr, the result on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sda_prior_plugin import edge
from sda_prior_plugin.edge.printed import printable, say
from sda_prior_plugin.errors import PriorError
from sda_prior_plugin.settings import KNOBS, Knob, KnobValue
from sda_prior_plugin.team import Team, TeamBroken, joined

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Host
    from sda_prior_plugin.edge.job import PriorJob
    from sda_prior_plugin.edge.resumable import StateKeeper
    from sda_prior_plugin.edge.saving import Saved
    from sda_prior_plugin.training import PriorRun

RANGES: dict[type, Callable[[Any, Any], click.ParamType]] = {int: click.IntRange, float: click.FloatRange}
WORDS = {knob.name: knob.flag for knob in KNOBS} | {
    "train again": "train it again with train-prior --overwrite",
    "say where": "say where they are: --dataset DIR",
    "set back": "leave it out",
    "start anew": "leave out --resume to start anew",
}
"""What terms of errors mean to this command."""
MODEL_FILE = click.Path(path_type=Path)
SUFFIX = ".sda"
SAVED_ELSEWHERE = 3
"""Exit code where all went well, but the result could not be saved where it was wanted; the host's commands have it."""


def train_prior_command(host: Host) -> click.Command:
    """The command, for this host."""

    @click.command("train-prior", context_settings={"show_default": True})
    @click.argument("model_path", metavar="MODEL.sda", type=MODEL_FILE)
    @click.option("--dataset", metavar="DIR", type=click.Path(path_type=Path), help="Where the recordings are now.")
    @click.option("--output", metavar="MODEL.sda", type=MODEL_FILE, help="Save there and leave MODEL.sda as it is.")
    @click.option(
        "--overwrite", is_flag=True, help="Replace a prior, an output file or an unfinished training, without asking."
    )
    @click.option(
        "--resume", is_flag=True, help="Continue a training that was broken off, with the settings it began with."
    )
    @click.option("--config", metavar="prior.toml", type=MODEL_FILE, help="A file with defaults of your own.")
    @click.option(
        "--no-cache", is_flag=True, help="Encode the recordings anew and keep no codes for the next training."
    )
    @click.option("--json", "as_json", is_flag=True, help="Write the result to stdout as JSON.")
    def train_prior(
        model_path: Path,
        dataset: Path | None,
        output: Path | None,
        overwrite: bool,
        resume: bool,
        config: Path | None,
        no_cache: bool,
        as_json: bool,
        **knobs: KnobValue | None,
    ) -> None:
        """Teach MODEL.sda to make new sound: train a prior on its recordings and save it in the file.

        Settings that are not given follow from the size of the dataset. Ctrl-C stops and keeps the best so far; a
        second Ctrl-C leaves the file as it was. SIGTERM and closing the terminal do the same as the first Ctrl-C. A
        training that was broken off can be continued with --resume.
        """
        given = {name: value for name, value in knobs.items() if value is not None}
        wish = Wish(model_path, output or model_path, given, dataset, config, not no_cache, overwrite, resume)
        with in_words_of_the_command(), joined_team() as team:
            if team.leads:
                code, text = lead(host, team, wish, as_json=as_json)
                click.echo(text)
                with suppress(TeamBroken):  # whoever is lost by now is no loss
                    team.told(code)
            else:
                code = edge.follow(host, team, model_path, dataset=dataset, cache=wish.cache)
        if code:
            click.get_current_context().exit(code)

    for knob in sorted(KNOBS, key=lambda knob: not knob.main):
        train_prior.params.append(knob_option(knob))
    return train_prior


@contextmanager
def in_words_of_the_command() -> Iterator[None]:
    """Errors from inside the block say what to do with flags."""
    try:
        yield
    except PriorError as error:
        error.args = (error.said(WORDS),)
        raise


@contextmanager
def joined_team() -> Iterator[Team]:
    """The team of this process. A member that does not lead ends without a word, where another one says why."""
    team = joined()
    try:
        with team:
            yield team
    except (Exception, KeyboardInterrupt) as error:
        meant = isinstance(error, KeyboardInterrupt) or getattr(error, "for_user", False)
        speaks = team.leads or (isinstance(error, TeamBroken) and error.first)
        if speaks or not meant:
            raise
        raise click.exceptions.Exit(1) from error


def knob_option(knob: Knob) -> click.Option:
    """The flag of a knob; not given, it is None."""
    kind = click.Choice(knob.choices) if knob.choices else RANGES[knob.kind](knob.minimum, knob.maximum)
    return click.Option([knob.flag, knob.name], type=kind, help=f"{knob.help} [default: auto]")


@dataclass(frozen=True)
class Wish:
    """What the command was asked for.

    Attributes:
        model_path, target: the model, and where it is saved with its prior.
        given: knobs that the user set.
        dataset, config, cache, resume: as `prepare_job` takes them.
        overwrite: whether to replace without asking.
    """

    model_path: Path
    target: Path
    given: Mapping[str, KnobValue]
    dataset: Path | None
    config: Path | None
    cache: bool
    overwrite: bool
    resume: bool

    @property
    def untouched(self) -> str:
        """What is said where nothing was saved."""
        return f"{self.model_path} is exactly as it was."

    @property
    def to_go_on(self) -> str:
        """The command that continues the training, if it is broken off."""
        output = "" if self.target == self.model_path else f" --output {self.target}"
        return f"host train-prior {self.model_path} --resume{output}"


def lead(host: Host, team: Team, wish: Wish, *, as_json: bool) -> tuple[int, str]:
    """Settle, train and save as the first process of a team. Gives the exit code, and the result to print."""
    say(f"opening {wish.model_path} and looking at its recordings")
    settled = edge.Settled(team, wish.target)
    if (done := settled.saved()) is not None:
        team.told(None)  # there is nothing left to train
        return done
    with host.claim(wish.target, "trained"):
        try:
            job = edge.prepare_job(
                host, wish.model_path, wish.given, output=wish.target, dataset=wish.dataset, config=wish.config,
                cache=wish.cache, resume=wish.resume or settled.goes_on,
            )  # fmt: skip
            may_write(host, job, wish.model_path, wish.target, wish.overwrite or settled.agreed)
        except KeyboardInterrupt as interrupt:
            raise PriorError(f"Stopped. {wish.untouched}") from interrupt
        settled.agree(resumed=job.resumed is not None)
        team.told(job.settings)
        for line in describe(job):
            say(line)
        run, saved, compiling_seconds = _run(host, job, wish, team)
        lines = [printable(f"{label}: {text}") for label, text in edge.card_lines(job.model)]
        facts = result(job, run, saved, wish.target, compiling_seconds)
        text = json.dumps(facts, indent=2) if as_json else "\n".join(lines)
        code = 0 if saved.path == wish.target else SAVED_ELSEWHERE
        settled.save(code, text)
    return code, text


def may_write(host: Host, job: PriorJob, model_path: Path, target: Path, overwrite: bool) -> None:
    """Come back only if the result may be written to `target`, having asked where anything would be replaced.

    A training that is resumed may replace what it began to replace.

    Raises:
        PriorError: `target` is not named like a model, or there is nobody to ask.
        click.Abort: the answer was no.
    """
    if target.suffix != SUFFIX:
        raise PriorError(f"The output file must end in {SUFFIX}; {target} does not.")
    host.check_writable(target)
    if overwrite:
        return
    if job.unfinished:
        agree(
            f"{job.unfinished} --resume continues it; --overwrite starts anew in its place.",
            f"{job.unfinished} Start anew, and lose it? (--resume continues it)",
        )
    if job.resumed is not None and job.resumed.found == job.found:
        return
    if target.exists() and not target.samefile(model_path):
        replaced = f"{target} exists already"
    elif job.model.bundle.has_prior and target.exists():
        replaced = f"{target} has a prior already"
    else:
        return
    agree(
        f"{replaced}. --overwrite replaces it; --output OTHER.sda leaves it as it is.",
        f"{replaced}. Replace it once the new one is complete?",
    )


def agree(refusal: str, question: str) -> None:
    """Come back only if a person says yes to the question.

    Raises:
        PriorError: there is nobody to ask; the refusal says so.
        click.Abort: the answer was no.
    """
    if not sys.stdin.isatty():
        raise PriorError(refusal)
    click.confirm(printable(question), abort=True, err=True)


def describe(job: PriorJob) -> list[str]:
    """What is about to happen: the dataset, and each setting with where it comes from."""
    lines = [f"{edge.counted(job.files)} in {job.folder}, {job.seconds:.1f} s to train on"]
    if job.resumed is not None:
        lines.append(f"{job.resumed.sentence} It is continued.")
    if job.changed:
        lines.append(
            f"warning: {edge.counted(len(job.changed))} changed since the codec was trained; the prior learns from "
            f"what is there now: {edge.listed(job.changed)}"
        )
    if job.added:
        lines.append(
            f"warning: {edge.counted(len(job.added))} in that folder not used, for the codec was not trained on them: "
            f"{edge.listed(job.added)}. To use them, train it again: host train"
        )
    for knob in KNOBS:
        if knob.architecture in (None, job.settings.architecture):
            origin = "set" if knob.name in job.given else "auto"
            lines.append(f"  {knob.name.replace('_', ' '):<16} {getattr(job.settings, knob.name)} ({origin})")
    return lines


def result(job: PriorJob, run: PriorRun, saved: Saved, wanted: Path, compiling_seconds: float) -> dict[str, Any]:
    """The command's result as JSON; for some of the `compiling_seconds` the training may have waited."""
    settings = {
        name: {"value": value, "origin": "set" if name in job.given else "auto"}
        for name, value in job.settings.as_dict().items()
    }
    report = run.report.as_dict()
    account = {} if job.model.manifest is None else job.model.manifest.account.to_json()
    dataset = {"changed": list(job.changed), "added": list(job.added), "account": account}
    return {
        "model": str(saved.path),
        "saved_elsewhere": None if saved.path == wanted else saved.note,
        "settings": settings,
        "dataset": dataset,
        **report,
        "compiling_seconds": compiling_seconds,
    }


def _run(host: Host, job: PriorJob, wish: Wish, team: Team) -> tuple[PriorRun, Saved, float]:
    """Train and save, showing how it goes; every way out says what became of the file.

    The last one given are the seconds that compiling took.
    """
    saving, keeper, progress = False, None, edge.ConsoleProgress(job)
    try:
        with host.stop_on_interrupt() as stop:
            keeper = job.keeper(progress.on_note)
            with progress:
                run = job.train(
                    on_recording=progress.on_recording,
                    on_part=progress.on_part,
                    on_note=progress.on_note,
                    on_event=progress.on_event,
                    stop=stop,
                    keeper=keeper,
                    team=team,
                )
            saving = True
            saved = job.save(run, wish.target)
    except KeyboardInterrupt as interrupt:
        if saving:
            raise PriorError(
                f"Interrupted while saving: {wish.target} is whole, as it was or with the prior."
            ) from interrupt
        raise PriorError(f"Stopped at once. {wish.untouched}{_to_go_on(keeper, wish)}") from interrupt
    except Exception as error:
        if not getattr(error, "for_user", False):
            raise
        said = error.said(WORDS) if isinstance(error, PriorError) else str(error)
        raise PriorError(f"{said} {'' if saving else wish.untouched}{_to_go_on(keeper, wish)}".strip()) from error
    ended = {
        "finished": "Training is finished.",
        "no better": "Training is finished: it hardly got better.",
        "stopped": "Training was stopped; the best checkpoint so far is kept.",
        "diverged": "Training diverged; the best checkpoint before that is kept.",
    }
    if saved.note:
        say(f"warning: {saved.note}")
    say(f"{ended[run.report.ended]} The prior is saved in {saved.path}")
    return run, saved, progress.compiling.seconds


def _to_go_on(keeper: StateKeeper | None, wish: Wish) -> str:
    """How to continue what was broken off, where that is possible."""
    if keeper is None or keeper.kept is None:
        return ""
    return f" {keeper.kept.sentence} To continue it: {wish.to_go_on}"
