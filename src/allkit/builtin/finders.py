"""The finders of white cells that come with allkit."""

from __future__ import annotations

from collections.abc import Iterable

from allkit.hookspecs import hookimpl
from allkit.records import Finder, Found
from allkit.types import Pixels

api_version = 2


def _first(image: Pixels) -> Found:
    from allkit.images.first_finder import first_search  # it brings OpenCV

    return Found(**first_search(image)._asdict())


def _second(image: Pixels) -> Found:
    from allkit.images.finder import search

    return Found(**search(image)._asdict())


@hookimpl
def allkit_finders() -> Iterable[Finder]:
    """Offer both versions of the finder: a model keeps to the one that it was trained with."""
    return [
        Finder("cells-1", _first, "the finder of models of 0.1.0"),
        Finder("cells-2", _second, "nuclei, measured by the stain and the size of the red cells"),
    ]
