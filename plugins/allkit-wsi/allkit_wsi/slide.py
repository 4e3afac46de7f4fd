"""One whole slide: its scale, where there is something on the glass, and the pixels of its tiles.

Nothing is read whole. The overview is put together from blocks, so that the memory stays the same
for slides of any size and for files without small levels.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image

from allkit import ImageError, Region
from allkit_wsi.settings import Tiling

__all__ = ["INSTALL", "Slide", "library"]

INSTALL = "pip install 'allkit-wsi[openslide]'"
OVERVIEW = 2048
"""Most pixels of the longer side of the overview by which tissue is found."""
BLOCK = 2048
"""Pixels of a side of what is read at once for it."""
PARTS = 4
"""A tile is looked at in so many parts a side: of 28 micrometres, as wide as a few red cells."""
DENSITY = 0.03
"""The mean optical density of a part in green light from which on something is on the glass."""
WHITE, BLACK = 200.0, 40
"""Glass is at least so bright; what is darker than the other in all colours was not scanned."""
STAINED = (200, 120, 190)
SCALES = (0.05, 4.0)
"""The micrometres per pixel that are believed."""
LONGEST = OVERVIEW * BLOCK
"""Most pixels of a side of a slide; scanners make a few hundred thousand."""
MOST_TILES = 500_000
MOST_READ = 2**32
"""Most pixels of the level of which the overview is made: 65,000 a side take a quarter of an hour."""
MOST_AT_ONCE = 8192
"""Most pixels of a side of what is read for one tile, and of the parts in which a file holds its pixels."""
MARGIN = 1.1
"""A slide may be so much coarser than the tiles; beyond that, enlarging would invent detail."""

Pixels = npt.NDArray[np.uint8]


def library() -> Any:
    """Return the module of OpenSlide; raise `ImportError` where it cannot be loaded."""
    try:
        import openslide
    except OSError as error:  # the module is there, and the library that it needs is not
        raise ImportError(str(error)) from error
    return openslide


class Slide:
    """A whole slide that is open; its tiles are read from any thread."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.name = str(path), os.path.basename(path)
        self._lock = threading.Lock()
        self._openslide = self._library()
        self._handle = self._opened()
        try:
            self.size: tuple[int, int] = self._handle.dimensions
            """Width and height in pixels of the slide as it was scanned."""
            self._levels = self._honest_levels()
        except self._openslide.OpenSlideError:
            self._refuse_damaged()

    def _library(self) -> Any:
        try:
            return library()
        except ImportError as error:
            raise ImageError(
                f"{self.path} is a whole slide, and OpenSlide cannot be loaded ({error}). Type: {INSTALL}.",
                code="reader",
            ) from error

    def _opened(self) -> Any:
        if not os.path.isfile(self.path):
            raise ImageError(f"{self.path} does not exist. Check the path.", code="missing")
        try:
            return self._openslide.OpenSlide(self.path)
        except self._openslide.OpenSlideUnsupportedFormatError:
            raise ImageError(
                f"{self.path} is no whole slide that OpenSlide reads. Export it as SVS or pyramidal TIFF.",
                code="not_an_image",
            ) from None
        except self._openslide.OpenSlideError:
            self._refuse_damaged()

    def _refuse_damaged(self) -> NoReturn:
        raise ImageError(
            f"{self.path} is a damaged whole slide. Copy it again from its source.", code="corrupt"
        ) from None

    def _refuse_large(self, what: str) -> NoReturn:
        raise ImageError(f"{self.path} {what}", code="too_large")

    def _honest_levels(self) -> list[tuple[int, float]]:
        """Return the levels with how much smaller they are; without those that are so in one direction only.

        Refuses a slide that is too large, or holds its pixels in parts too large, to be read in pieces.
        """
        width, height = self.size
        if max(self.size) > LONGEST:
            self._refuse_large(
                f"states {width:,} × {height:,} pixels, which no scanner makes. Export it again."
            )
        for axis in ("width", "height"):
            stated = self._handle.properties.get(f"openslide.level[0].tile-{axis}", "0")
            if not stated.isdecimal() or int(stated) > MOST_AT_ONCE:
                self._refuse_large(
                    f"is not in tiles that can be read one by one. Export it with tiles of at most "
                    f"{MOST_AT_ONCE:,} pixels a side."
                )
        levels = [(0, 1.0)]
        for number in range(1, self._handle.level_count):
            across, down = self._handle.level_dimensions[number]
            step = float(self._handle.level_downsamples[number])
            spare = 2 * step  # a side is rounded to whole pixels
            if (
                step > levels[-1][1]
                and abs(across * step - width) <= 0.05 * width + spare
                and abs(down * step - height) <= 0.05 * height + spare
            ):
                levels.append((number, step))
        return levels

    def _level_for(self, factor: float) -> tuple[int, float]:
        """Return the smallest level that is at most so much smaller than the scan, and how much it is."""
        return [one for one in self._levels if one[1] <= max(factor, 1.0)][-1]

    def close(self) -> None:
        """Close the file."""
        self._handle.close()

    def scale(self, settings: Tiling) -> float:
        """Return the micrometres per pixel as it was scanned; raise `ImageError` where it is not known."""
        if settings.stated_micrometres_per_pixel is not None:
            return settings.stated_micrometres_per_pixel
        stated = [self._handle.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
        try:
            across, down = (float(text) for text in stated)
        except (TypeError, ValueError):
            across = down = math.nan
        if not (SCALES[0] <= across <= SCALES[1] and abs(across - down) <= 0.01 * across):
            raise ImageError(
                f"{self.path} does not say how large its pixels are. Where a pixel is 0.25 micrometres: "
                """`allkit predict --reader '{whole-slide: {stated_micrometres_per_pixel: 0.25}}'`, or """
                "`allkit tiles --stated 0.25`.",
                code="mode",
            )
        return across

    def regions(self, settings: Tiling) -> list[Region]:
        """Return the tiles that are not bare glass, row by row. Raises `ImageError`."""
        scale = self.scale(settings)
        if scale > settings.micrometres_per_pixel * MARGIN:
            raise ImageError(
                f"{self.path} was scanned at {scale:.3g} micrometres per pixel, coarser than the "
                f"{settings.micrometres_per_pixel:.3g} asked for. Scan it with a stronger objective.",
                code="too_small",
            )
        side = settings.side * settings.micrometres_per_pixel / scale
        if side / self._level_for(side / settings.side * 1.01)[1] > MOST_AT_ONCE:
            self._refuse_large(
                f"has no level near {settings.micrometres_per_pixel:.3g} micrometres per pixel, so that each "
                f"tile takes more than {MOST_AT_ONCE:,} pixels a side. Ask for smaller tiles."
            )
        places = self._places(side, settings.least_tissue)
        if settings.most_tiles is not None and len(places) > settings.most_tiles:
            chosen = np.linspace(0, len(places) - 1, settings.most_tiles).round().astype(int)
            places = [places[i] for i in chosen]
        return [
            Region(
                f"x={x},y={y}",
                partial(self.tile, x, y, side, settings.side),
                settings.micrometres_per_pixel,
            )
            for x, y in places
        ]

    def _places(self, side: float, least: float) -> list[tuple[int, int]]:
        """Return the upper left corners of the tiles with tissue, in pixels of the scan."""
        width, height = self.size
        columns, rows = int(width / side), int(height / side)
        if not columns or not rows:
            raise ImageError(
                f"{self.path} is {width} × {height} pixels, smaller than one tile of {side:.0f}.",
                code="too_small",
            )
        if columns * rows > MOST_TILES:
            self._refuse_large(
                f"would be cut into {columns * rows:,} tiles; the limit is {MOST_TILES:,}. Ask for "
                f"larger ones."
            )
        # The sum over every rectangle from the corner, so that each part of a tile takes four look-ups.
        density = density_of(self.overview(side / (4 * PARTS)))  # four pixels for each part
        sums = np.zeros((density.shape[0] + 1, density.shape[1] + 1))
        np.cumsum(density, axis=0, out=sums[1:, 1:])
        np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
        above, below = _edges(rows * PARTS, side / PARTS * density.shape[0] / height, len(density))
        left, right = _edges(
            columns * PARTS, side / PARTS * density.shape[1] / width, density.shape[1]
        )
        total = (
            sums[np.ix_(below, right)]
            - sums[np.ix_(above, right)]
            - sums[np.ix_(below, left)]
            + sums[np.ix_(above, left)]
        )
        covered = total / np.outer(below - above, right - left) > DENSITY
        share = covered.reshape(rows, PARTS, columns, PARTS).mean(axis=(1, 3))
        taken = np.argwhere(share >= least)
        return [(round(column * side), round(row * side)) for row, column in taken.tolist()]

    def overview(self, factor: float = 1.0) -> Pixels:
        """Return the slide made small by a factor, `(h, w, 3)` uint8, at most `OVERVIEW` pixels a side."""
        factor = min(BLOCK, max(factor, max(self.size) / OVERVIEW))
        level, step = self._level_for(factor)
        across, down = self._handle.level_dimensions[level]
        if across * down > MOST_READ:
            self._refuse_large(
                "has no small level, by which tissue is found. Export it as a pyramidal TIFF."
            )
        shrink = max(1, math.ceil(factor / step))
        block = max(1, BLOCK // shrink) * shrink
        unread: ImageError | None = None
        any_read = False
        small = np.full((math.ceil(down / shrink), math.ceil(across / shrink), 3), 255, np.uint8)
        for top in range(0, down, block):
            for left in range(0, across, block):
                size = (min(block, across - left), min(block, down - top))
                try:
                    piece = self._read((round(left * step), round(top * step)), level, size)
                    any_read = True
                except ImageError as error:
                    # As if it were stained: so its tiles are listed, and each that is damaged says so.
                    unread, piece = error, Image.new("RGB", size, STAINED)
                reduced = np.asarray(piece.reduce(shrink))
                at = top // shrink, left // shrink
                small[at[0] : at[0] + reduced.shape[0], at[1] : at[1] + reduced.shape[1]] = reduced
        if unread is not None and not any_read:
            raise unread
        return small

    def tile(self, x: int, y: int, side: float, pixels: int) -> Pixels:
        """Return the square at (x, y) of `side` pixels of the scan, `(pixels, pixels, 3)` uint8."""
        level, step = self._level_for(side / pixels * 1.01)
        count = max(1, round(side / step))
        image = self._read((x, y), level, (count, count))
        if count != pixels:
            image = image.resize(
                (pixels, pixels),
                Image.Resampling.BOX if count > pixels else Image.Resampling.BICUBIC,
            )
        return np.array(image)

    def _read(self, place: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """Return a part of a level as RGB; what was not scanned is white."""
        handle = self._handle
        try:
            part = handle.read_region(place, level, size)
        except (self._openslide.OpenSlideError, OSError):
            self._replace(handle)  # after an error OpenSlide gives nothing more from this one
            self._refuse_damaged()
        alpha = part.getchannel("A")
        if alpha.getextrema() == (255, 255):
            return part.convert("RGB")
        white = Image.new("RGB", size, (255, 255, 255))
        white.paste(part, mask=alpha)
        return white

    def _replace(self, broken: Any) -> None:
        with self._lock:
            if self._handle is broken:
                with contextlib.suppress(ImageError):  # the next read says so
                    self._handle = self._opened()


def _edges(
    count: int, step: float, most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where `count` tiles begin and end in the overview; none is empty."""
    begin = np.minimum(np.floor(np.arange(count) * step).astype(np.int64), most - 1)
    end = np.minimum(np.ceil((np.arange(count) + 1) * step).astype(np.int64), most)
    return begin, np.maximum(end, begin + 1)


def density_of(overview: Pixels) -> npt.NDArray[np.float32]:
    """Return how much green light is missing, `(h, w)` float32, as optical density; 0 for bare glass.

    Haemoglobin, eosin and azure all take up green. Glass is the brightest that there is, and what was
    not scanned counts as glass.
    """
    green = overview[..., 1].astype(np.float32)
    glass = max(float(np.percentile(green, 99)), WHITE)
    density = np.log10(glass / np.clip(green, 1.0, glass))
    density[overview.max(axis=2) < BLACK] = 0.0
    return density.astype(np.float32)


def listed(regions: list[Region]) -> Iterator[tuple[int, int, Region]]:
    """Yield the place of each tile with the tile."""
    for region in regions:
        x, y = (int(part.partition("=")[2]) for part in region.name.split(","))
        yield x, y, region
