"""A record as it was asked for: its settings checked and bound to its functions, its calls guarded."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from allkit.errors import ConfigError, PluginError, did_you_mean
from allkit.plugins.guard import Guarded, calling, quoted
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
    try:
        with calling(origin, kind, reference.name, "settings"):
            known = list(model.model_fields)
            for name in reference.settings:
                if name not in known:
                    raise ConfigError(
                        f"Unknown setting {quoted(name)} of {called}.{did_you_mean(str(name), known)} It "
                        f"has: {', '.join(known)}; `allkit plugins show` tells more."
                    )
            return _validated(model, reference, called)
    except PluginError as error:
        given = quoted(dict(reference.settings)) if reference.settings else "the defaults"
        raise PluginError(f"{error} Its settings were {given}.") from error


def _validated(model: Any, reference: Reference, called: str) -> Any:
    from pydantic import ValidationError

    try:
        chosen = model.model_validate(dict(reference.settings))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "its settings"
        wrong = first["msg"].removeprefix("Value error, ")
        given = first.get("input")
        shown = "is missing" if first["type"] == "missing" else f"= {quoted(given)}"
        raise ConfigError(
            f"{key} {shown} in the settings of {called}: {wrong[:1].lower()}{wrong[1:].rstrip('.')}. "
            f"`allkit plugins show` tells what it takes."
        ) from None
    for name in reference.settings:
        if name not in chosen.model_fields_set:
            raise PluginError(
                f"{called[:1].upper()}{called[1:]} does not take its own setting {name!r} under this name. "
                f"Its author has to take the alias off, or to set `populate_by_name=True`."
            )
    return chosen


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
