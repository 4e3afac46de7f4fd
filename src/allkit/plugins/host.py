"""The registry: every record of every plugin, by kind and name."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, cast

from allkit import __version__
from allkit.errors import PluginError, did_you_mean
from allkit.plugins import catalogue
from allkit.plugins.asked import bound, checked_settings
from allkit.plugins.guard import calling
from allkit.plugins.loading import Loaded, load
from allkit.plugins.offers import KINDS, Kind, Offer, Record
from allkit.plugins.probe import watched
from allkit.plugins.settings import kept_values
from allkit.plugins.sources import of_module
from allkit.records import API_VERSION, Backbone, BackboneFamily, Reference

if TYPE_CHECKING:
    from allkit.plugins.problems import Problem

__all__ = ["OWN_COMMANDS", "Conflict", "Plugin", "Registry", "registry", "using"]

OWN = "allkit"
"""The package of the built-in records."""
BUILT_IN: dict[Kind, str] = {
    "backbone": "allkit.builtin.backbones",
    "augmentation": "allkit.builtin.augmentations",
    "view": "allkit.builtin.views",
    "finder": "allkit.builtin.finders",
    "reader": "allkit.builtin.readers",
    "explainer": "allkit.builtin.explainers",
    "exporter": "allkit.builtin.exporters",
    "health-check": "allkit.builtin.health_checks",
}
"""The module of each kind of part, imported when the first of its kind is asked for."""
OWN_COMMANDS = (
    "demo",
    "doctor",
    "app",
    "check",
    "audit",
    "clean",
    "split",
    "train",
    "tune",
    "evaluate",
    "explain",
    "adapt",
    "reproduce",
    "predict",
    "serve",
    "export",
    "verify",
    "sign",
    "benchmark",
    "clinic",
    "plugins",
    "cache",
)
"""The commands of allkit's own, which no plugin replaces."""


@dataclass
class Plugin:
    """One plugin as it was found: where it comes from, what it offers, what is wrong with it.

    A plugin is imported into this process when one of its records is asked for, and not before;
    what an installed one offers is known without.
    """

    name: str
    distribution: str
    version: str
    offers: tuple[Offer, ...] = ()
    error: str | None = None
    seconds: float = 0.0
    api_version: int = API_VERSION
    notes: tuple[str, ...] = ()
    """What its author should know, though it works."""
    built_in: bool = False
    found: catalogue.Found | None = field(default=None, repr=False)
    """Where it is installed; `None` for a built-in one and one that was registered by hand."""
    source: str = field(default="", repr=False)
    """A hash of the source of one that was registered by hand, where it has a file."""
    _records: tuple[tuple[Kind, Record], ...] | None = field(default=None, repr=False)

    @cached_property
    def mark(self) -> str:
        """What tells its code from that of others: the version, and, if it is no built-in, a hash of it."""
        if self.found:
            return self.found.mark
        return f"{self.version}+{self.source[:16]}" if self.source else self.version

    @property
    def origin(self) -> str:
        """Distribution and version, as messages name it."""
        return f"{self.distribution} {self.version}"

    @property
    def records(self) -> tuple[tuple[Kind, Record], ...]:
        """Its records by kind; empty when it is broken."""
        if self._records is None:
            self.take(self._loaded())
        return self._records or ()

    def _loaded(self) -> Loaded:
        found = self.found
        if found is None or self.error:
            return Loaded(error=self.error, api_version=self.api_version, notes=self.notes)
        with watched(found.origin):
            return load(found.origin, found.value, found.load)

    def take(self, loaded: Loaded) -> None:
        """Hold what came of importing it."""
        self._records = loaded.records
        self.offers = loaded.offers
        self.error = loaded.error
        self.api_version = loaded.api_version
        self.notes = loaded.notes
        if loaded.seconds:
            self.seconds = loaded.seconds


@dataclass(frozen=True)
class Conflict:
    """A name that several plugins offer. `own` says that the built-in one is used for it."""

    kind: str
    name: str
    origins: tuple[str, ...]
    qualified: tuple[str, ...]
    own: bool

    def __str__(self) -> str:
        who = " and ".join(self.origins)
        used = "allkit's own is used" if self.own else "by this name alone none of them can be used"
        full = ", ".join(self.qualified)
        return f"the {self.kind} {self.name!r} is offered by {who}: {used}. In full: {full}."


