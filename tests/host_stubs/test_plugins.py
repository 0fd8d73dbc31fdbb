"""Plugins are found, called one by one, and cannot take the host down."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

from host_stubs.plugins import PluginFailure, Plugins, load_plugins

Install = Callable[[str, str], None]
hookimpl = pluggy.HookimplMarker("sda_host")


class UserErrorError(Exception):
    for_user = True


def answering(answer: Any) -> object:
    class Plugin:
        @hookimpl
        def model_facts(self, model: Any) -> Any:
            if isinstance(answer, BaseException):
                raise answer
            return answer

        @hookimpl
        def generate_codes(self, model: Any) -> Any:
            return self.model_facts(model)

    return Plugin()


def with_plugins(**plugins: object) -> Plugins:
    loaded = Plugins()
    for name, plugin in plugins.items():
        loaded.add(plugin, name)
    return loaded


ALL = {"frames": 1, "max_frames": 1, "count": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "seed": 0}


def test_an_installed_plugin_is_found_with_its_version_and_hooks(install_plugin: Install) -> None:
    install_plugin(
        "newcomer",
        "import pluggy\n@pluggy.HookimplMarker('sda_host')\ndef model_facts(model):\n    return [('a', 'b')]\n",
    )
    plugins = load_plugins()
    (found,) = [plugin for plugin in plugins.installed if plugin.name == "newcomer"]
    assert (found.distribution, found.version, found.hooks) == ("newcomer-dist", "1.2.3", ("model_facts",))
    assert [("a", "b")] in plugins.call("model_facts", model=SimpleNamespace(prior=None))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('out of order')", "out of order"),
        ("import a_module_that_is_not_there", "a_module_that_is_not_there"),
        ("import sys\nsys.exit('goodbye')", "goodbye"),
        ("this is no python", "SyntaxError"),
        ("import pluggy\n@pluggy.HookimplMarker('sda_host')\ndef model_facts(model, colour): ...", "colour"),
        ("import pluggy\n@pluggy.HookimplMarker('sda_host')\ndef paint_it(model): ...", "paint_it"),
        ("import pluggy\n@pluggy.HookimplMarker('sda_host')\ndef model_facts(model, bundle, x): ...", "bundle"),
        (
            "import pluggy\n@pluggy.HookimplMarker('sda_host')(wrapper=True)\ndef model_facts(model):\n    yield",
            "wrappers",
        ),
    ],
    ids=["raises", "imports", "exits", "syntax", "argument", "unknown", "arguments", "wrapper"],
)
def test_a_plugin_that_cannot_be_loaded_is_named(
    install_plugin: Install, caplog: pytest.LogCaptureFixture, source: str, reason: str
) -> None:
    install_plugin("broken", source)
    install_plugin("sound", "import pluggy\n@pluggy.HookimplMarker('sda_host')\ndef model_opened(model): ...\n")
    plugins = load_plugins()
    names = [plugin.name for plugin in plugins.installed]
    assert "sound" in names
    assert "broken" not in names
    (failure,) = [failure for failure in plugins.failures if failure.plugin == "broken"]
    assert failure.where == "loading"
    assert reason in failure.reason
    assert "\n" not in failure.reason
    assert "plugin 'broken' could not be loaded" in caplog.text
    assert not [i for i in plugins.implementations("model_facts") if i.plugin_name == "broken"]


def test_a_name_that_is_taken_is_refused() -> None:
    plugins = with_plugins(one=answering(1))
    with pytest.raises(ValueError, match="already registered"):
        plugins.add(answering(2), "one")
    assert plugins.call("model_facts", model=None) == [1]


def test_a_failing_hook_is_named_and_the_others_answer(caplog: pytest.LogCaptureFixture) -> None:
    plugins = with_plugins(good=answering(1), bad=answering(ZeroDivisionError("by zero")), silent=answering(None))
    assert plugins.call("model_facts", model=None) == [1]
    assert plugins.failures == [PluginFailure("bad", "model_facts", "ZeroDivisionError: by zero")]
    assert "plugin 'bad', in model_facts: ZeroDivisionError: by zero" in caplog.text


def test_a_message_for_the_user_is_shown_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    plugins = with_plugins(bad=answering(UserErrorError("The file is of another codec.")))
    assert plugins.call("model_facts", model=None) == []
    assert "plugin 'bad', in model_facts: The file is of another codec." in caplog.text


def test_a_traceback_only_when_debugging(caplog: pytest.LogCaptureFixture) -> None:
    plugins = with_plugins(bad=answering(KeyError("x")))
    plugins.call("model_facts", model=None)
    assert "Traceback" not in caplog.text
    with caplog.at_level(logging.DEBUG, "sda_host"):
        plugins.call("model_facts", model=None)
    assert "Traceback" in caplog.text


def test_the_first_answer_wins() -> None:
    plugins = with_plugins(last=answering("late"), first=answering("early"), silent=answering(None))
    assert plugins.first("generate_codes", model=None, **ALL) == "early"
    assert with_plugins(silent=answering(None)).first("generate_codes", model=None, **ALL) is None


def test_the_next_plugin_answers_for_one_that_fails() -> None:
    plugins = with_plugins(good=answering("codes"), bad=answering(RuntimeError("no")))
    assert plugins.first("generate_codes", model=None, **ALL) == "codes"
    assert [failure.plugin for failure in plugins.failures] == ["bad"]


def test_an_error_meant_for_the_user_is_an_answer() -> None:
    plugins = with_plugins(good=answering("codes"), bad=answering(UserErrorError("top_k must be smaller")))
    with pytest.raises(UserErrorError, match="top_k"):
        plugins.first("generate_codes", model=None, **ALL)


def test_a_plugin_cannot_end_the_program(caplog: pytest.LogCaptureFixture) -> None:
    plugins = with_plugins(good=answering(1), bad=answering(SystemExit("goodbye")))
    assert plugins.call("model_facts", model=None) == [1]
    assert "plugin 'bad', in model_facts: RuntimeError: tried to end the program (goodbye)" in caplog.text


def test_ctrl_c_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        with_plugins(any=answering(KeyboardInterrupt())).call("model_facts", model=None)


def test_a_plugin_that_does_not_fit_leaves_nothing_behind() -> None:
    class Half:
        @hookimpl
        def generate_codes(self, model: Any) -> None: ...

        @hookimpl
        def model_facts(self, nonsense: Any) -> None: ...

    plugins = Plugins()
    with pytest.raises(pluggy.PluginValidationError):
        plugins.add(Half(), "half")
    assert plugins.implementations("generate_codes") == []
    assert plugins.installed == []


def test_each_call_makes_plugins_of_its_own(no_plugins: Plugins) -> None:
    no_plugins.add(answering(1), "one")
    assert "one" not in [plugin.name for plugin in load_plugins().installed]
