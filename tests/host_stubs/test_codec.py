"""The codec: frames are counted right, blocks give what one pass gives, and decoding is faithful and repeatable."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from host_stubs.audio import peak_normalized
from host_stubs.codec import Codec
from host_stubs.errors import HostError
from host_stubs.folder import find_recordings
from host_stubs.griffin_lim import GriffinLim
from host_stubs.legacy import read_legacy
from host_stubs.mel import Mel, MelSettings, mel_filters
from host_stubs.network import COUNTER, Decoder, Encoder, code_vectors, nearest_codes, network_shapes
from host_stubs.reading import read_recording

SHARED = Path(__file__).parents[2].parent / "shared"
needs_recordings = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared recordings are not beside the repository")


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades, so that no two code frames are alike."""
    rng = np.random.default_rng(seed)
    swell = np.abs(np.sin(np.arange(samples) / 9_000)) ** 3
    return (0.3 * swell * rng.standard_normal(samples)).clip(-1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def varied() -> Codec:
    """An untrained network with codebooks taken from its own latents, so that different sounds get different codes."""
    torch.manual_seed(0)
    encoder, decoder = Encoder(16), Decoder(16)
    log_mel = Mel(MelSettings()).log_mel(torch.from_numpy(noise(8_192 * 40))[None])[:, None, :, :640]
    with torch.no_grad():
        latents = encoder.eval()(log_mel).permute(0, 2, 3, 1).reshape(-1, 16)  # [320 positions, dim]
    first = latents[torch.randperm(len(latents))[:32]]
    left = latents - first[torch.cdist(latents, first).argmin(1)]
    second = left[torch.randperm(len(left))[:32]]
    return Codec(MelSettings(), encoder, decoder, torch.stack([first, second]))


def real(name: str) -> tuple[Codec, list[np.ndarray]]:
    """An imported codec, and every sixth recording that it was trained with."""
    paths = find_recordings(SHARED / "audio" / name)[::6]
    codec = read_legacy(SHARED / "legacy" / f"{name}.distill").codec
    return codec, [peak_normalized(read_recording(path, codec.sample_rate)) for path in paths]


# Mel


@pytest.mark.parametrize(
    "settings",
    [
        MelSettings(),
        MelSettings(f_min=50.0, f_max=12_000.0),
        MelSettings(sample_rate=22_050, n_fft=1024, hop_length=256, n_mels=80),
    ],
)
def test_the_filters_are_those_of_librosa(settings: MelSettings) -> None:
    expected = librosa.filters.mel(
        sr=settings.sample_rate,
        n_fft=settings.n_fft,
        n_mels=settings.n_mels,
        fmin=settings.f_min,
        fmax=settings.f_max,
        htk=True,
        norm=None,
    )
    np.testing.assert_allclose(mel_filters(settings), expected, atol=1e-6)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_log_mel_is_that_of_librosa(power: float) -> None:
    audio = noise(20_000)
    expected = librosa.feature.melspectrogram(
        y=audio, sr=48_000, n_fft=2048, hop_length=512, n_mels=128, power=power, htk=True, norm=None, pad_mode="reflect"
    )
    found = Mel(MelSettings(power=power)).log_mel(torch.from_numpy(audio)[None])[0]
    np.testing.assert_allclose(found, np.log1p(expected), atol=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"n_fft": 0},
        {"hop_length": 5_000},
        {"n_mels": 0},
        {"f_max": 30_000.0},
        {"f_max": 1e-300},
        {"power": 3.0},
        {"sample_rate": 1},
    ],
)
def test_senseless_spectrogram_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(HostError, match="make no sense"):
        dataclasses.replace(MelSettings(), **change)  # type: ignore[arg-type]  # the wrong values are the point


@pytest.mark.parametrize("f_min", [0.0, 23_999.0])
def test_the_narrowest_spectrogram_is_of_numbers(f_min: float) -> None:
    filters = mel_filters(MelSettings(n_mels=512, f_min=f_min, f_max=f_min + 1))
    assert np.isfinite(filters).all()


