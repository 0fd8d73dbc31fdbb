"""The prior in a model file: the namespace "prior", written when a model is saved and read when it is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from sda_prior_plugin.compiled import COMPILING, compile_time
from sda_prior_plugin.dates import day
from sda_prior_plugin.edge.heard_entry import HEARD, heard_tensors, read_heard, read_sketch
from sda_prior_plugin.encoding import Codec, code_shape
from sda_prior_plugin.errors import TRAIN_AGAIN, PriorError
from sda_prior_plugin.half import halved
from sda_prior_plugin.live import LiveSettings
from sda_prior_plugin.memorization import GAP, NO_SIGN, UNKNOWN, MemorizationReport
from sda_prior_plugin.prior import Prior
from sda_prior_plugin.report import TrainingReport
from sda_prior_plugin.settings import PriorSettings
from sda_prior_plugin.unheard import heard_sentence

if TYPE_CHECKING:
    from sda_prior_plugin.edge.contract import Bundle, Model

NAMESPACE = "prior"
LISTED = 3
"""Files named in a sentence before the rest are counted."""


def write_entry(model: Model, bundle: Bundle) -> None:
    """Put the model's prior into the bundle, if it has one of this plugin's."""
    if isinstance(model.prior, Prior):
        prior: Prior = model.prior
        facts = {
            "settings": prior.settings.as_dict(),
            **prior.report.as_dict(),
            "codebooks_sha256": codebooks_digest(model.codec),
        }
        if len(prior.kinds) > 1:
            facts["kinds"] = list(prior.kinds)
        tensors = halved(prior.weights)
        if prior.heard is not None:
            facts["heard"] = list(prior.heard.names)
            tensors |= heard_tensors(prior.heard, prior.sketch)
            if prior.sketch is not None:
                facts["near_window"] = prior.sketch.frames
        bundle.put(NAMESPACE, facts, tensors)
        bundle.has_prior = True


def read_entry(model: Model, bundle: Bundle) -> Prior | None:
    """The prior that the bundle holds for this model, or None.

    Raises:
        PriorError: the entry is damaged, or belongs to another codec.
    """
    if NAMESPACE not in bundle.names():
        return None
    entry = bundle.get(NAMESPACE)
    if entry is None:
        raise PriorError("The prior in this file has no facts; ", TRAIN_AGAIN, ".")
    facts, settings = entry.facts, entry.facts.get("settings")
    if not isinstance(settings, dict):
        raise PriorError("The prior in this file has no settings; ", TRAIN_AGAIN, ".")
    if facts.get("codebooks_sha256") != codebooks_digest(model.codec):
        raise PriorError("The prior in this file belongs to another codec; ", TRAIN_AGAIN, ".")
    shape = code_shape(model.codec)
    heard = read_heard(entry)
    return Prior.from_weights(
        {name: tensor for name, tensor in entry.tensors.items() if not name.startswith(HEARD)},
        PriorSettings.from_dict(settings),
        TrainingReport.from_dict(facts),
        shape=shape,
        codebooks=model.codec.codebooks,
        frame_seconds=model.codec.frame_samples / model.codec.sample_rate,
        heard=heard,
        sketch=None if heard is None else read_sketch(entry, heard, shape.bands),
        kinds=read_kinds(facts),
    )


def read_kinds(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the kinds of copies that the prior has learned from, as recorded being the first; none where it has not.

    Raises:
        PriorError: they are damaged.
    """
    names = facts.get("kinds", [])
    if isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
        return tuple(names)
    raise PriorError("What this prior can be asked for is damaged; ", TRAIN_AGAIN, ".")


def checked_entries(model: Model, bundle: Bundle) -> list[tuple[str, str]]:
    """What `host check` shows of the prior's namespace, if it is there and all right.

    Raises:
        PriorError: it is not.
    """
    prior = read_entry(model, bundle)
    if prior is None:
        return []
    heard = "" if prior.heard is None else "; what it was trained on"
    tensors = len(prior.weights)
    return [(NAMESPACE, f"settings, report, and {tensors} tensors that they and this codec need, all finite{heard}")]


def codebooks_digest(codec: Codec) -> str:
    """SHA-256 of the codebooks: a prior means something only to the codec that it was trained on."""
    return hashlib.sha256(np.ascontiguousarray(codec.codebooks, dtype="<f4").tobytes()).hexdigest()


def generated(model: Model, count: int, frames: int | None, **how: Any) -> list[np.ndarray] | None:
    """New code grids from the model's prior, or None if it has none of this plugin's; see `Prior.samples`."""
    if not isinstance(model.prior, Prior):
        return None
    with compile_time(lambda: click.echo(COMPILING, err=True)):
        return model.prior.samples(count, frames, **how)


def streamed(
    model: Model, settings: Callable[[], LiveSettings], frames: int | None, max_copy: float | None
) -> Iterator[np.ndarray] | None:
    """Frames of new codes as they are asked for, or None if the model has no prior of this plugin's; `Prior.live`."""
    if not isinstance(model.prior, Prior):
        return None
    with compile_time(lambda: click.echo(COMPILING, err=True)):  # what keeps to `max_copy` is made now
        drawn = model.prior.live(settings, frames, max_copy=max_copy)
    return _compiled_aloud(drawn)


