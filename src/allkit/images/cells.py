"""The white cells of a field: what the finder says of them.

White cells differ from red ones by their nuclear stain, and are measured in diameters of the red
cells, so neither the stain of a laboratory nor the magnification of its microscope matters.
(Importing this takes a tenth of a second for OpenCV, so it is imported only where cells are needed.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from allkit.images.finders import found_by, kept_finder
from allkit.images.given import one
from allkit.records import Cell
from allkit.types import Pixels, Singles

__all__ = [
    "FINDER",
    "FIRST_FINDER",
    "NO_CELLS",
    "NO_SCALE",
    "TILE",
    "Cells",
    "Tile",
    "find_cells",
    "shortcomings",
]

FIRST_FINDER = "allkit.cells/1"
FINDER = "allkit.cells/2"
"""Name and version of the finder, written into models and exported files."""

NO_CELLS = "no_white_cells"
NO_SCALE = "unknown_magnification"

TILE = 224
"""Pixels a side of a tile, more or less: a field of the training, at the scale of the search."""
ONE_TILE = 1.5
"""A side of so many times `TILE` is cut into two; what is shorter stays whole."""

Tile = tuple[slice, slice]
"""The rows and columns of an image that are a tile: `image[tile]`."""


@dataclass(frozen=True)
class Cells:
    """The white cells of one field.

    `image` `(H, W, 3)` uint8 is the field at the scale of the search, `centres` `(M, 2)` float32 are
    x and y in it, and `diameters` `(M,)` float32 those of circles with the area of the nuclei, both
    in its pixels, the largest cell first. `scale` is the number of its pixels per pixel of the field.
    `red_cell` is the diameter of the red cells in pixels of the field, `None` where it could not be
    measured. `finder` is the version of the finder.
    """

    image: Pixels
    centres: Singles
    diameters: Singles
    scale: float
    red_cell: float | None
    finder: str = FINDER

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells, the largest first: centre and diameter of each in pixels of the field."""
        return tuple(
            Cell(float(x / self.scale), float(y / self.scale), float(diameter / self.scale))
            for (x, y), diameter in zip(self.centres, self.diameters, strict=True)
        )

    @property
    def count(self) -> int:
        """How many white cells there are."""
        return len(self.diameters)

    @property
    def nucleus_ratio(self) -> float | None:
        """The median diameter of the nuclei over that of the red cells; `None` if unknown."""
        if self.red_cell is None or not self.count:
            return None
        return float(np.median(self.diameters)) / self.scale / self.red_cell

    def tiles(self) -> tuple[Tile, ...]:
        """Return the tiles into which `image` is cut, row by row: all of one shape, none left out.

        Each side is divided into as many equal parts as come nearest to `TILE` pixels, so that a
        tile is about as large as a field of the training. They overlap by one pixel at most, where
        the division leaves a rest. The whole image is the only tile where both sides of the field
        have less than 1.5 times `TILE` of its own pixels, since to enlarge a field adds nothing to
        it, and where the scale is not known.
        """
        height, width = self.image.shape[:2]
        if self.red_cell is None or max(height, width) / self.scale < ONE_TILE * TILE:
            return ((slice(0, height), slice(0, width)),)
        rows, columns = (_parts(length) for length in (height, width))
        return tuple((row, column) for row in rows for column in columns)

    def squares(self, side: int) -> tuple[Tile, ...]:
        """Return the rows and columns of squares that cover `image`, row by row.

        They have `side` pixels a side, or the whole width or height where the image has less, are
        evenly spaced, and overlap where the image is no multiple of them. Statistics are measured
        in them, which no pixel may change by a resize.
        """
        rows, columns = (_squares(length, side) for length in self.image.shape[:2])
        return tuple((row, column) for row in rows for column in columns)


def find_cells(image: Any, finder: Any = FINDER) -> Cells:
    """Return the white cells of one image of a smear, and the diameter of its red cells.

    `image` is a path, the bytes of an encoded file, a file object opened with `"rb"`, a Pillow
    image, or an `(H, W, 3)` uint8 RGB array (`(H, W)`: grey). The result has `cells` (x, y and
    diameter of each nucleus) and `red_cell` (a diameter, `None` where it cannot be measured), both
    in pixels of the image, and the plain measurements `count` and `nucleus_ratio`. `finder` is what
    searches: the name of one, also of a plugin, with its settings as `{NAME: {SETTING: VALUE}}`, or
    the text under which a model names its own. Raises `ImageError` for what cannot be read,
    `ConfigError` for a finder that is not there, and `PluginError` for one that fails.
    """
    name = kept_finder(finder)
    return Cells(**found_by(name, one(image).read())._asdict(), finder=name)


def _parts(length: int) -> list[slice]:
    """Return the equal parts of a side, as many as come nearest to `TILE` pixels each."""
    number = max(1, int(length / TILE + 0.5))
    return _spans(length, number, -(-length // number))


def _squares(length: int, side: int) -> list[slice]:
    """Return as few spans of `side` pixels as cover `length`."""
    return _spans(length, -(-length // side), min(side, length))


def _spans(length: int, number: int, size: int) -> list[slice]:
    """Return a number of spans of `size` pixels, evenly spaced from one end to the other."""
    starts = np.linspace(0, length - size, number).round().astype(int)
    return [slice(start, start + size) for start in starts.tolist()]


def shortcomings(cells: Cells) -> tuple[str, ...]:
    """Return the reason codes why a field cannot be judged by its cells; empty when it can.

    Of a field of the first finder one reason is said at most, as models with it always did.
    """
    codes = (
        *((NO_CELLS,) if not cells.count else ()),
        *((NO_SCALE,) if cells.red_cell is None else ()),
    )
    return codes[:1] if cells.finder == FIRST_FINDER else codes
