"""Lobes: the parts of a nucleus that belong to one white cell."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from allkit.images.regions import WHOLE, Parts
from allkit.records import RED_CELL
from allkit.types import Doubles, Ints, Mask

__all__ = ["join_lobes"]

LOBE = 0.1
"""Area, in red cells, below which a part is a speck or a platelet and no lobe of a nucleus."""
APART = 1.3
"""Largest distance of the centres of two lobes, in diameters of a red cell."""
JOINED = 1.8
"""Largest diameter, in diameters of a red cell, of a nucleus that lobes make together: two touching
blasts are larger."""
BETWEEN = 0.2
"""Share of background in the space between two lobes up to which they lie in one cytoplasm."""
BLOCK = 256
"""Parts that are compared with all others at once."""


def join_lobes(parts: Parts, mask: Mask, background: Mask) -> Doubles:
    """Return `(M, 3)` the area and the centre (x, y) of each nucleus, its lobes joined.

    Two parts are lobes of one nucleus when they are close and not too large together, and when one
    cytoplasm holds them: next to no `background` in the circle between their centres. Between two
    round cells that touch there is some. The nearest are joined first.
    """
    large = parts.area >= LOBE * WHOLE
    table = np.stack([parts.area, parts.x, parts.y], axis=1)[large]
    changes = [0] * len(table)
    numbers = np.arange(len(table))
    blocks = [numbers[start : start + BLOCK] for start in range(0, len(table), BLOCK)]
    pairs = [pair for rows in blocks for pair in _pairs(table, changes, rows, rows)]
    heapq.heapify(pairs)
    while pairs:
        _, first, second, when = heapq.heappop(pairs)
        unchanged = when == (changes[first], changes[second])
        if not (unchanged and _in_one_cytoplasm(table[[first, second], 1:], mask, background)):
            continue
        area = table[first, 0] + table[second, 0]
        weighed = table[first, 0] * table[first, 1:] + table[second, 0] * table[second, 1:]
        table[first] = (area, *(weighed / area))
        table[second] = (0.0, np.inf, np.inf)
        changes[first] += 1
        changes[second] += 1
        for pair in _pairs(table, changes, numbers[[first]], np.array([len(table)])):
            heapq.heappush(pairs, pair)
    return table[table[:, 0] > 0]


def _pairs(
    table: Doubles, changes: Sequence[int], rows: Ints, before: Ints
) -> Iterator[tuple[float, int, int, tuple[int, int]]]:
    """Yield the parts that may be lobes of one nucleus with the parts `rows` `(R,)`.

    Of all those with a number below `before` `(R,)`. Each as the distance, both numbers, and how often
    both parts had changed by then.
    """
    area, x, y = table.T
    distance = np.hypot(x - x[rows, None], y - y[rows, None])
    fits = (distance <= APART * RED_CELL) & (area + area[rows, None] <= JOINED**2 * WHOLE)
    number = np.arange(len(table))
    fits &= (area > 0) & (number < before[:, None]) & (number != rows[:, None])
    for place, other in np.argwhere(fits).tolist():
        row = int(rows[place])
        yield float(distance[place, other]), row, other, (changes[row], changes[other])


def _in_one_cytoplasm(centres: Doubles, mask: Mask, background: Mask) -> bool:
    """Say whether the circle over two centres `(2, 2)` shows no background beside the nuclei."""
    x, y = centres.mean(axis=0)
    radius = max(1.0, float(np.hypot(*(centres[0] - centres[1]))) / 2)
    top, left = max(0, int(y - radius)), max(0, int(x - radius))
    window = np.s_[top : int(y + radius) + 2, left : int(x + radius) + 2]
    rows, columns = np.indices(mask[window].shape)
    circle = (rows + top - y) ** 2 + (columns + left - x) ** 2 <= radius**2
    between = circle & (mask[window] == 0)
    pale = int(np.count_nonzero(between & (background[window] != 0)))
    return pale <= BETWEEN * max(1, int(np.count_nonzero(between)))
