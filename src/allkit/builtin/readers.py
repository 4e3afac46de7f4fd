"""The formats of images that allkit reads itself."""

from __future__ import annotations

from collections.abc import Iterable

from allkit.hookspecs import hookimpl
from allkit.records import Reader

api_version = 2


@hookimpl
def allkit_readers() -> Iterable[Reader]:
    """Offer the formats that allkit reads itself."""
    return []
