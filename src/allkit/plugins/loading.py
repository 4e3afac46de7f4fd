"""One plugin: its contract version, its hooks, the records they return."""

from __future__ import annotations

import ast
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pluggy

from allkit import hookspecs
from allkit.errors import AllkitError, PluginError, did_you_mean
from allkit.plugins.distributions import GROUP, shown
from allkit.plugins.guard import Stopped, in_words, said
from allkit.plugins.offers import HOOKS, Kind, Offer, Record
from allkit.plugins.settings import require_kept
from allkit.plugins.tracing import trace
from allkit.records import API_VERSION, OLDEST_API_VERSION
from allkit.records.naming import require_strict_name
from allkit.telemetry import silence

__all__ = ["Loaded", "load"]

MOST_RECORDS = 1000
"""Records that one hook may return: what has more is a family."""
LAST_RELEASE_OF = {1: "0.4"}
"""The last release of allkit that takes a version of the contract which is no longer the newest."""


@dataclass
class Loaded:
    """What came of loading one plugin: its records, or why there are none."""

    records: tuple[tuple[Kind, Record], ...] = ()
    offers: tuple[Offer, ...] = ()
    error: str | None = None
    seconds: float = 0.0
    api_version: int = 1
    notes: tuple[str, ...] = ()
    """What its author should know, though it works: something deprecated, an offer of nothing."""

    def describe(self) -> dict[str, Any]:
        """Return everything but the records themselves, ready for JSON."""
        return {
            "offers": [offer.plain for offer in self.offers],
            "error": self.error,
            "seconds": self.seconds,
            "api_version": self.api_version,
            "notes": list(self.notes),
        }


def load(origin: str, target: str, module: Callable[[], object], *, alone: bool = False) -> Loaded:
    """Import one plugin and call its hooks; whatever goes wrong is in the result, never raised.

    `origin` is the distribution with its version, for the trace; `target` the value of the entry
    point, in whose source the contract version is looked up when the import fails. `alone` says that
    nobody can interrupt this process, so that a KeyboardInterrupt is the plugin's own.
    """
    result = Loaded()
    start = time.perf_counter()
    try:
        with silence():  # a plugin may import what reports its use
            plugin = module()
        trace(f"{origin}: import {target}", time.perf_counter() - start)
        result.api_version = _checked_version(getattr(plugin, "api_version", 1))
        records = tuple(_records(plugin, origin, result.api_version))
        for kind, record in records:
            require_kept(kind, record)
        result.offers = tuple(Offer.of(kind, record) for kind, record in records)
        result.records = records
        result.notes = tuple(_notes(result, plugin))
    # A plugin is a stranger's code: whatever it raises must not break the host. SystemExit is
    # what a script that was packaged by mistake raises.
    except BaseException as error:
        if not alone and issubclass(type(error), (KeyboardInterrupt, Stopped)):
            raise
        result.error = _reason(error, target)
    result.seconds = time.perf_counter() - start
    return result


def _notes(loaded: Loaded, module: object) -> Iterator[str]:
    hooks = [hook for hook, _, _ in HOOKS.values()]
    if not loaded.records:
        yield f"It offers nothing: none of its hooks returned a record. Hooks: {', '.join(hooks)}."
    for name in dir(module):
        if name.startswith("allkit_") and name not in hooks and did_you_mean(name, hooks):
            value = getattr(module, name, None)
            if callable(value) and getattr(value, "__module__", None) == getattr(
                module, "__name__", ""
            ):
                yield f"Its function {shown(name, 100)!r} is no hook.{did_you_mean(name, hooks)}"
    if loaded.api_version < API_VERSION:
        yield (
            f"Deprecated: it is written for version {loaded.api_version} of the plugin contract, which "
            f"allkit takes until {LAST_RELEASE_OF[loaded.api_version]}. Its author sets `api_version = "
            f"{API_VERSION}`."
        )


