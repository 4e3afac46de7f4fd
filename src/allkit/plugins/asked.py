"""A record as it was asked for: its settings checked and bound to its functions, its calls guarded."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from allkit.errors import ConfigError, PluginError, did_you_mean
from allkit.plugins.guard import Guarded, calling
from allkit.plugins.offers import SETTINGS_GO_TO
from allkit.plugins.tracing import traced
from allkit.records import Reference

__all__ = ["FUNCTIONS", "bound", "checked_settings"]

FUNCTIONS = (
    "build",
    "apply",
    "find",
    "read",
    "regions",
    "explain",
    "write",
    "open",
    "run",
    "names",
)
"""The fields of records that are called."""


def checked_settings(record: Any, reference: Reference, origin: str, kind: str) -> Any:
    """Return the settings that a record is asked for with, an instance of its class, or `None`.

    Raises `ConfigError` that names the setting, its value and what is expected.
    """
    model = getattr(record, "settings", None)
    called = f"the {kind} {reference.qualified!r} of {origin}"
    if model is None:
        if reference.settings:
            raise ConfigError(
                f"{', '.join(map(str, reference.settings))}: {called} has no settings. Leave them out."
            )
        return None
    known = [name for name, field in model.model_fields.items()]
    for name in reference.settings:
        if name not in known:
            raise ConfigError(
                f"Unknown setting {name!r} of {called}.{did_you_mean(str(name), known)} It has: "
                f"{', '.join(known)}; `allkit plugins show` tells more."
            )
    try:
        with calling(origin, kind, reference.name, "settings"):
            return _validated(model, reference, called)
    except PluginError as error:
        raise PluginError(
            f"{error} Its settings were {reference.settings_text or 'the defaults'}."
        ) from error


def _validated(model: Any, reference: Reference, called: str) -> Any:
    from pydantic import ValidationError

    try:
        return model.model_validate(dict(reference.settings))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "its settings"
        wrong = first["msg"].removeprefix("Value error, ")
        given = first.get("input")
        shown = "is missing" if first["type"] == "missing" else f"= {given!r:.100}"
        raise ConfigError(
            f"{key} {shown} in the settings of {called}: {wrong[:1].lower()}{wrong[1:].rstrip('.')}. "
            f"`allkit plugins show` tells what it takes."
        ) from None


def bound(record: Any, chosen: Any, origin: str, kind: str) -> Any:
    """Return a record whose functions have the settings `chosen`, and name it where they fail."""
    given: dict[str, Any] = {} if chosen is None else {"chosen": chosen}
    for name in FUNCTIONS:
        function = getattr(record, name, None)
        if function is None or isinstance(function, Guarded):
            continue
        if chosen is not None and name in SETTINGS_GO_TO[type(record)]:
            function = partial(function, settings=chosen)
        given[name] = Guarded(
            traced(function, origin, record.name, name),
            origin=origin,
            kind=kind,
            name=record.name,
            step=name,
        )
    return replace(record, **given)
