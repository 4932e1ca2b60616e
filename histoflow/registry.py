"""Finds the installed plugins and holds their components.

Nothing a plugin does can stop the others: a failure is kept as data, shown by
``histoflow plugins``, and becomes an error only when an experiment asks for what is missing.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, TypeVar

import pluggy

from histoflow import hookspecs
from histoflow.components import KINDS, Component
from histoflow.errors import PluginError

ALLOW_VARIABLE = "HISTOFLOW_PLUGINS_ALLOW"
DENY_VARIABLE = "HISTOFLOW_PLUGINS_DENY"

C = TypeVar("C", bound=Component[Any])

_HOOKS = {f"histoflow_{kind.plural}": kind for kind in KINDS}


@dataclass(frozen=True)
class Provider:
    """Where a component comes from: an entry point, and the distribution that brought it."""

    plugin: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version} (plugin '{self.plugin}')"


@dataclass(frozen=True)
class Failure:
    """Why a plugin, or one of its hooks, gives nothing."""

    provider: Provider
    reason: str


@dataclass(frozen=True)
class Registered:
    """A component and its provider; ``rivals`` are others that claim the same name."""

    component: Component[Any]
    provider: Provider
    rivals: tuple[Provider, ...] = ()


@dataclass(frozen=True, eq=False)
class Registry:
    """All components, by kind and name, and all failures."""

    components: Mapping[tuple[str, str], Registered] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    def of_kind(self, kind: type[C]) -> dict[str, C]:
        """The usable components of a kind, by name."""
        return {
            name: entry.component  # type: ignore[misc]
            for (label, name), entry in sorted(self.components.items())
            if label == kind.kind and not entry.rivals
        }

    def get(self, kind: type[C], name: str) -> C:
        found = self.of_kind(kind).get(name)
        if found is None:
            raise PluginError(f"The {kind.kind} {self.explain_absence(kind, name, self.of_kind(kind))}")
        return found

    def provider(self, kind: type[Component[Any]], name: str) -> Provider:
        return self.components[kind.kind, name].provider

    def explain_absence(self, kind: type[Component[Any]], name: str, legal: Iterable[str]) -> str:
        """Why this name cannot be had, and what to do: a conflict, a typing mistake, a broken plugin."""
        entry = self.components.get((kind.kind, name))
        if entry is not None and entry.rivals:
            claims = " and ".join(str(provider) for provider in (entry.provider, *entry.rivals))
            return (
                f"'{name}' is claimed by {claims}. "
                f"Uninstall one, or leave one out with {DENY_VARIABLE}=PLUGIN."
            )
        known = sorted(legal)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        broken = "".join(
            f" Plugin '{failure.provider.plugin}' is broken and may be the one that has it"
            f" (see 'histoflow plugins')."
            for failure in self.failures
        )
        return (
            f"must be one of {', '.join(known) or 'none (nothing is installed)'}. Got '{name}'.{hint}{broken}"
        )


def load(points: Iterable[EntryPoint], allow: Sequence[str] = (), deny: Sequence[str] = ()) -> Registry:
    """Build a registry from entry points; ``allow``, if not empty, and ``deny`` name plugins."""
    components: dict[tuple[str, str], Registered] = {}
    failures: list[Failure] = []
    for point in sorted(points, key=lambda point: (point.name, point.value)):
        if point.name in deny or (allow and point.name not in allow):
            continue
        provider = _provider(point)
        found, failed = _read_plugin(point, provider)
        failures += failed
        for component in found:
            _claim(components, component, provider)
    return Registry(MappingProxyType(components), tuple(failures))


@cache
def installed() -> Registry:
    """The plugins of this environment, less what the environment's variables leave out."""
    return load(
        entry_points(group=hookspecs.GROUP),
        allow=_names_in(ALLOW_VARIABLE),
        deny=_names_in(DENY_VARIABLE),
    )


def _names_in(variable: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in os.environ.get(variable, "").split(",") if name.strip())


def _provider(point: EntryPoint) -> Provider:
    distribution = point.dist
    if distribution is None:
        return Provider(point.name, point.module, "unknown")
    return Provider(point.name, distribution.name, distribution.version)


def _claim(
    components: dict[tuple[str, str], Registered], component: Component[Any], provider: Provider
) -> None:
    key = (component.kind, component.name)
    first = components.get(key)
    if first is None:
        components[key] = Registered(component, provider)
    else:
        components[key] = Registered(first.component, first.provider, (*first.rivals, provider))


def _read_plugin(point: EntryPoint, provider: Provider) -> tuple[list[Component[Any]], list[Failure]]:
    # A plugin may raise anything at import or in a hook, or try to end the process as a script would.
    try:
        with redirect_stdout(sys.stderr):  # what it prints must not stand in our own output
            plugin = point.load()
            _refuse_other_api(plugin)
            implementations = _implementations(plugin)
    except (Exception, SystemExit) as error:
        return [], [Failure(provider, _reason(error))]
    found: list[Component[Any]] = []
    failures: list[Failure] = []
    for hook, function in implementations:
        try:
            with redirect_stdout(sys.stderr):
                found += _records(hook, function())
        except (Exception, SystemExit) as error:
            failures.append(Failure(provider, f"{hook}: {_reason(error)}"))
    return found, failures


def _refuse_other_api(plugin: Any) -> None:
    wanted = getattr(plugin, "HISTOFLOW_API_REQUIRES", None)
    if wanted is None:
        return
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        fits = hookspecs.API_VERSION in SpecifierSet(wanted)
    except (InvalidSpecifier, AttributeError, TypeError) as error:
        raise PluginError(
            f'HISTOFLOW_API_REQUIRES must be a version specifier like ">=1,<2". Got {wanted!r}.'
        ) from error
    if not fits:
        raise PluginError(
            f"it demands histoflow's plugin API {wanted}, and this one is {hookspecs.API_VERSION}"
        )


def _implementations(plugin: Any) -> list[tuple[str, Any]]:
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    manager.check_pending()  # pluggy tells of an unknown hook only here
    calls = [
        (name, implementation.function)
        for name in _HOOKS
        for implementation in getattr(manager.hook, name).get_hookimpls()
    ]
    if not calls:
        raise PluginError(
            f"it implements no hook. Mark a function with @histoflow.hookimpl; hooks are {', '.join(_HOOKS)}"
        )
    return calls


def _records(hook: str, returned: Any) -> tuple[Component[Any], ...]:
    kind = _HOOKS[hook]
    records = tuple(returned)  # here, inside the caller's try: a generator raises only when drawn from
    for record in records:
        if not isinstance(record, kind):
            raise PluginError(f"it must return histoflow.{kind.__name__} records. Got {record!r}")
    return records


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if not isinstance(error, PluginError) else str(error)
