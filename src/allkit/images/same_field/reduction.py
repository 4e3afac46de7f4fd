"""The reduced green channel of an image, which is laid over that of another one."""

from __future__ import annotations

import shutil
import tempfile

import numpy as np

from allkit.images.arrays import IN_MEMORY, large_array
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
    """Room for the reduced images of `count` images, in the memory or in a temporary file.

    No room is taken if they need over 1 GiB, or over half of what is free on the disk. An empty array
    then takes the place of each.
    """

    def __init__(self, count: int) -> None:
        wanted = count * PIXELS * PIXELS
        fits = wanted <= IN_MEMORY or wanted <= min(ROOM, _free() // 2)
        self._rows = large_array((count, PIXELS * PIXELS), np.uint8) if fits else None
        self._sizes = np.zeros((count, 2), np.int16)

    def keep(self, row: int, grey: Bytes) -> None:
        """Store a reduced image in a row, where there is room."""
        if self._rows is not None:
            self._sizes[row] = grey.shape
            self._rows[row, : grey.size] = grey.ravel()

    def get(self, row: int) -> Bytes:
        """Return the reduced image of a row."""
        if self._rows is None:
            return np.empty((0, 0), np.uint8)
        height, width = self._sizes[row].tolist()
        return np.asarray(self._rows[row, : height * width].reshape(height, width))


def _free() -> int:
    """Return the bytes that are free where temporary files lie."""
    return shutil.disk_usage(tempfile.gettempdir()).free
