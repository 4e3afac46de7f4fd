"""The finder of version 1: models that were trained with it go on with the cells that it finds.

It measures the ring of well magnified red cells in place of their diameter, and finds white cells in
fields that have none. Nothing here changes any more.
"""

from __future__ import annotations

import numpy as np

from allkit.images.finder import Search
from allkit.images.regions import WHOLE, cleaned, distinct_peaks, divided, fill_holes
from allkit.images.stain import (
    PURPLE,
    Stain,
    cell_mask,
    measure_stain,
    otsu_threshold,
    resized,
)
from allkit.records import RED_CELL
from allkit.types import Pixels, Singles

__all__ = ["first_search"]

TOLERANCE = 1.5
LARGEST = 1024
TISSUE = 0.12
ABOVE_RED = 0.13
"""How much more stain than the paler quarter of the tissue, which is red cells, a nucleus has."""


def first_search(image: Pixels) -> Search:
    """Return the white cells of a field `(H, W, 3)`."""
    height, width = image.shape[:2]
    reduced = min(1.0, LARGEST / max(height, width))
    small = resized(image, reduced)
    stain = measure_stain(small)
    red_cell = _red_cell(stain)
    scale = 1.0 if red_cell is None else RED_CELL / red_cell
    if red_cell is None or 1 / TOLERANCE <= scale <= TOLERANCE:
        scale = 1.0
    if scale != 1.0 or reduced != 1.0:
        # Never enlarged more than four times: there is nothing to see in so small a cell.
        scale = min(scale * reduced, 4.0)
        small = resized(image, scale)
        stain = measure_stain(small)
    centres, diameters = _parts(stain)
    of_field = None if red_cell is None else float(red_cell / reduced)
    return Search(small, centres, diameters, scale=scale, red_cell=of_field)


def _threshold(stain: Stain) -> float:
    """Return the stain above which a pixel belongs to a white cell."""
    otsu = otsu_threshold(stain.nuclear)
    tissue = stain.nuclear[stain.mean > TISSUE]
    place = len(tissue) // 4
    pale = float(np.partition(tissue, place)[place]) if len(tissue) > 200 else 0.0
    return max(otsu, PURPLE, pale + ABOVE_RED)


def _parts(stain: Stain) -> tuple[Singles, Singles]:
    """Return centres `(M, 2)` and diameters `(M,)` of the white cells, the largest first."""
    parts = divided(cleaned((stain.nuclear > _threshold(stain)).astype(np.uint8)), 0.2 * RED_CELL)
    if parts is None:
        return np.empty((0, 2), np.float32), np.empty(0, np.float32)
    order = np.argsort(-parts.area, kind="stable")
    order = order[parts.area[order] >= 0.34 * WHOLE]
    centres: Singles = np.stack([parts.x, parts.y], axis=1)[order].astype(np.float32)
    return centres, (2 * np.sqrt(parts.area[order] / np.pi)).astype(np.float32)


def _red_cell(stain: Stain) -> float | None:
    """Return the median diameter of the red cells in pixels; `None` for fewer than eight."""
    height, width = stain.mean.shape
    white = (stain.nuclear > _threshold(stain)).astype(np.uint8)
    mask = fill_holes(cell_mask(stain, white), 0.0012 * height * width)
    peaks = distinct_peaks(mask, white)
    radius = peaks.radius[peaks.radius <= peaks.edge + 1]  # whole cells only
    if len(radius) < 8:
        return None
    return float(2 * np.median(radius[radius > 0.35 * np.quantile(radius, 0.9)]))
