"""From recordings to the corpus: each is encoded once per start offset, and so are copies of it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from sda_prior_plugin.codes import CodeShape
from sda_prior_plugin.copies import copies_of
from sda_prior_plugin.dataset import CodeCorpus
from sda_prior_plugin.errors import NothingTrained
from sda_prior_plugin.kinds import KINDS, LONGEST_COPIED, copies_of_each, kinds_of
from sda_prior_plugin.team import Team

SAMPLES_PER_CALL = 2**16
"""About how much sound the codec is given at once. With four times as much encoding is up to a sixth faster on two
threads, a second of a training, which then takes 5 to 12 MiB more at most."""

LONG_SECONDS = LONGEST_COPIED
"""A recording that is longer is encoded as it is read."""
Grids = list[tuple[int, np.ndarray]]
"""Codes of a recording, int `[frames, bands, levels]` each, and which of `KINDS` of copies each is of."""


class Codec(Protocol):
    """What turns sound into codes; docs/hooks.md describes it in full."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def frame_samples(self) -> int: ...
    @property
    def bands(self) -> int: ...
    @property
    def levels(self) -> int: ...
    @property
    def codebook_size(self) -> int: ...
    @property
    def codebooks(self) -> np.ndarray: ...
    def encode(self, audio: np.ndarray) -> np.ndarray: ...
    def decode(self, codes: np.ndarray) -> np.ndarray: ...


class Recording(Protocol):
    """A recording by name, as float `[samples]` at the codec's sample rate.

    One that also has `seconds` and `blocks()`, which gives the same sound block after block, is never in memory as a
    whole if it is long and the codec has `encode_stream`.
    """

    @property
    def name(self) -> str: ...
    @property
    def audio(self) -> np.ndarray: ...


def code_shape(codec: Codec) -> CodeShape:
    """The shape of a codec's codes."""
    return CodeShape(bands=codec.bands, levels=codec.levels, codebook_size=codec.codebook_size)


def codes_per_second(codec: Codec) -> float:
    """How many codes a codec makes of a second of sound."""
    return code_shape(codec).frame_codes * codec.sample_rate / codec.frame_samples


