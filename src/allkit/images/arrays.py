"""Arrays that may be larger than the memory."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from allkit.errors import AllkitError

__all__ = ["IN_MEMORY", "large_array"]

Scalar = TypeVar("Scalar", bound=np.generic)

IN_MEMORY = 64 * 2**20
"""Larger arrays are in a file that is mapped into memory; in bytes."""


def large_array(shape: tuple[int, ...], dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    """Return an uninitialised array; a large one in a file, so that the system can free its pages.

    The file is in the folder of temporary files and has no name: it is deleted with the last array
    on it, also when the process is killed. Its room is taken at once: a disk that is full later would end
    the process without a word. Raises `AllkitError` when there is no room.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="allkit-") as stream:
            _take_room(stream.fileno(), size)
            return np.asarray(np.memmap(stream, dtype, "w+", shape=shape))
    except OSError as error:
        raise AllkitError(
            f"Cannot write {size / 2**20:,.0f} MB into the folder of temporary files: "
            f"{error.strerror or error}. Free some space, or set TMPDIR to a folder on another disk."
        ) from error


def _take_room(file: int, size: int) -> None:
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
