"""The ruler: the diameter of the red cells of a field, by which everything else is measured."""

from __future__ import annotations

import cv2
import numpy as np

from allkit.images.regions import Peaks, distinct_peaks, fill_holes
from allkit.images.stain import Field, cell_mask
from allkit.types import Doubles, Mask, Singles

__all__ = ["red_cell_diameter"]

SIDES = (256, 512, 1024)
"""Longest side, in pixels, to which a field is reduced: the first at which red cells are clear."""
CLEAR = 13.0
"""Diameter in pixels from which on a red cell is clear: its pale centre and rim can be told apart."""
SPECK = 0.0012
"""Share of the image's area below which any hole in a cell is filled."""
LARGEST_CENTRE = 0.02
"""No hole above this share of the image is the pale centre of a red cell: a field shows several."""
CONVEX = 0.85
"""Share of its convex hull that a pale centre fills: it is round. The gap between cells, which are
round themselves, has hollow sides and fills less."""
WITHIN = 0.5
"""A cell cut by the border is measured if its centre is this share of its radius inside."""
CLEAR_OF_NUCLEI = 0.8
"""Share of its radius that a red cell is away from nuclei: otherwise it is a white cell's body."""
SMALLEST = 0.35
"""Share of the radius of the largest tenth of the cells below which something is no cell."""
FEWEST = 4
"""With fewer red cells than this the diameter is unknown."""
SPREAD = 2.6
"""Ratio of the diameters at four and one fifth of the cells above which they are not red cells, which
are all about one size. In 120 fields of two laboratories the largest ratio was 2.57."""


def red_cell_diameter(field: Field) -> float | None:
    """Return the typical diameter of the red cells of a field, in its pixels.

    `None` where it cannot be measured: too few red cells, or of sizes too unlike each other.
    """
    longest = max(field.image.shape[:2])
    diameter = None
    for side in SIDES:
        reduced = min(1.0, side / longest)
        diameter = _diameter(field.resized(reduced))
        if reduced == 1.0 or (diameter is not None and diameter >= CLEAR):
            break
    return None if diameter is None else diameter / reduced


def _diameter(field: Field) -> float | None:
    """Return the diameter at which half of the cells, counted by their diameters, are larger.

    A diameter is twice the depth of a peak of the distance transform: that holds for cells that
    overlap as well, which on most smears are nearly all. Counted by their diameters, because noise
    makes many small things.
    """
    white = field.nuclear
    mask = _with_pale_centres(cell_mask(field.stain, white))
    radius = np.sort(_radii(distinct_peaks(mask, white), white))
    radius = radius[radius > SMALLEST * np.quantile(radius, 0.9)] if len(radius) else radius
    if len(radius) < FEWEST:
        return None
    share: Doubles = np.cumsum(radius, dtype=np.float64) / np.sum(radius, dtype=np.float64)
    lower, middle, upper = radius[np.searchsorted(share, (0.2, 0.5, 0.8))]
    return float(2 * middle) if upper <= SPREAD * lower else None


def _with_pale_centres(mask: Mask) -> Mask:
    """Return the mask of the cells with the pale centres of red cells filled."""
    area = mask.shape[0] * mask.shape[1]
    filled = np.ascontiguousarray(fill_holes(mask, SPECK * area))
    outlines, tree = cv2.findContours(filled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for number, outline in enumerate(outlines):
        if tree[0, number, 3] < 0:
            continue  # the outline of an object, not of a hole in it
        size = cv2.contourArea(outline)
        hull = cv2.contourArea(cv2.convexHull(outline))
        if CONVEX * hull <= size <= LARGEST_CENTRE * area:
            cv2.drawContours(filled, outlines, number, 1, cv2.FILLED)
    return filled


def _radii(peaks: Peaks, white: Mask) -> Singles:
    """Return the radii of the peaks that are red cells with their centre well inside the image."""
    whole = WITHIN * peaks.radius <= peaks.edge + 1
    nuclei = cv2.morphologyEx(white, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    if nuclei.any():
        distance = cv2.distanceTransform(1 - nuclei, cv2.DIST_L2, 5)
        whole &= distance[peaks.rows, peaks.columns] > CLEAR_OF_NUCLEI * peaks.radius
    radii: Singles = peaks.radius[whole]
    return radii
