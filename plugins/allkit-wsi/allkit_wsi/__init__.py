"""Whole slides for allkit: their tiles at the scale of the training, read when they are needed.

settings  at which scale a slide is cut, and which tiles are taken
slide     a slide: its scale, where there is something on the glass, the pixels of its tiles
command   `allkit tiles`
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import version

from allkit import Command, Finding, HealthCheck, Reader, Region, hookimpl
from allkit_wsi.settings import Tiling

api_version = 2

SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
"""Those of scanners. A `.tif` is read by allkit itself; `allkit tiles` takes one that is a pyramid."""


def _regions(path: str, settings: Tiling) -> Iterable[Region]:
    from allkit_wsi.slide import Slide  # OpenSlide only where a slide is read

    return Slide(path).regions(settings)


def _health() -> Iterator[Finding]:
    from allkit_wsi.slide import INSTALL, library

    try:
        openslide = library()
    except ImportError as error:
        yield Finding(
            "problem", f"OpenSlide cannot be loaded ({error}), so no whole slide is read.", INSTALL
        )
    else:
        python, own = version("openslide-python"), openslide.__library_version__
        yield Finding(
            "note", f"Whole slides are read by openslide-python {python}, OpenSlide {own}."
        )


def _tiles() -> object:
    from allkit_wsi.command import tiles

    return tiles


@hookimpl
def allkit_readers() -> Iterable[Reader]:
    """Offer the reader of whole slides."""
    return [
        Reader(
            "whole-slide",
            SUFFIXES,
            regions=_regions,
            summary="whole slides by OpenSlide: tiles at the scale of the training",
            settings=Tiling,
        )
    ]


@hookimpl
def allkit_commands() -> Iterable[Command]:
    """Offer `allkit tiles`."""
    return [Command("tiles", _tiles, "cut a whole slide into images, with a table of their places")]


@hookimpl
def allkit_health_checks() -> Iterable[HealthCheck]:
    """Offer a look at the library."""
    return [HealthCheck("openslide", _health, "the library that reads whole slides can be loaded")]
