"""What the benchmarks measure on: corpora of one-second codes, and whole recordings with a codec of their own.

The corpora beside the repository (`shared/codes`, `shared/audio`, `shared/legacy`) are used where they are there; the
demo corpus, synthesized and with a codec trained on it, is made anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

import host_stubs
from benchmarks.residual_codec import RATE, ResidualCodec
from host_stubs.commands.train import train_model
from host_stubs.host import Host
from host_stubs.plugins import Plugins
from host_stubs.synth import hat, kick, snare
from sda_prior_plugin import CodeCorpus, PriorSettings
from sda_prior_plugin.encoding import codes_per_second, encode_recordings
from sda_prior_plugin.settings import KnobValue

SHARED = Path(__file__).parents[2] / "shared"
MADE = Path(__file__).parents[1] / "build" / "benchmarks"
"""Where the demo's recordings and model are kept from one run to the next."""

PIECE_SECONDS = 1
OFFSETS = 32
BAR_FRAMES = 6


@dataclass(frozen=True)
class PieceCorpus:
    """A corpus cut into one-second pieces, as the reference system has it.

    Attributes:
        train, held_out: int `[pieces, frames, bands, levels]`, split by file.
        augmented: the same of the training audio from several start offsets, duplicates left out.
    """

    name: str
    train: np.ndarray
    held_out: np.ndarray
    augmented: np.ndarray
    codebooks: np.ndarray


@dataclass(frozen=True)
class Piece:
    """A stretch of a recording that counts as a recording of its own."""

    name: str
    audio: np.ndarray


AnyCodec = TypeVar("AnyCodec", bound="host_stubs.Codec | ResidualCodec")


