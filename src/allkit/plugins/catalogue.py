"""Which plugins are installed and what each offers, without importing them here.

A plugin is asked once, in a process of its own (`probe`). What it offers is kept by the hash of
its distribution; what is wrong with it, until something is installed or removed, or the modules
are sought elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache as once
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from allkit import __version__
from allkit.errors import AllkitError, ConfigError, PluginError, did_you_mean
from allkit.files import cache_folder, private_folder, write_whole
from allkit.plugins.loading import GROUP
from allkit.plugins.probe import probe, search_path

__all__ = ["Found", "installed", "offers_of", "plain"]

KEPT = 1000
LIMIT = 15.0


@dataclass(frozen=True)
class Found:
    """One entry point of one installed distribution."""

    entry: EntryPoint
    distribution: str
    version: str

    @property
    def mark(self) -> str:
        """What tells its code from that of others: the version, and a hash of sources that change."""
        sources = _changing_sources(self)
        if not sources:
            return self.version
        return f"{self.version}+{_hash_of(sources)[:16]}"

    @property
    def origin(self) -> str:
        """Distribution and version, as messages name it."""
        return f"{self.distribution} {self.version}"


def installed() -> tuple[list[Found], list[Found]]:
    """Return the plugins that are installed: those that may be used, those ALLKIT_PLUGINS leaves out.

    Raises `PluginError` when ALLKIT_PLUGINS names what is not installed.
    """
    found = [
        Found(e, e.dist.name if e.dist else "unknown", e.dist.version if e.dist else "unknown")
        for e in entry_points(group=GROUP)
    ]
    unique = {(f.distribution, f.entry.name, f.entry.value): f for f in found}
    ordered = [unique[key] for key in sorted(unique)]
    setting = os.environ.get("ALLKIT_PLUGINS")
    if setting is None:
        return ordered, []
    wanted = {plain(name) for name in setting.split(",") if name.strip()}
    known = {plain(f.distribution) for f in ordered}
    for name in sorted(wanted - known):
        raise PluginError(
            f"ALLKIT_PLUGINS names {name!r}, which is not installed."
            f"{did_you_mean(name, known)} Install it or take it off the list."
        )
    chosen = [f for f in ordered if plain(f.distribution) in wanted]
    return chosen, [f for f in ordered if f not in chosen]


def plain(name: str) -> str:
    """Return the name of a package in the one form in which names are compared."""
    return name.strip().lower().replace("_", "-").replace(".", "-")


def offers_of(found: Sequence[Found], *, fresh: bool = False) -> list[dict[str, Any]]:
    """Return what each plugin offers, from the cache where it is still true.

    With `fresh` every plugin is asked again.
    """
    if not found:
        return []
    file = cache_folder() / "plugins.json"
    cache = {} if fresh else _read(file)
    path = search_path([str(f.entry.dist.locate_file("")) for f in found if f.entry.dist])
    around = _around(path)
    keys = [_key(f) for f in found]
    descriptions: list[dict[str, Any] | None] = []
    for key in keys:
        entry = cache.get(key)
        stale = entry is not None and entry["error"] and entry.get("around") != around
        descriptions.append(None if stale else entry)
    todo = [i for i, entry in enumerate(descriptions) if entry is None]
    if todo:
        asked = [(found[i].origin, found[i].entry.name, found[i].entry.value) for i in todo]
        for i, description in zip(todo, probe(asked, _limit(), path), strict=True):
            kept = description.pop("kept", True)
            descriptions[i] = found_out = description | {"around": around}
            if kept:
                cache[keys[i]] = found_out
        _write(file, cache)
    return [entry for entry in descriptions if entry is not None]


def _limit() -> float:
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
    dist = found.entry.dist
    record = (dist.read_text("RECORD") if dist else None) or ""
    sources = [
        (str(p), s.st_mtime_ns, s.st_size) for p in _changing_sources(found) for s in [p.stat()]
    ]
    plugin = [found.distribution, found.version, found.entry.name, found.entry.value]
    parts = [*plugin, record, sources, sys.version, _contract()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@once
def _contract() -> list[Any]:
    """Return what changes when the contract between allkit and its plugins does."""
    package = Path(__file__).parents[1]
    names = (
        "records/images.py", "records/naming.py", "records/network.py", "records/tools.py",
        "hookspecs.py", "plugins/loading.py", "plugins/offers.py",
    )  # fmt: skip
    return [__version__, *((package / name).stat().st_mtime_ns for name in names)]


def _changing_sources(found: Found) -> list[Path]:
    """Return the modules of a plugin whose code is not in its distribution, as in an editable one."""
    dist = found.entry.dist
    record = (dist.read_text("RECORD") if dist else None) or ""
    direct = (dist.read_text("direct_url.json") if dist else None) or ""
    return _sources(found.entry.value) if not record or '"editable": true' in direct else []


def _hash_of(files: Sequence[Path]) -> str:
    contents = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def _sources(value: str) -> list[Path]:
    top = value.partition(":")[0].partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [p for folder in folders for p in sorted(folder.rglob("*.py"))[:500]]
    if spec.origin and not folders:
        files = [Path(spec.origin)]
    return [p for p in files if p.exists()]


def _around(path: Sequence[str]) -> list[Any]:
    """Return what changes when a package is installed or removed, or modules are sought elsewhere."""
    folders = [p for p in path if Path(p).name in ("site-packages", "dist-packages")]
    return [[p, os.stat(p).st_mtime_ns] for p in folders if os.path.isdir(p)] + [list(path)]


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        # The hash first, so that a bit that flips on a disk offers no other plugin.
        digest, _, text = file.read_text(encoding="utf-8").partition("\n")
        if digest != hashlib.sha256(text.encode()).hexdigest():
            return {}
        held = json.loads(text)
        return {
            key: entry
            for key, entry in held.items()
            if {"offers", "error", "seconds", "api_version", "notes"} <= set(entry)
        }
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}  # a damaged cache costs time, never a result


def _write(file: Path, cache: dict[str, dict[str, Any]]) -> None:
    newest = dict(list((_read(file) | cache).items())[-KEPT:])
    with contextlib.suppress(OSError, AllkitError):  # as above
        private_folder(file.parent)
        text = json.dumps(newest)
        whole = f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}"
        write_whole(file, whole, private=True)
