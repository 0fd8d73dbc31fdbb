"""An export plays what the model plays, in programs that know nothing of it: by the contract of nn~ and nn.ar."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import host_stubs
from benchmarks.live import Played, played, set_attribute
from host_stubs.cli import build_cli
from host_stubs.codec import Codec
from host_stubs.mel import MelSettings
from host_stubs.model import Model
from host_stubs.network import Decoder, Encoder
from host_stubs.plugins import Plugins
from sda_prior_plugin import CodeCorpus, Prior, PriorError, PriorSettings, drawing, train_prior
from sda_prior_plugin.edge import plugin as prior_plugin
from sda_prior_plugin.export import choosing
from sda_prior_plugin.export.counting import RandomStream
from sda_prior_plugin.export.instrument import instrument
from sda_prior_plugin.export.sequence import Sequence
from sda_prior_plugin.export.step import Step
from sda_prior_plugin.inference import Memory, Room, follow
from sda_prior_plugin.laying_out import weights_of
from sda_prior_plugin.random_stream import stream_keys, uniforms
from sda_prior_plugin.sequences import DEFAULT_TOP_P, TOP_P_OF_SHORT_FRAMES

LIVE = Path(__file__).parents[2] / "benchmarks" / "live.cpp"
OPERATORS = Path(__file__).with_name("operators.txt")
LEVELS, SIZE = 2, 16
LAG = 9
"""Frames that this codec's sound lags behind."""


def untrained_codec(levels: int, size: int, n_mels: int) -> Codec:
    """A real codec that has learned nothing, with small frames, and a band for each 16 of `n_mels`."""
    torch.manual_seed(0)
    tensors = {f"encoder.{name}": tensor for name, tensor in Encoder(8).state_dict().items()}
    tensors |= {f"decoder.{name}": tensor for name, tensor in Decoder(8).state_dict().items()}
    tensors |= {f"quantizer.rvq.layers.{n}._codebook.embed": torch.randn(1, size, 8) for n in range(levels)}
    mel = vars(MelSettings(sample_rate=16_000, n_fft=256, hop_length=64, n_mels=n_mels))
    return Codec.from_parts({"mel": mel, "dim": 8, "levels": levels, "codebook_size": size}, tensors)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return untrained_codec(LEVELS, SIZE, 48)


def trained(codec: Codec, **kind: Any) -> Prior:
    """A prior that has heard sounds of 12 frames, and has learned something of them."""
    rng = np.random.default_rng(0)
    bars = rng.integers(0, SIZE, (3, 12, codec.bands, LEVELS))
    grids = [np.where(rng.random(bars[0].shape) < 0.1, 0, bars[n % 3]) for n in range(30)]
    corpus = CodeCorpus.from_sequences(
        grids[:24], grids[24:], codebooks=codec.codebooks, frame_seconds=codec.frame_samples / codec.sample_rate
    )
    settings = PriorSettings.for_corpus(
        corpus, file_count=30, epochs=6, hidden_size=32, layers=2, context_seconds=0.5, batch_size=8,
        learning_rate=5e-3, **kind,
    )  # fmt: skip
    return train_prior(corpus, settings).prior


@pytest.fixture(scope="module")
def prior(codec: Codec) -> Prior:
    return trained(codec, architecture="transformer", heads=2)


@pytest.fixture(scope="module")
def recurrent(codec: Codec) -> Prior:
    return trained(codec, architecture="gru")


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    plugins = Plugins()
    plugins.add(prior_plugin, "prior")
    return plugins


@pytest.fixture(scope="module")
def model_file(prior: Prior, codec: Codec, plugins: Plugins, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = Model("played", codec, None)
    model.prior = prior
    path = tmp_path_factory.mktemp("played") / "played.sda"
    host_stubs.save_model(model, path, plugins)
    return path


def run(plugins: Plugins, *arguments: str | Path) -> Any:
    result = CliRunner().invoke(build_cli(plugins), [str(argument) for argument in arguments])
    return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)


