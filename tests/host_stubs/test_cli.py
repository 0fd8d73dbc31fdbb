"""The commands, as a user meets them: results on stdout, all else on stderr, mistakes in one clear line."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pluggy
import pytest
import soundfile
from click.testing import CliRunner, Result

from host_stubs import generation
from host_stubs.bundle import Bundle
from host_stubs.cli import MEMORY_OF_PRODUCTS, THREADS_WAITING, build_cli, main
from host_stubs.host import Host
from host_stubs.manifest import DatasetManifest
from host_stubs.model import Model, open_model, save_model
from host_stubs.plugins import Plugins
from host_stubs.sda import read_document

SHARED = Path(__file__).parents[2].parent / "shared"
pytestmark = pytest.mark.usefixtures("one_thread")
posix = pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a POSIX signal")
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared recordings and models are not here")
Install = Callable[[str, str], None]
hookimpl = pluggy.HookimplMarker("sda_host")


class ToyPrior:
    """A whole prior plugin, but for the learning: its sounds are random, and end after half a second."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: dict[str, Any] = {}

    @hookimpl
    def register_commands(self, cli: click.Group, host: Host) -> None:
        @cli.command("train-prior")
        @click.argument("path")
        @click.option("--seed", type=int)
        @click.option("--epochs", type=int)
        def train_prior(path: str, seed: int, epochs: int | None) -> None:
            """Train nothing."""
            model = host.open_model(path)
            model.prior = "toy"
            host.save_model(model, path)
            click.echo("trained")

    @hookimpl
    def model_saving(self, model: Model, bundle: Bundle) -> None:
        if model.prior == "toy":
            bundle.put("prior", {"toy": True}, {})
            bundle.has_prior = True

    @hookimpl
    def model_opened(self, model: Model, bundle: Bundle) -> None:
        model.prior = "toy" if bundle.get("prior") else None

    @hookimpl
    def generate_codes(
        self,
        model: Model,
        frames: int | None,
        max_frames: int,
        count: int,
        temperature: float,
        top_p: float,
        top_k: int,
        seed: int,
    ) -> Any:
        self.asked = {"frames": frames, "max_frames": max_frames, "count": count, "temperature": temperature}
        self.asked |= {"top_p": top_p, "top_k": top_k, "seed": seed}
        if model.prior != "toy":
            return None
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        random = np.random.default_rng(seed)
        shape = (frames or 3, model.codec.bands, model.codec.levels)
        return [random.integers(model.codec.codebook_size, size=shape) for _ in range(count)]


class UserError(Exception):
    for_user = True


def host(*arguments: str | Path, plugins: Plugins | None = None, exit_code: int = 0) -> Result:
    """Run the command line in this process, by default without plugins."""
    cli = build_cli(Plugins() if plugins is None else plugins)
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    return result


def mistake(*arguments: str | Path, plugins: Plugins | None = None) -> str:
    """Run something that must fail with exit code 1 and a single line; that line."""
    result = host(*arguments, plugins=plugins, exit_code=1)
    assert result.stdout == ""
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    return line


