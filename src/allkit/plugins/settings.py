"""Whether the settings of a record come back whole from the JSON that models keep of them.

What is written into a model, and into the key of a cache, is JSON. A setting that JSON does not hold
(a secret, one with `exclude`) or that is read again under another name would be lost without a word,
and two parts that differ in it would be one. So such a class of settings is refused when it is loaded,
and such a value when it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from allkit.errors import ConfigError, PluginError
from allkit.plugins.guard import quoted

__all__ = ["kept_values", "require_kept"]

CHANGE = (
    "Settings are kept as JSON: numbers that are finite, texts, true and false, None, lists, tuples, "
    "mappings of texts, and models of these"
)


def require_kept(kind: str, record: Any) -> None:
    """Raise `PluginError` where the defaults of a record's settings do not come back from their JSON."""
    from pydantic import ValidationError

    model = getattr(record, "settings", None)
    if model is None:
        return
    try:
        defaults = model()
    except ValidationError:  # some have to be given, and are looked at then
        return
    wrong = _kept(defaults)[1]
    if wrong:
        raise PluginError(f"The settings of the {kind} {record.name!r} cannot be kept: {wrong}")


def kept_values(chosen: Any, called: str) -> dict[str, Any]:
    """Return chosen settings as values of JSON, from which equal settings are made again.

    Raises `ConfigError` that names the setting for one whose value does not come back.
    """
    values, wrong = _kept(chosen)
    if wrong:
        raise ConfigError(f"The settings of {called} cannot be kept in a model: {wrong}")
    return values


def _kept(chosen: Any) -> tuple[dict[str, Any], str]:
    """Return settings as values of JSON, and what is wrong with them, empty where nothing is."""
    from pydantic import ValidationError
    from pydantic_core import PydanticSerializationError

    model = type(chosen)
    names = set(model.model_fields)
    try:
        values = chosen.model_dump(mode="json")
        # In one order, as the text of a reference has it.
        text = json.dumps(values, sort_keys=True, allow_nan=False)
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
        reason = quoted(error, 200)
        return {}, f"they cannot be written as JSON ({reason}). {CHANGE}."
    if not isinstance(values, dict):
        return {}, "they are no mapping. Derive their class from pydantic.BaseModel."
    for name in sorted(names ^ values.keys()):
        if name in names:
            return {}, f"{name} is left out of their JSON. Take `exclude` off it."
        return {}, f"{name} is in their JSON and is no setting. Make it a plain property."
    values = json.loads(text)
    try:
        again = model.model_validate(values)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "they"
        return {}, f"{where} is refused when it is read again from its JSON. {CHANGE}."
    return values, _difference(chosen, again)


def _difference(before: Any, after: Any) -> str:
    """Return which setting is another one when it is read again, and why; empty where all are the same."""
    for name in type(before).model_fields:
        if name not in after.model_fields_set:
            return (
                f"{name} is not read under its own name. Take its alias off, or let the class have "
                f"`model_config = ConfigDict(populate_by_name=True)`."
            )
        why = _other(getattr(before, name), getattr(after, name))
        if why:
            return f"{name} {why}"
    return ""


def _other(before: Any, after: Any) -> str:
    """Return why a value is not the same as before, with its end; empty where it is."""
    if isinstance(before, (set, frozenset)):
        return "is a set, which has no order. Make it a list or a tuple."
    lost = f"does not come back from its JSON as the {type(before).__name__} that it is. {CHANGE}."
    if type(before) is not type(after):
        return lost
    if hasattr(type(before), "model_fields"):
        inner = _difference(before, after)
        return f"holds a model of which {inner}" if inner else ""
    if isinstance(before, Mapping):
        if before.keys() != after.keys():
            return lost
        return next(filter(None, (_other(before[key], after[key]) for key in before)), "")
    if isinstance(before, (list, tuple)):
        if len(before) != len(after):
            return lost
        return next(filter(None, (_other(a, b) for a, b in zip(before, after, strict=True))), "")
    return "" if before == after else lost
