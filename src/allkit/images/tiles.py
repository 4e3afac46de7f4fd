"""Files that are never read whole, such as whole slides: their tiles, each named and read by itself.

A tile is named by its file and its place, `slide.svs#x=2048,y=512`. The file is opened once and its
tiles are listed; the pixels of a tile are read when they are asked for.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import NamedTuple

from allkit.errors import ImageError
from allkit.images.mistaken import SLIDES, package_for
from allkit.images.own import FORMATS, IMAGE_SUFFIXES, format_of
from allkit.images.readers import (
    Giver,
    asked_for,
    fault_of_pixels,
    is_scale,
    region_reader,
    region_suffixes,
    settled,
)
from allkit.images.refusal import check_size
from allkit.plugins import Registry, calling, registry
from allkit.records import Reader, Region
from allkit.types import Pixels

__all__ = [
    "Tile",
    "file_of_tile",
    "is_slide_name",
    "refuse_slide",
    "tile_named",
    "tiles_in",
    "tiles_of",
]

MARK = "#"
OPEN = 4
"""So many slides are kept open."""
MOST = 200_000
"""Most tiles of one file."""
_LOCK = threading.RLock()


class Tile(NamedTuple):
    """A tile of a file: its name, the region, and who gives it."""

    name: str
    region: Region
    giver: Giver

    def read(self, name: str = "") -> Pixels:
        """Return `(H, W, 3)` uint8 RGB. Raises `ImageError`; `name` is what it calls the tile."""
        name = name or self.name
        pixels = self.giver.call(name, self._read)
        if fault := fault_of_pixels(pixels):
            raise self.giver.broken(name, fault)
        check_size(pixels.shape[1], pixels.shape[0], name)
        return settled(pixels)

    def _read(self) -> Pixels:
        with calling(self.giver.origin, "reader", self.giver.reader, "region"):
            return self.region.read()


def is_slide_name(name: str) -> bool:
    """Return whether a file is a whole slide by its name, or is read in regions for another reason."""
    lower = name.lower()
    suffix = os.path.splitext(lower)[1]
    if not suffix or suffix in IMAGE_SUFFIXES:  # so that nobody asks what is installed for these
        return False
    return lower.endswith(SLIDES) or lower.endswith(region_suffixes())


def tiles_in(path: str) -> list[str]:
    """Return the names of the tiles of a file; the file itself where it has none that can be read.

    So a slide that is damaged has an answer that says so, as any image.
    """
    try:
        return [tile.name for tile in tiles_of(path)]
    except ImageError:
        return [path]


def tiles_of(path: str) -> list[Tile]:
    """Return the tiles of a file, in the order of its reader. Raises `ImageError`."""
    return list(_tiles(path).values())


def file_of_tile(name: str) -> str | None:
    """Return the path of the file that a tile's name begins with; `None` for any other name."""
    path, mark, place = name.rpartition(MARK)
    if not mark or not place or not is_slide_name(path) or os.path.lexists(name):
        return None
    return path if os.path.isfile(path) else None


def tile_named(name: str) -> Tile | None:
    """Return the tile that a name stands for; `None` for a name that is none of a tile.

    Raises `ImageError` where its file cannot be read or has no such tile.
    """
    path = file_of_tile(name)
    if path is None:
        return None
    tile = _tiles(path).get(name)
    if tile is None:
        raise ImageError(
            f"{path} has no tile {name.rpartition(MARK)[2]!r} as it is cut now. List its tiles again.",
            code="missing",
        )
    return tile


def refuse_slide(path: str, name: str) -> None:
    """Raise `ImageError` that says why a whole slide, or a name that ends like one, is not read."""
    if os.path.isfile(path):
        _refuse_other(path, name)
        if region_reader(path) is not None:
            tiles_of(path)  # what is wrong with it goes first
    package = package_for(name)
    if region_reader(name) is not None or not package:
        way = "`allkit predict SLIDE` answers for each of its tiles, and `allkit tiles` saves them"
    else:
        way = f"Type: pip install {package}; then `allkit predict` answers for each of its tiles"
    raise ImageError(
        f"{name} is a whole slide, which is not read as one image. {way}.", code="not_an_image"
    )


def _refuse_other(path: str, name: str) -> None:
    """Raise `ImageError` where a file is an image by its content, and a whole slide by its name only."""
    with open(path, "rb") as file:
        kind = format_of(file.read(32))
    scanned = kind == "tiff" or (kind == "jpeg" and path.lower().endswith(".mrxs"))
    if kind and not scanned:
        raise ImageError(
            f"{name} is named as a whole slide, and is a {kind.upper()} by its content. Rename it: its name "
            f"ends with {FORMATS[kind].suffixes[0]}.",
            code="not_an_image",
        )


def _tiles(path: str) -> dict[str, Tile]:
    try:
        _refuse_other(path, path)
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"{path} cannot be opened ({reason}). Check the path and its permissions.",
            code="missing",
        ) from error
    with _LOCK:  # a slide that several threads ask for is opened once
        return _opened(path, (status.st_size, status.st_mtime_ns), asked_for(), registry())


@lru_cache(maxsize=OPEN)
def _opened(path: str, stamp: tuple[int, int], settings: str, host: Registry) -> dict[str, Tile]:
    reader, giver = region_reader(path) or (None, Giver("", ""))
    if reader is None:
        raise ImageError(
            f"{path} needs a reader that is not installed. Type: pip install "
            f"{package_for(path) or 'the package of its reader'}.",
            code="not_an_image",
        )
    tiles: dict[str, Tile] = {}
    for region in giver.call(path, lambda: _listed(reader, giver, path)):
        if fault := _fault_of(region):
            raise giver.broken(path, fault)
        name = f"{path}{MARK}{region.name}"
        if name in tiles:
            raise giver.broken(path, f"named two regions {region.name!r:.100}")
        tiles[name] = Tile(name, region, giver)
        if len(tiles) > MOST:
            raise giver.broken(path, f"gave more than {MOST:,} regions")
    if not tiles:
        raise ImageError(f"{path} has nothing to answer from: no tile was found.", code="empty")
    return tiles


def _listed(reader: Reader, giver: Giver, path: str) -> list[Region]:
    regions = reader.regions(path) if reader.regions is not None else ()
    with calling(giver.origin, "reader", giver.reader, "regions"):
        rest = iter(regions)
        return [region for region, _ in zip(rest, range(MOST + 1), strict=False)]


def _fault_of(region: object) -> str:
    if not isinstance(region, Region) or not callable(region.read):
        return f"gave {type(region).__name__} and not a Region"
    plain = isinstance(region.name, str) and region.name.isprintable() and region.name
    if not plain or MARK in region.name or "/" in region.name or os.sep in region.name:
        return f"named a region {region.name!r:.100}"
    return (
        "" if is_scale(region.micrometres_per_pixel) else "gave a scale that is no positive number"
    )


if hasattr(os, "register_at_fork"):  # two processes would move one position in the file
    os.register_at_fork(after_in_child=_opened.cache_clear)
