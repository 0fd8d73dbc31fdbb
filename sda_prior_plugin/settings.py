"""The knobs of a prior, each defined once as data, and the defaults that scale with the dataset.

The command's flags, the page's controls, the checks and the documentation are all made from the fields of
`PriorSettings`. The defaults come from `tiers.toml`. Nothing here needs torch: a command line can be built from it
at once.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import tomli

from sda_prior_plugin.errors import SET_BACK, PriorError, Term, setting
from sda_prior_plugin.kinds import LONGEST_COPIED, copies_of_each
from sda_prior_plugin.schedule import GAIN, decay_for, epochs_per_round, variants_heard, visits_per_round, windows_once

if TYPE_CHECKING:
    from sda_prior_plugin.dataset import CodeCorpus

KnobValue = int | float | str
HOST_CODES_PER_SECOND = 24 * 48000 / 8192
"""Codes of a second of sound in the host's own codec; a codec may differ."""


@dataclass(frozen=True)
class Knob:
    """One setting as a user meets it.

    Attributes:
        name: the field of `PriorSettings`.
        kind: `int`, `float` or `str`.
        help: one line, for flags and labels alike.
        minimum, maximum: inclusive bounds of a number.
        choices: the values a text may have.
        main: whether it is one of the few shown first.
        architecture: the only architecture that it means anything to, if so.
    """

    name: str
    kind: type
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    main: bool = False
    architecture: str | None = None

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def term(self) -> Term:
        """Its name in a sentence."""
        return setting(self.name)

    def checked(self, value: object, origin: str | None = None) -> KnobValue:
        """`value` in this knob's kind.

        Raises:
            PriorError: it is of another kind or out of bounds; `origin` says where it was given.
        """
        where = origin or self.term
        if self.choices:
            if value not in self.choices:
                raise PriorError(where, f" is {value!r}; choose one of {', '.join(self.choices)}.")
            return str(value)
        if not is_number(value):
            raise PriorError(where, f" is {value!r}; it must be a number.")
        if self.kind is int and value != int(value):
            raise PriorError(where, f" is {value!r}; it must be a whole number.")
        if (self.minimum is not None and value < self.minimum) or (self.maximum is not None and value > self.maximum):
            raise PriorError(where, f" is {value}; it must be {self.bounds}.")
        return int(value) if self.kind is int else float(value)

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        least, most = (
            None if bound is None else f"{bound:.0f}" if self.kind is int else f"{bound:g}"
            for bound in (self.minimum, self.maximum)
        )
        return f"at least {least}" if most is None else f"from {least} to {most}"


def _knob(kind: type, help: str, **bounds: Any) -> Any:  # noqa: A002 - it becomes Knob.help
    return dataclasses.field(metadata={"kind": kind, "help": help, **bounds})