# Quantizer


def test_each_level_takes_the_nearest_vector_to_what_is_left() -> None:
    generator = torch.Generator().manual_seed(1)
    latents, codebooks = torch.randn(50, 4, generator=generator), torch.randn(3, 10, 4, generator=generator)
    codes = nearest_codes(latents, codebooks)
    left = latents.clone()
    for level, codebook in enumerate(codebooks):
        expected = torch.cdist(left, codebook).argmin(1)
        assert torch.equal(codes[:, level], expected)
        left -= codebook[expected]
    torch.testing.assert_close(code_vectors(codes, codebooks), latents - left)


def test_a_code_frame_sees_the_code_frame_before_it_and_nothing_after_it() -> None:
    torch.manual_seed(0)
    encoder = Encoder(8).eval()
    log_mel = torch.randn(1, 1, 128, 16 * 6)
    with torch.no_grad():
        changed = log_mel.clone()
        changed[..., 16 * 3 : 16 * 4] += 1.0
        differs = (encoder(changed) != encoder(log_mel)).any(dim=(1, 2))[0]  # [frames]
    assert differs.tolist() == [False, False, False, True, True, False]


# Encoding


@pytest.mark.parametrize(
    ("samples", "frames"),
    [
        (1, 1),
        (100, 1),
        (1_024, 1),
        (1_025, 1),
        (8_191, 1),
        (8_192, 1),
        (8_193, 2),
        (16_384, 2),
        (48_000, 6),
        (49_152, 6),
    ],
)
def test_a_code_frame_stands_for_frame_samples(varied: Codec, samples: int, frames: int) -> None:
    codes = varied.encode(noise(samples))
    assert codes.shape == (frames, varied.bands, varied.levels)
    assert codes.dtype == np.int64
    assert codes.min() >= 0
    assert codes.max() < varied.codebook_size


def test_blocks_give_the_codes_of_a_single_pass(varied: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = noise(8_192 * 140 + 77)
    blocks = varied.encode(audio)
    monkeypatch.setattr("host_stubs.codec._BLOCK", 1_000)
    single = varied.encode(audio)
    monkeypatch.setattr("host_stubs.codec._BLOCK", 1)
    assert all(len(np.unique(single[:, :, level])) > 10 for level in range(2))
    assert (blocks == single).mean() > 0.999  # rounding may tip a code that is as near to two vectors
    assert (varied.encode(audio) == single).mean() > 0.999


@pytest.mark.parametrize(
    "lengths",
    [
        range(30_000, 38_192, 256),
        [1, 500, 1_024, 1_025, 8_191, 8_192, 8_193],  # up to half a window there is less sound than is mirrored
        [8_192 * 64, 8_192 * 64 - 1, 700, 8_192 * 65 + 5],
    ],
)
def test_sounds_encoded_together_have_the_codes_of_each_alone(varied: Codec, lengths: Sequence[int]) -> None:
    sounds = [noise(samples, seed) for seed, samples in enumerate(lengths)]
    together = varied.encode_many(sounds)
    assert len(together) == len(sounds)
    for codes, sound in zip(together, sounds, strict=True):
        np.testing.assert_array_equal(codes, varied.encode(sound))


def test_no_sounds_have_no_codes(varied: Codec) -> None:
    assert varied.encode_many([]) == []


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros((3, 5)), np.zeros(()), np.full(100, np.nan)])
def test_what_is_no_sound_is_not_encoded(varied: Codec, audio: np.ndarray) -> None:
    with pytest.raises(HostError, match="to encode"):
        varied.encode(audio)
    with pytest.raises(HostError, match="to encode"):
        varied.encode_many([noise(100), audio])


# Decoding


def error(codec: Codec, codes: np.ndarray) -> float:
    """Mean absolute difference between the log-mel of the decoded sound and the decoder's own."""
    wanted = codec.decoded_log_mel(codes)
    audio = codec.decode(codes)
    assert audio.dtype == np.float32
    assert audio.shape == (len(codes) * codec.frame_samples,)
    assert np.abs(audio).max() <= 1
    found = Mel(codec.mel_settings).log_mel(torch.from_numpy(audio)[None])[0, :, : wanted.shape[1]]
    return float(np.abs(found.numpy() - wanted).mean())


