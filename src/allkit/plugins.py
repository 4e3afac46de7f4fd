"""The plugin host: finds plugins, keeps broken ones out, and looks records up by name."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, cast

import pluggy

from allkit import hookspecs
from allkit.errors import AllkitError, ConfigError, PluginError, did_you_mean
from allkit.records import Augmentation, Backbone, BackboneFamily, Exporter, Weights

__all__ = ["Plugin", "Registry", "registry", "resolve_weights"]

GROUP = "allkit"
BUILT_IN = ("backbones", "augmentations", "exporters")
Kind = Literal["backbone", "augmentation", "exporter"]
Record = Backbone | BackboneFamily | Augmentation | Exporter

_HOOKS: dict[str, tuple[str, tuple[type, ...]]] = {
    "backbone": ("allkit_backbones", (Backbone, BackboneFamily)),
    "augmentation": ("allkit_augmentations", (Augmentation,)),
    "exporter": ("allkit_exporters", (Exporter,)),
}


@dataclass
class Plugin:
    """One plugin as it was found: where it comes from, what it offers, what is wrong with it."""

    name: str
    distribution: str
    version: str
    records: list[tuple[str, Record]] = field(default_factory=list)
    error: str | None = None
    seconds: float = 0.0

    @property
    def origin(self) -> str:
        """Distribution and version, as messages name it."""
        return f"{self.distribution} {self.version}"


class Registry:
    """All records of all plugins, by kind and name.

    With `discover=False` only the built-ins are there; `register` adds a module by hand. A plugin
    that cannot be imported, or whose hook fails, is kept with its `error` and offers nothing.
    """

    def __init__(self, *, discover: bool = True) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self.plugins: list[Plugin] = []
        for name in BUILT_IN:
            self._load(
                f"built-in {name}", "allkit", _own_version(),
                lambda name=name: importlib.import_module(f"allkit.builtin.{name}"),  # type: ignore[misc]
            )  # fmt: skip
        if discover:
            for entry in _chosen(entry_points(group=GROUP)):
                distribution = entry.dist.name if entry.dist else "unknown"
                version = entry.dist.version if entry.dist else "unknown"
                self._load(entry.name, distribution, version, entry.load)

    def register(
        self, module: object, *, name: str, distribution: str = "unpackaged", version: str = "0"
    ) -> Plugin:
        """Add a plugin by hand; `module` is anything with hook functions as attributes."""
        return self._load(name, distribution, version, lambda: module)

    def get(self, kind: Kind, name: str) -> Any:
        """Return the record `name`; raise `PluginError` when none or several plugins offer it."""
        found = self._offers(kind, name)
        if len(found) > 1:
            origins = " and ".join(plugin.origin for plugin, _ in found)
            raise PluginError(
                f"Two plugins provide the {kind} {name!r}: {origins}. Uninstall one of them, or "
                f"name in ALLKIT_PLUGINS the distributions that may be used."
            )
        if found:
            return found[0][1]
        raise self._unknown(kind, name)

    def provider(self, kind: Kind, name: str) -> Plugin:
        """Return the plugin that offers the record `name`."""
        found = self._offers(kind, name)
        if not found:
            raise self._unknown(kind, name)
        return found[0][0]

    def names(self, kind: Kind) -> list[str]:
        """Return the names on offer, sorted; a family is listed as `PREFIX:NAME`."""
        return sorted(
            {record.name for plugin in self.plugins for k, record in plugin.records if k == kind}
        )

    def _offers(self, kind: Kind, name: str) -> list[tuple[Plugin, Record]]:
        found: list[tuple[Plugin, Record]] = []
        prefix, colon, rest = name.partition(":")
        for plugin in self.plugins:
            for record_kind, record in plugin.records:
                if record_kind != kind:
                    continue
                if isinstance(record, BackboneFamily):
                    if colon and rest and record.prefix == prefix:
                        found.append((plugin, _guarded_get(plugin, record, rest)))
                elif record.name == name:
                    found.append((plugin, record))
        return found

    def _unknown(self, kind: Kind, name: str) -> PluginError:
        known = self.names(kind)
        broken = [plugin.origin for plugin in self.plugins if plugin.error]
        note = (
            f" Plugins that failed to load: {', '.join(broken)}; see `allkit plugins`."
            if broken
            else ""
        )
        return PluginError(
            f"Unknown {kind} {name!r}.{did_you_mean(name, known)} Available: {', '.join(known)}.{note}"
        )

    def _load(
        self, name: str, distribution: str, version: str, load: Callable[[], object]
    ) -> Plugin:
        plugin = Plugin(name, distribution, version)
        self.plugins.append(plugin)
        start = time.perf_counter()
        try:
            module = load()
            self._manager.register(module, name=f"{distribution}:{name}:{len(self.plugins)}")
            _check_names(module)
            plugin.records = [*_records(self._manager, module)]
        # A plugin is a stranger's code: whatever it raises must not break the host. SystemExit is
        # what a script that was packaged by mistake raises.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            plugin.error = (
                str(error) if isinstance(error, AllkitError) else f"{type(error).__name__}: {error}"
            )
            plugin.records = []
        plugin.seconds = time.perf_counter() - start
        return plugin


def _own_version() -> str:
    from allkit import __version__

    return __version__


def _chosen(found: Iterable[EntryPoint]) -> list[EntryPoint]:
    """Keep the entry points whose distribution ALLKIT_PLUGINS names; all when it is not set."""
    entries = sorted(found, key=lambda e: (e.dist.name if e.dist else "", e.name))
    unique = list({(e.dist.name if e.dist else "", e.name, e.value): e for e in entries}.values())
    setting = os.environ.get("ALLKIT_PLUGINS")
    if setting is None:
        return unique
    wanted = {_plain(name) for name in setting.split(",") if name.strip()}
    installed = {_plain(e.dist.name) for e in unique if e.dist}
    for name in sorted(wanted - installed):
        raise PluginError(
            f"ALLKIT_PLUGINS names {name!r}, which is not installed."
            f"{did_you_mean(name, installed)} Install it or take it off the list."
        )
    return [e for e in unique if e.dist and _plain(e.dist.name) in wanted]


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")


def _check_names(module: object) -> None:
    known = {hook for hook, _ in _HOOKS.values()}
    for name in dir(module):
        marked = hasattr(getattr(module, name, None), "allkit_impl")
        if marked and name not in known:
            raise PluginError(
                f"{name!r} is marked as a hook, but there is no such hook."
                f"{did_you_mean(name, known)} Hooks: {', '.join(sorted(known))}."
            )


def _records(manager: pluggy.PluginManager, module: object) -> Iterable[tuple[str, Record]]:
    for kind, (hook, types) in _HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin is not module:
                continue
            for record in implementation.function():
                if not isinstance(record, types):
                    wanted = " or ".join(t.__name__ for t in types)
                    raise PluginError(
                        f"{hook} returned {record!r}; it must return {wanted} records."
                    )
                yield kind, cast(Record, record)


def _guarded_get(plugin: Plugin, family: BackboneFamily, name: str) -> Backbone:
    try:
        record = family.get(name)
    except AllkitError:
        raise
    except Exception as error:
        raise PluginError(
            f"{plugin.origin} failed to look up {family.prefix}:{name}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(record, Backbone):
        raise PluginError(f"{plugin.origin} returned {record!r} for {family.prefix}:{name}.")
    return record


def resolve_weights(backbone: str, setting: str) -> Weights:
    """Return what a backbone is built with: `"none"`, `"default"` or a file.

    `setting` is the user's: a path, `"none"` or `"default"`; with `"default"`, a file in the
    folder that `ALLKIT_WEIGHTS` names comes first: `vgg16.safetensors`, and for `timm:resnet18`
    `timm_resnet18.safetensors`.
    """
    if setting == "none":
        return "none"
    if setting != "default":
        path = Path(setting)
        if not path.is_file():
            raise ConfigError(
                f"The weights {setting!r} are not a file. Give a .safetensors file, `default` for "
                f"the pretrained weights, or `none` for random ones."
            )
        return path
    folder = os.environ.get("ALLKIT_WEIGHTS")
    if folder:
        file = Path(folder) / f"{backbone.replace(':', '_')}.safetensors"
        if file.is_file():
            return file
    return "default"


@cache
def registry() -> Registry:
    """Return the registry of everything installed, made once in a process."""
    return Registry()