@dataclass(frozen=True)
class PriorSettings:
    """How a prior is made and trained; every field is a knob. Raises PriorError where values do not go together."""

    epochs: int = _knob(
        int,
        "Passes over the training recordings, parts of a pass for large datasets; a validation follows each.",
        minimum=1,
        maximum=100_000,
        main=True,
    )
    patience: float = _knob(
        float,
        f"Epochs without a gain of {100 * GAIN:g} % that end training, as a share of those before; "
        "0, as for set epochs, for none.",
        minimum=0.0,
        maximum=100.0,
    )
    hidden_size: int = _knob(int, "Width of the network.", minimum=8, maximum=4096, main=True)
    layers: int = _knob(int, "Layers of the network.", minimum=1, maximum=64, main=True)
    heads: int = _knob(
        int, "Attention heads; must divide the hidden size.", minimum=1, maximum=64, main=True,
        architecture="transformer",
    )  # fmt: skip
    architecture: str = _knob(str, "Kind of network.", choices=("transformer", "gru"))
    dropout: float = _knob(float, "Share of the network left out at random in each step.", minimum=0.0, maximum=0.9)
    learning_rate: float = _knob(float, "Highest step size of the optimiser.", minimum=1e-6, maximum=1.0)
    weight_decay: float = _knob(float, "Pull of the weights towards zero.", minimum=0.0, maximum=20.0)
    batch_size: int = _knob(int, "Windows of sound in each step, on average.", minimum=1, maximum=4096)
    context_seconds: float = _knob(
        float, "Seconds of sound that the prior looks back over.", minimum=0.1, maximum=600.0
    )
    start_offsets: int = _knob(
        int, "Starting points inside a code frame from which each recording is encoded.", minimum=1, maximum=256
    )
    augmented_share: float = _knob(
        float,
        "Share of what is learned from that is copies of the recordings, faster or slower, louder or quieter.",
        minimum=0.0,
        maximum=0.95,
    )
    seed: int = _knob(int, "Seed of every random choice.", minimum=0, maximum=2**32 - 1)
    device: str = _knob(
        str,
        "Where to train; auto takes a CUDA GPU if there is one, or else the processor.",
        choices=("auto", "cpu", "cuda", "mps"),
    )

    def __post_init__(self) -> None:
        for knob in KNOBS:
            object.__setattr__(self, knob.name, knob.checked(getattr(self, knob.name)))
        if self.architecture == "transformer" and (self.hidden_size % self.heads or self.hidden_size // self.heads % 2):
            raise PriorError(
                f"A hidden size of {self.hidden_size} cannot be shared by {self.heads} heads: "
                "give each head an even, whole number."
            )

    @classmethod
    def for_corpus(cls, corpus: CodeCorpus, *, file_count: int, **given: KnobValue) -> PriorSettings:
        """The adaptive defaults for a corpus from `file_count` recordings; `given` knobs win."""
        copies = int(corpus.train.copies.sum())
        if not copies:
            given = {"augmented_share": 0.0, **given}
        return cls.for_size(
            file_count=file_count,
            train_seconds=[frames * corpus.frame_seconds for frames in corpus.train_frames.tolist()],
            variants=round((len(corpus.train) - copies) / corpus.train.recording_count),
            copies=round(copies / corpus.train.recording_count),
            codes_per_second=corpus.shape.frame_codes / corpus.frame_seconds,
            given=given,
        )

    @classmethod
    def for_size(
        cls,
        *,
        file_count: int,
        train_seconds: Sequence[float],
        variants: int | None = None,
        copies: int | None = None,
        codes_per_second: float = HOST_CODES_PER_SECOND,
        given: Mapping[str, KnobValue] | None = None,
        tiers: tuple[Tier, ...] | None = None,
    ) -> PriorSettings:
        """The defaults for a dataset; `given` knobs win.

        Most come from the tier that the dataset falls into. `batch_size` and `epochs`, where the tier does not name
        them, follow from the tier's `batch_seconds` and `steps`: short recordings share larger batches, and training
        takes at most about so many steps, but for hours of sound, which are heard `rounds` times at least. The
        `weight_decay` follows from how many codes there are. Who sets `epochs` gets all of them, unless `patience` is
        set, too. `start_offsets` are no more than the epochs can make use of.

        Args:
            file_count: recordings, held-out ones included.
            train_seconds: length of each recording to train on.
            variants: of each recording as it is; as many as `start_offsets` if None.
            copies: of each recording; as many as there will be if None.
            codes_per_second: that the codec makes of sound.
            given: knobs that the user set.
            tiers: to choose from, as `read_tiers` gives them; the package's own if None.

        Raises:
            PriorError: there is nothing to train on; or a given knob is unknown, out of bounds, or does not go with the
                others.
        """
        given = dict(given or {})
        if not train_seconds:
            raise PriorError("None of the recordings is there to be trained on; all are held out.")
        if unknown := [name for name in given if name not in KNOBS_BY_NAME]:
            raise PriorError(f"{unknown[0]} is not a setting; the settings are {', '.join(KNOBS_BY_NAME)}.")
        tier = choose_tier(tiers or read_tiers(), file_count, sum(train_seconds), codes_per_second)
        values = {name: KNOBS_BY_NAME[name].checked(value) for name, value in {**tier.knobs, **given}.items()}
        values.setdefault("weight_decay", decay_for(sum(train_seconds) * codes_per_second))
        windows = windows_once(train_seconds, float(values["context_seconds"]))
        batch = auto_batch(tier.batch_seconds * windows / max(sum(train_seconds), 1e-3))
        batch_size = int(values.setdefault("batch_size", batch))
        if copies is None:
            copies = copies_of_each(sum(train_seconds)) if min(train_seconds) <= LONGEST_COPIED else 0
        recorded = int(values["start_offsets"]) if variants is None else variants
        visits = visits_per_round(windows, variants_heard(recorded, copies, float(values["augmented_share"])))
        parts = epochs_per_round(windows, visits, batch_size)
        steps_per_epoch = math.ceil(windows * visits / parts / batch_size)
        epochs = min(max(math.ceil(tier.rounds * parts), round(tier.steps / steps_per_epoch)), MOST_AUTO_EPOCHS)
        if "epochs" in values and "patience" not in {*given, *tier.changed}:
            values["patience"] = 0.0  # who says how many there are to be gets them
        epochs = int(values.setdefault("epochs", epochs))
        if "start_offsets" not in given and "start_offsets" not in tier.changed:
            values["start_offsets"] = min(int(values["start_offsets"]), visits * math.ceil(epochs / parts))
        check_meaningful(given, str(values["architecture"]))
        return cls(**values)  # type: ignore[arg-type]  # each is of its knob's kind by now

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PriorSettings:
        """The settings that `as_dict` gave, in this version or another.

        What gives the network its shape must be there. A training knob that this version does not know is passed over;
        one that an older version did not know gets a default.

        Raises:
            PriorError: a knob of the network is missing, or any is out of bounds.
        """
        if missing := [name for name in NETWORK_KNOBS if name not in values]:
            raise PriorError(f"The prior's settings lack {', '.join(missing)}.")
        known = {name: value for name, value in values.items() if name in KNOBS_BY_NAME}
        unsaid = {"epochs": 1, "batch_size": 1, "weight_decay": 0.0, **read_tiers()[0].knobs, **LATER_KNOBS}
        return cls(**{**unsaid, **known})

    def as_dict(self) -> dict[str, KnobValue]:
        """Every knob and its value."""
        return dataclasses.asdict(self)


LATER_KNOBS: dict[str, KnobValue] = {"patience": 0.0, "augmented_share": 0.0}
"""Knobs that older versions did not have, and what these did."""
NETWORK_KNOBS = ("architecture", "hidden_size", "layers", "heads", "context_seconds")
KNOBS: tuple[Knob, ...] = tuple(Knob(name=field.name, **field.metadata) for field in dataclasses.fields(PriorSettings))
KNOBS_BY_NAME: dict[str, Knob] = {knob.name: knob for knob in KNOBS}


def meaningful(given: Mapping[str, KnobValue], architecture: str) -> dict[str, KnobValue]:
    """`given` knobs without those that mean nothing to the architecture: the given one, or else `architecture`."""
    chosen = given.get("architecture", architecture)
    return {name: value for name, value in given.items() if KNOBS_BY_NAME[name].architecture in (None, chosen)}


def check_meaningful(given: Mapping[str, KnobValue], architecture: str) -> None:
    """Raise PriorError if one of the `given` knobs means nothing to this architecture."""
    for name in given:
        knob = KNOBS_BY_NAME[name]
        if knob.architecture not in (None, architecture):
            raise PriorError(
                knob.term,
                f" means nothing to a {architecture} prior; ",
                SET_BACK,
                f" or choose the architecture {knob.architecture}.",
            )


@dataclass(frozen=True)
class Tier:
    """Defaults for datasets of some size.

    Attributes:
        up_to_files, up_to_minutes: a dataset belongs here with at most so many files, or so much sound to train on,
        most_minutes, up_to_codes: if that is no longer than so much, and no more than so many codes.
        steps: about how many steps training takes at most, where `knobs` does not name the epochs.
        batch_seconds: about how much sound a step sees, where `knobs` does not name the batch size.
        rounds: how often every recording is heard at least, where `knobs` does not name the epochs.
        knobs: the other defaults.
        changed: the knobs whose default is the user's own, from a config file.
    """

    name: str
    up_to_files: float
    up_to_minutes: float
    most_minutes: float
    up_to_codes: float
    steps: float
    batch_seconds: float
    rounds: float
    knobs: dict[str, KnobValue]
    changed: frozenset[str] = frozenset()


LARGEST_NUMBER = 1e15
LIMITS = ("up_to_files", "up_to_minutes", "most_minutes", "up_to_codes")
BUDGET = ("steps", "batch_seconds", "rounds")
LARGEST_AUTO_BATCH = 64
EVEN_SHARES = 4
"""The default batch is a multiple of it: of 9 windows one member of a team of two would learn 5, and the other wait."""
MOST_AUTO_EPOCHS = 100_000


def auto_batch(windows: float) -> int:
    """The default batch, of about so many windows."""
    whole = EVEN_SHARES * round(windows / EVEN_SHARES) if windows >= EVEN_SHARES else round(windows)
    return min(max(whole, 1), LARGEST_AUTO_BATCH)


def choose_tier(
    tiers: tuple[Tier, ...],
    file_count: int,
    train_seconds: float,
    codes_per_second: float = HOST_CODES_PER_SECOND,
) -> Tier:
    """The first tier, from small to large, that the dataset fits by its files or its minutes, and by its sound."""
    minutes, codes = train_seconds / 60, train_seconds * codes_per_second
    for tier in tiers:
        few = file_count <= tier.up_to_files or minutes <= tier.up_to_minutes
        if few and minutes <= tier.most_minutes and codes <= tier.up_to_codes:
            return tier
    return tiers[-1]


def read_tiers(config: Path | None = None) -> tuple[Tier, ...]:
    """The tiers of `tiers.toml`, each value replaced by the one in the user's `config` where it has one.

    A config file has the same form: a table `[every]` for all tiers, and one for each tier by name.

    Raises:
        PriorError: the config cannot be read, is not TOML, or has a name or value that means nothing here.
    """
    own = tomli.loads(importlib.resources.files(__package__).joinpath("tiers.toml").read_text("utf-8"))
    changes = _read_config(config) if config else {}
    every, names = own.pop("every"), tuple(own)
    for table, entries in changes.items():
        if not isinstance(entries, dict):
            raise PriorError(f"{config}: {table} stands outside a table; put it below [every].")
        if table != "every" and table not in names:
            raise PriorError(f"{config}: there is no table [{table}]; the tables are every, {', '.join(names)}.")
        for name, value in entries.items():
            if name in KNOBS_BY_NAME:
                KNOBS_BY_NAME[name].checked(value, f"{config}: {name} in [{table}]")
            elif name not in BUDGET and (table == "every" or name not in LIMITS):
                raise PriorError(f"{config}: {name} in [{table}] is not a setting.")
            elif not is_number(value) or value <= 0:
                raise PriorError(f"{config}: {name} in [{table}] is {value!r}; it must be a number above 0.")
    tiers = []
    for name in names:
        values = {**every, **own[name], **changes.get("every", {}), **changes.get(name, {})}
        limits = {limit: float(values.pop(limit, math.inf)) for limit in LIMITS}
        budget = {entry: float(values.pop(entry)) for entry in BUDGET}
        changed = {*changes.get("every", {}), *changes.get(name, {})}
        if changed & {"steps", "rounds"} and "patience" not in changed:
            values["patience"] = 0.0  # who says how long it is to take gets that
        if changed.intersection(BUDGET):
            changed |= {"epochs", "batch_size"}
        changed &= KNOBS_BY_NAME.keys()
        tiers.append(Tier(name=name, knobs=values, changed=frozenset(changed), **limits, **budget))
    return tuple(tiers)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a finite number of a size that can be calculated with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST_NUMBER < value < LARGEST_NUMBER


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(path.read_text("utf-8"))
    except OSError as error:
        raise PriorError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PriorError(f"{path} is not TOML: {error}.") from error
