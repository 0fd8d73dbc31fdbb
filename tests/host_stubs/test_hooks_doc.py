"""docs/hooks.md and the code say the same, and every example on the page works."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import soundfile
import torch
from click.testing import CliRunner

from host_stubs import hookspecs
from host_stubs.bundle import RESERVED, Bundle
from host_stubs.cli import build_cli
from host_stubs.codec import Codec
from host_stubs.host import Host
from host_stubs.manifest import DatasetManifest
from host_stubs.model import Model, open_model, save_model
from host_stubs.playing import PlaySettings
from host_stubs.plugins import GROUP, Plugins
from host_stubs.ui.drops import Drops
from host_stubs.ui.jobs import Job, Jobs
from host_stubs.ui.live import Live, Section
from host_stubs.ui.page import build_page
from host_stubs.ui.saved import SavedModels

pytestmark = pytest.mark.usefixtures("one_thread")

PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()
SPECS = Path(hookspecs.__file__).read_text()


def hooks_in(source: str) -> dict[str, ast.FunctionDef]:
    """The hook specifications in a source like hookspecs.py, by name."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {f.name: f for f in functions if any("hookspec" in ast.unparse(d) for d in f.decorator_list)}


def sections_in(page: str) -> dict[str, str]:
    """The page's sections of the third rank, by heading."""
    parts = re.split(r"^### (.+)$", page.replace("\n## ", "\n### "), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def differences(source: str, page: str) -> list[str]:
    """What the hook specifications and the page say differently about hooks, their signatures and arguments."""
    hooks = hooks_in(source)
    sections = {heading: text for heading, text in sections_in(page).items() if heading.startswith("`")}
    signatures = {f"`{hook.name}({ast.unparse(hook.args)}) -> {_returns(hook)}`": hook for hook in hooks.values()}
    found = [f"not documented: {heading}" for heading in signatures.keys() - sections.keys()]
    found += [f"no such hook: {heading}" for heading in sections.keys() - signatures.keys()]
    for heading in signatures.keys() & sections.keys():
        hook, text = signatures[heading], sections[heading]
        explained = re.findall(r"^\| `(\w+)` \| ", text, flags=re.MULTILINE)
        if explained != (arguments := [argument.arg for argument in hook.args.args]):
            found.append(f"{hook.name}: explains {explained}, takes {arguments}")
        first = "firstresult=True" in ast.unparse(hook.decorator_list[0])
        if first != ("first plugin that answers" in text):
            found.append(f"{hook.name}: whether the first answer wins")
        if text.count("```python") != 1:
            found.append(f"{hook.name}: no example")
    table = re.findall(r"^\| [^|]+ \| `(\w+)` \|$", page.partition("\n## ")[0], flags=re.MULTILINE)
    if table != list(hooks):
        found.append(f"the table at the top names {table}")
    return found


def _returns(hook: ast.FunctionDef) -> str:
    return ast.unparse(hook.returns) if hook.returns else "None"


def example(heading: str) -> ModuleType:
    """The example of the section whose heading starts so, as a module."""
    sections = sections_in(PAGE)
    text = next(text for each, text in sections.items() if each.startswith(heading))
    match = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert match is not None
    module = ModuleType("example")
    exec(compile(match[1], f"docs/hooks.md: {heading}", "exec"), module.__dict__)
    return module


def with_example(hook: str) -> Plugins:
    plugins = Plugins()
    plugins.add(example(f"`{hook}("), "example")
    assert plugins.installed[0].hooks == (hook,)
    return plugins


def run(plugins: Plugins, *arguments: str | Path) -> str:
    result = CliRunner().invoke(build_cli(plugins), [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert plugins.failures == []
    return result.stdout


@pytest.fixture
def saved(model: Model, tmp_path: Path, no_plugins: Plugins) -> Path:
    path = tmp_path / "tones.sda"
    save_model(model, path, no_plugins)
    return path


def example_of_register_commands(saved: Path) -> None:
    plugins = with_example("register_commands")
    assert "grid      Say how many codes" in run(plugins, "--help")
    assert run(plugins, "grid", saved) == f"{8 * 2 * 48_000 / 8192}\n"


def example_of_model_saving(saved: Path) -> None:
    plugins = with_example("model_saving")
    for _ in range(3):
        save_model(open_model(saved, plugins), saved, plugins)
    entry = open_model(saved, plugins).bundle.get("diary")
    assert entry is not None
    assert entry.facts == {"saves": 3}


def example_of_model_opened(saved: Path) -> None:
    plugins = with_example("model_opened")
    model = open_model(saved, plugins)
    assert model.prior is None
    model.bundle.put("loop", {}, {"codes": torch.ones(2, 8, 2, dtype=torch.int64)})
    save_model(model, saved, plugins)
    assert open_model(saved, plugins).prior.tolist() == [[[1, 1]] * 8] * 2


def example_of_entries_checked(saved: Path) -> None:
    plugins = with_example("entries_checked")
    assert "diary" not in run(plugins, "check", saved)
    model = open_model(saved, plugins)
    model.bundle.put("diary", {"saves": 1}, {})
    save_model(model, saved, plugins)
    assert re.search("^diary .*ok  how often the model was saved$", run(plugins, "check", saved), flags=re.MULTILINE)
    model.bundle.put("diary", {"saves": "often"}, {})
    save_model(model, saved, plugins)
    result = CliRunner().invoke(build_cli(plugins), ["check", str(saved)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "fails the check of plugin 'example': The diary does not say how often" in result.stderr


def example_of_generate_codes(saved: Path) -> None:
    plugins = with_example("generate_codes")
    wav = saved.with_name("new.wav")
    run(plugins, "generate", saved, "--seconds", "0.5", "--seed", "3", "-o", wav)
    assert soundfile.info(wav).frames == 24_000


def example_of_stream_codes(saved: Path) -> None:
    plugins = with_example("stream_codes")
    settings = PlaySettings(seed=3)
    model = open_model(saved, plugins)
    codes = plugins.first("stream_codes", model=model, frames=3, max_copy=None, settings=lambda: settings)
    assert [piece.shape for piece in codes] == [(1, model.codec.bands, model.codec.levels)] * 3


def example_of_codes_facts(saved: Path) -> None:
    plugins = with_example("codes_facts")
    plugins.add(example("`generate_codes("), "dice")
    wav = saved.with_name("new.wav")
    result = run(plugins, "generate", saved, "--seconds", "0.5", "--seed", "3", "-o", wav)
    assert "new.wav: 3 different frames" in result


def example_of_training_curves(saved: Path) -> None:
    plugins = with_example("training_curves")
    model = open_model(saved, plugins)
    model.bundle.put("prior", {"held_out_perplexities": [3.0, 2.0, 2.5]}, {})
    save_model(model, saved, plugins)
    run(plugins, "info", saved, "--plot", saved.with_name("training.png"))
    assert saved.with_name("training.png").read_bytes().startswith(b"\x89PNG")
    run(plugins, "info", saved, "--plot", saved.with_name("training.svg"))
    assert "best: epoch 2, 2.00" in saved.with_name("training.svg").read_text()


def example_of_model_facts(saved: Path) -> None:
    plugins = with_example("model_facts")
    assert re.search(r"Longest recording +1/tone5\.wav, 0\.9 s", run(plugins, "info", saved))
    assert "Longest recording: 1/tone5.wav, 0.9 s" in run(plugins, "models", saved.parent)


def example_of_training_tab(saved: Path) -> None:
    plugins = with_example("training_tab")
    host, jobs = Host(plugins), Jobs()
    models = SavedModels(saved.parent, host)
    live = Live()
    page = build_page(host, models, saved.parent, jobs, live, Drops(saved.parent / "dropped"))
    assert plugins.failures == []
    fields = {getattr(block, "label", None): number for number, block in page.blocks.items()}
    shown = live.answer("a page", 0, [], False)
    assert shown["news"][str(fields["Model to hear"])]["choices"] == [["tones.sda", "tones.sda"]]
    assert shown["html"]["loudness"] == []
    (hear,) = [number for number, (_, act, _) in enumerate(live._acts) if act.__module__ == "example"]
    assert live.answer("a page", 1, [(hear, ["tones.sda"])], False)["html"]["loudness"]
    job = jobs.of(saved)
    assert job is not None
    assert job.wait(60)
    ((_, text),) = live.answer("another", 0, [], False)["html"]["loudness"]
    assert re.search(r"tones\.sda: mean level 0\.\d\d<", text), text
    assert live.answer("another", 0, [], False) == {"html": {}, "news": {}, "soon": False}


EXAMPLES: dict[str, Callable[[Path], None]] = {
    name.removeprefix("example_of_"): value for name, value in list(globals().items()) if name.startswith("example_of_")
}


def test_the_page_and_the_hookspecs_agree() -> None:
    assert differences(SPECS, PAGE) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("model_saving(model: Model", "model_storing(model: Model"),
        ("max_frames: int,", "max_frames: int | None,"),
        ("seed: int,", "seed: int,\n    speed: float,"),
        ("bundle: Bundle) -> None", "bundle: Bundle) -> bool"),
        ("@hookspec(firstresult=True)", "@hookspec"),
        ("def model_facts", "def one_more(model: Model) -> None: ...\n\n\n@hookspec\ndef model_facts"),
    ],
)
def test_a_changed_hookspec_is_noticed(old: str, new: str) -> None:
    changed = SPECS.replace(old, new)
    assert changed != SPECS
    assert differences(changed, PAGE)


@pytest.mark.parametrize(
    "line", ["### `model_facts(model", "| `top_k` |", "```python", "first plugin that answers", "| `model_saving` |"]
)
def test_a_changed_page_is_noticed(line: str) -> None:
    assert differences(SPECS, PAGE.replace(line, "", 1))


def test_every_hook_has_an_example_that_is_run() -> None:
    assert EXAMPLES.keys() == hooks_in(SPECS).keys()


@pytest.mark.parametrize("hook", EXAMPLES)
def test_the_example_works(hook: str, saved: Path) -> None:
    EXAMPLES[hook](saved)


def test_the_example_of_an_error_for_the_user_works() -> None:
    plugins = Plugins()
    plugins.add(example("Errors meant for a person"), "example")
    assert run(plugins, "listen", "60") == "silence\n"
    result = CliRunner().invoke(build_cli(plugins), ["listen", "61"])
    assert (result.exit_code, result.stderr) == (1, "Error: 61 s is too long to listen; 60 s is the most.\n")


def test_the_entry_point_shown_is_the_one_that_is_looked_for() -> None:
    assert f"[project.entry-points.{GROUP}]" in PAGE
    assert f'HookimplMarker("{GROUP}")' in PAGE


def test_the_names_that_are_the_hosts_own_are_listed() -> None:
    listed = re.search(r"the names\s(.*?) are the host's", sections_in(PAGE)["Bundle"], flags=re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) == RESERVED


@pytest.mark.parametrize(
    "kind", [Host, SavedModels, Jobs, Job, Live, Section, Model, PlaySettings, Bundle, Codec, DatasetManifest]
)
def test_the_objects_are_documented_as_they_are(kind: type) -> None:
    rows = re.findall(r"^\| `(\w+)(?:\((.*?)\))?` \|", sections_in(PAGE)[kind.__name__], flags=re.MULTILINE)
    assert rows
    instance_only = {"plugins", "has_prior", "sample_rate", "frame_samples", "bands", "levels", "codebook_size"}
    instance_only |= {"folder", "path", "title", "progress", "state", "message", "started"}
    instance_only |= {"stop_requested", "cancel_requested", "kit"}
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    for name, arguments in rows:
        assert hasattr(kind, name) or name in fields | instance_only, name
        if callable(method := getattr(kind, name, None)):
            taken = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
            assert arguments.split(", ") == taken if arguments else taken == [], name


@pytest.mark.parametrize("kind", [Host, SavedModels, Jobs, Job, Live, Section, Model, PlaySettings])
def test_nothing_public_is_left_out(kind: type) -> None:
    documented = set(re.findall(r"^\| `(\w+)", sections_in(PAGE)[kind.__name__], flags=re.MULTILINE))
    public = {name for name in vars(kind) if not name.startswith("_")}
    public |= {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    assert public <= documented
