"""The names under which settings hold what a user gave as an object: a module, a function, a transform."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from allkit.errors import ConfigError

__all__ = ["OWN", "Words", "is_own", "own_name", "own_parts", "require_plain"]

OWN = "own:"
"""What the name of an own part begins with. No plugin can offer such a name by accident."""
LONGEST = 60
"""Characters of the name that an own part gets."""


class Words:
    """The words that a setting takes, beside the name of an own part."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: str) -> str:
        if value in self.words or is_own(value):
            return value
        raise ValueError(f"it must be {' or '.join(self.words)}; in Python a function is taken too")


def is_own(name: str) -> bool:
    """Say whether `name` is that of an own part."""
    return name.startswith(OWN)


def own_name(thing: object) -> str:
    """Return the name of an own part: `own:` and the name of the function, record or class."""
    inner = getattr(thing, "func", None)  # of functools.partial
    found = getattr(thing, "name", None) or getattr(thing, "__name__", None)
    if not isinstance(found, str):
        return own_name(inner) if callable(inner) else own_name(type(thing))
    plain = "".join(c for c in found if c.isalnum() or c in "_-.:").removeprefix(OWN)
    return f"{OWN}{plain[:LONGEST] or 'part'}"


def require_plain(setting: str, thing: object) -> None:
    """Raise `ConfigError` for an `async` function and a generator: called, they do nothing yet."""
    called = getattr(thing, "func", thing)  # of functools.partial
    if not inspect.isroutine(called) and not isinstance(called, type):
        called = getattr(type(called), "__call__", called)  # noqa: B004 - its kind, not whether it is there
    for kind, is_one in (
        ("an async function", inspect.iscoroutinefunction),
        ("an async generator", inspect.isasyncgenfunction),
        ("a generator (it holds `yield`)", inspect.isgeneratorfunction),
    ):
        if is_one(called):
            raise ConfigError(
                f"{setting}: {own_name(thing).removeprefix(OWN)!r} is {kind}, which does nothing when it is "
                f"called. Give a plain function."
            )


def own_parts(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the own parts that settings name, each with its setting: `loss own:my_loss`."""
    return tuple(
        f"{setting} {name}"
        for setting in ("backbone", "augment", "optimizer", "scheduler", "loss")
        for name in _names(values.get(setting, ()))
        if is_own(name)
    )


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