def host_process(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "host_stubs.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.fixture
def toy() -> Plugins:
    plugins = Plugins()
    plugins.add(ToyPrior(), "toy")
    return plugins


@pytest.fixture
def saved(model: Model, tmp_path: Path, no_plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model without a prior, in a current folder of its own."""
    monkeypatch.chdir(tmp_path)
    save_model(model, "tones.sda", no_plugins)
    return Path("tones.sda")


@pytest.fixture
def with_prior(saved: Path, toy: Plugins) -> Path:
    host("train-prior", saved, plugins=toy)
    return saved


@dataclasses.dataclass(frozen=True)
class Training:
    """What came of a `host train` that was stopped with Ctrl-C as soon as there was something to keep."""

    path: Path
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def training(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    path = tmp_path_factory.mktemp("trained") / "real.sda"
    process = host_process("train", sounds, "-o", path, "--epochs", "500", "--json")
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "best epoch" in line:
            break
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    return Training(path, process.returncode, stdout, "".join(said) + stderr)


# train


@posix
def test_ctrl_c_keeps_the_best_so_far(training: Training) -> None:
    assert training.exit_code == 0, training.stderr
    assert "Stopping as soon as possible" in training.stderr
    assert "the best epoch so far is kept" in training.stderr


@posix
def test_train_makes_a_model(training: Training, sounds: Path) -> None:
    document = json.loads(training.stdout)
    assert document["path"] == str(training.path)
    assert document["bytes"] == training.path.stat().st_size
    assert document["training"]["epochs_trained"] < 500
    assert document["codec"]["codebook_size"] == 64
    assert DatasetManifest.from_json(document["dataset"]).folder == str(sounds.resolve())
    model = open_model(training.path, Plugins())
    assert model.name == sounds.name
    (recording,) = Host(Plugins()).recordings(model, "held_out")
    assert len(model.codec.decode(model.codec.encode(recording.audio))) >= len(recording.audio)


@posix
def test_train_says_how_it_goes(training: Training) -> None:
    assert re.search(r"6 recordings: \d\.\d s to train on, \d\.\d s held out", training.stderr)
    assert re.search(r"epoch \d+/500: .*in use/perplexity/dead by level: \d+%/\d+/\d+, ", training.stderr)
    assert re.search(r"\d:\d\d left", training.stderr)


def test_train_refuses_to_replace_a_file(saved: Path, sounds: Path) -> None:
    before = saved.read_bytes()
    assert "tones.sda exists already. --overwrite" in mistake("train", sounds, "-o", saved)
    assert saved.read_bytes() == before


@pytest.mark.parametrize(
    ("output", "says"),
    [("nowhere/a.sda", "does not exist"), ("a.wav", "must end in .sda"), ("folder.sda", "is a folder")],
)
def test_train_checks_its_output_before_it_looks_at_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.sda").mkdir()
    assert says in mistake("train", "a-missing-folder", "-o", output)


def test_train_names_what_is_wrong_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.wav").write_text("not a sound")
    assert "There is no folder missing" in mistake("train", "missing")
    assert "no recordings" in mistake("train", "empty")
    assert "None of the 1 recordings" in mistake("train", "bad")
    assert "is not a folder" in mistake("train", "bad/a.wav")
    assert "no device 'abacus'" in mistake("train", str(_one_sound(tmp_path)), "--device", "abacus")
    assert not list(tmp_path.glob("*.sda"))


def _one_sound(folder: Path) -> Path:
    soundfile.write((folder / "one").with_suffix(".wav"), np.sin(np.arange(4000)), 16_000)
    (folder / "sound").mkdir()
    return Path(shutil.move(folder / "one.wav", folder / "sound")).parent


@pytest.mark.parametrize("flag", [("--epochs", "0"), ("--epochs", "-3"), ("--seed", "-1"), ("--seed", "x")], ids=str)
def test_train_refuses_senseless_knobs(sounds: Path, flag: tuple[str, str]) -> None:
    assert flag[0] in host("train", sounds, *flag, exit_code=2).stderr


@posix
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_at_the_very_start_leaves_everything_as_it_was(
    sounds: Path, saved: Path, tmp_path: Path, times: int
) -> None:
    before = saved.read_bytes()
    process = host_process("train", sounds, "-o", saved, "--overwrite", "--epochs", "500")
    assert process.stderr is not None
    while not process.stderr.readline().startswith("Training."):
        pass
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)  # two at once would be one
    _, stderr = process.communicate(timeout=60)
    late = {1, -signal.SIGINT} if times == 2 else set()  # the second may come when the first has ended everything
    assert process.returncode in {130} | late, stderr
    assert "nothing was written" in stderr
    assert "Traceback" not in stderr
    assert saved.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [saved.name]


# generate


def test_generate_writes_the_length_asked_for(with_prior: Path, toy: Plugins) -> None:
    result = host("generate", with_prior, "--seconds", "0.7", "-o", "new.wav", "--seed", "5", plugins=toy)
    info = soundfile.info("new.wav")
    assert (info.frames, info.samplerate) == (33_600, 48_000)
    assert re.fullmatch(r"new\.wav  0\.70 s, peak \d\.\d\d\n", result.stdout)
    assert "seed 5" in result.stderr


def test_the_same_seed_gives_the_same_file(with_prior: Path, toy: Plugins) -> None:
    for name, seed in (("a.wav", "5"), ("b.wav", "5"), ("c.wav", "6")):
        host("generate", with_prior, "--seconds", "0.3", "-o", name, "--seed", seed, plugins=toy)
    a, b, c = (Path(name).read_bytes() for name in ("a.wav", "b.wav", "c.wav"))
    assert a == b
    assert a != c


def test_a_random_seed_is_named_so_that_it_can_be_used_again(with_prior: Path, toy: Plugins) -> None:
    first = json.loads(host("generate", with_prior, "-o", "a.wav", "--json", plugins=toy).stdout)
    host("generate", with_prior, "-o", "b.wav", "--seed", str(first["seed"]), plugins=toy)
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_auto_ends_where_the_prior_does(with_prior: Path, toy: Plugins) -> None:
    result = json.loads(host("generate", with_prior, "-o", "a.wav", "--json", plugins=toy).stdout)
    (sound,) = result["sounds"]
    assert (sound["path"], sound["frames"]) == ("a.wav", 3)
    assert sound["seconds"] == soundfile.info("a.wav").duration == pytest.approx(3 * 8192 / 48_000)


def test_auto_says_when_it_reached_its_end(with_prior: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert generation.MAX_AUTO_SECONDS == 60
    monkeypatch.setattr(generation, "MAX_AUTO_SECONDS", 1.0)
    plugins, prior = Plugins(), ToyPrior([np.zeros((6, 8, 2), np.int64)])
    plugins.add(prior, "endless")
    result = host("generate", with_prior, "-o", "a.wav", plugins=plugins)
    assert "stopped at 1 s, the most that auto gives" in result.stderr
    assert (prior.asked["frames"], prior.asked["max_frames"]) == (None, 6)


def test_the_knobs_reach_the_plugin(with_prior: Path) -> None:
    plugins, prior = Plugins(), ToyPrior()
    plugins.add(prior, "toy")
    knobs = ["--temperature", "0.8", "--top-p", "0.9", "--top-k", "12", "--seed", "3", "--count", "2"]
    host("generate", with_prior, "--seconds", "0.5", *knobs, plugins=plugins)
    expected = {"temperature": 0.8, "top_p": 0.9, "top_k": 12, "seed": 3, "count": 2, "frames": 3, "max_frames": 3}
    assert prior.asked == expected


def test_a_prior_may_say_from_which_share_of_the_codes_to_draw_where_nobody_else_does(with_prior: Path) -> None:
    class Says(str):
        default_top_p = 0.6

    class Modest(ToyPrior):
        @hookimpl
        def model_opened(self, model: Model, bundle: Bundle) -> None:
            model.prior = Says("toy")

    for prior, share in ((ToyPrior(), 0.9), (Modest(), 0.6)):
        for top_p, asked in (([], share), (["--top-p", "0.8"], 0.8)):
            plugins = Plugins()
            plugins.add(prior, "toy")
            host("generate", with_prior, "--seconds", "0.5", *top_p, "-o", "a.wav", "--overwrite", plugins=plugins)
            assert prior.asked["top_p"] == asked


def test_a_plugin_that_cannot_limit_copies_is_not_asked_to(with_prior: Path, toy: Plugins) -> None:
    line = mistake("generate", with_prior, "--max-copy", "0.5", plugins=toy)
    assert line.endswith("no installed plugin that can keep to --max-copy offered any (host plugins lists them)")


def test_a_model_whose_training_nobody_draws_says_so(with_prior: Path, toy: Plugins) -> None:
    picture = with_prior.with_name("training.png")
    line = mistake("info", with_prior, "--plot", picture, plugins=toy)
    assert "has no training to draw: no installed plugin draws it" in line
    assert not picture.exists()


def test_without_a_prior_there_is_no_training_to_draw(saved: Path, toy: Plugins) -> None:
    assert "it has no prior yet" in mistake("info", saved, "--plot", saved.with_name("training.png"), plugins=toy)


def test_many_sounds_are_numbered(with_prior: Path, toy: Plugins) -> None:
    host("generate", with_prior, "--count", "3", "-o", "new.wav", plugins=toy)
    names = ["new-1.wav", "new-2.wav", "new-3.wav"]
    assert sorted(path.name for path in Path().glob("*.wav")) == names
    assert "new-2.wav exists already" in _after_removing("new-1.wav", with_prior, toy)
    host("generate", with_prior, "--count", "3", "-o", "new.wav", "--overwrite", plugins=toy)


def _after_removing(name: str, path: Path, toy: Plugins) -> str:
    Path(name).unlink()
    return mistake("generate", path, "--count", "3", "-o", "new.wav", plugins=toy)


def test_a_name_of_its_own_is_always_free(with_prior: Path, toy: Plugins) -> None:
    for _ in range(3):
        host("generate", with_prior, plugins=toy)
    assert {path.name for path in Path().glob("*.wav")} == {f"tones-new{n}.wav" for n in ("", "-2", "-3")}


def test_a_sound_is_not_replaced_unasked(with_prior: Path, toy: Plugins) -> None:
    Path("new.wav").write_text("dear to me")
    assert "--overwrite" in mistake("generate", with_prior, "-o", "new.wav", plugins=toy)
    assert Path("new.wav").read_text() == "dear to me"
    assert "must end in .wav" in mistake("generate", with_prior, "-o", "tones.sda", "--overwrite", plugins=toy)
    host("generate", with_prior, "-o", "new.wav", "--overwrite", plugins=toy)
    assert soundfile.info("new.wav").frames


@pytest.mark.parametrize(
    "knob",
    [
        *(("--temperature", value) for value in ("0", "-1", "nan", "inf", "11", "warm")),
        *(("--top-p", value) for value in ("0", "1.1", "-0.5", "nan")),
        *(("--seconds", value) for value in ("0", "-1", "nan", "inf", "3601", "long")),
        *(("--count", value) for value in ("0", "-1", "1.5")),
        *(("--top-k", value) for value in ("-1", "x")),
        *(("--seed", value) for value in ("-1", "4294967296")),
    ],
    ids="=".join,
)
def test_generate_refuses_senseless_knobs(with_prior: Path, toy: Plugins, knob: tuple[str, str]) -> None:
    assert knob[0] in host("generate", with_prior, *knob, plugins=toy, exit_code=2).stderr
    assert not list(Path().glob("*.wav"))


def test_a_model_without_a_prior_says_what_to_run(saved: Path, toy: Plugins) -> None:
    assert "Run: host train-prior tones.sda" in mistake("generate", saved, plugins=toy)
    assert "Run: pip install sda-prior-plugin" in mistake("generate", saved)


def test_a_prior_that_no_plugin_can_use_is_named(with_prior: Path) -> None:
    assert "has a prior, but no installed plugin can use it" in mistake("generate", with_prior)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (UserError("This prior needs --top-k."), "Error: This prior needs --top-k."),
        (RuntimeError("broke"), "no installed plugin offered any"),
        ([], "asked for 1 sounds and gave 0"),
        ([np.zeros((0, 8, 2), np.int64)], "ended the sound before it began"),
        ([np.zeros((3, 8, 3), np.int64)], "8 bands, 2 levels"),
        ([np.full((3, 8, 2), 99)], "from 0 to 31"),
    ],
    ids=["for-user", "broken", "none", "empty", "shape", "range"],
)
def test_a_plugin_that_cannot_generate_ends_in_one_line(with_prior: Path, answer: Any, says: str) -> None:
    plugins = Plugins()
    plugins.add(ToyPrior(answer), "toy")
    assert says in mistake("generate", with_prior, plugins=plugins)
    assert not list(Path().glob("*.wav"))


# info, models, plugins


def test_info_shows_the_model_card(saved: Path) -> None:
    card = host("info", saved).stdout
    for text in ("tones", "tones.sda (", "8 bands x 2 levels x 32 codes", "48000 Hz", "8192 samples", "2 epochs"):
        assert text in card
    assert "6 recordings: 5 trained on" in card
    assert "50% in use, perplexity 9.0, 16 dead codes" in card


def test_info_gives_programs_the_whole_document(with_prior: Path) -> None:
    result = host("info", with_prior, "--json")
    document = json.loads(result.stdout)
    assert document["path"] == "tones.sda"
    assert document["prior"] == {"toy": True}
    assert document["account"] == {"used": 6, "in_part": [], "skipped": [], "more_skipped": 0}
    assert {key: value for key, value in document.items() if key not in ("path", "bytes", "account")} == read_document(
        with_prior
    )


def test_info_says_whether_the_model_can_make_new_sound(with_prior: Path, toy: Plugins) -> None:
    assert "yes: host generate tones.sda" in host("info", with_prior, plugins=toy).stdout
    assert "no: it has a prior, but no installed plugin" in host("info", with_prior).stdout


def test_models_lists_the_good_and_the_broken(with_prior: Path) -> None:
    Path("broken.sda").write_bytes(with_prior.read_bytes()[:1000])
    Path("folder.sda").mkdir()
    lines = host("models").stdout.splitlines()
    assert lines[0].split() == ["file", "size", "name", "codec", "prior", "details"]
    assert "broken.sda is truncated" in lines[2]
    assert "folder.sda is a folder" in lines[3]
    assert re.search(r"tones\.sda +\d\.\d MB +tones +8 bands x 2 levels x 32 codes +yes", lines[4])
    listed = json.loads(host("models", ".", "--json").stdout)
    assert [("error" in each, each.get("has_prior")) for each in listed] == [(True, None), (True, None), (False, True)]


def test_models_of_an_empty_or_missing_folder(tmp_path: Path) -> None:
    assert "no .sda files" in host("models", tmp_path).stdout
    assert json.loads(host("models", tmp_path, "--json").stdout) == []
    assert "There is no folder" in mistake("models", tmp_path / "missing")


def test_plugins_lists_what_works_and_what_does_not(toy: Plugins) -> None:
    toy.failed("ghost", "loading", RuntimeError("could not\nappear"))
    text = host("plugins", plugins=toy).stdout
    assert re.search(r"toy +generate_codes, model_opened, model_saving, register_commands", text)
    assert re.search(r"ghost +loading +RuntimeError: could not appear", text)
    document = json.loads(host("plugins", "--json", plugins=toy).stdout)
    assert document["plugins"][0]["name"] == "toy"
    assert document["failures"] == [
        {"plugin": "ghost", "where": "loading", "reason": "RuntimeError: could not appear"},
    ]
    assert host("plugins").stdout == "No plugins are installed.\n"


@pytest.mark.parametrize("command", ["info", "generate"])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.sda").write_text("these are not the bytes you are looking for")
    assert "text.sda is not a .sda file" in mistake(command, "text.sda")
    assert "There is no file missing.sda" in mistake(command, "missing.sda")


# import


@needs_shared
def test_import_converts_a_model_of_the_existing_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    old = SHARED / "legacy" / "tabla2.distill"
    document = json.loads(host("import", old, "--dataset", SHARED / "audio" / "tabla2", "--json").stdout)
    assert document["path"] == "tabla2.sda"
    assert document["codec"]["codebook_size"] == 128
    assert len(document["dataset"]["files"]) == 46
    assert "exists already" in mistake("import", old)
    assert "host import" in mistake("info", old)


@needs_shared
def test_an_imported_model_without_a_dataset_says_so(tmp_path: Path) -> None:
    card = host("import", SHARED / "legacy" / "gretsch.distill", "-o", tmp_path / "g.sda").stdout
    assert "unknown; give it once with --dataset DIR" in card
    assert "dataset" not in read_document(tmp_path / "g.sda")


def test_import_refuses_what_is_no_such_model(saved: Path) -> None:
    Path("text.distill").write_text("hello")
    for path in ("missing.distill", "text.distill", saved):
        assert str(path) in mistake("import", path, "-o", "new.sda")
    assert not Path("new.sda").exists()


# demo


def test_demo_can_write_only_its_recordings(tmp_path: Path) -> None:
    result = json.loads(host("demo", tmp_path / "d", "--recordings-only", "--json").stdout)
    recordings = Path(result["recordings"])
    assert recordings == tmp_path / "d" / "recordings"
    assert len(list(recordings.glob("*.wav"))) >= 24
    again = host("demo", tmp_path / "d", "--recordings-only")
    assert "has recordings already" in again.stderr


def test_demo_goes_all_the_way_with_a_plugin(saved: Path, sounds: Path, toy: Plugins) -> None:
    shutil.copytree(sounds, "demo/recordings")
    shutil.move(saved, "demo/demo.sda")
    result = host("demo", "--seconds", "0.5", "--json", plugins=toy)
    document = json.loads(result.stdout)
    assert document["sound"] == "demo/new-sound.wav"
    assert document["model"]["has_prior"] is True
    assert soundfile.info("demo/new-sound.wav").frames == 24_000
    assert "demo.sda is there already" in result.stderr
    assert "host train-prior demo/demo.sda --seed 0" in result.stderr
    again = host("demo", "--seconds", "0.5", plugins=toy)
    assert "train-prior demo" not in again.stderr
    assert "new sound   demo/new-sound.wav" in again.stdout


def test_demo_without_a_plugin_says_what_is_missing(saved: Path, sounds: Path) -> None:
    shutil.copytree(sounds, "demo/recordings")
    shutil.move(saved, "demo/demo.sda")
    result = host("demo")
    assert "pip install sda-prior-plugin" in result.stderr
    assert "recordings  demo/recordings\nmodel       demo/demo.sda\n\nName" in result.stdout


# the command line as a whole


def test_without_plugins_there_is_no_train_prior() -> None:
    text = host("--help").stdout
    assert "train-prior" not in text
    for command in ("train", "generate", "info", "models", "plugins", "import", "demo"):
        assert f"  {command} " in text
        assert "--json" in host(command, "--help").stdout


def test_an_unknown_command_is_a_mistake() -> None:
    assert "No such command" in host("train-prior", exit_code=2).stderr


class Rude:
    """Commands that fail in all the ways a plugin's command may."""

    @hookimpl
    def register_commands(self, cli: click.Group) -> None:
        errors = {
            "for-user": UserError("Nothing was lost."),
            "bug": ZeroDivisionError("division\nby zero"),
            "disk": OSError(28, "No space left on device", "a.sda"),
        }
        for name, error in errors.items():
            cli.command(name)(self._raising(error))
        cli.command("info")(self._raising(UserError("mine now")))
        raise RuntimeError("and then this")

    @staticmethod
    def _raising(error: Exception) -> Callable[[], None]:
        def command() -> None:
            raise error

        return command


@pytest.fixture
def rude() -> Plugins:
    plugins = Plugins()
    plugins.add(Rude(), "rude")
    return plugins


def test_any_error_ends_in_one_line(rude: Plugins) -> None:
    assert mistake("for-user", plugins=rude) == "Error: Nothing was lost."
    assert mistake("disk", plugins=rude) == "Error: No space left on device: a.sda"
    line = mistake("bug", plugins=rude)
    assert "ZeroDivisionError: division by zero" in line
    assert "--debug" in line


@pytest.mark.parametrize("environment", [{}, {"SDA_DEBUG": "1"}], ids=["flag", "environment"])
def test_debug_shows_where_an_error_came_from(rude: Plugins, environment: dict[str, str]) -> None:
    arguments = ["bug"] if environment else ["--debug", "bug"]
    result = CliRunner().invoke(build_cli(rude), arguments, env=environment)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.rstrip().splitlines()[-1].startswith("Error: something unexpected")


def test_a_plugin_cannot_take_a_command_away(rude: Plugins, saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "tones" in host("info", saved, plugins=rude).stdout
    assert "tried to replace the command 'info'" in caplog.text
    assert "plugin 'rude', in register_commands: RuntimeError: and then this" in caplog.text


def test_the_real_thing_with_a_broken_plugin(
    saved: Path, install_plugin: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin("broken", "raise ImportError('a part is missing')")
    process = host_process("info", saved, "--json", PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(stdout)["name"] == "tones"
    assert "warning: plugin 'broken' could not be loaded: ImportError: a part is missing" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(("arguments", "code"), [(["info", "missing.sda"], 1), (["info"], 2), (["--help"], 0)], ids=str)
def test_the_real_thing_has_the_exit_codes_that_scripts_rely_on(arguments: list[str], code: int) -> None:
    process = host_process(*arguments)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert (stdout == "") == (code != 0)
    assert "Traceback" not in stderr


def test_a_reader_that_has_seen_enough_is_no_error(saved: Path) -> None:
    process = host_process("info", saved, "--json")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr
    assert "unexpected" not in stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, THREADS_WAITING | MEMORY_OF_PRODUCTS), ({"GOMP_SPINCOUNT": "5"}, {"GOMP_SPINCOUNT": "5"})],
)
def test_what_torch_reads_when_it_is_imported_is_set_unless_the_user_has_set_it(
    given: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREADS_WAITING | MEMORY_OF_PRODUCTS:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # the tests' own process goes on
    with pytest.raises(SystemExit):
        main(["plugins"])
    assert {name: os.environ[name] for name in expected} == expected


def test_on_windows_it_says_that_it_is_not_for_it_and_does_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit, match="Error: this program is not for Windows yet"):
        main(["demo"])
    assert list(tmp_path.iterdir()) == []
