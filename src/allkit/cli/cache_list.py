"""`allkit cache list`: what is kept, by backbone and engine."""

from __future__ import annotations

import time
from typing import Any

from allkit.cli.extras import require_training_packages
from allkit.cli.options import AsJson
from allkit.cli.progress import put, put_all, put_json
from allkit.errors import ConfigError

__all__ = ["cache_entries", "list_cache"]


def list_cache(as_json: AsJson = False) -> None:
    """Show what is kept, by backbone and engine, with sizes and when it was used last.

    Example:
    allkit cache list --json
    """
    require_training_packages()
    from allkit.features import FeatureCache, activations_folder, cache_folder
    from allkit.features.folder import activations_limit, features_limit

    entries = cache_entries()
    limits = {"features": features_limit(), "activations": activations_limit()}
    if as_json:
        report = {"folder": str(cache_folder()), "limits": limits, "entries": entries}
        put_json(report, indent=1)
        return
    places = {"features": FeatureCache().path, "activations": activations_folder()}
    for kind, limit in limits.items():
        of_kind = [entry for entry in entries if entry["kind"] == kind]
        size = sum(entry["bytes"] for entry in of_kind)
        put(f"{kind}: {_megabytes(size)} of {_megabytes(limit)} in {places[kind]}\n")
        put_all(_line(entry) for entry in of_kind)


def cache_entries() -> list[dict[str, Any]]:
    """Return what is kept, with the keys of `--json`: sizes in bytes, `used` in seconds of Unix.

    Raises `ConfigError` when the file of features is damaged.
    """
    import sqlite3

    from allkit.features import ActivationStore, FeatureCache, activations_folder

    cache = FeatureCache()
    try:
        features = cache.entries()
    except sqlite3.Error as error:
        raise ConfigError(
            f"The feature cache {cache.path} cannot be read ({error}). Delete the file."
        ) from None
    entries: list[dict[str, Any]] = [
        {
            "kind": "features",
            "backbone": backbone,
            "stage": None,
            "engine": engine,
            "count": count,
            "bytes": size,
            "used": used,
        }
        for backbone, engine, count, size, used in features
    ]
    entries += [
        {
            "kind": "activations",
            "backbone": about.get("backbone", "unknown"),
            "stage": about.get("stage"),
            "engine": about.get("engine", "unknown"),
            "count": count,
            "bytes": size,
            "used": used,
        }
        for _, about, count, size, used in ActivationStore.entries(activations_folder())
    ]
    return entries


def _line(entry: dict[str, Any]) -> str:
    origin = " ".join(part for part in (entry["backbone"], entry["stage"]) if part)
    return (
        f"  {origin:<28} {entry['engine']:<32} {entry['count']:>8,} × "
        f"{_megabytes(entry['bytes']):>10}   used {_age(entry['used'])}\n"
    )


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MB"


def _age(when: float) -> str:
    seconds = max(0.0, time.time() - when)
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