@dataclass(frozen=True)
class Dataset(Generic[AnyCodec]):
    """Recordings in files, and the codec that encodes them."""

    name: str
    manifest: host_stubs.DatasetManifest
    codec: AnyCodec
    file_count: int

    def corpus(self, start_offsets: int, *, copies: bool = False) -> CodeCorpus:
        """Every recording at full length, as `host train-prior` encodes it, with copies or without."""
        rate = self.codec.sample_rate
        train, held_out = (self.manifest.recordings(part, rate) for part in ("train", "held_out"))
        return encode_recordings(self.codec, train, held_out, start_offsets=start_offsets, copies=copies)

    def corpus_for(self, settings: PriorSettings) -> CodeCorpus:
        """The same as a training with these settings has it."""
        return self.corpus(settings.start_offsets, copies=settings.augmented_share > 0)

    def default_settings(self, piece_count: int = 0, **given: KnobValue) -> PriorSettings:
        """What a training without any setting has, but for those `given`; of whole recordings, or of so many pieces."""
        whole = [end - start for _, (start, end) in self.manifest.part("train")]
        return PriorSettings.for_size(
            file_count=self.file_count,
            train_seconds=[PIECE_SECONDS] * piece_count or whole,
            codes_per_second=codes_per_second(self.codec),
            given=given,
        )

    def sample(self, count: int, seed: int) -> Dataset:
        """As if there were `count` files: four fifths of those are trained on, and what is held out stays held out."""
        train = [entry for entry in self.manifest.files if entry.train is not None]
        random.Random(seed).shuffle(train)
        chosen = train[: max(1, round(0.8 * count))]
        held_out = [entry for entry in self.manifest.files if entry.held_out is not None]
        return replace(self, manifest=replace(self.manifest, files=(*chosen, *held_out)), file_count=count)

    def pieces(self) -> PieceCorpus:
        """The same recordings in one-second pieces, each with its peak at 1, the last one of a file padded."""
        return PieceCorpus(
            name=self.name,
            train=self.train_pieces(),
            held_out=self.held_out_pieces(),
            augmented=np.unique(self._encoded_pieces("train", OFFSETS), axis=0),
            codebooks=self.codec.codebooks,
        )

    def corpus_of_pieces(self, start_offsets: int, *, copies: bool = False) -> CodeCorpus:
        """The same pieces, each encoded as `host train-prior` encodes a recording."""
        train, held_out = (
            [Piece(str(number), audio) for number, audio in enumerate(self._cut(part, 0))]
            for part in ("train", "held_out")
        )
        return encode_recordings(self.codec, train, held_out, start_offsets=start_offsets, copies=copies)

    def train_pieces(self) -> np.ndarray:
        """What is trained on, cut and encoded as `pieces` has it, from one start offset."""
        return self._encoded_pieces("train", 1)

    def held_out_pieces(self) -> np.ndarray:
        """What is held out, cut and encoded as `pieces` has it."""
        return self._encoded_pieces("held_out", 1)

    def _encoded_pieces(self, part: str, offsets: int) -> np.ndarray:
        length = PIECE_SECONDS * self.codec.sample_rate
        later = range(0, self.codec.frame_samples, self.codec.frame_samples // offsets)
        cut = [piece for offset in later for piece in self._cut(part, offset)]
        frames = -(-length // self.codec.frame_samples)
        return np.stack([codes[:frames] for codes in self.codec.encode_many(cut)])

    def _cut(self, part: str, offset: int) -> list[np.ndarray]:
        """Sound of the pieces of a part, of recordings without so many samples at their start."""
        rate = self.codec.sample_rate
        return [
            host_stubs.peak_normalized(piece)
            for recording in self.manifest.recordings(part, rate)
            for piece in pieces(recording.audio[offset:], PIECE_SECONDS * rate)
        ]


def pieces(audio: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Stretches of `length` samples, the last one padded with silence."""
    for first in range(0, len(audio), length):
        piece = audio[first : first + length]
        yield np.pad(piece, (0, length - len(piece)))


def demo_dataset(count: int = 32) -> Dataset:
    """So many of the demo's recordings, and a codec trained on them as `host demo` does. Kept for the next time."""
    folder = MADE / f"demo-{count}"
    path = folder / "demo.sda"
    if not path.exists():
        host_stubs.write_demo_recordings(folder / "recordings", count=count)
        host = Host(Plugins())
        train_model(host, folder / "recordings", "demo", path, None, epochs=None, device="cpu", seed=0)
    model = host_stubs.open_model(path)
    assert model.manifest is not None
    return Dataset("demo", model.manifest, model.codec, len(model.manifest.files))


def loops_dataset(count: int = 24) -> Dataset:
    """Loops of a few bars over the demo's codec: every file is made of the same four bars, in another order.

    A bar is a whole number of code frames, so that the same bar gives nearly the same codes wherever it stands.
    """
    codec = demo_dataset().codec
    folder = MADE / "loops"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    bars = [bar(rng, BAR_FRAMES * codec.frame_samples, codec.sample_rate) for _ in range(4)]
    for number in range(count):
        order = rng.integers(0, len(bars), int(rng.integers(2, 5)))
        host_stubs.write_wav(
            folder / f"loop-{number:02d}.wav", np.concatenate([bars[one] for one in order]), codec.sample_rate
        )
    manifest = host_stubs.build_manifest(folder).manifest
    return Dataset("loops", manifest, codec, len(manifest.files))


def bar(rng: np.random.Generator, length: int, rate: int) -> np.ndarray:
    """A bar of drums: eight steps, on each of which a hit may fall."""
    sound = np.zeros(length, np.float32)
    for step in range(8):
        hit = (kick, hat, snare, hat)[step % 4](rng) if rng.random() < 0.8 else np.zeros(0)
        begin = step * length // 8
        sound[begin : begin + len(hit)] += hit[: length - begin]
    return host_stubs.peak_normalized(sound) * np.float32(0.9)


def legacy_datasets(folder: Path = SHARED) -> list[Dataset]:
    """Each folder of `audio` with the model of the existing host that was trained on it."""
    found = []
    for path in sorted((folder / "legacy").glob("*.distill")):
        if (recordings := folder / "audio" / path.stem).is_dir():
            manifest = host_stubs.build_manifest(recordings).manifest
            found.append(Dataset(path.stem, manifest, host_stubs.read_legacy(path).codec, len(manifest.files)))
    return found


def sitar_dataset(folder: Path = SHARED) -> list[Dataset]:
    """The sitar recordings over the codec of the drums, where both are there."""
    recordings, model = folder / "audio" / "sitar", folder / "legacy" / "gretsch.distill"
    if not (recordings.is_dir() and model.exists()):
        return []
    manifest = host_stubs.build_manifest(recordings).manifest
    return [Dataset("sitar", manifest, host_stubs.read_legacy(model).codec, len(manifest.files))]


def encodec_like_dataset(
    recordings: str = "tabla2",
    *,
    frames_per_second: float = 75,
    levels: int = 4,
    codebook_size: int = 1024,
    folder: Path = SHARED,
) -> list[Dataset[ResidualCodec]]:
    """Recordings over a codec such as EnCodec is, where they are there: one band, and many frames and levels.

    Without being asked for others, as that has at 3 kbit/s. The codec is learned from every folder of `audio`, what is
    trained on of each, as one that is made for any sound.
    """
    manifests = {path.name: host_stubs.build_manifest(path).manifest for path in sorted((folder / "audio").glob("*/"))}
    if recordings not in manifests:
        return []
    sounds = [one.audio for manifest in manifests.values() for one in manifest.recordings("train", RATE)]
    codec = ResidualCodec.learned(
        sounds, frames_per_second=frames_per_second, levels=levels, codebook_size=codebook_size
    )
    return [Dataset(f"{recordings}, as EnCodec", manifests[recordings], codec, len(manifests[recordings].files))]


def textures_dataset(count: int = 6, seconds: float = 100.0) -> Dataset:
    """Long textures over the demo's codec: bands of noise that swell and wander, in each file around other pitches."""
    return _long_dataset("textures", count, seconds, texture)


def notes_dataset(count: int = 5, seconds: float = 100.0) -> Dataset:
    """Long notes over the demo's codec: tones of seconds, one after another, each file on other steps of a scale."""
    return _long_dataset("notes", count, seconds, long_notes)


def _long_dataset(
    name: str, count: int, seconds: float, synthesize: Callable[[np.random.Generator, int, int], np.ndarray]
) -> Dataset:
    codec = demo_dataset().codec
    folder = MADE / name
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        sound = synthesize(np.random.default_rng([11, number]), round(seconds * codec.sample_rate), codec.sample_rate)
        host_stubs.write_wav(folder / f"{name}-{number}.wav", host_stubs.peak_normalized(sound), codec.sample_rate)
    manifest = host_stubs.build_manifest(folder).manifest
    return Dataset(name, manifest, codec, len(manifest.files))


def texture(rng: np.random.Generator, length: int, rate: int) -> np.ndarray:
    """Some bands of noise, each with a centre and a loudness that wander over seconds."""
    time, sound = np.arange(length) / rate, np.zeros(length)
    for _ in range(6):
        steps = np.cumsum(rng.normal(0, 0.25, int(time[-1]) + 2))
        pitch = rng.uniform(200, 4000) * 2 ** np.clip(np.interp(time, np.arange(len(steps)), steps), -2, 1)
        slow = np.convolve(rng.normal(size=length // 64 + 2), np.ones(8) / 8, "same")
        noise = np.interp(np.arange(length) / 64, np.arange(len(slow)), slow)
        swell = np.interp(time, np.arange(len(steps)), rng.uniform(0, 1, len(steps)) ** 2)
        sound += swell * noise * np.sin(2 * np.pi * np.cumsum(pitch) / rate)
    return sound.astype(np.float32)


def long_notes(rng: np.random.Generator, length: int, rate: int) -> np.ndarray:
    """Notes of one to four seconds with overtones and a breath of noise, that overlap a little."""
    sound, first = np.zeros(length + 5 * rate), 0
    while first < length:
        count = round(rng.uniform(1, 4) * rate)
        time = np.arange(count) / rate
        pitch = 110 * 2 ** (rng.choice([0, 2, 3, 5, 7, 8, 10, 12, 14, 15]) / 12 + rng.normal(0, 0.01))
        vibrato = np.cumsum(1 + 0.004 * np.sin(2 * np.pi * rng.uniform(4, 6) * time)) / rate
        tone = sum(
            rng.uniform(0.2, 1) / number * np.sin(2 * np.pi * number * pitch * vibrato) for number in range(1, 9)
        )
        shape = np.minimum(1, time / 0.08) * np.minimum(1, time[::-1] / 0.4) * rng.uniform(0.3, 1)
        sound[first : first + count] += shape * (tone + 0.05 * rng.normal(size=count))
        first += round(count * 0.9)
    return sound[:length].astype(np.float32)


def without_duplicates(dataset: Dataset, rate: int = 8000) -> Dataset:
    """The dataset without held-out files of which a second, or all, correlates with a stretch that is trained on."""
    learned = [one.audio.astype(np.float64) for one in dataset.manifest.recordings("train", rate)]
    dropped = {
        one.name
        for one in dataset.manifest.recordings("held_out", rate)
        if any(correlates(one.audio.astype(np.float64), other, rate) for other in learned)
    }
    files = tuple(entry for entry in dataset.manifest.files if entry.held_out is None or entry.path not in dropped)
    return replace(dataset, manifest=replace(dataset.manifest, files=files))


def distinct(sounds: Sequence[np.ndarray], rate: int) -> list[np.ndarray]:
    """Those of some recordings of which no second, or all of a shorter one, correlates with one that is kept."""
    slow = max(1, rate // 8000)
    kept: list[np.ndarray] = []
    found: list[np.ndarray] = []
    for sound in sorted(sounds, key=len, reverse=True):
        low = sound[: len(sound) // slow * slow].reshape(-1, slow).mean(axis=1).astype(np.float64)
        if not any(correlates(low, other, rate // slow) for other in kept):
            kept.append(low)
            found.append(sound)
    return found


def correlates(sound: np.ndarray, other: np.ndarray, length: int, alike: float = 0.9) -> bool:
    """Whether a window of `length` samples of a sound, or all of a shorter one, correlates with a place in another."""
    length = min(length, len(sound))
    if len(other) < length:
        return False
    size = 1 << (len(other) + length).bit_length()
    spectrum, energy = np.fft.rfft(other, size), np.concatenate([[0], np.cumsum(other**2)])
    for first in range(0, len(sound) - length + 1, max(length // 2, 1)):
        window = sound[first : first + length]
        mine = float((window**2).sum()) + 1e-9
        theirs = np.maximum(energy[length:] - energy[:-length], 0.01 * mine)
        product = np.fft.irfft(spectrum * np.conj(np.fft.rfft(window, size)), size)[: len(theirs)]
        if float(np.abs(product / np.sqrt(mine * theirs)).max()) > alike:
            return True
    return False
