"""A finder of white cells: nuclei are blobs of what takes up both dyes, by the parts of scikit-image.

Colour deconvolution (Ruifrok & Johnston 2001) tells how much haematoxylin and eosin a pixel shows. It was
made for sections of tissue. In the Romanowsky stains of blood smears azure B and eosin Y stand in their
places, and nuclei bind both together, which gives their purple; red cells show one of the two, blue or
pink by the laboratory. So the amount that counts is the geometric mean of the two.

Where enough of it is, is a nucleus or several. They are parted where the way to the edge has maxima, each
deeper than the narrow place to the next (h-maxima and watershed). The red cells are measured by the round
ones among the other stained parts, so that all sizes can be said in red cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from allkit import Finder, Found, hookimpl

if TYPE_CHECKING:
    Numbers = npt.NDArray[np.floating[Any]]
    Mask = npt.NDArray[np.bool_]

api_version = 2

LARGEST = 1024
"""A field with a longer side, in pixels, is searched at this size."""
RED_CELL = 15.0
"""Diameter, in pixels, that a red cell is brought to."""
TOLERANCE = 1.6
"""A field is scaled where its red cells are as many times larger or smaller."""
MOST_ENLARGED = 4.0
"""No field is enlarged more: there is nothing to see in so small a cell."""
GLASS = 90
"""Per cent of the pixels that are at most as light as the background."""
PALEST = 0.05
"""Optical density that something in the field must have: below is noise of the camera."""
FEWEST = 3
"""Red cells that are measured at least."""
SMALLEST = 6.0
"""Diameter, in pixels, of the smallest round region that is measured: below is dirt."""
LONGEST = 1.5
"""Length of a round region in widths; the images of some laboratories were squeezed."""
FULLEST = 0.9
"""Share of the ellipse of the same moments that a round region fills: two cells in one do not."""
UNALIKE = 1.6
"""Upper quartile of the diameters in lower quartiles above which they are not of one kind of cell."""
DARKEST = 1.5
"""Density, in median densities of all that is stained, up to which densities are told apart."""
NUCLEAR = 0.25
"""Share of nuclear pixels from which a round region is no red cell."""
SHARE_OF_DEPTH = 0.1
"""How much deeper than the narrow place between them two red cells are, in depths of the deepest."""


class Settings(BaseModel):
    """The settings of `blobs`; the defaults are what nuclei are, in red cells."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    least: float = Field(
        0.6, gt=0.2, le=3, description="diameter of the smallest nucleus, in red cells"
    )
    largest: float = Field(
        3.0, gt=0.3, le=6, description="diameter of the largest nucleus, in red cells"
    )
    stain: float = Field(
        0.7,
        gt=0,
        le=5,
        description="amount of both dyes of the palest nucleus, in median densities of what is stained",
    )
    depth: float = Field(
        0.07,
        gt=0,
        le=1,
        description="how much deeper than the narrow place between them two nuclei are, in red cells",
    )
    red_cell: float | None = Field(
        None, gt=2, le=500, description="diameter of a red cell in pixels; left out, it is measured"
    )

    @model_validator(mode="after")
    def _order(self) -> Settings:
        if self.least >= self.largest:
            raise ValueError("the smallest nucleus must be smaller than the largest")
        return self


def find(image: npt.NDArray[np.uint8], *, settings: Settings) -> Found:
    """Return the nuclei and the size of the red cells of a field `(H, W, 3)` uint8 RGB.

    All are in pixels of the image. `red_cell` is `None` where fewer than three round ones are seen.
    """
    scale = min(1.0, LARGEST / max(image.shape[:2]))
    field = _resized(image, scale)
    stained, both = amounts(field)
    if not stained.any():
        return Found(np.empty((0, 2)), np.empty(0))
    # A cell is twice as wide as deep. Large ones are reduced, since noise would cut them to pieces.
    unit = settings.red_cell * scale if settings.red_cell else 2 * _depth(stained)
    if not RED_CELL / TOLERANCE <= unit <= RED_CELL * TOLERANCE:
        factor = min(RED_CELL / unit, MOST_ENLARGED, LARGEST / max(field.shape[:2]))
        scale, unit = scale * factor, unit * factor
        field = _resized(image, scale)
        stained, both = amounts(field)
        if not stained.any():
            return Found(np.empty((0, 2)), np.empty(0))
    red_cell = settings.red_cell
    if red_cell is None and (measured := _ruler(stained, both >= settings.stain)):
        red_cell, unit = measured / scale, measured
    # By the depth alone nothing is known of how large a nucleus may be: a close-up is all nucleus.
    largest = settings.largest * unit if red_cell else np.inf
    least = settings.least * unit
    height, width = field.shape[:2]
    # What the field was really scaled by, in x and y: sides are whole numbers of pixels.
    across, down = width / image.shape[1], height / image.shape[0]
    centres, diameters = _nuclei(_smooth(both) >= settings.stain, least, settings.depth * unit)
    kept = (diameters >= least) & (diameters <= largest)
    centres, diameters = centres[kept], diameters[kept]
    centres = np.clip((centres + 0.5) / (across, down), 0, np.array(image.shape[1::-1]) - 1e-3)
    return Found(centres, diameters / np.sqrt(across * down), red_cell)


