"""The model card: what `host info` and other commands show of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import host_stubs
from host_stubs.commands.console import aligned
from host_stubs.errors import HostError
from host_stubs.host import Host

if TYPE_CHECKING:
    from host_stubs.model import Model

Lines = list[tuple[str, str]]

SECONDS_TO_LOOK = 0.3
"""For what has become of a dataset: `host info` answers at once."""
LONGEST_LINE = 10_000
"""Characters of a line; names of files and what is said of them are among them."""
ENDED = {"learned": " (until nothing got better)", "stopped": " (stopped early)", "diverged": " (diverged)"}
"""What is said of how a training ended, if it was not over with its last epoch."""
PRIOR_LEFT_BEHIND = (
    "its own prior is left behind: it takes the codes in an order in which time does not go forward, and cannot be "
    "used here; teach the model a new one with host train-prior"
)
"""What is said of a model whose report has `imported_from.prior_left_behind`."""


def model_card(host: Host, model: Model, *, commands: list[str]) -> list[str]:
    """The card of a saved model as aligned lines. `commands`: names of the commands there are, for the advice given."""
    reason = obstacle(model, commands)
    advice = ("New sound", f"no: {reason}" if reason else f"yes: host generate {model.path or 'MODEL.sda'}")
    return aligned(_bounded([*_own_lines(model, _since_then(host, model)), advice, *host.facts(model)]))


def card_lines(host: Host, model: Model) -> Lines:
    """The card without advice, and without a look at the dataset: what model and plugins say."""
    return _bounded(_own_lines(model, "") + host.facts(model))


def model_document(model: Model) -> dict[str, Any]:
    """The same for programs: path, size, what became of the dataset's files, and the JSON document of the file that the
    model was last saved to."""
    if model.path is None:
        raise ValueError(f"'{model.name}' has not been saved")
    own = {"path": str(model.path), "bytes": model.path.stat().st_size}
    account = {} if model.manifest is None else {"account": model.manifest.account.to_json()}
    return own | account | host_stubs.read_document(model.path)


def obstacle(model: Model, commands: list[str]) -> str | None:
    """What keeps the model from making new sound, and what would help; None if nothing does."""
    if model.prior is not None:
        return None
    if model.bundle.has_prior:
        return "it has a prior, but no installed plugin can use it (host plugins lists what is installed)"
    if "train-prior" in commands:
        return f"it has no prior yet. Run: host train-prior {model.path or 'MODEL.sda'}"
    return "it has no prior, and no installed plugin trains one. Run: pip install sda-prior-plugin"


def size(count: int) -> str:
    """Bytes for people: 3.4 MB."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def duration(seconds: float) -> str:
    """A length of sound for people: 59.1 s, 12.5 minutes."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def codec_in_short(model: Model) -> str:
    """The codec's grid in a few words."""
    codec = model.codec
    return f"{codec.bands} bands x {codec.levels} levels x {codec.codebook_size} codes"


def _bounded(lines: Lines) -> Lines:
    """The same lines, as long as one may be: a stranger's file can say much."""
    return [(label, text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 1]}…") for label, text in lines]


def _own_lines(model: Model, since: str) -> Lines:
    """What the host knows of a model; `since` is what has become of its dataset."""
    lines = [("Name", model.name)]
    if model.path is not None:
        lines.append(("File", f"{model.path} ({size(model.path.stat().st_size)})"))
    return [
        *lines,
        *_codec_lines(model),
        *_training_lines(model.report),
        *_dataset_lines(model, since),
        *_health_lines(model.report),
    ]


def _codec_lines(model: Model) -> Lines:
    codec = model.codec
    frame = codec.frame_samples / codec.sample_rate
    codes = codec.bands * codec.levels / frame
    return [
        ("Codec", f"{codec_in_short(model)}, {codes:.0f} codes per second"),
        ("Sound", f"{codec.sample_rate} Hz, a code frame is {codec.frame_samples} samples ({frame:.3f} s)"),
    ]


def _training_lines(report: dict[str, Any]) -> Lines:
    parts = []
    if report.get("epochs_trained") is not None:
        why = ENDED.get(str(report.get("ended")), "")
        parts.append(f"{report['epochs_trained']} epochs{why}")
    if report.get("best_epoch") is not None:
        parts.append(f"best {report['best_epoch']}")
    for label, key in (("train loss", "train_loss"), ("held-out loss", "held_out_loss")):
        if isinstance(report.get(key), float):
            parts.append(f"{label} {report[key]:.4f}")
    if isinstance(report.get("seconds"), float):
        parts.append(f"{report['seconds']:.0f} s")
    lines = [("VQ-VAE training", ", ".join(parts) or "unknown")]
    source = report.get("imported_from")
    if isinstance(source, dict):
        name, count = source.get("dataset_name"), source.get("dataset_file_count")
        lines.append(("Imported", f"from the existing host; its dataset was '{name}' ({count} files)"))
        if source.get("prior_left_behind") is True:
            lines.append(("Not imported", PRIOR_LEFT_BEHIND))
    return lines


def _dataset_lines(model: Model, since: str) -> Lines:
    manifest = model.manifest
    if manifest is None:
        return [("Dataset", "unknown; give it once with --dataset DIR")]
    train, held_out = manifest.part("train"), manifest.part("held_out")
    seconds = manifest.seconds("train"), manifest.seconds("held_out")
    if {entry.path for entry, _ in train} & {entry.path for entry, _ in held_out}:
        text = f"one recording, {duration(seconds[0])} trained on, its last {duration(seconds[1])} held out"
    else:
        text = (
            f"{len(manifest.files)} recordings: {len(train)} trained on ({duration(seconds[0])}), "
            f"{len(held_out)} held out ({duration(seconds[1])})"
        )
    lines = [("Dataset", text), ("Dataset folder", manifest.folder), *manifest.account.rows()]
    return [*lines, ("Dataset now", since)] if since else lines


def _since_then(host: Host, model: Model) -> str:
    """What has become of the recordings, as far as that is seen quickly; nothing if nothing has."""
    if model.manifest is None:
        return ""
    if not host.dataset_known(model):
        return "not looked at: the file is not from this machine, as far as is known here"
    try:
        check = model.manifest.check(contents=False, seconds=SECONDS_TO_LOOK)
    except HostError as error:
        return str(error)
    return check.summary() if check.folder_there else "the folder is not there"


def _health_lines(report: dict[str, Any]) -> Lines:
    levels = report.get("codebook_health")
    if not isinstance(levels, list):
        return []
    lines = []
    for number, level in enumerate(levels):
        if isinstance(level, dict):
            known = {key: value for key, value in level.items() if isinstance(value, int | float)}
            lines.append((f"Codebook {number}", _health(known)))
    return lines


def _health(level: dict[str, float]) -> str:
    parts = []
    if "utilization" in level:
        parts.append(f"{level['utilization']:.0%} in use")
    if "perplexity" in level:
        parts.append(f"perplexity {level['perplexity']:.1f}")
    if "dead_codes" in level:
        parts.append(f"{level['dead_codes']:.0f} dead codes")
    return ", ".join(parts) or "unknown"
