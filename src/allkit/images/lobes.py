"""Lobes: the parts of a nucleus that belong to one white cell."""

from __future__ import annotations

import numpy as np

from allkit.images.regions import WHOLE, Parts
from allkit.records import RED_CELL
from allkit.types import Doubles, Mask

__all__ = ["join_lobes"]

LOBE = 0.1
"""Area, in red cells, below which a part is a speck or a platelet and no lobe of a nucleus."""
APART = 1.3
"""Largest distance of the centres of two lobes, in diameters of a red cell."""
JOINED = 1.7
"""Largest diameter, in diameters of a red cell, of a nucleus that lobes make together: two touching
blasts are larger."""
BETWEEN = 0.1
"""Share of background in the space between two lobes up to which they lie in one cytoplasm."""


def join_lobes(parts: Parts, mask: Mask, background: Mask) -> Doubles:
    """Return `(M, 3)` the area and the centre (x, y) of each nucleus, its lobes joined.

    Two parts are lobes of one nucleus when they are close and not too large together, and when one
    cytoplasm holds them: next to no `background` in the circle between their centres. Between two
    round cells that touch there is some. The nearest are joined first.
    """
    large = parts.area >= LOBE * WHOLE
    table = np.stack([parts.area, parts.x, parts.y], axis=1)[large]
    while (pair := _next_pair(table, mask, background)) is not None:
        first, second = table[pair[0]], table[pair[1]]
        area = first[0] + second[0]
        centre = (first[0] * first[1:] + second[0] * second[1:]) / area
        table[pair[0]] = (area, *centre)
        table = np.delete(table, pair[1], axis=0)
    return table


def _next_pair(table: Doubles, mask: Mask, background: Mask) -> tuple[int, int] | None:
    """Return the nearest two parts that are lobes of one nucleus."""
    area, x, y = table.T
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    fits = (distance <= APART * RED_CELL) & (area[:, None] + area <= JOINED**2 * WHOLE)
    rows, columns = np.nonzero(np.triu(fits, 1))
    for index in np.argsort(distance[rows, columns], kind="stable"):
        pair = int(rows[index]), int(columns[index])
        if _in_one_cytoplasm(table[pair[0], 1:], table[pair[1], 1:], mask, background):
            return pair
    return None


def _in_one_cytoplasm(first: Doubles, second: Doubles, mask: Mask, background: Mask) -> bool:
    """Say whether the circle over two centres (x, y) shows no background beside the nuclei."""
    (x, y), radius = (first + second) / 2, max(1.0, float(np.hypot(*(first - second))) / 2)
    top, left = max(0, int(y - radius)), max(0, int(x - radius))
    window = np.s_[top : int(y + radius) + 2, left : int(x + radius) + 2]
    rows, columns = np.indices(mask[window].shape)
    circle = (rows + top - y) ** 2 + (columns + left - x) ** 2 <= radius**2
    between = circle & (mask[window] == 0)
    pale = int(np.count_nonzero(between & (background[window] != 0)))
    return pale <= BETWEEN * max(1, int(np.count_nonzero(between)))
