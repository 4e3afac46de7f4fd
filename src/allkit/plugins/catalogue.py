"""Which plugins are installed and what each offers, without importing them here.

A plugin is asked once, in a process of its own (`probe`). What it offers is kept by the hash of
its distribution; what is wrong with it, until something is installed or removed, or the modules
are sought elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any

from allkit import __version__
from allkit.errors import AllkitError, ConfigError, PluginError, did_you_mean
from allkit.files import cache_folder, private_folder, write_whole
from allkit.plugins.distributions import GROUP, Distribution, distributions, plain
from allkit.plugins.sources import changing, content, state
from allkit.plugins.sources import installed as recorded

__all__ = ["Found", "installed", "known", "offers_of", "plain"]

SITES = ("site-packages", "dist-packages")
KEPT = 1000
LIMIT = 15.0
HOLDS = {"offers", "error", "seconds", "api_version", "notes"}
"""What is kept of a plugin, at least."""


@dataclass(frozen=True)
class Found:
    """One entry point of one installed distribution."""

    name: str
    value: str
    package: Distribution

    @property
    def distribution(self) -> str:
        """The name of its package."""
        return self.package.name

    @property
    def version(self) -> str:
        """The version of its package."""
        return self.package.version

    @property
    def origin(self) -> str:
        """Distribution and version, as messages name it."""
        return f"{self.distribution} {self.version}"

    @property
    def mark(self) -> str:
        """What tells its code from that of others: the version, and a hash of its files.

        Of an installed package the hash is that of its RECORD. Of sources that change it is made anew
        only when a file has another time or size than when it was made.
        """
        files = changing(self.package, self.value)
        if not files:
            listed = recorded(self.package)
            return f"{self.version}+{listed[:16]}" if listed else self.version
        file, key = cache_folder() / "plugins.json", _key(self)
        entry = _read(file).get(key, {})
        if "content" not in entry:
            entry = entry | {"content": content(files)}
            if entry.keys() >= HOLDS:
                _write(file, {key: entry})
        return f"{self.version}+{entry['content'][:16]}"

    def load(self) -> object:
        """Import it here."""
        from importlib.metadata import EntryPoint

        return EntryPoint(self.name, self.value, GROUP).load()


def installed() -> tuple[list[Found], list[Found]]:
    """Return the plugins that are installed: those that may be used, those ALLKIT_PLUGINS leaves out.

    Raises `PluginError` when ALLKIT_PLUGINS names what is not installed.
    """
    found = [Found(*entry, package) for package in distributions() for entry in package.entries]
    unique = {(f.distribution, f.version, f.name, f.value): f for f in found}
    ordered = [unique[key] for key in sorted(unique)]
    setting = os.environ.get("ALLKIT_PLUGINS")
    if setting is None:
        return ordered, []
    wanted = {plain(name) for name in setting.split(",") if name.strip()}
    packages = {plain(f.distribution) for f in ordered}
    for name in sorted(wanted - packages):
        raise PluginError(
            f"ALLKIT_PLUGINS names {name!r}, which is not installed."
            f"{did_you_mean(name, packages)} Install it or take it off the list."
        )
    chosen = [f for f in ordered if plain(f.distribution) in wanted]
    return chosen, [f for f in ordered if f not in chosen]


def known(found: Sequence[Found]) -> list[dict[str, Any] | None]:
    """Return what is known of each plugin without asking it; `None` where it was not asked yet."""
    return _Catalogue(found).descriptions


def offers_of(found: Sequence[Found], *, fresh: bool = False) -> list[dict[str, Any]]:
    """Return what each plugin offers, from the cache where it is still true.

    With `fresh` every plugin is asked again.
    """
    if not found:
        return []
    catalogue = _Catalogue(found, fresh=fresh)
    catalogue.ask()
    return [entry for entry in catalogue.descriptions if entry is not None]


def search_path(needed: Sequence[str] = ()) -> list[str]:
    """Return where the child looks for modules: as here, but not in the working folder.

    That is on the path of every notebook and every `python -m`, whatever lies in it. It stays where
    PYTHONPATH names it in full. It comes last, so that what happens to lie in it replaces no other module,
    where it is one of the folders `needed`, or was installed for editing, so that a `.pth` names it.
    """
    here = os.path.realpath(os.curdir)
    named = {
        os.path.realpath(entry)
        for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if os.path.isabs(entry)
    }
    if here in named:
        return list(sys.path)
    kept = [entry for entry in sys.path if os.path.realpath(entry) != here]
    last = here in map(os.path.realpath, [*needed, *_edited(kept)])
    return [*kept, here] if last else kept


def _edited(path: Sequence[str]) -> Iterator[str]:
    """Yield the folders that editable installations have put on the path."""
    for site in path:
        if os.path.basename(site) in SITES and os.path.isdir(site):
            for file in sorted(Path(site).glob("*.pth")):
                with contextlib.suppress(OSError, ValueError):
                    lines = file.read_text(encoding="utf-8-sig").splitlines()
                    yield from (os.path.join(site, line.strip()) for line in lines if line.strip())


class _Catalogue:
    """What is kept of the plugins `found`, in their order."""

    def __init__(self, found: Sequence[Found], *, fresh: bool = False) -> None:
        self._found = found
        self._file = cache_folder() / "plugins.json"
        kept = {} if fresh or not found else _read(self._file)
        self._path = search_path([str(f.package.root) for f in found])
        self._around = _around(self._path)
        self._keys = [_key(f) for f in found]
        self.descriptions: list[dict[str, Any] | None] = []
        for plugin, key in zip(found, self._keys, strict=True):
            entry = kept.get(key)
            stale = entry is not None and entry["error"] and entry.get("around") != self._around
            entry = _damaged(plugin) if plugin.package.damage else None if stale else entry
            self.descriptions.append(entry)

    def ask(self) -> None:
        """Ask the plugins of which nothing is known."""
        todo = [place for place, entry in enumerate(self.descriptions) if entry is None]
        if not todo:
            return
        from allkit.plugins.probe import probe

        asked = [(self._found[i].origin, self._found[i].name, self._found[i].value) for i in todo]
        new: dict[str, dict[str, Any]] = {}
        for place, description in zip(todo, probe(asked, limit(), self._path), strict=True):
            kept = description.pop("kept", True)
            if description["error"]:
                from allkit.plugins.requirements import unmet_sentence

                description["error"] += unmet_sentence(self._found[place].package)
            self.descriptions[place] = description | {"around": self._around}
            if kept:
                new[self._keys[place]] = description | {"around": self._around}
        _write(self._file, new)


def _damaged(found: Found) -> dict[str, Any]:
    from allkit.records.naming import API_VERSION

    error = f"Its installation is damaged. {found.package.damage}"
    empty = {"offers": [], "seconds": 0.0, "api_version": API_VERSION, "notes": []}
    return empty | {"error": error}


def limit() -> float:
    """Return the seconds that a plugin may take: `ALLKIT_PLUGIN_SECONDS`, or 15."""
    setting = os.environ.get("ALLKIT_PLUGIN_SECONDS")
    if setting is None:
        return LIMIT
    try:
        seconds = float(setting)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise ConfigError(f"ALLKIT_PLUGIN_SECONDS is {setting!r}; give seconds, as in 15.")
    return seconds


def _key(found: Found) -> str:
    """Return the hash of everything that decides what a plugin offers."""
    sources = state(changing(found.package, found.value))
    plugin = [found.distribution, found.version, found.name, found.value]
    parts = [*plugin, found.package.text("RECORD"), sources, sys.version, _contract()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@once
def _contract() -> list[Any]:
    """Return what changes when the contract between allkit and its plugins does."""
    package = Path(__file__).parents[1]
    names = (
        "records/images.py",
        "records/naming.py",
        "records/network.py",
        "records/tools.py",
        "hookspecs.py",
        "plugins/loading.py",
        "plugins/offers.py",
        "plugins/asking.py",
    )
    return [__version__, *((package / name).stat().st_mtime_ns for name in names)]


def _around(path: Sequence[str]) -> list[Any]:
    """Return what changes when a package is installed or removed, or modules are sought elsewhere."""
    folders = [p for p in path if Path(p).name in SITES]
    return [[p, os.stat(p).st_mtime_ns] for p in folders if os.path.isdir(p)] + [list(path)]


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        # The hash first, so that a bit that flips on a disk offers no other plugin.
        digest, _, text = file.read_text(encoding="utf-8").partition("\n")
        if digest != hashlib.sha256(text.encode()).hexdigest():
            return {}
        held = json.loads(text)
        return {key: entry for key, entry in held.items() if set(entry) >= HOLDS}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}  # a damaged cache costs time, never a result


def _write(file: Path, new: dict[str, dict[str, Any]]) -> None:
    newest = dict(list((_read(file) | new).items())[-KEPT:])
    with contextlib.suppress(OSError, AllkitError):  # as above
        private_folder(file.parent)
        text = json.dumps(newest)
        whole = f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}"
        write_whole(file, whole, private=True)
