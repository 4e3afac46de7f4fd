"""What a treatment of a set hides of its cells, and the colour in which it is painted over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from allkit.data.dataset import Dataset
from allkit.evaluation.shortcuts import background_of
from allkit.images.cells import find_cells
from allkit.quality.treatment import Treatment
from allkit.types import Pixels

__all__ = ["background_colour", "hidden_cells", "spread"]

_LOOKED_AT = 200  # images in which cells are counted, and the colour of the background is measured


def spread(positions: Sequence[int]) -> list[int]:
    """Return at most `_LOOKED_AT` of the positions, spread evenly."""
    if len(positions) <= _LOOKED_AT:
        return list(positions)
    places = np.linspace(0, len(positions) - 1, _LOOKED_AT).astype(int)
    return [positions[place] for place in places.tolist()]


def background_colour(some: Dataset, treatment: Treatment) -> tuple[int, int, int]:
    """Return the median colour of the background: a pale place that no search takes for a cell."""
    if not treatment.painted:
        return Treatment().colour

    def middle(index: int) -> Pixels:
        image = some.read(index)
        return np.asarray(np.median(image[background_of(image)], axis=0), np.uint8)

    red, green, blue = np.median(some.each(middle), axis=0).round().astype(int).tolist()
    return red, green, blue


def hidden_cells(some: Dataset, treatment: Treatment) -> tuple[int, int]:
    """Return how many white cells some images have, and the centres of how many are hidden."""
    if not treatment.painted and not treatment.cut:
        return 0, 0

    def count(index: int) -> tuple[int, int]:
        image = some.read(index)
        shown = np.zeros(image.shape[:2], bool)
        shown[treatment.kept_pixels(image)] = True
        for place in treatment.painted_pixels(image):
            shown[place] = False
        cells = find_cells(image).cells
        height, width = image.shape[:2]
        seen = [shown[min(int(c.y), height - 1), min(int(c.x), width - 1)] for c in cells]
        return len(cells), sum(not one for one in seen)

    counts = np.array(some.each(count)).reshape(-1, 2).sum(axis=0)
    return int(counts[0]), int(counts[1])
