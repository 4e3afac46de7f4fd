"""How much stain is where in a field, relative to the background between its cells."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from allkit.records import SCALE_BAR
from allkit.types import Doubles, Ints, Mask, Pixels, Singles

__all__ = [
    "PURPLE",
    "Field",
    "RedCells",
    "Stain",
    "cell_mask",
    "level_light",
    "measure_stain",
    "median",
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
ROWS = 32
"""Rows of a field for which the light is computed at once: what is small stays near the processor."""

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


class RedCells(NamedTuple):
    """The densities of the red cells of a field, as those of `Stain`."""

    nuclear: float
    mean: float
    green: float


@dataclass(frozen=True)
class Field:
    """A field `(H, W, 3)`, and what is measured on it once: ruler and search often need the same."""

    image: Pixels

    def resized(self, scale: float) -> Field:
        """Return the field scaled by a factor; itself where the factor is 1."""
        return self if scale == 1.0 else Field(resized(self.image, scale))

    @cached_property
    def stain(self) -> Stain:
        """The stain in even light."""
        return level_light(measure_stain(self.image))

    @cached_property
    def red(self) -> RedCells | None:
        """The stain of the red cells; `None` where none are in view."""
        return red_cell_stain(self.stain)

    @cached_property
    def nuclear(self) -> Mask:
        """Where there is enough nuclear stain for a nucleus, `(H, W)`, 0 or 1."""
        threshold = nuclear_threshold(self.stain, self.red)
        return (self.stain.nuclear > threshold).view(np.uint8)


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
    density: list[Singles] = []
    for channel, plane in enumerate(cv2.split(smooth)):
        counts = np.cumsum(cv2.calcHist([smooth], [channel], None, [256], [0, 256]))
        bright = int(np.searchsorted(counts, BRIGHT * plane.size))
        # Pixels brighter than the background are glare, not a negative stain.
        table = np.clip(_LIGHT[bright] - _LIGHT, -0.18, 2.5)
        density.append(np.asarray(cv2.LUT(plane, table), np.float32))
    # In the memory that is there already: to be given more takes as long as to compute.
    red, green, blue = density
    nuclear = red + blue
    nuclear *= 0.5
    np.subtract(green, nuclear, out=nuclear)
    mean = red
    mean += green
    mean += blue
    mean /= 3
    return _without_scale_bar(Stain(nuclear, mean, green))


def _without_scale_bar(stain: Stain) -> Stain:
    height, width = stain.mean.shape
    for table in stain:
        table[int(SCALE_BAR[0] * height) :, int(SCALE_BAR[1] * width) :] = 0.0
    return stain


def otsu_threshold(nuclear: Singles) -> float:
    """Return Otsu's threshold of the nuclear stain; infinite where there is none."""
    levels = _levels(nuclear, 1 / _STEP)
    some: Mask = levels[levels > 2]
    if len(some) < 50:
        return float("inf")
    return float(cv2.threshold(some.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)[0]) * _STEP


def cell_mask(stain: Stain, white: Mask) -> Mask:
    """Return where red and white cells are, 0 or 1, by Otsu's threshold of what is not `white`."""
    levels = _levels(stain.mean, 255 / 1.2)
    others = levels[white == 0]
    if not len(others):
        return white
    otsu = cv2.threshold(others.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)[0]
    mask: Mask = (levels > max(0.85 * otsu, 10)).view(np.uint8)
    return mask


def _levels(density: Singles, factor: float) -> Pixels:
    """Return a density times a factor, cut to 0 to 255, without its fraction."""
    scaled = density * factor
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


def median(values: Singles) -> float:
    """Return the median of a row of numbers: that of `np.median`, without its search for NaN."""
    half = len(values) // 2
    ordered = np.partition(values, half)
    if len(values) % 2:
        return float(ordered[half])
    return float((ordered[:half].max() + ordered[half]) / 2)


def red_cell_stain(stain: Stain) -> RedCells | None:
    """Return the stain of the red cells in even light; `None` where none are in view.

    Red cells are the half of the tissue with less nuclear stain, even where half of a field is white
    cells, and of that the denser half, so that background and the rims of cells do not count.
    """
    tissue: Ints = np.flatnonzero(stain.mean > TISSUE)
    if len(tissue) <= FEWEST_PIXELS:
        return None
    nuclear, green = stain.nuclear.ravel()[tissue], stain.green.ravel()[tissue]
    less = np.flatnonzero(nuclear <= median(nuclear))
    green_of_less = green[less]
    red = less[green_of_less >= median(green_of_less)]
    of_red = nuclear[red], stain.mean.ravel()[tissue[red]], green[red]
    cells = RedCells(*(median(values) for values in of_red))
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
    nine times at most with a hundredth of the weight for blocks above it, which hold cells only.
    """
    height, width = stain.mean.shape
    high, wide = height // BLOCKS, width // BLOCKS
    grid = stain.mean[: BLOCKS * high, : BLOCKS * wide].reshape(BLOCKS, high, BLOCKS, wide)
    blocks = grid.swapaxes(1, 2).reshape(BLOCKS * BLOCKS, high * wide)
    tenth = high * wide // 10
    pale = np.partition(blocks, tenth, axis=1)[:, tenth].astype(np.float64)
    terms = _terms()
    weight = np.ones(len(pale))
    for _ in range(10):
        weighed = terms.T * weight
        factors = np.linalg.solve(weighed @ terms, weighed @ pale)
        before, weight = weight, np.where(pale - terms @ factors > ABOVE_LIGHT, 0.01, 1.0)
        if np.array_equal(weight, before):
            break  # the next fit would be the same
    down = (np.arange(height) + 0.5)[:, None] / height - 0.5
    right = (np.arange(width) + 0.5)[None] / width - 0.5
    one, f_x, f_y, f_xx, f_xy, f_yy = factors
    of_rows = one + (f_y + f_yy * down) * down
    of_columns = (f_x + f_xx * right) * right
    mean, green = np.empty_like(stain.mean), np.empty_like(stain.green)
    for start in range(0, height, ROWS):
        some = slice(start, start + ROWS)
        light = (of_rows[some] + of_columns + f_xy * down[some] * right).astype(np.float32)
        np.subtract(stain.mean[some], light, out=mean[some])
        np.subtract(stain.green[some], light, out=green[some])
    return _without_scale_bar(Stain(stain.nuclear, mean, green))


@functools.cache
def _terms() -> Doubles:
    """Return the terms of a quadratic surface at the centre of each block, `(BLOCKS², 6)`."""
    y, x = (np.indices((BLOCKS, BLOCKS)).reshape(2, -1) + 0.5) / BLOCKS - 0.5
    terms: Doubles = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    return terms
