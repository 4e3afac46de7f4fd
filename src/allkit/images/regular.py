"""The bytes of a regular file: the only way in which the file of an image is opened.

A pipe may never end and a device may act on being opened, so both are refused, as is a folder. What
is read is what was checked: the check is made again on the file that was opened.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from allkit.errors import ImageError
from allkit.images.refusal import MAX_BYTES, check_bytes

__all__ = ["TAKEN", "read_first", "read_regular"]

TAKEN = "Give a JPEG, PNG, TIFF or BMP file"
_UNBLOCKED = getattr(os, "O_NONBLOCK", 0)  # so that opening a pipe without a writer does not wait
_FLAGS = os.O_RDONLY | _UNBLOCKED | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def read_regular(path: str | os.PathLike[str], name: str) -> bytes:
    """Return the bytes of a regular file; links to one are followed.

    Raises `ImageError`, which calls it `name`: `missing` when it does not exist or cannot be opened,
    `not_an_image` for a folder, a pipe or a device, `too_large` for over `MAX_BYTES`.
    """
    try:
        with _opened(Path(path), name) as (stream, size):
            check_bytes(size, name)
            data = stream.read(size + 1)
            while len(data) > size and len(data) <= MAX_BYTES:  # it grew, or its size is not known
                size = len(data)
                data += stream.read(min(max(size, 2**16), MAX_BYTES + 1 - size))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"{name} does not exist. Check the path.", code="missing") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or error
        message = f"{name} cannot be opened ({reason}). Check the path and its permissions."
        raise ImageError(message, code="missing") from error
    except MemoryError as error:
        message = f"{name} does not fit into the memory that is left. Shrink it or free memory."
        raise ImageError(message, code="too_large") from error
    check_bytes(len(data), name)
    return data


def read_first(path: str | os.PathLike[str], count: int) -> bytes:
    """Return the first bytes of a regular file, `count` at most; none where it cannot be opened."""
    try:
        with _opened(Path(path), "") as (stream, _):
            return stream.read(count)
    except (OSError, ValueError, ImageError):
        return b""


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """Give the open file and its size in bytes."""
    _require_regular(path.stat(), name)
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        _require_regular(status, name)  # another file may have taken its place meanwhile
        if _UNBLOCKED:
            os.set_blocking(descriptor, True)
        stream = os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    with stream:
        yield stream, status.st_size


def _require_regular(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{name} is a folder. {TAKEN}.", code="not_an_image")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{name} is not a regular file. {TAKEN}.", code="not_an_image")