@needs_recordings
@pytest.mark.parametrize("name", ["tabla2", "gretsch"])
def test_decoded_recordings_have_the_decoders_log_mel(name: str) -> None:
    codec, recordings = real(name)
    errors = [error(codec, codec.encode(audio)) for audio in recordings]
    assert np.mean(errors) < 0.06  # 0.12 is what the project promises
    assert max(errors) < 0.12


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads that share their cores with other work wait for each other; one does not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@needs_recordings
@pytest.mark.usefixtures("one_thread")
def test_encoding_and_decoding_are_faster_than_real_time() -> None:
    codec, recordings = real("tabla2")
    audio = np.concatenate(recordings)
    codec.encode(audio)
    start = time.perf_counter()
    codes = codec.encode(audio)
    encoded = time.perf_counter()
    codec.decode(codes)
    decoded = time.perf_counter()
    seconds = len(audio) / codec.sample_rate
    assert seconds / (encoded - start) > 40  # 380 on one idle core
    assert seconds / (decoded - encoded) > 2  # 17 on one thread beside other work


def test_the_same_codes_give_the_same_samples(varied: Codec) -> None:
    codes = varied.encode(noise(40_000))
    first = varied.decode(codes)
    torch.randn(3)  # whatever the rest of the program draws
    np.testing.assert_array_equal(varied.decode(codes), first)


def test_silence_and_no_frames_decode(varied: Codec) -> None:
    silent = varied.encode(np.zeros(30_000, np.float32))
    assert np.isfinite(varied.decode(silent)).all()
    assert varied.decode(silent[:0]).shape == (0,)
    assert not GriffinLim(Mel(MelSettings())).audio(torch.zeros(128, 32)).any()


@pytest.mark.parametrize(
    "settings", [MelSettings(power=1.0), MelSettings(n_fft=1000, hop_length=300), MelSettings(f_max=9_000.0)]
)
def test_other_spectrogram_settings_decode_too(settings: MelSettings) -> None:
    mel = Mel(settings)
    log_mel = mel.log_mel(torch.from_numpy(noise(settings.hop_length * 100))[None])[0, :, :100]
    audio = GriffinLim(mel).audio(log_mel)
    assert audio.shape == (settings.hop_length * 100,)
    assert (mel.log_mel(audio[None])[0, :, :100] - log_mel).abs().mean() < 0.12


@pytest.mark.parametrize("hop", [65, 512, 1024])
@pytest.mark.parametrize("frames", [1, 2, 9, 40])
def test_sounds_of_few_frames_decode_whatever_the_hop(hop: int, frames: int) -> None:
    mel = Mel(MelSettings(hop_length=hop))
    audio = GriffinLim(mel).audio(mel.log_mel(torch.from_numpy(noise(hop * frames))[None])[0, :, :frames])
    assert audio.shape == (hop * frames,)
    assert audio.isfinite().all()


def test_sound_above_full_scale_keeps_its_log_mel_and_stays_in_range() -> None:
    mel = Mel(MelSettings())
    log_mel = mel.log_mel(torch.from_numpy(0.9 * peak_normalized(noise(512 * 100)))[None])[0, :, :100]
    loud = log_mel + 1.0  # e times the power: peaks at 1.5 with the original phases
    audio = GriffinLim(mel).audio(loud)
    assert audio.abs().max() <= 1
    assert (mel.log_mel(audio[None])[0, :, :100] - loud).abs().mean() < 0.12


@pytest.mark.parametrize(
    "spoil",
    [
        lambda codes: codes[:, :1],
        lambda codes: codes[..., 0],
        lambda codes: codes.astype(float),
        lambda codes: codes - 1_000,
        lambda codes: codes + 1_000,
    ],
)
def test_codes_of_another_shape_or_range_are_refused(codec: Codec, spoil: Callable[[np.ndarray], np.ndarray]) -> None:
    with pytest.raises(HostError, match="Codes of this model"):
        codec.decode(spoil(codec.encode(noise(20_000))))