def amounts(image: npt.NDArray[np.uint8]) -> tuple[Mask, Numbers]:
    """Return where a field `(H, W, 3)` is stained, and how much of both dyes together is in each pixel.

    The unit of the amount is the median density of what is stained; both are `(H, W)`.
    """
    from skimage.color import rgb2hed
    from skimage.filters import threshold_otsu

    white = np.maximum(np.percentile(image, GLASS, axis=(0, 1)), 1.0)
    light = np.clip(image / white, 1 / 255, 1.0)
    density = -np.log(light).mean(axis=2)
    stained = density > PALEST
    if not stained.any():
        return stained, np.zeros(stained.shape)
    # Nuclei and a scale bar are so dark that the line would be drawn between them and the red cells.
    limited = np.minimum(density, DARKEST * np.median(density[stained]))
    if limited.min() < limited.max():
        stained = density > max(float(threshold_otsu(limited)), PALEST)
    # scikit-image gives amounts as shares of the darkest that it knows, one millionth of the light.
    dyes = rgb2hed(light) * -np.log(1e-6)
    haematoxylin, eosin = dyes[..., 0], np.maximum(dyes[..., 1] - dyes[..., 2], 0.0)
    both = np.sqrt(haematoxylin * eosin)
    return stained, both / np.median(density[stained])


def _nuclei(mask: Mask, least: float, depth: float) -> tuple[Numbers, Numbers]:
    """Return centres `(M, 2)` and diameters `(M,)` of the parts of the nuclear regions `(H, W)`, in pixels.

    Holes smaller than a circle of the diameter `least` are filled.
    """
    from skimage.measure import regionprops_table
    from skimage.morphology import remove_small_holes

    mask = remove_small_holes(mask, max_size=round(np.pi / 4 * least**2))
    table = regionprops_table(_parted(mask, depth), properties=("centroid", "area"))
    centres = np.stack([table["centroid-1"], table["centroid-0"]], axis=1)
    return centres, 2 * np.sqrt(table["area"] / np.pi)


def _parted(mask: Mask, depth: float) -> npt.NDArray[np.int32]:
    """Return the parts of the regions `(H, W)`, numbered from 1, where they are cut at their narrow places.

    A part is where the way to the edge is longer by `depth` pixels than at the narrow place.
    """
    from skimage.measure import label
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    inside = _smooth(_inside(mask))
    parts: npt.NDArray[np.int32] = watershed(-inside, label(h_maxima(inside, depth)), mask=mask)
    return parts


def _inside(mask: Mask) -> Numbers:
    """Return how far each pixel of the regions `(H, W)` is from their edge, in pixels."""
    from scipy.ndimage import distance_transform_edt

    if mask.all():
        return np.full(mask.shape, min(mask.shape) / 2)
    # What is cut by the border of the image goes on behind it.
    inside: Numbers = distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]
    return inside


def _depth(mask: Mask) -> float:
    """Return how far the inside of the regions `(H, W)` is from their edge, in pixels."""
    return float(np.percentile(_inside(mask)[mask], 95))


def _smooth(values: Numbers) -> Numbers:
    from skimage.filters import gaussian

    smoothed: Numbers = gaussian(values, 1.0, preserve_range=True)
    return smoothed


def _ruler(stained: Mask, nuclear: Mask) -> float | None:
    """Return the diameter of the red cells in pixels, or `None`."""
    from skimage.measure import label
    from skimage.segmentation import clear_border

    # A pale centre is round; the gap between cells has hollow sides.
    gaps = clear_border(label(~stained, connectivity=1))
    pale = _rounds(gaps)
    whole = stained | np.isin(gaps, pale["label"][pale["area"] < stained.size / 50])
    cells = _rounds(clear_border(_parted(whole, SHARE_OF_DEPTH * _depth(whole))), nuclear)
    diameter = 2 * np.sqrt(cells["area"] / np.pi)
    diameter = np.sort(diameter[(diameter >= SMALLEST) & (cells["intensity_mean"] < NUCLEAR)])
    if len(diameter) < FEWEST:
        return None
    # Platelets and dirt may be more than the cells, but half of all area is in larger regions.
    area = np.cumsum(diameter**2)
    diameter = diameter[diameter > diameter[np.searchsorted(area, area[-1] / 2)] / 2]
    low, middle, high = np.percentile(diameter, (25, 50, 75))
    if len(diameter) < FEWEST or high > UNALIKE * low:
        return None
    return float(middle)


def _rounds(regions: npt.NDArray[np.int32], values: Mask | None = None) -> dict[str, Numbers]:
    """Return `label`, `area` and, with values `(H, W)`, `intensity_mean` of the regions that are round."""
    from skimage.measure import regionprops_table

    names = ["label", "area", "axis_major_length", "axis_minor_length"]
    table = regionprops_table(
        regions,
        None if values is None else values.astype(np.float32),
        properties=names if values is None else [*names, "intensity_mean"],
    )
    long, wide = table["axis_major_length"], table["axis_minor_length"]
    kept = (long <= LONGEST * wide) & (table["area"] >= FULLEST * np.pi / 4 * long * wide)
    return {name: column[kept] for name, column in table.items()}


def _resized(image: npt.NDArray[np.uint8], scale: float) -> npt.NDArray[np.uint8]:
    """Return a field scaled, `(H, W, 3)` uint8."""
    import cv2  # many times as fast as the same of scikit-image

    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled: npt.NDArray[np.uint8] = cv2.resize(image, (width, height), interpolation=how)
    return scaled


@hookimpl
def allkit_finders() -> Iterable[Finder]:
    """Offer the finder."""
    return [
        Finder("blobs", find, "nuclei as blobs of both dyes, by scikit-image", settings=Settings)
    ]
