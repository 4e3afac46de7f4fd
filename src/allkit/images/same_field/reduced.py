"""The reduced green channel of an image, which is laid over that of another one."""

from __future__ import annotations

import numpy as np

from allkit.images.arrays import large_array
from allkit.images.same_field.geometry import PIXELS
from allkit.images.same_field.signatures import green_channel
from allkit.types import Bytes

__all__ = ["ReducedStore", "reduced"]

ROOM = 2**30
"""Most bytes of the reduced images of a set, in a temporary file."""


def reduced(image: Bytes) -> Bytes:
    """Return the green channel of `image` `(H, W, 3)` uint8, its longer side 256: `(h, w)` uint8."""
    return green_channel(image, PIXELS)


class ReducedStore:
    """Room for the reduced images of `count` images; none if they would take over 1 GiB.

    Without room an empty array takes the place of each.
    """

    def __init__(self, count: int) -> None:
        fits = count * PIXELS * PIXELS <= ROOM
        self._rows = large_array((count, PIXELS * PIXELS), np.uint8) if fits else None

    def keep(self, index: int, grey: Bytes) -> Bytes:
        """Store `grey` for image number `index`, and return it as stored."""
        if self._rows is None:
            return np.empty((0, 0), np.uint8)
        row = self._rows[index, : grey.size]
        row[:] = grey.ravel()
        return np.asarray(row.reshape(grey.shape))