# Parts


def test_a_codec_is_remade_from_its_parts(varied: Codec) -> None:
    other = Codec.from_parts(varied.settings(), varied.tensors())
    audio = noise(50_000)
    np.testing.assert_array_equal(other.encode(audio), varied.encode(audio))
    np.testing.assert_array_equal(other.codebooks, varied.codebooks)
    assert other.codebooks.shape == (varied.levels, varied.codebook_size, varied.dim)
    assert other.codebooks.dtype == np.float32
    assert other.settings() == varied.settings()


def test_the_parts_have_the_names_of_the_existing_host(codec: Codec) -> None:
    names = set(codec.tensors())
    assert {f"encoder.convs.{index}.weight" for index in (0, 1, 4, 5, 8, 9, 12, 13)} <= names
    assert {f"decoder.deconvs.{index}.weight" for index in (0, 1, 4, 5, 8, 9, 12)} <= names
    assert {f"quantizer.rvq.layers.{level}._codebook.embed" for level in range(codec.levels)} <= names


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("dim", 0),
        ("dim", "16"),
        ("levels", True),
        ("levels", 10**9),
        ("codebook_size", None),
        ("mel", None),
        ("mel", {}),
    ],
)
def test_settings_that_cannot_be_are_refused(codec: Codec, setting: str, value: object) -> None:
    with pytest.raises(HostError, match=r"setting"):
        Codec.from_parts(codec.settings() | {setting: value}, codec.tensors())


@pytest.mark.parametrize("dim", [1, 16, 100])
def test_the_shapes_of_the_network_are_known_without_making_it(dim: int) -> None:
    ends = {"encoder": Encoder(dim), "decoder": Decoder(dim)}
    state = {f"{end}.{name}": tensor for end, made in ends.items() for name, tensor in made.state_dict().items()}
    assert network_shapes(dim) == {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert all((tensor.dtype == torch.int64) == name.endswith(COUNTER) for name, tensor in state.items())


@pytest.mark.parametrize("problem", ["missing", "unknown", "shape", "dtype", "NaN", "other settings"])
def test_tensors_that_do_not_fit_are_named(codec: Codec, problem: str) -> None:
    settings, tensors, name = codec.settings(), codec.tensors(), "encoder.convs.0.weight"
    if problem == "missing":
        del tensors[name]
    elif problem == "unknown":
        tensors["stranger"] = torch.zeros(1)
        name = "stranger"
    elif problem == "shape":
        tensors[name] = tensors[name][:, :, :2]
    elif problem == "dtype":
        tensors[name] = tensors[name].double()
    elif problem == "NaN":
        tensors[name][0, 0, 0, 0] = float("nan")
    else:
        settings["codebook_size"] = 7
        name = "_codebook.embed"
    with pytest.raises(HostError, match=name):
        Codec.from_parts(settings, tensors)


@pytest.mark.parametrize("block", [997, 8192, 100_000, 10**9])
@pytest.mark.parametrize(
    "samples", [1, 500, 8192 * 63, 8192 * 64, 8192 * 64 + 1, 8192 * 65 + 700, 8192 * 128, 1_100_001]
)
def test_sound_that_comes_in_blocks_has_the_codes_of_the_whole(codec: Codec, samples: int, block: int) -> None:
    sound = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
    parts = list(codec.encode_stream(sound[first : first + block] for first in range(0, samples, block)))
    np.testing.assert_array_equal(np.concatenate(parts), codec.encode(sound))


def test_a_stream_without_sound_or_with_senseless_sound_is_refused(codec: Codec) -> None:
    with pytest.raises(HostError, match="no sound"):
        list(codec.encode_stream([]))
    with pytest.raises(HostError, match="not finite"):
        list(codec.encode_stream([np.full(10, np.nan, np.float32)]))