def encode_variants(
    codec: Any, audio: np.ndarray, start_offsets: int, stop: threading.Event | None = None
) -> list[np.ndarray]:
    """Codes of `audio`, float `[samples]`, with evenly spaced starts inside its first code frame.

    Each is int `[frames, bands, levels]`. The first starts where the recording does; in the others some silence stands
    before it, less than a frame. (Starting inside the recording instead would teach the prior sounds without attacks.)
    Each is what the codec gives for that sound alone, its end too. A recording of no samples has no variants.

    Raises:
        NothingTrained: `stop` was set.
    """
    if not len(audio):
        return []
    leads = [number * codec.frame_samples // start_offsets for number in range(start_offsets)]
    return encode_sounds(codec, [(audio, lead) for lead in leads], stop)


def encode_copies(
    codec: Any, audio: np.ndarray, kinds: Sequence[int], stop: threading.Event | None = None
) -> list[np.ndarray]:
    """Codes of a copy of `audio`, float32 `[samples]`, of each of these `KINDS`.

    Each starts where the recording does, with its attack. With some silence before most of them a prior takes that for
    the rule, and draws sounds that begin too quietly.

    Raises:
        NothingTrained: `stop` was set.
    """
    if not len(audio):
        return []
    order = sorted(range(len(kinds)), key=lambda number: KINDS[kinds[number]].speed)  # those of about one length
    at_once = max(1, SAMPLES_PER_CALL // len(audio))  # so that few copies are in memory
    copies = copies_of((KINDS[kinds[number]] for number in order), audio)
    grids: list[np.ndarray] = []
    while some := list(itertools.islice(copies, at_once)):
        grids += encode_sounds(codec, [(copy, 0) for copy in some], stop)
    return [grid for _, grid in sorted(zip(order, grids, strict=True), key=lambda one: one[0])]


def encode_sounds(
    codec: Any, sounds: Sequence[tuple[np.ndarray, int]], stop: threading.Event | None = None
) -> list[np.ndarray]:
    """Codes of sounds, float `[samples]`, each after so many samples of silence; as many at once as is good.

    Raises:
        NothingTrained: `stop` was set.
    """
    together = hasattr(codec, "encode_many")
    longest = max((len(audio) for audio, _ in sounds), default=0)
    at_once = max(1, SAMPLES_PER_CALL // (longest + codec.frame_samples)) if together else 1
    grids: list[np.ndarray] = []
    for first in range(0, len(sounds), at_once):
        _go_on(stop)
        some = [np.concatenate([np.zeros(lead, np.float32), audio]) for audio, lead in sounds[first : first + at_once]]
        grids += codec.encode_many(some) if together else map(codec.encode, some)
    return grids


def is_long(codec: Codec, recording: Recording) -> bool:
    """Whether a recording is to be encoded as it is read, and can be."""
    streams = hasattr(codec, "encode_stream") and hasattr(recording, "blocks")
    return streams and getattr(recording, "seconds", 0.0) > LONG_SECONDS


def encode_long(
    codec: Any,
    recording: Any,
    start_offsets: int,
    on_part: Callable[[str, float], object] | None = None,
    stop: threading.Event | None = None,
) -> list[np.ndarray]:
    """What `encode_variants` gives, for a recording that is read once for each variant and never as a whole.

    Raises:
        NothingTrained: `stop` was set.
    """
    dtype = code_shape(codec).dtype
    frames = recording.seconds * codec.sample_rate / codec.frame_samples
    grids: list[np.ndarray] = []
    for number in range(start_offsets):
        lead = np.zeros(number * codec.frame_samples // start_offsets, np.float32)
        parts: list[np.ndarray] = []
        for part in codec.encode_stream(itertools.chain([lead], recording.blocks())):
            _go_on(stop)
            parts.append(part.astype(dtype))
            if on_part is not None:
                done = sum(map(len, parts)) / frames
                on_part(recording.name, min(1.0, (number + done) / start_offsets))
        grids.append(np.concatenate(parts))
    return grids


def _go_on(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise NothingTrained("Stopped while the recordings were encoded; there is no prior yet.")


def encode_recordings(
    codec: Codec,
    train: Iterable[Recording],
    held_out: Iterable[Recording],
    *,
    start_offsets: int,
    copies: bool = False,
    on_recording: Callable[[str], object] | None = None,
    on_part: Callable[[str, float], object] | None = None,
    stop: threading.Event | None = None,
) -> CodeCorpus:
    """The corpus of some recordings: those to train on at every start offset, the held-out ones as they are.

    Args:
        codec: what encodes them.
        train, held_out: read one at a time.
        start_offsets: how many starting points inside a code frame.
        copies: whether those to train on are also encoded as copies of some `KINDS`, if they are not too long.
        on_recording: called with a recording's name once it is encoded.
        on_part: called with a long recording's name, again and again, and the share of it that is encoded.
        stop: when set, encoding ends as soon as what the codec is at is done.

    Raises:
        NothingTrained: stopped.
        PriorError: there is nothing to train on or nothing held out, or the codec gives codes of another shape.
    """
    encoding = Encoding(codec, train, held_out, start_offsets, copies=copies)
    return encoding.corpus(encoding.grids(range(len(encoding)), on_recording, on_part, stop))


class Encoding:
    """The recordings that make a corpus, to be encoded by one process or shared out among several.

    Args:
        codec, train, held_out, start_offsets, copies: as `encode_recordings` takes them.

    Attributes:
        names: of the recordings by number, those to train on first; one that is cut in two is there twice.
    """

    def __init__(
        self,
        codec: Codec,
        train: Iterable[Recording],
        held_out: Iterable[Recording],
        start_offsets: int,
        *,
        copies: bool = False,
    ) -> None:
        self.codec = codec
        trained = list(train)
        count = copies_of_each(sum(map(_seconds, trained))) if copies else 0
        self._work = [
            (recording, start_offsets, kinds_of(number, count if _seconds(recording) <= LONGEST_COPIED else 0))
            for number, recording in enumerate(trained)
        ]
        self._trained = len(self._work)
        self._work += [(recording, 1, []) for recording in held_out]
        self._copied = any(kinds for *_, kinds in self._work)
        self.names = [recording.name for recording, *_ in self._work]

    def __len__(self) -> int:
        return len(self._work)

    def share(self, team: Team) -> list[int]:
        """The recordings that are this member's to encode: the longest go first, each to whom has least to do."""
        costs = [(offsets + len(kinds)) * _seconds(recording) for recording, offsets, kinds in self._work]
        loads, mine = [0.0] * team.size, []
        for number in sorted(range(len(self)), key=lambda number: -costs[number]):
            least = loads.index(min(loads))
            loads[least] += costs[number]
            if least == team.rank:
                mine.append(number)
        return sorted(mine)

    def grids(
        self,
        numbers: Iterable[int],
        on_recording: Callable[[str], object] | None = None,
        on_part: Callable[[str, float], object] | None = None,
        stop: threading.Event | None = None,
    ) -> dict[int, Grids]:
        """The codes of some recordings at every start offset, and of their copies, by number.

        Raises as `encode_recordings` does.
        """
        shape, found = code_shape(self.codec), dict[int, Grids]()
        for number in numbers:
            recording, offsets, kinds = self._work[number]
            copies: list[np.ndarray] = []
            if is_long(self.codec, recording):
                variants = encode_long(self.codec, recording, offsets, on_part, stop)
            else:
                audio = recording.audio
                variants = encode_variants(self.codec, audio, offsets, stop)
                copies = encode_copies(self.codec, audio, kinds, stop) if kinds else []
            found[number] = [
                (kind, shape.checked(grid, recording.name))
                for kind, grid in [*((0, grid) for grid in variants), *zip(kinds, copies, strict=False)]
            ]
            if on_recording is not None:
                on_recording(recording.name)
        return found

    def corpus(self, grids: Mapping[int, Grids]) -> CodeCorpus:
        """The corpus, from the codes of all recordings. Raises as `encode_recordings` does."""
        parts = range(self._trained), range(self._trained, len(self))
        train, held_out = ([grid for number in part for _, grid in grids[number]] for part in parts)
        train_names, held_out_names = ([self.names[number] for number in part for _ in grids[number]] for part in parts)
        return CodeCorpus.from_sequences(
            train,
            held_out,
            codebooks=self.codec.codebooks,
            train_names=train_names,
            held_out_names=held_out_names,
            frame_seconds=self.codec.frame_samples / self.codec.sample_rate,
            train_kinds=[kind for number in parts[0] for kind, _ in grids[number]] if self._copied else None,
            kinds=[kind.name for kind in KINDS] if self._copied else (),
        )


def _seconds(recording: Recording) -> float:
    """How long a recording is, where it says so."""
    seconds: float = getattr(recording, "seconds", 1.0)
    return seconds