@pytest.fixture(scope="module")
def exported(model_file: Path, plugins: Plugins) -> Path:
    path = model_file.with_suffix(".ts")
    result = run(plugins, "export", model_file, "-o", path, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["least_block"] == 1024
    return path


@pytest.fixture(scope="module")
def loaded(exported: Path) -> torch.jit.ScriptModule:
    """The export as a program has it that has loaded it and asked for its methods."""
    loaded = torch.jit.load(exported)
    with torch.inference_mode():
        assert loaded.get_methods() == ["forward", "play", "codes", "sound", "through", "listen"]
    return loaded


def test_it_draws_as_the_command_does_until_it_is_told_otherwise(exported: Path) -> None:
    loaded = torch.jit.load(exported)
    assert (loaded.get_temperature(), loaded.get_top_p(), loaded.get_top_k()) == ([1.0], [DEFAULT_TOP_P], [0])


def test_where_frames_are_short_it_begins_with_their_top_p(prior: Prior, codec: Codec) -> None:
    short = Prior(prior.network, prior.settings, prior.report, frame_seconds=0.02)
    exported = instrument(short, codec.scripted(), codec.frame_samples)
    assert exported.get_top_p() == [TOP_P_OF_SHORT_FRAMES]
    sequence = torch.jit.script(Sequence(short).eval())
    sequence.begin(7)
    with torch.inference_mode():
        found = np.concatenate([sequence.next_frame().numpy() for _ in range(60)])
    as_it_is, as_others = (list(short.stream(60, seed=7, top_p=top_p)) for top_p in (None, DEFAULT_TOP_P))
    np.testing.assert_array_equal(found, np.concatenate(as_it_is))
    assert not np.array_equal(found, np.concatenate(as_others))


@pytest.fixture
def model(loaded: torch.jit.ScriptModule) -> Iterator[torch.jit.ScriptModule]:
    """The same, as it is when nothing was set or computed yet."""
    drawing = {"temperature": "1", "top_p": "0.9", "top_k": "0", "max_copy": "-1"}
    defaults = {**drawing, "seed": "0", "hold": "0", "gain": "1"}
    assert [*defaults, "reset"] == sorted(loaded.get_attributes(), key=[*defaults, "reset"].index)
    for name, text in {**defaults, "reset": "1"}.items():
        set_attribute(loaded, name, text)
    with torch.inference_mode():
        yield loaded


def play(model: torch.jit.ScriptModule, method: str, frames: int, **meanwhile: str) -> tuple[Played, np.ndarray]:
    """What a method makes of so many frames of zeros, `[channels, values]`."""
    blocks: list[np.ndarray] = []
    how = played(model, method, 1024, frames, 16_000, lambda block: blocks.append(block.copy()), meanwhile)
    return how, np.concatenate(blocks, 1)


@pytest.mark.parametrize("kind", ["prior", "recurrent"])
def test_codes_are_those_of_the_prior_with_all_settings(kind: str, request: pytest.FixtureRequest) -> None:
    prior: Prior = request.getfixturevalue(kind)
    sequence = torch.jit.script(Sequence(prior).eval())
    sequence.draw_by(1.2, 0.9, 8, False)
    sequence.look_for(prior.guard(0.25).frames)
    sequence.begin(7)
    how = {"temperature": 1.2, "top_p": 0.9, "top_k": 8, "max_copy": 0.25}
    expected = np.concatenate(list(prior.stream(200, seed=7, **how)))
    with torch.inference_mode():
        found = np.concatenate([sequence.next_frame().numpy() for _ in expected])
    assert sequence.sound > 3  # sounds have ended, and others have begun
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["prior", "recurrent"])
def test_logits_are_those_of_drawing_but_for_the_last_digits(kind: str, request: pytest.FixtureRequest) -> None:
    """What differs by more falls on the other side of a border once in a few minutes of sound.

    Over more frames than have an embedding of their own.
    """
    prior: Prior = request.getfixturevalue(kind)
    shape, weights = prior.shape, weights_of(prior.network)
    codes = np.random.default_rng(3).integers(0, SIZE, (150, shape.frame_codes))
    memory = Memory.of_nothing(prior.network, 1, len(codes))
    logits, ends = np.empty((*codes.shape, SIZE)), np.empty(len(codes))
    follow(*weights, memory, Room.for_rows(prior.network, 1, memory.keys.shape[3]), codes, logits, ends)
    step, before = torch.jit.script(Step(prior.network, weights).eval()), torch.full((shape.frame_codes,), SIZE)
    for frame, grid in enumerate(codes.reshape(-1, shape.bands, shape.levels)):
        step.begin(before, frame)
        for band in range(shape.bands):
            x = step.read(band)
            if band == 0:
                assert step.end_probability(x) == pytest.approx(ends[frame], rel=1e-9)
            for level in range(shape.levels):
                found = step.code_logits(x, band, level).numpy()
                np.testing.assert_allclose(found, logits[frame, band * shape.levels + level], rtol=0, atol=1e-9)
                step.take(level, int(grid[band, level]))
        step.keep()
        before = torch.as_tensor(codes[frame])


