"""Arrays that may be larger than the memory."""

from __future__ import annotations

import math
import tempfile
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["large_array"]

Scalar = TypeVar("Scalar", bound=np.generic)

IN_MEMORY = 64 * 2**20
"""Bytes from which on an array lies in a file that is mapped into memory."""


def large_array(shape: tuple[int, ...], dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    """Return an array of any content; a large one in a file, whose pages the system may take back.

    The file has no name: it goes when the last array on it goes, also when the process is killed.
    It lies where temporary files do.
    """
    if math.prod(shape) * np.dtype(dtype).itemsize <= IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="allkit-") as stream:
        return np.asarray(np.memmap(stream, dtype, "w+", shape=shape))
