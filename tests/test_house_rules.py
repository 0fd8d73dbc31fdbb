"""The rules that hold the house up (docs: DESIGN), each with a proof that its test fails when the rule is broken."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import gradio as gr
import pytest

from host_stubs.cli import build_cli
from host_stubs.plugins import Plugins
from sda_prior_plugin import KNOBS, Knob
from sda_prior_plugin.edge import plugin as prior_plugin
from sda_prior_plugin.edge.tab.knobs import KnobControl, knob_controls

ROOT = Path(__file__).parents[1]
EDGE_LIBRARIES = frozenset({"click", "gradio", "rich", "pluggy", "soundfile", "soxr", "safetensors", "filelock"})
PLUGIN, HOST = "sda_prior_plugin", "host_stubs"
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60
"""Lines; of a function from its `def` to its end, what stands inside it included."""
SHORTER_MODULES = {f"{PLUGIN}.training": 299}
"""What must stay readable from top to bottom."""
NOT_KNOBS = frozenset({"model_path", "dataset", "output", "overwrite", "resume", "config", "no_cache", "as_json"})


def sources(package: str) -> dict[str, str]:
    """The source of each module of a package, by dotted name."""
    result = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if "build" not in parts:
            result[".".join(parts)] = path.read_text()
    return result


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Dotted names that a module imports, at its top or anywhere in it, by statement or by `import_module("name")`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                kept = package[: len(package) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def names_package(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def breaches_of_rule_1(modules: Mapping[str, str], other: str) -> list[str]:
    """Imports of the other package, for types or not, anywhere in these modules."""
    return [
        f"{module} imports {name}"
        for module, source in modules.items()
        for name in imports(source, module)
        if names_package(name, other)
    ]


def inner_modules(modules: Iterable[str]) -> list[str]:
    """What knows about priors: every module of the plugin that is not at the edge."""
    return [module for module in modules if not names_package(module, f"{PLUGIN}.edge")]


def breaches_of_rule_2(modules: Mapping[str, str]) -> list[str]:
    """Imports, in inner modules, of the edge or of a library that only the edge may know."""
    return [
        f"{module} imports {name}"
        for module in inner_modules(modules)
        for name in imports(modules[module], module, is_package=module == PLUGIN)
        if name.partition(".")[0] in EDGE_LIBRARIES or names_package(name, f"{PLUGIN}.edge")
    ]


def differences_from_the_knobs(command: click.Command, knobs: Sequence[Knob]) -> list[str]:
    """Where a command's flags are not what the knobs say."""
    flags = {parameter.name: parameter for parameter in command.params if parameter.name not in NOT_KNOBS}
    found = [f"{name} is no knob" for name in flags if name not in {knob.name for knob in knobs}]
    for knob in knobs:
        flag = flags.get(knob.name)
        if not isinstance(flag, click.Option):
            found.append(f"{knob.name} has no flag")
            continue
        shown = (flag.opts, (flag.help or "").startswith(knob.help), _limits(flag.type))
        limits: tuple[Any, ...] = (str, *knob.choices) if knob.choices else (knob.kind, knob.minimum, knob.maximum)
        if shown != ([knob.flag], True, limits):
            found.append(f"{knob.name} is shown as {shown}")
    return found


def _limits(kind: click.ParamType) -> tuple[Any, ...]:
    """A flag's type, and its choices or bounds."""
    if isinstance(kind, click.Choice):
        return (str, *kind.choices)
    if isinstance(kind, click.IntRange | click.FloatRange):
        return (int if isinstance(kind, click.IntRange) else float, kind.min, kind.max)
    return (type(kind),)