@pytest.mark.parametrize("top_k", [0, 5])
@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9, 1.0])
def test_what_is_drawn_from_is_what_drawing_draws_from(top_p: float, top_k: int) -> None:
    """Whether the most probable code goes on, another one does, or none."""
    rng = np.random.default_rng(0)
    for spread in (0.1, 1.0, 4.0):
        logits = (spread * rng.normal(size=40)).astype(np.float32)
        for held in (int(logits.argmax()), int(logits.argmin()), 40):
            expected = np.empty((2, 40))
            drawing.probabilities(logits, 0.9, top_k, top_p, held, expected)
            found = choosing.probabilities(torch.as_tensor(logits), 0.9, top_k, top_p, held)
            np.testing.assert_allclose(found, expected[0], atol=1e-12)


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_random_numbers_are_those_of_the_stream(seed: int) -> None:
    numbers, expected = torch.jit.script(RandomStream()), np.zeros(25)
    numbers.seed(seed)
    uniforms(stream_keys(seed, 1)[0], 3, 2**20, expected)
    np.testing.assert_array_equal(numbers.uniforms(3, 2**20, 0, 25).numpy(), expected)


def test_it_plays_what_the_prior_draws_as_the_codec_decodes_it(
    model: torch.jit.ScriptModule, prior: Prior, codec: Codec
) -> None:
    set_attribute(model, "seed", "5")
    how, sound = play(model, "play", 40)
    expected = codec.decode(prior.sample(60, seed=5))
    assert how.right
    assert how.blocks == 40
    np.testing.assert_allclose(sound[0], expected[: 40 * 1024], atol=1e-3)


@pytest.mark.parametrize("method", ["play", "codes", "sound", "through", "listen"])
def test_a_block_of_any_power_of_two_is_as_long_as_it_has_to_be(model: torch.jit.ScriptModule, method: str) -> None:
    for block in (1024, 4096):
        assert played(model, method, block, 3, 16_000, lambda found: None).right


def test_what_is_set_while_a_block_is_computed_holds_for_the_next(model: torch.jit.ScriptModule, prior: Prior) -> None:
    _, codes = play(model, "codes", 6, seed="9")
    assert model.get_seed() == [9]
    expected = prior.sample(6, seed=9).reshape(6, -1)
    begun = int((codes[:-1, 0] != expected[0]).any())  # with the second, but where it came before the first began
    np.testing.assert_array_equal(codes[:-1, begun:].T, expected[: 6 - begun])


def test_codes_have_a_channel_with_their_bits_and_become_sound_again(
    model: torch.jit.ScriptModule, prior: Prior, codec: Codec
) -> None:
    _, signals = play(model, "codes", 40)
    codes = signals[:-1].T.reshape(40, codec.bands, LEVELS).astype(int)
    np.testing.assert_array_equal(codes, prior.sample(40, seed=0))
    assert 0 < signals[-1, -1] < np.log2(SIZE) + 3
    found = model.sound(torch.as_tensor(signals[None, :-1] + 0.3))[0, 0].numpy()
    expected = codec.decode(codes)
    assert not found[: LAG * 1024].any()
    np.testing.assert_allclose(found[LAG * 1024 :], expected[: (40 - LAG) * 1024], atol=1e-3)