def _compiled_aloud(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    with compile_time(lambda: click.echo(COMPILING, err=True)):
        yield from frames


def card_lines(model: Model) -> list[tuple[str, str]]:
    """What the model card says of the prior."""
    if not isinstance(model.prior, Prior):
        return []
    settings, report = model.prior.settings, model.prior.report
    heads = f", {settings.heads} heads" if settings.architecture == "transformer" else ""
    layers = "1 layer" if settings.layers == 1 else f"{settings.layers} layers"
    stopped = {"finished": "", "no better": " (then hardly better)"}.get(report.ended, f" ({report.ended} early)")
    return [
        (
            "Prior",
            f"{settings.architecture}, {layers} of {settings.hidden_size}{heads}, "
            f"{report.parameters / 1e6:.2f} M parameters",
        ),
        (
            "Held-out perplexity",
            f"{report.final_perplexity:.2f} ({report.bits_per_code:.3f} bits per code), "
            f"on {len(report.held_out)} {'recording' if len(report.held_out) == 1 else 'recordings'}",
        ),
        (
            "Prior trained",
            f"{day(report.training_date)}, {report.epochs_trained} epochs{stopped}, best {report.best_epoch}",
        ),
        *heard_lines(report),
        *memorization_lines(report.memorization),
    ]


def heard_lines(report: TrainingReport) -> list[tuple[str, str]]:
    """What the model card says of held-out recordings that are also trained on."""
    if not report.heard_seconds or report.held_out_seconds is None:
        return []
    return [("Held out", heard_sentence(report.heard_seconds, report.held_out_seconds))]


def memorization_lines(memorization: MemorizationReport | None) -> list[tuple[str, str]]:
    """What the model card says of the prior's memory."""
    if memorization is None:
        return []
    lines = [("Memorization", f"{memorization.verdict} (by its {memorization.basis})")]
    if memorization.basis == GAP:
        said = UNKNOWN if memorization.verdict == NO_SIGN else memorization.verdict  # of older files
        lines[0] = ("Memorization", f"{said}; too few different recordings are there to compare its copying with")
    if memorization.rates:
        shares = ", ".join(
            f"{rate.samples:.0%} of {rate.seconds:.1f} s (recordings share {rate.natural:.0%} with each other)"
            for number, rate in enumerate(memorization.rates)
            if not number or rate.samples or rate.natural
        )
        lines.append(("Verbatim stretches", shares))
    if memorization.near is not None:
        near = memorization.near
        lines.append(
            (
                "Near copies",
                f"{near.samples:.0%} of {near.seconds:.1f} s, verbatim ones among them (recordings share "
                f"{near.natural:.0%} with each other)",
            )
        )
    if memorization.longest is not None:
        longest = memorization.longest
        lines.append(("Longest copy", f"{longest.seconds:.1f} s of {longest.file}, from {longest.start:.1f} s"))
    if memorization.nearness is not None:
        nearness = memorization.nearness
        lines.append(
            (
                "How near",
                f"sounds share {nearness.samples:.0%} with what is nearest to them in the recordings (recordings "
                f"{nearness.natural:.0%} with each other), and lie nearer than these {nearness.nearer:.0%} of the time",
            )
        )
    if memorization.extraction is not None:
        found = memorization.extraction
        unheard = (
            f"; of unheard ones {found.held_out:.0%} and {found.held_out_greedy:.0%}"
            if found.held_out_beginnings
            else "; unheard ones are too short to try"
        )
        lines.append(
            (
                "Continuations",
                f"{found.train:.0%} of those of recordings go on for {found.seconds:.1f} s as these do, "
                f"{found.train_greedy:.0%} with the likeliest codes{unheard}",
            )
        )
    if memorization.memorizing_epochs:
        stretches = ", ".join(f"{first} to {last}" for first, last in memorization.memorizing_epochs)
        lines.append(("Memorizing", f"in epochs {stretches}, which were not kept"))
    return lines


def verbatim_facts(model: Model, codes: np.ndarray) -> tuple[str, dict[str, Any]] | None:
    """How much of new codes is verbatim from the recordings, and from which: a sentence, and the same as JSON."""
    prior = model.prior
    if not isinstance(prior, Prior) or prior.heard is None:
        return None
    share, passages = prior.verbatim(codes)
    seconds = prior.frame_seconds
    found = [
        {
            "start": passage.first * seconds,
            "seconds": passage.frames * seconds,
            "file": passage.name,
            "file_start": passage.at * seconds,
        }
        for passage in passages
    ]
    files = list(dict.fromkeys(passage.name for passage in sorted(passages, key=lambda one: -one.frames)))
    more = f" and {len(files) - LISTED} more" if len(files) > LISTED else ""
    text = f"{share:.0%} is verbatim from the recordings"
    if passages:
        longest = max(passages, key=lambda passage: passage.frames)
        text += f" ({', '.join(files[:LISTED])}{more}); longest {longest.frames * seconds:.1f} s"
    facts: dict[str, Any] = {"verbatim": {"share": share, "passages": found}}
    near = prior.near_share(codes)
    if near is not None:
        more_than_verbatim = max(near, share)
        text += f"; {more_than_verbatim:.0%} is verbatim or nearly so" + _usual(prior.report.memorization)
        facts["near"] = {"share": more_than_verbatim}
    return text, facts


def _usual(memorization: MemorizationReport | None) -> str:
    """How much recordings share with each other, nearly, where that is known."""
    if memorization is None or memorization.near is None or not memorization.near.natural_windows:
        return ""
    return f" (recordings share {memorization.near.natural:.0%} with each other)"
