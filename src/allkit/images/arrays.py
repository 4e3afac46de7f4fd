"""Arrays that may be larger than the memory."""

from __future__ import annotations

import math
import tempfile
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["IN_MEMORY", "large_array"]

Scalar = TypeVar("Scalar", bound=np.generic)

IN_MEMORY = 64 * 2**20
"""Larger arrays are in a file that is mapped into memory; in bytes."""


def large_array(shape: tuple[int, ...], dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    """Return an uninitialised array; a large one in a file, so that the system can free its pages.

    The file is in the folder of temporary files and has no name: it is deleted with the last array
    on it, also when the process is killed.
    """
    if math.prod(shape) * np.dtype(dtype).itemsize <= IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="allkit-") as stream:
        return np.asarray(np.memmap(stream, dtype, "w+", shape=shape))