def test_through_is_what_the_codec_hears_of_a_sound_some_frames_later(
    model: torch.jit.ScriptModule, codec: Codec
) -> None:
    sound = np.sin(np.arange(40 * 1024) / 20).astype(np.float32)
    found = np.concatenate([model.through(torch.as_tensor(part)[None, None])[0, 0] for part in np.split(sound, 10)])
    expected = codec.decode(codec.encode(sound))
    np.testing.assert_allclose(found[(LAG + 1) * 1024 :], expected[: (39 - LAG) * 1024], atol=1e-3)


def test_it_listens_and_goes_on_from_what_it_heard(model: torch.jit.ScriptModule, prior: Prior, codec: Codec) -> None:
    sound = np.sin(np.arange(9 * 1024) / 20).astype(np.float32)
    hears = torch.as_tensor(np.stack([sound, np.zeros_like(sound)]))[None]
    assert not model.listen(hears).any()
    answer = model.listen(torch.ones(1, 2, 12 * 1024))[0, 0].numpy()
    expected = codec.decode(prior.sample(30, seed=0, start=codec.encode(sound)[:-1]))
    np.testing.assert_allclose(answer, expected[: len(answer)], atol=1e-3)


def test_with_hold_it_does_not_listen(model: torch.jit.ScriptModule, prior: Prior, codec: Codec) -> None:
    set_attribute(model, "hold", "1")
    model.listen(torch.rand(1, 2, 4 * 1024) * 0.4)
    set_attribute(model, "hold", "0")
    answer = model.listen(torch.ones(1, 2, 4 * 1024))[0, 0].numpy()
    np.testing.assert_allclose(answer, codec.decode(prior.sample(20, seed=0))[: len(answer)], atol=1e-3)


def test_hold_draws_ever_new_codes_from_the_same_moment(prior: Prior) -> None:
    sequence = torch.jit.script(Sequence(prior).eval())
    sequence.begin(1)
    sequence.draw_by(3.0, 1.0, 0, True)
    held = [sequence.next_frame() for _ in range(4)]
    assert not torch.equal(held[0], held[1])
    assert sequence.frame == 0
    sequence.begin(1)
    sequence.draw_by(3.0, 1.0, 0, False)
    free = [sequence.next_frame() for _ in range(2)]
    assert torch.equal(free[0], held[0])
    assert sequence.frame > 0


