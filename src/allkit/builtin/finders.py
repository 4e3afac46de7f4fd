"""The finders of white cells that come with allkit."""

from __future__ import annotations

from collections.abc import Iterable

from allkit.hookspecs import hookimpl
from allkit.records import Finder

api_version = 2


@hookimpl
def allkit_finders() -> Iterable[Finder]:
    """Offer both versions of the finder."""
    return []