def differences_from_the_flags(controls: Sequence[KnobControl], command: click.Command) -> list[str]:
    """Where the page's controls are not what the command's flags say: which there are, their help, kind and bounds."""
    flags = {parameter.name: parameter for parameter in command.params if parameter.name not in NOT_KNOBS}
    fields = {control.knob.name: control.field for control in controls}
    found = [f"{name} is only on one side" for name in flags.keys() ^ fields.keys()]
    for name in flags.keys() & fields.keys():
        flag, field = flags[name], fields[name]
        assert isinstance(flag, click.Option)
        help_ = (flag.help or "").removesuffix(" [default: auto]")
        shown: tuple[Any, ...]
        if isinstance(field, gr.Number):
            shown = (int if field.precision == 0 else float, field.minimum, field.maximum)
        else:
            shown = (str, *(value for _, value in field.choices or []))
        if shown != _limits(flag.type):
            found.append(f"{name} is shown as {shown}, its flag as {_limits(flag.type)}")
        if not (field.info or "").startswith(help_.removesuffix(".")):
            found.append(f"{name} says {field.info!r}, its flag {help_!r}")
    return found


def page_controls() -> list[KnobControl]:
    """The controls of the page's section."""
    with gr.Blocks(analytics_enabled=False):
        return knob_controls()


def knobs_named_in(modules: Mapping[str, str], knobs: Sequence[Knob]) -> list[str]:
    """Literals, in modules at the edge, that are a knob's name or flag: the beginning of a second definition."""
    names = {knob.name for knob in knobs} | {knob.flag for knob in knobs}
    return [
        f"{module} says {node.value!r}"
        for module, source in modules.items()
        if names_package(module, f"{PLUGIN}.edge")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and node.value in names
    ]