def test_where_max_copy_leaves_nothing_it_is_silent_and_says_so_once_until_more_is_allowed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A codec of two codes, and a recording in which each comes after each."""
    codec = untrained_codec(1, 2, 16)
    seconds = codec.frame_samples / codec.sample_rate
    heard = [np.array([0, 0, 1, 1, 0]).reshape(5, 1, 1)]
    corpus = CodeCorpus.from_sequences(heard * 3, heard, codebooks=codec.codebooks, frame_seconds=seconds)
    small = PriorSettings.for_corpus(corpus, file_count=4, epochs=1, hidden_size=16, layers=1, heads=1)
    prior = train_prior(corpus, small).prior
    stream = prior.stream(9, seed=3, max_copy=seconds)
    expected = next(stream).reshape(1, 1)
    with pytest.raises(PriorError, match="nothing to draw"):
        next(stream)

    torch.jit.save(instrument(prior, codec.scripted(), codec.frame_samples), tmp_path / "tiny.ts")
    model = torch.jit.load(tmp_path / "tiny.ts")
    for name, text in {"seed": "3", "max_copy": str(seconds)}.items():
        set_attribute(model, name, text)
    _, codes = play(model, "codes", 3)
    np.testing.assert_array_equal(codes[:-1], [[expected.item(), 0, 0]])
    set_attribute(model, "reset", "1")
    assert not play(model, "play", 40)[1].any()
    assert capfd.readouterr().out.count("there is nothing to draw") == 1
    set_attribute(model, "max_copy", "-1")
    _, sound = play(model, "play", 20)
    assert np.abs(sound).reshape(20, -1).max(1).all()
    assert len(model.ready) <= LAG * codec.frame_samples  # and so it draws no further ahead than before


def test_a_value_out_of_bounds_is_the_nearest_that_is_not_and_is_said_once(
    exported: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = torch.jit.load(exported)
    for value in (99.0, 77.0, float("nan")):
        assert model.set_temperature(value) == 0
    assert model.get_temperature() == [pytest.approx(0.01)]
    assert model.set_top_k(-4) == 0
    assert model.get_top_k() == [0]
    said = capfd.readouterr().out.splitlines()
    assert [line.partition(" goes")[0] for line in said] == ["sda: temperature", "sda: top_k"]


def test_a_block_that_is_too_small_is_silent_and_is_said_once(
    exported: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = torch.jit.load(exported)
    for method in ("play", "through", "play"):
        found = getattr(model, method)(torch.zeros(1, 1, 512))
        assert found.shape == (1, 1, 512)
        assert not found.any()
    assert capfd.readouterr().out == "sda: a block has to be a power of two of samples, 1024 at least\n"


def test_it_names_no_operator_that_libtorch_2_5_lacks(exported: Path) -> None:
    known = set(OPERATORS.read_text().split())
    assert set(torch.jit.export_opnames(torch.jit.load(exported))) <= known


@pytest.mark.slow
def test_a_program_without_python_plays_the_same(exported: Path, model: torch.jit.ScriptModule, tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no compiler")
    torch_folder, program, out = Path(torch.__file__).parent, tmp_path / "live", tmp_path / "out.f32"
    headers = [f"-I{torch_folder / 'include' / part}" for part in ("", "torch/csrc/api/include")]
    libraries = [f"-L{torch_folder / 'lib'}", f"-Wl,-rpath,{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    command = [compiler, "-std=c++20", "-O0", "-w", abi, str(LIVE), *headers, *libraries, "-o", str(program)]
    subprocess.run(command, check=True)
    arguments = [exported, "play", 1024, 30, 16_000, out, "seed=5", "while", "gain=1"]
    ran = subprocess.run(
        [program, *map(str, arguments)], check=True, capture_output=True, text=True, env={"OMP_NUM_THREADS": "1"}
    )
    told = json.loads(ran.stdout)
    assert (told["right"], told["threads"]) == (True, 1)
    set_attribute(model, "seed", "5")
    _, sound = play(model, "play", 30)
    np.testing.assert_allclose(np.fromfile(out, np.float32), sound[0], atol=1e-3)


def assert_told(words: str, ran: Any) -> None:
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert words in ran.err


def test_what_cannot_be_exported_is_told_in_one_sentence(
    prior: Prior, codec: Codec, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mute.sda"
    host_stubs.save_model(Model("mute", codec, None), path, plugins)
    out = tmp_path / "out.ts"
    assert_told("has no prior that could play; train one first", run(plugins, "export", path, "-o", out))
    assert_told("must end in .ts", run(plugins, "export", path, "-o", tmp_path / "out.wav"))
    model = Model("mute", codec, None)
    model.prior = prior
    host_stubs.save_model(model, path, plugins)
    monkeypatch.delattr(Codec, "scripted")
    assert_told("its codec cannot be given to programs without Python", run(plugins, "export", path, "-o", out))
    out.write_text("mine")
    assert_told("--overwrite replaces it", run(plugins, "export", path, "-o", out))
    assert out.read_text() == "mine"


def test_a_codec_whose_frame_is_no_power_of_two_cannot_be_exported(prior: Prior, codec: Codec) -> None:
    with pytest.raises(PriorError, match="code frame is 8000 samples cannot be exported"):
        instrument(prior, codec.scripted(), 8000)
