"""Recordings that share sound are found, and held out or trained on together; takes that are merely alike are not."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from host_stubs import synth
from host_stubs.errors import HostError
from host_stubs.fingerprints import RATE, Fingerprints
from host_stubs.manifest import build_manifest
from host_stubs.reading import read_recording
from host_stubs.recording import RecordingEntry
from host_stubs.shared_sound import Shared, groups_of, sentences_on, shared_sound
from host_stubs.split import split

SHARED = Path(__file__).parents[2].parent / "shared" / "audio"
needs_recordings = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared recordings are not beside the repository")
Sound = tuple[np.ndarray, int]  # samples, and how many a second
PEAK = 0.24  # of a recording before it is made up to 12 dB louder


def pairs(sounds: dict[str, Sound]) -> list[Shared]:
    """What is found among recordings that are read in blocks, as files are."""
    with Fingerprints() as fingerprints:
        for name, (samples, rate) in sounds.items():
            blocks = np.array_split(samples.astype(np.float32), max(1, len(samples) // 50_000))
            fingerprints.listen(name, blocks, rate)
        return shared_sound(fingerprints)


def demo(folder: Path, seed: int, count: int) -> list[Sound]:
    paths = synth.write_demo_recordings(folder, seed=seed, count=count)
    return [(PEAK / 0.9 * read_recording(path, synth.SAMPLE_RATE), synth.SAMPLE_RATE) for path in paths]


# What becomes of a take: each gives it in another form.


def louder_or_softer(sound: Sound, random: np.random.Generator) -> Sound:
    return sound[0] * 10 ** (random.choice([-12, 12]) / 20), sound[1]


def as_mp3(sound: Sound, random: np.random.Generator) -> Sound:
    """At 64 kbit/s."""
    file = io.BytesIO()
    level = 0.88 if sound[1] > 32_000 else 0.64
    soundfile.write(file, *sound, format="MP3", bitrate_mode="CONSTANT", compression_level=level)
    assert len(file.getvalue()) * 8 < 65_000 * (len(sound[0]) / sound[1] + 0.5)
    file.seek(0)
    return soundfile.read(file, dtype="float32")


def at_another_rate(sound: Sound, random: np.random.Generator) -> Sound:
    rate = int(random.choice([44_100, 22_050]))
    return soxr.resample(sound[0], sound[1], rate), rate


def cut_to_a_second(sound: Sound, random: np.random.Generator) -> Sound:
    """Anywhere but in the faint end of it, more than 20 dB below its loudest second."""
    samples, rate = sound
    if len(samples) <= rate:
        return sound
    energy = _energy(samples, rate)
    start = random.choice(np.flatnonzero(energy > energy.max() / 100))
    return samples[start : start + rate], rate


def moved(sound: Sound, random: np.random.Generator) -> Sound:
    return np.pad(sound[0], tuple(random.integers(0, sound[1], 2))), sound[1]


def with_noise(sound: Sound, random: np.random.Generator) -> Sound:
    """20 dB below it."""
    samples = sound[0]
    return samples + 0.1 * np.sqrt((samples**2).mean()) * random.standard_normal(len(samples)), sound[1]


FORMS = (cut_to_a_second, with_noise, moved, louder_or_softer, at_another_rate, as_mp3)


# Takes: the same thing played again.


class Again(np.random.Generator):
    """Draws what makes an instrument nearly as another generator does, and all noise anew."""

    def __init__(self, instrument: int, take: int) -> None:
        super().__init__(np.random.PCG64([instrument, take]))
        self._same = np.random.default_rng(instrument)

    def uniform(self, low: float = 0, high: float = 1, size: int | None = None) -> np.ndarray | float:  # type: ignore[override]  # as far as needed
        if size is not None:
            return super().uniform(low, high, size)
        drawn = self._same.uniform(low, high) + 0.05 * (high - low) * self.standard_normal()
        return float(np.clip(drawn, low, high))

    def integers(self, low: int, high: int) -> int:  # type: ignore[override]  # as far as needed
        return int(self._same.integers(low, high))


def word(random: Again, seconds: float) -> np.ndarray:
    """Two to three syllables, each pulses of a voice through three formants."""
    syllables = []
    for _ in range(random.integers(2, 4)):
        times = np.arange(round(synth.SAMPLE_RATE * random.uniform(0.2, 0.4))) / synth.SAMPLE_RATE
        pitch = random.uniform(90, 220) * (1 + random.uniform(-0.2, 0.2) * times)
        source = np.diff(np.floor(np.cumsum(pitch) / synth.SAMPLE_RATE), prepend=0)
        source += 0.02 * random.standard_normal(len(times))
        for formant in (random.uniform(300, 800), random.uniform(900, 2200), random.uniform(2400, 3200)):
            ringing = np.exp(-250 * times[:2000]) * np.sin(2 * math.pi * formant * times[:2000])
            source = np.convolve(source, ringing)[: len(times)]
        syllables.append(source / np.abs(source).max() * np.hanning(len(times)) ** 0.3)
    return np.concatenate(syllables)


def note(instrument: Callable[..., np.ndarray], lowest: int, highest: int) -> Callable[[Again, float], np.ndarray]:
    return lambda random, seconds: instrument(random, synth._pitch(random.integers(lowest, highest)), seconds)


TAKES: dict[str, Callable[[Again, float], np.ndarray]] = {
    "word": word,
    "string": note(synth.pluck, 0, 14),
    "bell": note(synth.bell, 10, 22),
    "kick": synth.kick,
    "snare": synth.snare,
    "hat": synth.hat,
}


def takes(kind: str, instrument: int) -> dict[str, Sound]:
    seconds = 0.8 if kind in ("kick", "snare", "hat") else 2.0
    return {str(take): (TAKES[kind](Again(instrument, take), seconds), synth.SAMPLE_RATE) for take in range(2)}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_take_in_another_form_is_the_same_sound(tmp_path: Path, form: Callable[..., Sound]) -> None:
    for number, sound in enumerate(demo(tmp_path, 1, 6)):
        assert pairs({"take": sound, "form": form(sound, np.random.default_rng(number))})


@pytest.mark.parametrize("kind", TAKES)
def test_two_takes_of_the_same_are_two_sounds(kind: str) -> None:
    for instrument in range(4):
        assert not pairs(takes(kind, instrument))


def test_what_is_all_in_another_recording_is_part_of_it(tmp_path: Path) -> None:
    long, rate = demo(tmp_path, 0, 4)[3]
    (pair,) = pairs({"whole": (long, rate), "part": (0.3 * long[rate // 3 : rate // 3 + rate], rate)})
    assert sentences_on([pair], {"whole", "part"}) == ["part is part of whole; they are held out together."]


def test_a_second_amid_other_sound_is_found(tmp_path: Path) -> None:
    (one, rate), (other, _) = demo(tmp_path, 0, 4)[1::2]
    borrowed = np.concatenate([other, one[rate // 2 : rate // 2 + rate], other[::-1]])
    (pair,) = pairs({"one": (one, rate), "borrower": (borrowed, rate)})
    assert sentences_on([pair], set()) == ["one and borrower share sound; they are trained on together."]


def test_sound_shorter_than_a_second_is_found_where_all_of_it_is_there(tmp_path: Path) -> None:
    drum, rate = demo(tmp_path, 1, 5)[4]
    loop, _ = demo(tmp_path, 1, 2)[1]
    assert len(drum) < rate
    (pair,) = pairs({"drum": (drum, rate), "loop": (np.concatenate([loop, drum, loop]), rate)})
    assert sentences_on([pair], {"loop", "drum"}) == ["drum is part of loop; they are held out together."]


def test_among_many_that_are_alike_the_same_is_compared_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the pitch tells a note at another speed from the note itself."""
    monkeypatch.setattr("host_stubs.shared_sound._COMPARED", (4, 1000))
    note, rate = demo(tmp_path, 0, 4)[3]
    sounds = {}
    for number, speed in enumerate(np.linspace(0.9, 1.1, 60)):
        times = np.arange(0, len(note) - 1, speed)
        sounds[str(number)] = (np.interp(times, np.arange(len(note)), note), rate)
    sounds["once more"] = (0.3 * np.pad(sounds["20"][0], (rate // 5, 0)), rate)
    assert [{pair.one, pair.other} for pair in pairs(sounds)] == [{"20", "once more"}]


def test_silence_and_next_to_nothing_share_nothing() -> None:
    silence, click = (np.zeros(40_000), 16_000), (np.ones(3), 16_000)
    assert not pairs({"one": silence, "two": silence, "three": click})
    assert not pairs({"alone": silence})


def test_what_was_heard_is_kept_beyond_what_memory_is_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_stubs.kept_sound._IN_MEMORY", RATE + 1000)
    tone = np.sin(np.arange(3 * RATE) / 5).astype(np.float32)
    with Fingerprints() as fingerprints:
        for name, gain in (("one", 1.0), ("two", 0.001)):
            fingerprints.listen(name, np.array_split(gain * tone, 7), RATE)
        heard = fingerprints.sound("two", RATE - 10, 3 * RATE + 10)
        np.testing.assert_allclose(heard[:-10], 0.001 * tone[RATE - 10 :], rtol=1e-2, atol=1e-6)
        np.testing.assert_array_equal(heard[-10:], 0)
        np.testing.assert_allclose(fingerprints.sound("one", 0, 3 * RATE), tone, rtol=1e-2, atol=1e-6)
        levels = fingerprints.of["one"].levels
        assert len(levels) == 1 + 3 * RATE // 512
        np.testing.assert_allclose(levels[5:-5].sum(axis=1), levels[5].sum(), rtol=1e-2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_stubs.kept_sound._IN_MEMORY", 1000)
    with Path("/dev/full").open("r+b", buffering=0) as full, Fingerprints() as fingerprints:
        monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full)
        with pytest.raises(HostError, match=r"No space left on device\). Make room there, or set TMPDIR"):
            fingerprints.listen("one", [np.ones(RATE, np.float32)], RATE)


def test_it_is_all_one_in_which_blocks_a_recording_comes() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    with Fingerprints() as fingerprints:
        for name, count in (("whole", 1), ("parts", 5)):
            fingerprints.listen(name, [*np.array_split(noise, count), noise[:0]], 48_000)
        whole, parts = fingerprints.of["whole"], fingerprints.of["parts"]
        assert whole.samples == parts.samples == RATE
        np.testing.assert_allclose(whole.levels, parts.levels, rtol=1e-2)


def test_each_take_as_wav_and_as_flac_is_on_one_side(tmp_path: Path) -> None:
    for number, (sound, rate) in enumerate(demo(tmp_path / "demo", 0, 10)):
        soundfile.write(tmp_path / f"{number}.wav", sound, rate)
        soundfile.write(tmp_path / f"{number} soft.flac", 0.5 * sound, rate)
    for path in (tmp_path / "demo").iterdir():
        path.unlink()
    scan = build_manifest(tmp_path)
    held_out, trained_on = ({entry.path[0] for entry, _ in scan.manifest.part(part)} for part in ("held_out", "train"))
    assert held_out
    assert trained_on
    assert held_out.isdisjoint(trained_on)
    assert len(scan.notes) == 9
    assert scan.notes[0].startswith("0 soft.flac and 0.wav are the same sound; they are ")
    assert scan.notes[-1] == "2 more groups of recordings share sound."


def test_what_was_not_listened_to_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (sound, rate) in enumerate(demo(tmp_path / "demo", 0, 3)):
        soundfile.write(tmp_path / f"{number}.wav", sound, rate)
    monkeypatch.setattr("host_stubs.fingerprints.MOST_SECONDS", 4)
    scan = build_manifest(tmp_path)
    assert len(scan.manifest.files) == 6
    assert "share sound was looked for in the first" in scan.notes[-1]


def test_many_that_share_sound_are_named_in_few_words() -> None:
    chain = [Shared(f"{n:02}", f"{n + 1:02}", False, False) for n in range(19)]
    assert set(groups_of(chain[::-1]).values()) == {"00"}
    names = ", ".join(f"{n:02}" for n in range(12))
    assert sentences_on(chain, set()) == [f"{names} and 8 more share sound; they are trained on together."]


def entries(seconds: Iterable[float]) -> list[RecordingEntry]:
    return [RecordingEntry(f"{n}", 1, f"sha{n}", length, None, None) for n, length in enumerate(seconds)]


@given(st.lists(st.tuples(st.floats(0.01, 1000), st.integers(0, 9)), min_size=2, max_size=60), st.integers(0, 1000))
def test_a_group_is_held_out_or_trained_on_as_one(recordings: list[tuple[float, int]], seed: int) -> None:
    groups = {f"{n}": f"group {group}" for n, (_, group) in enumerate(recordings)}
    files, notes = split(entries(seconds for seconds, _ in recordings), seed, groups=groups)
    held_out = {entry.path for entry in files if entry.held_out}
    assert 0 < len(held_out) < len(files)
    if len(set(groups.values())) == 1:
        assert "All recordings share sound" in notes[0]
        return
    assert not notes
    assert {groups[path] for path in held_out}.isdisjoint(groups[entry.path] for entry in files if entry.train)
    assert sum(entry.seconds for entry in files if entry.held_out) <= sum(entry.seconds for entry in files) / 2 * 1.001


def test_a_large_group_is_trained_on() -> None:
    groups = {f"{n}": "many" for n in range(12)}
    for seed in range(20):
        files, _ = split(entries([1.0] * 30), seed, groups=groups)
        held_out = [entry.path for entry in files if entry.held_out]
        assert len(held_out) == 6
        assert groups.keys().isdisjoint(held_out)


def recordings(folder: Path) -> list[Sound]:
    """Real ones, where they are, and those of the demo."""
    found = [sound for seed in (1, 2) for sound in demo(folder / f"{seed}", seed, 36)]
    for path in sorted(SHARED.rglob("*.wav")):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = samples.mean(axis=1)
        found.append((PEAK * mono / np.abs(mono).max(), rate))
    return found


@pytest.mark.slow
def test_of_200_takes_in_other_forms_99_percent_are_found(tmp_path: Path) -> None:
    random, sources = np.random.default_rng(0), recordings(tmp_path)
    missed = []
    for number in range(200):
        source = sources[number % len(sources)]
        sound = source
        chosen = random.permutation(len(FORMS))[: random.integers(1, 5)]
        for form in sorted(chosen):
            sound = FORMS[form](sound, random)
        if not pairs({"take": source, "form": sound}):
            missed.append((number % len(sources), [FORMS[form].__name__ for form in sorted(chosen)]))
    assert len(missed) <= 2, missed


@pytest.mark.slow
def test_of_1000_pairs_of_different_takes_one_at_most_is_taken_for_one_sound(tmp_path: Path) -> None:
    wrong: list[object] = [
        (kind, instrument) for kind in TAKES for instrument in range(100, 200) if pairs(takes(kind, instrument))
    ]
    several = demo(tmp_path, 3, 29)
    assert len(several) * (len(several) - 1) // 2 >= 400
    wrong += pairs({str(number): sound for number, sound in enumerate(several)})
    assert len(wrong) <= 1, wrong


@needs_recordings
def test_no_second_of_the_tabla_is_held_out_that_is_also_trained_on() -> None:
    """By brute force: every loud second that is held out, at every place of every recording that is trained on."""
    scan = build_manifest(SHARED / "tabla2")
    said = "\n".join(scan.notes)
    for group in (("23663", "23665"), ("23666", "23669"), ("23673", "23674"), ("23684", "23686")):
        assert any(all(name in note for name in group) for note in scan.notes), said
    held_out, trained_on = (
        [read_recording(Path(scan.manifest.folder, entry.path), 8_000) for entry, _ in scan.manifest.part(part)]
        for part in ("held_out", "train")
    )
    highest = max(_highest(one, other) for one in held_out for other in trained_on)
    assert 0.5 < highest < 0.9


def _highest(one: np.ndarray, other: np.ndarray) -> float:
    """Highest correlation of a second of `one`, every 0.1 s, with one of `other`, both within 10 dB of the loudest."""
    second = 8_000
    if min(len(one), len(other)) < second:
        return 0.0
    energy, their_energy = (_energy(each, second) for each in (one, other))
    size = len(other) + second
    spectrum = np.fft.rfft(other, size)
    highest = 0.0
    for start in range(0, len(energy), second // 10):
        if energy[start] >= energy.max() / 10:
            products = np.fft.irfft(spectrum * np.fft.rfft(one[start : start + second], size).conj(), size)
            correlation = products[: len(their_energy)] / np.sqrt(energy[start] * their_energy + 1e-12)
            highest = max(highest, float(correlation[their_energy >= their_energy.max() / 10].max()))
    return highest


def _energy(sound: np.ndarray, length: int) -> np.ndarray:
    """Of every stretch of this length."""
    sums = np.cumsum(np.concatenate([[0], sound.astype(np.float64) ** 2]))
    return sums[length:] - sums[:-length]
