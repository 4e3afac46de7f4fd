"""The registry: every record of every plugin, by kind and name."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from allkit import __version__
from allkit.errors import AllkitError, ConfigError, PluginError, did_you_mean
from allkit.plugins import catalogue
from allkit.plugins.loading import Kind, Loaded, Offer, Record, load
from allkit.plugins.probe import watched
from allkit.plugins.tracing import traced
from allkit.records import Backbone, BackboneFamily, Weights

__all__ = ["Plugin", "Registry", "registry", "resolve_weights", "using"]

BUILT_IN = ("backbones", "augmentations", "exporters")


@dataclass
class Plugin:
    """One plugin as it was found: where it comes from, what it offers, what is wrong with it.

    An installed plugin is imported into this process when one of its records is asked for, and
    not before; what it offers is known without.
    """

    name: str
    distribution: str
    version: str
    offers: tuple[Offer, ...] = ()
    error: str | None = None
    seconds: float = 0.0
    api_version: int = 1
    _load: Callable[[], Loaded] | None = field(default=None, repr=False)
    _records: tuple[tuple[str, Record], ...] | None = field(default=None, repr=False)

    @property
    def origin(self) -> str:
        """Distribution and version, as messages name it."""
        return f"{self.distribution} {self.version}"

    @property
    def records(self) -> tuple[tuple[str, Record], ...]:
        """Its records by kind; empty when it is broken."""
        if self._records is None:
            self.take(self._load() if self._load and not self.error else Loaded(error=self.error))
        return self._records or ()

    def take(self, loaded: Loaded) -> None:
        """Hold what came of importing it."""
        self._records = loaded.records
        self.offers = tuple(Offer.of(kind, record) for kind, record in loaded.records)
        self.error = loaded.error
        self.api_version = loaded.api_version
        if loaded.seconds:
            self.seconds = loaded.seconds


class Registry:
    """All records of all plugins, by kind and name.

    With `discover=False` only the built-ins are there; `register` adds a module by hand. A plugin
    that cannot be imported, that hangs, or whose hook fails, is kept with its `error` and offers
    nothing. With `fresh` every installed plugin is asked again what it offers.
    """

    def __init__(self, *, discover: bool = True, fresh: bool = False) -> None:
        self.plugins: list[Plugin] = []
        self.left_out: list[str] = []
        """The installed plugins that ALLKIT_PLUGINS leaves out."""
        for name in BUILT_IN:
            module = f"allkit.builtin.{name}"
            self._add(f"built-in {name}", "allkit", __version__, module)
        if discover:
            self._discover(fresh)

    def _discover(self, fresh: bool) -> None:
        chosen, left_out = catalogue.installed()
        self.left_out = [found.origin for found in left_out]
        descriptions = catalogue.offers_of(chosen, fresh=fresh)
        for found, description in zip(chosen, descriptions, strict=True):
            plugin = Plugin(
                found.entry.name,
                found.distribution,
                found.version,
                offers=tuple(Offer(**offer) for offer in description["offers"]),
                error=description["error"],
                seconds=description["seconds"],
                api_version=description["api_version"],
            )
            plugin._load = _importer(found)
            self.plugins.append(plugin)

    def _add(self, name: str, distribution: str, version: str, module: str | object) -> Plugin:
        plugin = Plugin(name, distribution, version)

        def imported() -> object:
            return importlib.import_module(module) if isinstance(module, str) else module

        target = module if isinstance(module, str) else name
        plugin.take(load(plugin.origin, target, imported))
        self.plugins.append(plugin)
        return plugin

    def register(
        self, module: object, *, name: str, distribution: str = "unpackaged", version: str = "0"
    ) -> Plugin:
        """Add a plugin by hand; `module` is anything with hook functions as attributes."""
        return self._add(name, distribution, version, module)

    def get(self, kind: Kind, name: str) -> Any:
        """Return the record `name`; raise `PluginError` when none or several plugins offer it."""
        plugin = self.provider(kind, name)
        for record_kind, record in plugin.records:
            if Offer.of(record_kind, record).answers(kind, name):
                if isinstance(record, BackboneFamily):
                    record = _guarded_get(plugin, record, name.partition(":")[2])
                return traced(record, plugin.origin)
        if plugin.error:
            raise PluginError(
                f"{plugin.origin} offers the {kind} {name!r}, but fails: {plugin.error}"
            )
        raise self._unknown(kind, name)

    def provider(self, kind: Kind, name: str) -> Plugin:
        """Return the plugin that offers the record `name`; raise `PluginError` as `get` does."""
        offering = [p for p in self.plugins if any(o.answers(kind, name) for o in p.offers)]
        if not offering:
            raise self._unknown(kind, name)
        if len(offering) > 1:
            origins = " and ".join(plugin.origin for plugin in offering)
            raise PluginError(
                f"Two plugins provide the {kind} {name!r}: {origins}. Uninstall one of them, or "
                f"name in ALLKIT_PLUGINS the distributions that may be used."
            )
        return offering[0]

    def names(self, kind: Kind) -> list[str]:
        """Return the names on offer, sorted; a family is listed as `PREFIX:NAME`."""
        return sorted({o.name for p in self.plugins for o in p.offers if o.kind == kind})

    def family(self, prefix: str) -> BackboneFamily | None:
        """Return the family of backbones behind `prefix`, or `None`."""
        for plugin in self.plugins:
            if any(offer.prefix == prefix for offer in plugin.offers):
                for _, record in plugin.records:
                    if isinstance(record, BackboneFamily) and record.prefix == prefix:
                        return record
        return None

    def _unknown(self, kind: Kind, name: str) -> PluginError:
        known = self.names(kind)
        broken = [plugin.origin for plugin in self.plugins if plugin.error]
        note = (
            f" Plugins that failed to load: {', '.join(broken)}; see `allkit plugins`."
            if broken
            else ""
        )
        meant = self._member(name) if kind == "backbone" else ""
        near = f" Did you mean {meant!r}?" if meant else did_you_mean(name, known)
        return PluginError(f"Unknown {kind} {name!r}.{near} Available: {', '.join(known)}.{note}")

    def _member(self, name: str) -> str:
        """Return the member of a family that a name without the prefix means, or an empty string."""
        if ":" in name:
            return ""
        for plugin in self.plugins:
            # To list a family brings its library, which is worth it where a name leads nowhere.
            for _, record in plugin.records if any(o.prefix for o in plugin.offers) else ():
                if isinstance(record, BackboneFamily):
                    with contextlib.suppress(Exception):
                        members = list(record.names())
                        stem = name.partition(".")[0]
                        if stem in members or name in members:
                            return f"{record.prefix}:{name}"
                        near = difflib.get_close_matches(name, members, n=1, cutoff=0.8)
                        if near and not did_you_mean(name, self.names("backbone")):
                            return f"{record.prefix}:{near[0]}"
        return ""


def _importer(found: catalogue.Found) -> Callable[[], Loaded]:
    def run() -> Loaded:
        with watched(found.origin):
            return load(found.origin, found.entry.value, found.entry.load)

    return run


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
def _everything() -> Registry:
    return Registry()


_instead: list[Registry] = []


def registry() -> Registry:
    """Return the registry of everything installed, made once in a process."""
    return _instead[-1] if _instead else _everything()


@contextlib.contextmanager
def using(host: Registry) -> Iterator[Registry]:
    """Let `registry()` return `host` inside the block, in every thread: for tests and checks."""
    _instead.append(host)
    try:
        yield host
    finally:
        _instead.remove(host)
