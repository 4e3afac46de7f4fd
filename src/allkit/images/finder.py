"""The search for white cells in a field, measured by its red cells.

A nucleus has more nuclear stain than red cells. How much more is measured by the density of these
red cells themselves, so neither the strength of a laboratory's stain nor the light of its microscope
matters, and a field without white cells has none. All sizes are in diameters of a red cell.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from allkit.images.lobes import join_lobes
from allkit.images.regions import WHOLE, cleaned, divided
from allkit.images.ruler import red_cell_diameter
from allkit.images.stain import Field, median
from allkit.records import RED_CELL
from allkit.types import Pixels, Singles

__all__ = ["LARGEST", "TOLERANCE", "Search", "search"]

TOLERANCE = 1.5
"""A field is only rescaled when its red cells are this many times larger or smaller. On fields of
one hospital the measured diameter strays by as much (8 to 24 pixels, median 16, in 477 fields)."""
LARGEST = 1024
"""A field of unknown scale with a longer side, in pixels, is reduced to it."""
MOST_ENLARGED = 4.0
"""No field is enlarged more: there is nothing to see in so small a cell."""
SHALLOWEST = 0.15
"""Half the width of the narrowest nucleus, in diameters of a red cell."""
SMALLEST = 0.34
"""Area of the smallest nucleus, in red cells; platelets are smaller."""
OTHER_COLOUR = 0.1
"""How much larger the share of nuclear stain in the green density is in nuclei than in red cells. Two
red cells over each other are as dense as a nucleus, but not of another colour."""
LARGEST_NUCLEUS = 2.6
"""Median diameter of the nuclei, in diameters of a red cell, above which something else than red
cells was measured: 0.9 to 2.4 was seen in fields of three laboratories."""
TYPICAL_NUCLEUS = 1.5
"""Diameter of a nucleus, in diameters of a red cell, by which a close-up is reduced for the search."""
BACKGROUND = 0.4
"""Share of the density of red cells below which there is background."""


class Search(NamedTuple):
    """The image at the scale of the search and what was found in it: the fields of `Cells`."""

    image: Pixels
    centres: Singles
    diameters: Singles
    scale: float
    red_cell: float | None


def search(image: Pixels) -> Search:
    """Return the white cells of a field `(H, W, 3)`.

    Where their nuclei are too large for its red cells, these were not measured rightly: then the
    field is searched once more, as one of unknown scale.
    """
    field = Field(image)
    result = _at_scale(field, red_cell_diameter(field))
    if result.red_cell is None or not len(result.diameters):
        return result
    largest = LARGEST_NUCLEUS * result.red_cell * result.scale
    return result if median(result.diameters) <= largest else _at_scale(field, None)


def _at_scale(field: Field, red_cell: float | None) -> Search:
    """Return the white cells of a field whose red cells have this diameter in its pixels."""
    if red_cell is None:
        scale = _scale_by_nuclei(field)
    else:
        scale = min(RED_CELL / red_cell, MOST_ENLARGED)
        scale = 1.0 if 1 / TOLERANCE <= scale <= TOLERANCE else scale
    small = field.resized(scale)
    centres, diameters = _nuclei(small)
    return Search(small.image, centres, diameters, scale=scale, red_cell=red_cell)


def _scale_by_nuclei(field: Field) -> float:
    """Return a scale at which the nuclei of a field of unknown scale are no larger than possible.

    Without red cells nothing says how large they are, but at too large a scale one is many.
    """
    scale: float = min(1.0, LARGEST / max(field.image.shape[:2]))
    mask = cleaned(field.resized(scale).nuclear)
    _, _, figures, _ = cv2.connectedComponentsWithStats(mask)
    area = np.sort(figures[1:, cv2.CC_STAT_AREA]).astype(np.float64)
    if not len(area):
        return scale
    of_half_the_area = float(area[np.searchsorted(np.cumsum(area), area.sum() / 2)])
    diameter = 2 * float(np.sqrt(of_half_the_area / np.pi)) / RED_CELL
    return scale if diameter <= LARGEST_NUCLEUS else scale * TYPICAL_NUCLEUS / diameter


def _nuclei(field: Field) -> tuple[Singles, Singles]:
    """Return centres `(M, 2)` and diameters `(M,)` of the nuclei of a field, the largest first.

    The regions with enough stain are divided at their narrow places, what has the colour of red
    cells is left out, and lobes of one nucleus are joined.
    """
    stain, red, mask = field.stain, field.red, cleaned(field.nuclear)
    parts = divided(mask, SHALLOWEST * RED_CELL)
    if parts is None:
        return np.empty((0, 2), np.float32), np.empty(0, np.float32)
    if red is not None:
        nuclear, green = (
            np.bincount(parts.owners, table.ravel()[parts.pixels], minlength=len(parts.area))
            for table in (stain.nuclear, stain.green)
        )
        share = nuclear / np.maximum(green, 1e-6)
        parts.area[share < red.nuclear / red.green + OTHER_COLOUR] = 0
    limit = BACKGROUND * red.mean if red is not None else 0.0
    background = (stain.mean < limit).view(np.uint8)
    table = join_lobes(parts, mask, background)
    table = table[np.argsort(-table[:, 0], kind="stable")]
    table = table[table[:, 0] >= SMALLEST * WHOLE]
    diameters: Singles = (2 * np.sqrt(table[:, 0] / np.pi)).astype(np.float32)
    return table[:, 1:].astype(np.float32), diameters
