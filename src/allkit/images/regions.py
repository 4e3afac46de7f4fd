"""Regions of a mask: holes filled, specks removed, touching cells divided."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from allkit.records import RED_CELL
from allkit.types import Doubles, Ints, Mask, Singles

__all__ = ["WHOLE", "Parts", "Peaks", "cleaned", "distinct_peaks", "divided", "fill_holes"]

WHOLE = RED_CELL**2 * np.pi / 4
"""Area of a red cell, in pixels at the scale of the search."""


class Peaks(NamedTuple):
    """Deepest points of the cells of a mask: `(M,)` each, in pixels, the deepest first.

    `radius` is the distance to the next pixel outside of the mask, `edge` that to the image's edge.
    """

    rows: Ints
    columns: Ints
    radius: Singles
    edge: Ints


class Parts(NamedTuple):
    """The parts into which a mask is divided; number 0 is no part and has the area 0.

    `pixels` `(P,)` are the positions, in the flattened mask, of all that belongs to a part, and
    `owners` `(P,)` the numbers of their parts; `area`, `x` and `y` `(M,)` are the areas and centres,
    in pixels.
    """

    pixels: Ints
    owners: Ints
    area: Doubles
    x: Doubles
    y: Doubles


def fill_holes(mask: Mask, largest: float) -> Mask:
    """Return the mask, 0 or 1, with holes smaller than `largest` pixels filled."""
    around = cv2.copyMakeBorder(1 - mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    holes = np.asarray(around, np.uint8)
    cv2.floodFill(holes, None, (0, 0), 0, flags=4)  # what lies around everything is no hole
    pixels = np.flatnonzero(holes.view(bool))
    if not len(pixels):
        return mask.copy()
    _, labels = cv2.connectedComponents(holes, connectivity=4)
    label = labels.ravel()[pixels]
    large = np.bincount(label) >= largest
    holes.ravel()[pixels[large[label]]] = 0
    filled: Mask = mask | holes[1:-1, 1:-1]
    return filled


def cleaned(mask: Mask) -> Mask:
    """Return the mask of white cells, 0 or 1, without specks, with holes filled."""
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(3))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, _disc(5))
    return fill_holes(np.asarray(closed, np.uint8), 0.85 * WHOLE)


def _disc(size: int) -> Mask:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def divided(mask: Mask, shallowest: float) -> Parts | None:
    """Return the parts of a mask, divided at the narrow places; `None` where there is none.

    Each peak of the distance transform deeper than `shallowest` pixels makes a part, and each pixel
    belongs to the nearest peak of its own component.
    """
    depth = cv2.GaussianBlur(cv2.distanceTransform(mask, cv2.DIST_L2, 5), (0, 0), 1.5)
    around = np.ones((11, 11), np.uint8)
    peaks = ((depth == cv2.dilate(depth, around)) & (depth > shallowest)).view(np.uint8)
    at_peaks = np.flatnonzero(peaks.view(bool))
    if not len(at_peaks):
        return None
    _, components = cv2.connectedComponents(mask)
    _, labels = cv2.distanceTransformWithLabels(
        1 - peaks, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP
    )
    component, nearest = components.ravel(), labels.ravel()
    home = np.zeros(int(nearest[at_peaks].max()) + 1, np.int32)
    home[nearest[at_peaks]] = component[at_peaks]
    inside = np.flatnonzero(mask.view(bool))
    inside = inside[home[nearest[inside]] == component[inside]]
    owners = nearest[inside].astype(np.int64)
    rows, columns = np.divmod(inside, mask.shape[1])
    area = np.bincount(owners, minlength=len(home)).astype(np.float64)
    x = np.bincount(owners, columns, minlength=len(home)) / np.maximum(area, 1)
    y = np.bincount(owners, rows, minlength=len(home)) / np.maximum(area, 1)
    return Parts(inside, owners, area, x=x, y=y)


def distinct_peaks(mask: Mask, white: Mask) -> Peaks:
    """Return the deepest points of the red cells in a mask, none of them where `white` is.

    Of peaks that lie within each other's radius the deepest one counts.
    """
    height, width = mask.shape
    exact = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    depth = cv2.GaussianBlur(exact, (0, 0), 1.0)
    peaks = (depth == cv2.dilate(depth, np.ones((5, 5), np.uint8))) & (depth > 2) & (white == 0)
    rows, columns = np.divmod(np.flatnonzero(peaks), width)
    order = np.argsort(-exact[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    radius: Singles = exact[rows, columns].astype(np.float32, copy=False)
    edge = np.minimum.reduce([rows, columns, height - 1 - rows, width - 1 - columns])
    apart = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2 > radius[None] ** 2
    distinct = np.ones(len(rows), dtype=bool)
    # Only those within the radius of a deeper one can fall away.
    for index in np.flatnonzero(np.tril(~apart, -1).any(axis=1)).tolist():
        distinct[index] = apart[index, :index][distinct[:index]].all()
    return Peaks(rows[distinct], columns[distinct], radius[distinct], edge=edge[distinct])
