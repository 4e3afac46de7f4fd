"""What `allkit doctor` looks at: folders, the key of the site, reports to the makers of libraries."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from allkit.errors import AllkitError
from allkit.files import cache_folder, can_write, users_folder
from allkit.hookspecs import hookimpl
from allkit.records import Finding, HealthCheck

api_version = 2

_SET_CACHE = "Set ALLKIT_CACHE to a folder that can be written."


def _cache() -> list[Finding]:
    folder = cache_folder()
    if not can_write(folder):
        return [Finding("problem", f"The cache folder {folder} cannot be written.", _SET_CACHE)]
    own = users_folder("cache")
    if os.environ.get("ALLKIT_CACHE") or own == folder:
        return []
    if own is None:
        message = "This user has no home, so that what was computed is forgotten at the end."
        return [Finding("note", message, _SET_CACHE)]
    return [Finding("problem", f"The cache folder {own} cannot be written.", _SET_CACHE)]


def _weights() -> list[Finding]:
    folder = os.environ.get("ALLKIT_WEIGHTS")
    if not folder or Path(folder).is_dir():
        return []
    message = f"ALLKIT_WEIGHTS names {folder}, which is not a folder."
    return [Finding("problem", message, "Name the folder of the .safetensors files, or unset it.")]


def _site_key() -> list[Finding]:
    from allkit.evaluation.site_key import HiddenGroups

    try:
        HiddenGroups(["00000000:"])  # which reads the key
    except AllkitError as error:
        return [Finding("problem", str(error), "Put back the key of this site.")]
    return []


def _telemetry() -> list[Finding]:
    from allkit.telemetry import reports

    states = reports().items()
    return [Finding("note", f"{name}: {state}") for name, state in states if state != "off"]


@hookimpl
def allkit_health_checks() -> Iterable[HealthCheck]:
    """Offer what `allkit doctor` looks at."""
    return [
        HealthCheck("cache-folder", _cache, "what was computed can be kept"),
        HealthCheck("weights-folder", _weights, "the folder of weights is there"),
        HealthCheck("site-key", _site_key, "the key of this site can be read"),
        HealthCheck("telemetry", _telemetry, "no library reports its use to its makers"),
    ]
