"""`allkit cache`."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from allkit.errors import ConfigError

__all__ = ["run_cache_clear", "run_cache_list"]


def run_cache_list(*, as_json: bool) -> None:
    """Show what is kept: features and activations by backbone and engine, sizes and ages."""
    from allkit.cli.train import needs_training_packages

    needs_training_packages()
    from allkit.features import FeatureCache, activations_folder, cache_folder
    from allkit.features.folder import activations_limit, features_limit

    rows = _entries()
    if as_json:
        report = {
            "folder": str(cache_folder()),
            "limits": {"features": features_limit(), "activations": activations_limit()},
            "entries": rows,
        }
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
        return
    kept = {"features": features_limit(), "activations": activations_limit()}
    places = {"features": FeatureCache().path, "activations": activations_folder()}
    for kind, limit in kept.items():
        own = [row for row in rows if row["kind"] == kind]
        size = sum(row["bytes"] for row in own)
        sys.stdout.write(f"{kind}: {_megabytes(size)} of {_megabytes(limit)} in {places[kind]}\n")
        for row in own:
            what = " ".join(part for part in (row["backbone"], row["stage"]) if part)
            sys.stdout.write(
                f"  {what:<28} {row['engine']:<32} {row['count']:>8,} × "
                f"{_megabytes(row['bytes']):>10}   used {_age(row['used'])}\n"
            )


def run_cache_clear(*, backbone: str | None, unused_days: float | None) -> None:
    """Drop what is kept, all of it or what the options choose."""
    from allkit.cli.train import needs_training_packages

    needs_training_packages()
    import sqlite3

    from allkit.features import ActivationStore, FeatureCache, activations_folder

    since = None if unused_days is None else time.time() - unused_days * 86_400
    known = sorted({row["backbone"] for row in _entries()})
    if backbone is not None and backbone not in known:
        raise ConfigError(
            f"Nothing is kept for the backbone {backbone!r}. There is: {', '.join(known) or 'nothing'}."
        )
    cache = FeatureCache()
    try:
        vectors = cache.clear(backbone=backbone, unused_since=since)
    except sqlite3.Error as error:
        raise ConfigError(
            f"The feature cache {cache.path} cannot be cleared ({error}). Delete the file."
        ) from None
    rows = ActivationStore.clear(activations_folder(), backbone=backbone, unused_since=since)
    sys.stdout.write(f"Dropped {vectors:,} features and the activations of {rows:,} images.\n")


def _entries() -> list[dict[str, Any]]:
    import sqlite3

    from allkit.features import ActivationStore, FeatureCache, activations_folder

    cache = FeatureCache()
    try:
        features = cache.entries()
    except sqlite3.Error as error:
        raise ConfigError(
            f"The feature cache {cache.path} cannot be read ({error}). Delete the file."
        ) from None
    rows: list[dict[str, Any]] = [
        {"kind": "features", "backbone": backbone, "stage": None, "engine": engine,
         "count": count, "bytes": size, "used": used}
        for backbone, engine, count, size, used in features
    ]  # fmt: skip
    rows += [
        {"kind": "activations", "backbone": about.get("backbone", "unknown"),
         "stage": about.get("stage"), "engine": about.get("engine", "unknown"),
         "count": count, "bytes": size, "used": used}
        for _, about, count, size, used in ActivationStore.entries(activations_folder())
    ]  # fmt: skip
    return rows


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MB"


def _age(when: float) -> str:
    seconds = max(0.0, time.time() - when)
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
