"""How much stain is where in a field, relative to the background between its cells."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from allkit.records import SCALE_BAR
from allkit.types import Mask, Pixels, Singles

__all__ = [
    "PURPLE",
    "RedCells",
    "Stain",
    "cell_mask",
    "level_light",
    "measure_stain",
    "nuclear_threshold",
    "otsu_threshold",
    "red_cell_stain",
    "resized",
]

BRIGHT = 0.92
"""Quantile of the pixels that is the background between the cells."""
TISSUE = 0.1
"""Mean optical density above which there is a cell and not background."""
PURPLE = 0.10
"""Nuclear stain below which nothing is a nucleus."""
ABOVE_RED = 0.5
"""How much more nuclear stain than red cells a nucleus has, in green densities of a red cell: 0.9 to
3.8 in the typical nuclei of ten slides of three laboratories; in red cells alone up to 0.4."""
OF_NUCLEI = 0.55
"""Share of nuclear stain in the green density above which all tissue is nuclei: red cells have up to
0.4, typical nuclei from 0.56."""
FEWEST_PIXELS = 200
"""Pixels of tissue from which on the red cells' stain can be told."""
BLOCKS = 12
"""Rows and columns of blocks in which the background is measured where the light is uneven."""
ABOVE_LIGHT = 0.03
"""A block that is so much denser than the fitted light may hold no background, and counts less."""

_STEP = 0.8 / 255
_LIGHT: Singles = np.log(np.arange(256, dtype=np.float32) + 1.0)


class Stain(NamedTuple):
    """Optical densities of a field relative to its background, `(H, W)` float32, natural logarithm.

    `nuclear` is green less the mean of red and blue: positive in nuclei, about zero in red cells
    whatever their tint. `mean` is that of the three colours, `green` that of green light alone.
    """

    nuclear: Singles
    mean: Singles
    green: Singles


def resized(image: Pixels, scale: float) -> Pixels:
    """Return an image `(H, W, 3)` scaled by a factor, no side below 32 pixels."""
    if scale == 1.0:
        return image
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = (max(32, round(image.shape[1] * scale)), max(32, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def measure_stain(image: Pixels) -> Stain:
    """Return the stain of a field `(H, W, 3)`; zero in the corner where a scale bar is burnt in."""
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    density = []
    for channel in range(3):
        plane = smooth[..., channel]
        counts = np.cumsum(cv2.calcHist([plane], [0], None, [256], [0, 256]))
        bright = int(np.searchsorted(counts, BRIGHT * plane.size))
        # Pixels brighter than the background are glare, not a negative stain.
        density.append(np.clip(_LIGHT[bright] - _LIGHT, -0.18, 2.5)[plane])
    red, green, blue = density
    return _without_scale_bar(Stain(green - 0.5 * (red + blue), (red + green + blue) / 3, green))


def _without_scale_bar(stain: Stain) -> Stain:
    height, width = stain.mean.shape
    for table in stain:
        table[int(SCALE_BAR[0] * height) :, int(SCALE_BAR[1] * width) :] = 0.0
    return stain


def otsu_threshold(nuclear: Singles) -> float:
    """Return Otsu's threshold of the nuclear stain; infinite where there is none."""
    levels = np.clip(nuclear * (1 / _STEP), 0, 255).astype(np.uint8)
    some: Mask = levels[levels > 2]
    if len(some) < 50:
        return float("inf")
    return float(cv2.threshold(some.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)[0]) * _STEP


def cell_mask(stain: Stain, white: Mask) -> Mask:
    """Return where red and white cells are, 0 or 1, by Otsu's threshold of what is not `white`."""
    levels = np.clip(stain.mean * (255 / 1.2), 0, 255).astype(np.uint8)
    others = levels[white == 0]
    if not len(others):
        return white
    otsu = cv2.threshold(others.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)[0]
    mask: Mask = (levels > max(0.85 * otsu, 10)).astype(np.uint8)
    return mask


class RedCells(NamedTuple):
    """The densities of the red cells of a field, as those of `Stain`."""

    nuclear: float
    mean: float
    green: float


def red_cell_stain(stain: Stain) -> RedCells | None:
    """Return the stain of the red cells in even light; `None` where none are in view.

    Red cells are the half of the tissue with less nuclear stain, even where half of a field is white
    cells, and of that the denser half, so that background and the rims of cells do not count.
    """
    tissue = stain.mean > TISSUE
    nuclear = stain.nuclear[tissue]
    if len(nuclear) <= FEWEST_PIXELS:
        return None
    less = nuclear <= np.median(nuclear)
    green = stain.green[tissue]
    red = less & (green >= np.median(green[less]))
    of_red = (float(np.median(table[tissue][red])) for table in stain)
    cells = RedCells(*of_red)
    return cells if cells.nuclear <= OF_NUCLEI * cells.green else None


def nuclear_threshold(stain: Stain, red: RedCells | None) -> float:
    """Return the nuclear stain above which a pixel belongs to a nucleus; `red` is that of red cells.

    That is Otsu's threshold, but at least the stain of the red cells and `ABOVE_RED` of their
    density more: without white cells in view Otsu's method divides the red ones.
    """
    least = 0.0 if red is None else red.nuclear + ABOVE_RED * red.green
    return max(otsu_threshold(stain.nuclear), PURPLE, least)


def level_light(stain: Stain) -> Stain:
    """Return the stain without the fall-off of the light towards the corners, alike in all colours.

    A quadratic surface is fitted by least squares to the palest tenth of every block, and then again
    nine times with a hundredth of the weight for blocks above it, which hold cells only.
    """
    height, width = stain.mean.shape
    high, wide = height // BLOCKS, width // BLOCKS
    grid = stain.mean[: BLOCKS * high, : BLOCKS * wide].reshape(BLOCKS, high, BLOCKS, wide)
    blocks = grid.swapaxes(1, 2).reshape(BLOCKS * BLOCKS, high * wide)
    tenth = high * wide // 10
    pale = np.partition(blocks, tenth, axis=1)[:, tenth].astype(np.float64)
    y, x = (np.indices((BLOCKS, BLOCKS)).reshape(2, -1) + 0.5) / BLOCKS - 0.5
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    weight = np.ones(len(pale))
    for _ in range(10):
        weighed = terms.T * weight
        factors = np.linalg.solve(weighed @ terms, weighed @ pale)
        weight = np.where(pale - terms @ factors > ABOVE_LIGHT, 0.01, 1.0)
    down = (np.arange(height) + 0.5)[:, None] / height - 0.5
    right = (np.arange(width) + 0.5)[None] / width - 0.5
    one, f_x, f_y, f_xx, f_xy, f_yy = factors
    of_rows = one + (f_y + f_yy * down) * down
    of_columns = (f_x + f_xx * right) * right
    light = (of_rows + of_columns + f_xy * down * right).astype(np.float32)
    return _without_scale_bar(Stain(stain.nuclear, stain.mean - light, stain.green - light))
