"""Which parts of a field, and which of its white cells, a network is shown."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from allkit.records import InputSpec
from allkit.types import Ints

__all__ = ["Selection"]


class Selection(NamedTuple):
    """Which parts of a field a network is shown.

    With `tiles`, a large field is cut into tiles; otherwise the whole image is the only tile. Of each
    tile the network sees at most `most` cells: the largest ones, or, with `spread`, evenly from the
    largest to the smallest, so that their mean is that of all within what so many cells can say.
    """

    tiles: bool = True
    most: int = 24
    spread: bool = False

    @classmethod
    def of(cls, spec: InputSpec, *, tiles: bool) -> Selection:
        """Return what a model is shown; `tiles` is the mark of its description."""
        return cls(tiles, spec.max_cells, spec.spread)

    def among(self, cells: Ints) -> Ints:
        """Return the cells to show, of those of one tile, the largest first."""
        if len(cells) <= self.most:
            return cells
        if not self.spread:
            return cells[: self.most]
        # The middle one of each of as many equal parts.
        steps = ((np.arange(self.most) + 0.5) * len(cells) / self.most).astype(np.int64)
        return cells[steps]