def _reason(error: BaseException, target: str) -> str:
    # A plugin for a newer contract fails on a name or a field that is not there yet, before it
    # can say so; its source says it.
    if issubclass(type(error), (ImportError, AttributeError, TypeError)):
        declared = _declared_in_source(target)
        if declared is not None:
            try:
                _checked_version(declared)
            except PluginError as refusal:
                return str(refusal)
    text = said(error) if issubclass(type(error), AllkitError) else None
    return in_words(error) if text is None else shown(text, 1000)


def _checked_version(declared: object) -> int:
    if type(declared) is not int:
        raise PluginError(
            f"Its api_version is {declared!r}; it must be a whole number, as in `api_version = "
            f"{API_VERSION}`."
        )
    if declared > API_VERSION:
        raise PluginError(
            f"It is written for version {declared} of the plugin contract, and this allkit knows "
            f"versions up to {API_VERSION}. Update allkit, or install an older version of the plugin."
        )
    if declared < OLDEST_API_VERSION:
        raise PluginError(
            f"It is written for version {declared} of the plugin contract, which this allkit no "
            f"longer takes (it takes {OLDEST_API_VERSION} to {API_VERSION}). Update the plugin."
        )
    return declared


def _declared_in_source(target: str) -> int | None:
    """Return the `api_version` that a module's source assigns, without running it."""
    try:
        spec = importlib.util.find_spec(target.partition(":")[0])
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        statements = ast.parse(source).body
    except (ImportError, ValueError, OSError, SyntaxError):
        return None
    for statement in statements:
        names = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):  # api_version: int = 2
            names = [statement.target]
        named = any(isinstance(name, ast.Name) and name.id == "api_version" for name in names)
        value = getattr(statement, "value", None)
        if named and isinstance(value, ast.Constant) and isinstance(value.value, int):
            return value.value
    return None


def _records(module: object, origin: str, version: int) -> list[tuple[Kind, Record]]:
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name="plugin")
    _check_names(module)
    records: list[tuple[Kind, Record]] = []
    for kind, (hook, types, since) in HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if version < since:
                raise PluginError(
                    f"It has the hook {hook}, which came with version {since} of the plugin contract. Write "
                    f"`api_version = {since}` into the module."
                )
            start = time.perf_counter()
            returned = list(_returned(hook, implementation.function()))
            trace(
                f"{origin}: {hook}() → {', '.join(_short(r) for r in returned) or 'nothing'}",
                time.perf_counter() - start,
            )
            for record in returned:
                if not isinstance(record, types):
                    wanted = " or ".join(t.__name__ for t in types)
                    raise PluginError(
                        f"{hook} returned {record!r:.200}; it must return {wanted} records."
                    )
                records.append((kind, cast(Record, record)))
    names = [(kind, getattr(record, "prefix", record.name)) for kind, record in records]
    for kind, name in names:
        if version >= 2:
            require_strict_name(kind, name)
        if names.count((kind, name)) > 1:
            raise PluginError(
                f"It offers the {kind} {name!r} twice. Give every record its own name."
            )
    return records


def _returned(hook: str, value: object) -> list[object]:
    try:
        several = iter(cast(Any, value))
    except TypeError:
        raise PluginError(
            f"{hook} returned {value!r:.200}; it must return a list of records."
        ) from None
    records = list(islice(several, MOST_RECORDS + 1))
    if len(records) > MOST_RECORDS:
        raise PluginError(
            f"{hook} returned more than {MOST_RECORDS} records. Offer a family of backbones, or fewer."
        )
    return records


def _short(record: object) -> str:
    return f"{type(record).__name__} {getattr(record, 'name', '')}".strip()


def _check_names(module: object) -> None:
    known = {hook for hook, _, _ in HOOKS.values()}
    for name in dir(module):
        value = getattr(module, name, None)
        marked = hasattr(value, "allkit_impl")
        if marked and name not in known:
            raise PluginError(
                f"{name!r} is marked as a hook, but there is no such hook."
                f"{did_you_mean(name, known)} Hooks: {', '.join(sorted(known))}."
            )
        if name in known and callable(value) and not marked:
            raise PluginError(
                f"{name!r} has the name of a hook and is not marked as one. Write "
                f"`@allkit.hookimpl` above it."
            )
