"""Statistics of the image of a stained smear, and a rough mask of its cells.

numpy and Pillow only, because every answer needs them, also one from an exported file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from allkit.types import Pixels, Singles

if TYPE_CHECKING:
    from allkit.images.cells import Cells  # it brings OpenCV

__all__ = [
    "STATISTICS_VERSION",
    "STATISTIC_NAMES",
    "cell_mask",
    "image_statistics",
    "stain_density",
    "statistics_at_scale",
]


SIDE = 224
"""Side, in pixels, to which the whole field is resized, as for the backbones."""

STATISTICS_VERSION = 1
STATISTIC_NAMES = (
    *(f"{name}_{c}" for c in "rgb" for name in ("background", "middle", "darkest")),
    *(f"cells_{c}" for c in "rgb"),
    *(f"rest_{c}" for c in "rgb"),
    "cell_share",
    "stain_threshold",
    "edges_fine",
    "edges_coarse",
    "sharpness",
    "outline",
)
"""Names of the statistics. `_r`, `_g`, `_b` are optical densities of the red, green, blue light."""

_DENSITY: Singles = (-np.log((np.arange(256) + 1.0) / 256.0)).astype(np.float32)
_LEVELS, _STEP = 128, 1.5 / 128
_FAINTEST = 10 * _STEP  # purple density below which nothing counts as stained


def stain_density(image: Pixels) -> Singles:
    """Return how purple each pixel is, `(H, W)` float32: green less blue optical density.

    Nuclei take up the stain, which absorbs green and lets blue through; red cells, background,
    black and white absorb both alike and come out near zero. `image` is `(H, W, 3)` uint8.
    """
    density: Singles = _DENSITY[image[..., 1]] - _DENSITY[image[..., 2]]
    return density


def cell_mask(image: Pixels) -> npt.NDArray[np.bool_]:
    """Return a rough mask of the stained cells, `(H, W)` bool.

    Otsu's threshold of the stain density, never below faint noise; a median filter removes specks
    and the rims of red cells.
    """
    density = stain_density(image)
    mask = Image.fromarray(((density > _threshold(density)) * 255).astype(np.uint8))
    reach = max(3, round(max(image.shape[:2]) / 25) | 1)
    cells: npt.NDArray[np.bool_] = np.asarray(mask.filter(ImageFilter.MedianFilter(reach))) > 0
    return cells


def image_statistics(image: Pixels) -> Singles:
    """Return the statistics of an image, `(M,)` float32, in the order of `STATISTIC_NAMES`.

    Optical densities (natural logarithm, 0 is white) of the background, the middle and the dark
    end, of the stained cells and of the rest; share of stained cells; strength of edges over one
    and four pixels, their ratio (sharpness); outline of the cells over their area (size).
    """
    if image.shape[:2] != (SIDE, SIDE):
        resized = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        image = np.asarray(resized)
    return _statistics(image)


def statistics_at_scale(cells: Cells) -> Singles:
    """Return the statistics of a field at the scale of its search, `(M,)` as `image_statistics`.

    They are the mean over squares that cover it, none of them resized, so that the size of the cells
    and the strength of edges say something of the smear and not of the magnification. Where the scale
    is not known they are those of the image as it was searched, resized as any other.
    """
    if cells.red_cell is None:
        return image_statistics(cells.image)
    squares = [_statistics(cells.image[tile]) for tile in cells.squares(SIDE)]
    mean: Singles = np.mean(squares, axis=0, dtype=np.float32)
    return mean if len(squares) > 1 else squares[0]


def _statistics(image: Pixels) -> Singles:
    """Return the statistics of an image, pixel by pixel as it is."""
    small = image[::2, ::2]
    values: list[Any] = []
    total = np.empty(3)
    for channel in range(3):
        counts = np.bincount(small[..., channel].ravel(), minlength=256)
        cut = np.searchsorted(np.cumsum(counts) / (small.size / 3), (0.9, 0.5, 0.1))
        values += [_DENSITY[min(255, int(level))] for level in cut]
        total[channel] = counts @ _DENSITY
    light = _DENSITY.take(small)
    density = light[..., 1] - light[..., 2]
    threshold = _threshold(density)
    cells = density > threshold
    count = int(np.count_nonzero(cells))
    inside = cells.ravel().astype(np.float32) @ light.reshape(-1, 3)
    values += list(inside / max(1, count))
    values += list((total - inside) / max(1, cells.size - count))
    share = count / cells.size
    green = image[..., 1].astype(np.int16)
    fine = float(np.abs(green[::2, 1:] - green[::2, :-1]).mean())
    coarse = float(np.abs(green[::2, 4:] - green[::2, :-4]).mean())
    outline = float((cells[:, 1:] != cells[:, :-1]).mean() + (cells[1:] != cells[:-1]).mean())
    values += [
        np.log(share + 0.003),
        threshold,
        np.log(fine + 0.1),
        np.log(coarse + 0.1),
        np.log((fine + 0.05) / (coarse + 0.1)),
        outline / (share + 0.01),
    ]
    return np.array(values, dtype=np.float32)


def _threshold(density: Singles) -> float:
    """Return Otsu's threshold of a stain density (Otsu 1979), never below the faintest stain.

    `cv2.threshold` gives the same, but would load OpenCV in every process that answers from an
    exported file, which does not need it where the model looks at whole fields.
    """
    levels = np.clip(density * np.float32(1 / _STEP), 0, _LEVELS - 1).astype(np.uint8)
    share = np.bincount(levels.ravel(), minlength=_LEVELS) / levels.size
    below = np.cumsum(share)
    moment = np.cumsum(share * np.arange(_LEVELS))
    spread = below * (1 - below)
    between = np.where(
        spread > 1e-6, (moment[-1] * below - moment) ** 2 / np.maximum(spread, 1e-6), 0
    )
    return max((int(between.argmax()) + 1) * _STEP, _FAINTEST)