class Registry:
    """All records of all plugins, by kind and name.

    A name is `NAME` or `PACKAGE/NAME`; with settings of its own it is a mapping `{NAME: {SETTING:
    VALUE}}`, or the text of a `Reference`. A built-in record goes before others of its short name.
    With `discover=False` only the built-ins are there; `register` adds a module by hand. A plugin
    that cannot be imported, that hangs, or whose hook fails, is kept with its `error` and offers
    nothing. With `fresh` every installed plugin is asked again what it offers.
    """

    def __init__(self, *, discover: bool = True, fresh: bool = False) -> None:
        self.left_out: list[str] = []
        """The installed plugins that ALLKIT_PLUGINS leaves out."""
        self._discover, self._fresh = discover, fresh
        self._own: dict[Kind, Plugin] = {}
        self._others: list[Plugin] = []
        self._told: set[tuple[str, str]] = set()

    @property
    def plugins(self) -> list[Plugin]:
        """Every plugin: the built-in ones, then the installed and registered ones."""
        return [*(self._built_in(kind) for kind in BUILT_IN), *self._installed()]

    def problems(self) -> list[Problem]:
        """Return what is wrong with the plugins and their installations, and what to do.

        Broken plugins, damaged installations, requirements that are not met, names and files that several
        claim, and, as notes, plugins that offer nothing or are written for an old version of the contract.
        """
        from allkit.plugins.problems import problems
        from allkit.plugins.suffixes import suffix_conflicts

        return problems(self.plugins, self.conflicts(), suffix_conflicts(self))

    def _built_in(self, kind: Kind) -> Plugin:
        if kind not in self._own:
            module = BUILT_IN[kind]
            plugin = Plugin(module.rpartition(".")[2], OWN, __version__, built_in=True)
            plugin.take(load(plugin.origin, module, lambda: importlib.import_module(module)))
            self._own[kind] = plugin
        return self._own[kind]

    def _installed(self) -> list[Plugin]:
        if self._discover:
            self._discover = False
            chosen, left_out = catalogue.installed()
            self.left_out = [found.origin for found in left_out]
            descriptions = catalogue.offers_of(chosen, fresh=self._fresh)
            installed = [
                _described(found, description)
                for found, description in zip(chosen, descriptions, strict=True)
            ]
            self._others = [*installed, *self._others]
        return self._others

    def register(
        self, module: object, *, name: str, distribution: str = "unpackaged", version: str = "0"
    ) -> Plugin:
        """Add a plugin by hand; `module` is anything with hook functions as attributes."""
        plugin = Plugin(name, distribution, version, source=of_module(module))
        plugin.take(load(plugin.origin, name, lambda: module))
        self._others.append(plugin)
        return plugin

    # ── looking up ─────────────────────────────────────────────────────────────────────────

    def get(self, kind: Kind, name: Any) -> Any:
        """Return the record that `name` asks for, with its settings bound and its calls guarded.

        Raises `PluginError` when none or several plugins offer it, and `ConfigError` for settings that
        it does not take.
        """
        reference = Reference.of(name)
        return self._record(kind, reference, self.provider(kind, reference))

    def _record(self, kind: Kind, reference: Reference, plugin: Plugin) -> Any:
        for record_kind, record in plugin.records:
            if Offer.of(record_kind, record).answers(kind, reference.name):
                if isinstance(record, BackboneFamily):
                    record = _member(plugin, record, reference.name)
                chosen = checked_settings(record, reference, plugin.origin, kind)
                return bound(record, chosen, plugin.origin, kind)
        if plugin.error:
            raise PluginError(
                f"{plugin.origin} offers the {kind} {reference.name!r}, but fails: {plugin.error}"
            )
        raise self._unknown(kind, reference)

    def provider(self, kind: Kind, name: Any) -> Plugin:
        """Return the plugin that offers the record `name`; raise `PluginError` as `get` does."""
        reference = Reference.of(name)
        offering = self._offering(kind, reference)
        if not offering:
            raise self._unknown(kind, reference)
        if len(offering) == 1:
            return offering[0]
        if offering[0].built_in:
            self._tell_of_others(kind, reference.name, offering)
            return offering[0]
        origins = " and ".join(plugin.origin for plugin in offering)
        full = [f"{plugin.distribution}/{reference.name}" for plugin in offering]
        if len(set(full)) == len(full):
            raise PluginError(
                f"Several plugins provide the {kind} {reference.name!r}: {origins}. Name one in full: "
                f"{' or '.join(full)}."
            )
        raise PluginError(
            f"The {kind} {reference.name!r} is provided more than once by one package: {origins}. Install "
            f"another version of it, or name in ALLKIT_PLUGINS the packages that may be used."
        )

    def _offering(self, kind: Kind, reference: Reference) -> list[Plugin]:
        """Return the plugins that offer a record, the built-in one first."""
        own = [self._built_in(kind)] if kind in BUILT_IN else []
        if catalogue.plain(reference.package) == OWN:
            among = own
        elif reference.package:
            wanted = catalogue.plain(reference.package)
            among = [p for p in self._installed() if catalogue.plain(p.distribution) == wanted]
        else:
            among = [*own, *self._installed()]
        return [p for p in among if any(o.answers(kind, reference.name) for o in p.offers)]

    def _tell_of_others(self, kind: Kind, name: str, offering: list[Plugin]) -> None:
        if (kind, name) in self._told:
            return
        self._told.add((kind, name))
        others = [plugin for plugin in offering if not plugin.built_in]
        origins = " and ".join(plugin.origin for plugin in others)
        full = " or ".join(f"{plugin.distribution}/{name}" for plugin in others)
        warnings.warn(
            f"allkit's own {kind} {name!r} is used; {origins} offers one of that name too. Write {full} for "
            f"that one, or {OWN}/{name}, which says it without this warning.",
            UserWarning,
            stacklevel=4,
        )

    def reference(self, kind: Kind, name: Any) -> Reference:
        """Return `name` in full: with its package, and with every setting that it has.

        That is what a model stores: it means the same when another package offers the name, or the
        plugin changes a default.
        """
        asked = Reference.of(name)
        plugin = self.provider(kind, asked)
        chosen = getattr(self._record(kind, asked, plugin), "chosen", None)
        if chosen is None:
            return Reference(asked.name, plugin.distribution)
        with calling(plugin.origin, kind, asked.name, "settings"):
            called = f"the {kind} {asked.name!r} of {plugin.origin}"
            return Reference(asked.name, plugin.distribution, kept_values(chosen, called))

    def mark(self, kind: Kind, name: Any) -> str:
        """Return what tells the results of a record from those of all others, for the key of a cache.

        Its name, its package with its version and a hash of its code, and its settings.
        """
        reference = self.reference(kind, name)
        plugin = self.provider(kind, name)
        parts = (reference.name, plugin.distribution, plugin.mark, reference.settings_text)
        return " ".join(part for part in parts if part)

    def names(self, kind: Kind) -> list[str]:
        """Return the names on offer, sorted; a family is listed as `PREFIX:NAME`."""
        return sorted({offer.name for _, offer in self.offers(kind)})

    def offers(self, kind: Kind, *, own: bool = False) -> list[tuple[Plugin, Offer]]:
        """Return everything of a kind that is on offer, the built-in ones first; `own`: only these.

        Nothing but the built-in module of the kind is imported.
        """
        among = [self._built_in(kind)] if kind in BUILT_IN else []
        among += [] if own else self._installed()
        return [(p, offer) for p in among for offer in p.offers if offer.kind == kind]

    def conflicts(self) -> list[Conflict]:
        """Return the names that more than one plugin offers, by kind and name."""
        found = []
        for kind in KINDS:
            if kind == "health-check":  # all of them are run, and none is asked for by its name
                continue
            owners: dict[str, list[Plugin]] = {}
            for plugin, offer in self.offers(kind):
                owners.setdefault(offer.prefix or offer.name, []).append(plugin)
            for name, plugins in sorted(owners.items()):
                command = kind == "command" and name in OWN_COMMANDS
                if len(plugins) > 1 or command:
                    origins = [f"{OWN} {__version__}"] if command else []
                    found.append(
                        Conflict(
                            kind,
                            name,
                            (*origins, *(plugin.origin for plugin in plugins)),
                            tuple(f"{plugin.distribution}/{name}" for plugin in plugins),
                            own=command or plugins[0].built_in,
                        )
                    )
        return found

    def family(self, prefix: str) -> BackboneFamily | None:
        """Return the family of backbones behind `prefix`, or `None`."""
        reference = Reference.of(prefix)
        for plugin in self._offering("backbone", reference._replace(name=f"{reference.name}:x")):
            for _, record in plugin.records:
                if isinstance(record, BackboneFamily) and record.prefix == reference.name:
                    return cast(BackboneFamily, bound(record, None, plugin.origin, "backbone"))
        return None

    def _unknown(self, kind: Kind, reference: Reference) -> PluginError:
        name, known = reference.qualified, self.names(kind)
        broken = [plugin.origin for plugin in self._installed() if plugin.error]
        note = (
            f" Plugins that failed to load: {', '.join(broken)}; see `allkit plugins`."
            if broken
            else ""
        )
        if reference.package:
            of_package = [
                f"{p.distribution}/{o.name}"
                for p, o in self.offers(kind)
                if catalogue.plain(p.distribution) == catalogue.plain(reference.package)
            ]
            if of_package:
                known = of_package
            elif catalogue.plain(reference.package) != OWN:
                return PluginError(
                    f"The package {reference.package} of the {kind} {name!r} is not installed, or offers no "
                    f"{kind}. Type: pip install {reference.package}.{note}"
                )
        meant = self._member_meant(name) if kind == "backbone" else ""
        near = f" Did you mean {meant!r}?" if meant else did_you_mean(name, known)
        return PluginError(f"Unknown {kind} {name!r}.{near} Available: {', '.join(known)}.{note}")

    def _member_meant(self, name: str) -> str:
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


def _described(found: catalogue.Found, description: dict[str, Any]) -> Plugin:
    return Plugin(
        found.name,
        found.distribution,
        found.version,
        offers=tuple(Offer.from_plain(offer) for offer in description["offers"]),
        error=description["error"],
        seconds=description["seconds"],
        api_version=description["api_version"],
        notes=tuple(description["notes"]),
        found=found,
    )


def _member(plugin: Plugin, family: BackboneFamily, name: str) -> Backbone:
    """Return the backbone of a family that `PREFIX:NAME` means."""
    with calling(plugin.origin, "backbone", name, "get"):
        record = family.get(name.partition(":")[2])
    if not isinstance(record, Backbone):
        raise PluginError(f"{plugin.origin} returned {record!r:.200} for {name}.")
    return record if record.name == name else replace(record, name=name)


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
