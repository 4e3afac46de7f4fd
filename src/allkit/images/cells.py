"""The finder of white cells: classical image processing, fast, without torch.

White cells differ from red ones by their nuclear stain, which is measured relative to the bright
background of the field and to its red cells; sizes are measured in diameters of the red cells. So
neither the stain of a laboratory nor the magnification of its microscope matters. (Importing this
takes a tenth of a second for OpenCV, so it is imported only where cells are needed.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from allkit.images.batches import by_shape
from allkit.records import RED_CELL, SCALE_BAR, Cell
from allkit.types import Mask, Pixels, Singles

__all__ = ["FINDER", "NO_CELLS", "NO_SCALE", "Cells", "bags", "find_cells", "shortcomings"]


FINDER = "allkit.cells/1"
"""Name and version of the finder, written into exported files: another version finds other cells."""

NO_CELLS = "no_white_cells"
NO_SCALE = "unknown_magnification"

TOLERANCE = 1.5
"""A field is only rescaled when its red cells are this many times larger or smaller. On fields of
one hospital the measured diameter strays by as much (8 to 24 pixels, median 16, in 477 fields)."""
MOST = 24
"""Number of white cells of a field that a network sees, the largest ones: each costs time."""
LARGEST = 1024
"""A field with a longer side, in pixels, is reduced before its red cells are measured."""

BRIGHT = 0.92
"""Quantile of the pixels that is the background between the cells."""
TISSUE = 0.12
"""Mean optical density above which there is a cell and not background."""
PURPLE = 0.10
"""Stain (green less the mean of red and blue density) below which nothing is a nucleus."""
ABOVE_RED = 0.13
"""How much more stain than the paler quarter of the tissue, which is red cells, a nucleus has."""

_STEP = 0.8 / 255
_LIGHT: Singles = np.log(np.arange(256, dtype=np.float32) + 1.0)


@dataclass(frozen=True)
class Cells:
    """The white cells of one field.

    `image` `(H, W, 3)` uint8 is the field at the scale of the search, `centres` `(M, 2)` float32 are
    x and y in it, and `diameters` `(M,)` float32 those of circles with the area of the nuclei, both
    in its pixels, the largest cell first. `scale` is the number of its pixels per pixel of the field.
    `red_cell` is the diameter of the red cells in pixels of the field, `None` where it could not be
    measured.
    """

    image: Pixels
    centres: Singles
    diameters: Singles
    scale: float
    red_cell: float | None

    def places(self) -> tuple[Cell, ...]:
        """Return the cells in pixels of the original field."""
        return tuple(
            Cell(float(x / self.scale), float(y / self.scale), float(diameter / self.scale))
            for (x, y), diameter in zip(self.centres, self.diameters, strict=True)
        )


def find_cells(image: Pixels) -> Cells:
    """Return the white cells of a field, `(H, W, 3)` uint8 RGB.

    The stain is green less the mean of red and blue optical density, relative to the background
    of each colour: positive in nuclei, about zero in red cells whatever their tint. Regions with
    more of it than Otsu's threshold, and than the red cells, are divided at the narrow places
    between the peaks of their distance transform. The corner where microscopes burn in a scale bar
    is left out.
    """
    height, width = image.shape[:2]
    reduced = min(1.0, LARGEST / max(height, width))
    small = _resized(image, reduced)
    stain, density = _stain(small)
    red_cell = _red_cell(stain, density)
    scale = 1.0 if red_cell is None else RED_CELL / red_cell
    if red_cell is None or 1 / TOLERANCE <= scale <= TOLERANCE:
        scale = 1.0
    if scale != 1.0 or reduced != 1.0:
        # Never enlarged more than four times: there is nothing to see in so small a cell.
        scale = min(scale * reduced, 4.0)
        small = _resized(image, scale)
        stain, density = _stain(small)
    centres, diameters = _parts(_mask(stain, density))
    return Cells(
        image=small,
        centres=centres,
        diameters=diameters,
        scale=scale,
        red_cell=None if red_cell is None else float(red_cell / reduced),
    )


def bags(fields: Sequence[Cells]) -> Iterator[tuple[list[int], Pixels, Singles]]:
    """Yield (positions in `fields`, images `(n, H, W, 3)`, places `(m, 3)`) for each image shape.

    A place is the position of the image among these n, and x and y of the cell, float32, for the
    `MOST` largest cells of each image: the input of a network of cells. If no image has a cell
    there is one place, of no image (-1).
    """
    for indices, images in by_shape([cells.image for cells in fields]):
        places = [
            (float(number), x, y)
            for number, index in enumerate(indices)
            for x, y in fields[index].centres[:MOST].tolist()
        ]
        yield indices, images, np.array(places or [(-1.0, 0.0, 0.0)], np.float32)


def shortcomings(cells: Cells) -> tuple[str, ...]:
    """Return the reason codes why a field cannot be judged by its cells; empty when it can."""
    if not len(cells.centres):
        return (NO_CELLS,)
    return (NO_SCALE,) if cells.red_cell is None else ()


def _resized(image: Pixels, scale: float) -> Pixels:
    if scale == 1.0:
        return image
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = (max(32, round(image.shape[1] * scale)), max(32, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _stain(image: Pixels) -> tuple[Singles, Singles]:
    """Return stain and mean optical density relative to the background, `(H, W)` float32."""
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    density = []
    for channel in range(3):
        plane = smooth[..., channel]
        counts = np.cumsum(cv2.calcHist([plane], [0], None, [256], [0, 256]))
        bright = int(np.searchsorted(counts, BRIGHT * plane.size))
        # Pixels brighter than the background are glare, not a negative stain.
        density.append(np.clip(_LIGHT[bright] - _LIGHT, -0.18, 2.5)[plane])
    red, green, blue = density
    stain = green - 0.5 * (red + blue)
    mean = (red + green + blue) / 3
    height, width = stain.shape
    for table in (stain, mean):
        table[int(SCALE_BAR[0] * height) :, int(SCALE_BAR[1] * width) :] = 0.0
    return stain, mean


def _threshold(stain: Singles, density: Singles) -> float:
    """Return the stain above which a pixel belongs to a white cell."""
    levels = np.clip(stain * (1 / _STEP), 0, 255).astype(np.uint8)
    some = levels[levels > 2]
    if len(some) < 50:
        return float("inf")
    otsu = float(cv2.threshold(some.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)[0]) * _STEP
    tissue = stain[density > TISSUE]
    place = len(tissue) // 4
    pale = float(np.partition(tissue, place)[place]) if len(tissue) > 200 else 0.0
    return max(otsu, PURPLE, pale + ABOVE_RED)


def _mask(stain: Singles, density: Singles) -> Mask:
    """Return where white cells are, `(H, W)` 0 or 1: without specks, holes filled."""
    mask = (stain > _threshold(stain, density)).astype(np.uint8)
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(3))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, _disc(5))
    return _filled(np.asarray(closed, np.uint8), 0.85 * RED_CELL**2 * np.pi / 4)


def _disc(size: int) -> Mask:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _filled(mask: Mask, largest: float) -> Mask:
    """Return the mask with holes smaller than `largest` pixels filled."""
    around = cv2.copyMakeBorder(1 - mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, labels, figures, _ = cv2.connectedComponentsWithStats(around, connectivity=4)
    hole = figures[:, cv2.CC_STAT_AREA] < largest
    hole[[0, labels[0, 0]]] = False
    filled: Mask = mask | hole[labels][1:-1, 1:-1].astype(np.uint8)
    return filled


def _parts(mask: Mask) -> tuple[Singles, Singles]:
    """Return centres `(M, 2)` and diameters `(M,)` of the cells in a mask."""
    depth = cv2.GaussianBlur(cv2.distanceTransform(mask, cv2.DIST_L2, 5), (0, 0), 1.5)
    around = np.ones((11, 11), np.uint8)
    peaks = ((depth == cv2.dilate(depth, around)) & (depth > 0.2 * RED_CELL)).astype(np.uint8)
    if not peaks.any():
        return np.empty((0, 2), np.float32), np.empty(0, np.float32)
    # Each pixel belongs to the nearest peak of its own component.
    _, component = cv2.connectedComponents(mask)
    _, nearest = cv2.distanceTransformWithLabels(
        1 - peaks, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP
    )
    home = np.zeros(int(nearest.max()) + 1, np.int32)
    home[nearest[peaks > 0]] = component[peaks > 0]
    owner = np.where((mask > 0) & (home[nearest] == component), nearest, 0).ravel()
    area = np.bincount(owner, minlength=len(home)).astype(np.float64)
    rows, columns = np.indices(mask.shape, dtype=np.float32)
    x = np.bincount(owner, columns.ravel(), minlength=len(home)) / np.maximum(area, 1)
    y = np.bincount(owner, rows.ravel(), minlength=len(home)) / np.maximum(area, 1)
    area[0] = 0
    order = np.argsort(-area, kind="stable")
    order = order[area[order] >= 0.34 * RED_CELL**2 * np.pi / 4]
    centres: Singles = np.stack([x, y], axis=1)[order].astype(np.float32)
    return centres, (2 * np.sqrt(area[order] / np.pi)).astype(np.float32)


def _red_cell(stain: Singles, density: Singles) -> float | None:
    """Return the median diameter of the red cells in pixels; `None` for fewer than eight.

    It is twice the depth of the peaks of their distance transform: that holds for cells that
    overlap as well, which on most smears are nearly all.
    """
    height, width = stain.shape
    white = stain > _threshold(stain, density)
    levels = np.clip(density * (255 / 1.2), 0, 255).astype(np.uint8)
    others = levels[~white]
    if not len(others):
        return None
    otsu = cv2.threshold(others.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)[0]
    mask = (levels > max(0.85 * otsu, 10)).astype(np.uint8)
    mask = _filled(mask, 0.0012 * height * width)
    exact = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    depth = cv2.GaussianBlur(exact, (0, 0), 1.0)
    peaks = (depth == cv2.dilate(depth, np.ones((5, 5), np.uint8))) & (depth > 2) & ~white
    rows, columns = np.nonzero(peaks)
    order = np.argsort(-exact[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    radius = exact[rows, columns]
    edge = np.minimum.reduce([rows, columns, height - 1 - rows, width - 1 - columns])
    apart = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2 > radius[None] ** 2
    peaks_apart: list[int] = []
    for index in range(len(rows)):
        if apart[index, peaks_apart].all():
            peaks_apart.append(index)
    radius, edge = radius[peaks_apart], edge[peaks_apart]
    radius = radius[radius <= edge + 1]  # whole cells only
    if len(radius) < 8:
        return None
    return float(2 * np.median(radius[radius > 0.35 * np.quantile(radius, 0.9)]))