def too_long(modules: Mapping[str, str]) -> list[str]:
    """Modules and functions of more lines than one can keep in mind."""
    found = []
    for module, source in modules.items():
        if (lines := len(source.splitlines())) > SHORTER_MODULES.get(module, LONGEST_MODULE):
            found.append(f"{module} has {lines} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    found.append(f"{module}: {node.name} has {lines} lines")
    return found


def train_prior_command() -> click.Command:
    """The command as the host has it with the plugin."""
    plugins = Plugins()
    plugins.add(prior_plugin, "prior")
    cli = build_cli(plugins)
    return cli.commands["train-prior"]


def test_rule_1_neither_package_imports_the_other() -> None:
    host, plugin = sources(HOST), sources(PLUGIN)
    assert len(host) > 10
    assert len(plugin) > 5
    assert breaches_of_rule_1(host, PLUGIN) == []
    assert breaches_of_rule_1(plugin, HOST) == []


@pytest.mark.parametrize(
    "source",
    [
        "import host_stubs",
        "import os, host_stubs.model as m",
        "from host_stubs import open_model",
        "from host_stubs.model import Model",
        "def f():\n    import host_stubs",
        "if TYPE_CHECKING:\n    from host_stubs.model import Model",
        "from importlib import import_module\nimport_module('host_stubs.model')",
        "__import__('host_stubs')",
    ],
)
def test_rule_1_is_seen_to_be_broken(source: str) -> None:
    assert breaches_of_rule_1({f"{PLUGIN}.x": source}, HOST)
    assert not breaches_of_rule_1({f"{PLUGIN}.x": source.replace("host_stubs", "host_stubs_other")}, HOST)


def test_rule_2_what_knows_about_priors_knows_nothing_of_the_edge() -> None:
    modules = sources(PLUGIN)
    assert f"{PLUGIN}.prior" in inner_modules(modules)
    assert f"{PLUGIN}.edge.plugin" in modules
    assert f"{PLUGIN}.edge.plugin" not in inner_modules(modules)
    assert breaches_of_rule_2(modules) == []


@pytest.mark.parametrize(
    "source",
    [
        *(f"import {library}" for library in sorted(EDGE_LIBRARIES)),
        "from rich.progress import Progress",
        "def f():\n    from safetensors.torch import save_file",
        "from sda_prior_plugin.edge import plugin",
        "from sda_prior_plugin import edge",
        "from . import edge",
        "from .edge.plugin import register_commands",
        "import sda_prior_plugin.edge.command",
    ],
)
def test_rule_2_is_seen_to_be_broken(source: str) -> None:
    assert breaches_of_rule_2({f"{PLUGIN}.training": source})
    assert not breaches_of_rule_2({f"{PLUGIN}.edge.plugin": source})


def test_a_relative_import_in_the_package_itself_is_resolved() -> None:
    assert breaches_of_rule_2({PLUGIN: "from .edge import plugin"})
    assert not breaches_of_rule_2({PLUGIN: "from .prior import Prior"})


def test_rule_3_a_knob_is_defined_once() -> None:
    assert len(KNOBS) > 4
    assert differences_from_the_knobs(train_prior_command(), KNOBS) == []
    assert knobs_named_in(sources(PLUGIN), KNOBS) == []


def test_rule_3_the_page_has_the_knobs_of_the_command() -> None:
    """That their defaults are the same stands in tests/sda_prior_plugin/test_tab.py."""
    controls = page_controls()
    assert [control.knob for control in controls] == sorted(KNOBS, key=lambda knob: not knob.main)
    assert differences_from_the_flags(controls, train_prior_command()) == []


def test_rule_3_is_seen_to_be_broken_by_a_page_that_drifts() -> None:
    command = train_prior_command()
    assert differences_from_the_flags(page_controls()[1:], command) == ["epochs is only on one side"]
    for change in (
        lambda control: setattr(control.field, "maximum", 3),
        lambda control: setattr(control.field, "minimum", None),
        lambda control: setattr(control.field, "precision", None),
        lambda control: setattr(control.field, "info", "Something else."),
    ):
        controls = page_controls()
        change(next(control for control in controls if control.knob.name == "layers"))
        assert len(differences_from_the_flags(controls, command)) == 1


CHANGES: list[Callable[[Knob], Knob]] = [
    lambda knob: dataclasses.replace(knob, name="depth"),
    lambda knob: dataclasses.replace(knob, minimum=2),
    lambda knob: dataclasses.replace(knob, maximum=None),
    lambda knob: dataclasses.replace(knob, kind=float),
    lambda knob: dataclasses.replace(knob, help="Something else."),
    lambda knob: dataclasses.replace(knob, kind=str, choices=("one", "two")),
]


@pytest.mark.parametrize("change", CHANGES, ids=["name", "minimum", "maximum", "kind", "help", "choices"])
def test_rule_3_is_seen_to_be_broken_by_a_flag_that_drifts(change: Callable[[Knob], Knob]) -> None:
    drifted = [change(knob) if knob.name == "layers" else knob for knob in KNOBS]
    assert differences_from_the_knobs(train_prior_command(), drifted)


def test_rule_3_is_seen_to_be_broken_by_a_flag_of_its_own() -> None:
    command = train_prior_command()
    command.params.append(click.Option(["--momentum"], type=float))
    assert differences_from_the_knobs(command, KNOBS) == ["momentum is no knob"]


@pytest.mark.parametrize("source", ["x = 'hidden_size'", "click.option('--hidden-size', type=int)"])
def test_rule_3_is_seen_to_be_broken_by_a_name(source: str) -> None:
    assert knobs_named_in({f"{PLUGIN}.edge.command": source}, KNOBS)
    assert not knobs_named_in({f"{PLUGIN}.settings": source}, KNOBS)


def test_a_module_of_the_plugin_is_one_idea_and_a_function_can_be_taken_in_at_a_glance() -> None:
    assert too_long(sources(PLUGIN)) == []


def test_what_is_too_long_is_seen() -> None:
    body = "    x = 1\n" * (LONGEST_FUNCTION - 1)
    assert not too_long({"one": f"def f():\n{body}"})
    assert too_long({"one": f"class A:\n  def f(self):\n{body}    x = 2\n"}) == ["one: f has 61 lines"]
    assert not too_long({"one": "x = 1\n" * LONGEST_MODULE})
    assert too_long({"one": "x = 1\n" * (LONGEST_MODULE + 1)}) == ["one has 401 lines"]
    assert too_long({f"{PLUGIN}.training": "x = 1\n" * 300}) == [f"{PLUGIN}.training has 300 lines"]
