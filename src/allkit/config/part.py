"""A setting that names a part: a name, `PACKAGE/NAME`, or a name with settings of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from allkit.config.own import is_own
from allkit.errors import PluginError
from allkit.records import Reference

__all__ = ["PARTS", "PartName", "part_text"]

PARTS = ("backbone", "view", "augment", "finder")
"""The settings that name parts of plugins."""


def part_text(value: Any) -> Any:
    """Return the text of a reference that is given as a mapping; other values as they are.

    `{"hed": {"sigma": 0.1}}` becomes `hed{"sigma":0.1}`, which is equal for equal settings. Raises
    `ValueError` for a mapping that names no part.
    """
    if not isinstance(value, (str, Mapping, Reference)):
        return value
    if isinstance(value, str) and (is_own(value) or "{" not in value):
        return value
    try:
        return Reference.of(value).text
    except PluginError as error:
        raise ValueError(str(error).removesuffix(".")) from None


def _plain(value: Any) -> Any:
    """Return a part as YAML and JSON have it: `{hed: {sigma: 0.1}}`."""
    return Reference.of(value).plain if isinstance(value, str) and "{" in value else value


PartName = Annotated[
    str, BeforeValidator(part_text), PlainSerializer(_plain, return_type=Any, when_used="json")
]
"""The text of a `Reference`. Plugins are not asked here whether there is such a part."""
