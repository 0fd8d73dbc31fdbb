"""Finding plugins and calling their hooks, so that one bad plugin is named and costs nobody else anything."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import pluggy

from host_stubs import hookspecs
from host_stubs.errors import printable

GROUP = hookspecs.PROJECT
LONGEST_REASON = 500  # characters of what went wrong in a plugin
logger = logging.getLogger("sda_host")


@dataclass(frozen=True)
class InstalledPlugin:
    """A plugin that was loaded, the distribution it came with, and the hooks that it implements."""

    name: str
    distribution: str | None
    version: str | None
    hooks: tuple[str, ...]


@dataclass(frozen=True)
class PluginFailure:
    """What went wrong in a plugin, and where: "loading" or the name of a hook."""

    plugin: str
    where: str
    reason: str


class Plugins:
    """The plugins of one run of the host. Made by `load_plugins`, or empty, then filled with `add`, in a test."""

    def __init__(self) -> None:
        self._manager = _manager()
        self.installed: list[InstalledPlugin] = []
        self.failures: list[PluginFailure] = []

    def add(self, plugin: object, name: str, *, distribution: str | None = None, version: str | None = None) -> None:
        """Register a module or object with hook implementations.

        Raises pluggy.PluginValidationError when one of them does not fit `hookspecs.py`; nothing of the plugin is
        registered then. Raises ValueError when the name is taken.
        """
        trial = _manager()  # a plugin that fails half way would leave its first half behind in the real one
        trial.register(plugin, name)
        trial.check_pending()
        for caller in trial.get_hookcallers(plugin) or []:
            if any(impl.wrapper or impl.hookwrapper for impl in caller.get_hookimpls()):
                raise pluggy.PluginValidationError(plugin, f"{caller.name}: this host takes no hook wrappers")
        self._manager.register(plugin, name)
        hooks = tuple(sorted(caller.name for caller in trial.get_hookcallers(plugin) or []))
        self.installed.append(InstalledPlugin(name, distribution, version, hooks))

    def implementations(self, hook: str) -> list[pluggy.HookImpl]:
        """The plugins' functions for one hook, in the order in which they are called."""
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        return caller.get_hookimpls()[::-1]

    def call(self, hook: str, /, **arguments: Any) -> list[Any]:
        """Call one hook of every plugin; the answers that are not None. A plugin that raises is only named."""
        answers = []
        for implementation in self.implementations(hook):
            try:
                answer = invoke(implementation, arguments)
            except Exception as error:
                self.failed(implementation.plugin_name, hook, error)
                continue
            if answer is not None:
                answers.append(answer)
        return answers

    def first(self, hook: str, needed: Sequence[str] = (), /, **arguments: Any) -> Any:
        """Call one hook until a plugin answers with something that is not None; None when none does.

        Plugins that do not take the `needed` arguments are passed over.
        An error that a plugin wrote for the user (`for_user = True`) is an answer too, and is raised.
        """
        for implementation in self.implementations(hook):
            if not {*needed} <= {*implementation.argnames}:
                continue
            try:
                answer = invoke(implementation, arguments)
            except Exception as error:
                if getattr(error, "for_user", False):
                    raise
                self.failed(implementation.plugin_name, hook, error)
                continue
            if answer is not None:
                return answer
        return None

    def failed(self, plugin: str, where: str, error: BaseException) -> None:
        """Name a plugin that failed: in the log, and in `failures` for `host plugins`."""
        reason = reason_of(error)
        self.failures.append(PluginFailure(plugin, where, reason))
        with_traceback = (type(error), error, error.__traceback__) if logger.isEnabledFor(logging.DEBUG) else None
        if where == "loading":
            logger.warning("plugin '%s' could not be loaded: %s", plugin, reason, exc_info=with_traceback)
        else:
            logger.warning("plugin '%s', in %s: %s", plugin, where, reason, exc_info=with_traceback)


def reason_of(error: BaseException) -> str:
    """What went wrong in a plugin. It may hold what a file says: it is on one line, and not all of it if it is long."""
    text = str(error) if getattr(error, "for_user", False) else f"{type(error).__name__}: {error}"
    line = printable(" ".join(text[: 2 * LONGEST_REASON].split()))
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…"


def load_plugins() -> Plugins:
    """Load every installed plugin: the entry points of the group `sda_host`, in the order of their names."""
    plugins = Plugins()
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        distribution = point.dist
        try:
            plugins.add(
                point.load(),
                point.name,
                distribution=distribution.name if distribution else None,
                version=distribution.version if distribution else None,
            )
        except (Exception, SystemExit) as error:  # a plugin's import may do anything, even try to end the program
            plugins.failed(point.name, "loading", error)
    return plugins


def invoke(implementation: pluggy.HookImpl, arguments: dict[str, Any]) -> Any:
    """Call one plugin's function with those of the hook's arguments that it names."""
    try:
        return implementation.function(*(arguments[name] for name in implementation.argnames))
    except SystemExit as error:  # not a plugin's decision
        raise RuntimeError(f"tried to end the program ({error})") from error


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager
