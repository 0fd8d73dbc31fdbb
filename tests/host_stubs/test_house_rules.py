"""The rules that hold the house up (docs: DESIGN), each with a proof that its test fails when the rule is broken."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EDGE_LIBRARIES = frozenset({"click", "gradio", "rich", "pluggy", "soundfile", "safetensors"})
PLUGIN, HOST = "sda_prior_plugin", "host_stubs"


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
