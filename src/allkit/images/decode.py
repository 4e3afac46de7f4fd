"""The door for images: what is given becomes `(H, W, 3)` uint8 RGB, by the reader of its format.

allkit reads JPEG, PNG, TIFF and BMP itself (`own`); readers of plugins take other formats
(`readers`), and parts of files that are never read whole (`tiles`). Everything else is refused with
an `ImageError`, whose `code` says why.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ImageFile

from allkit.errors import ConfigError, ImageError
from allkit.images.hidden import hidden_parts, says_tile
from allkit.images.own import IMAGE_SUFFIXES, format_of, head_of
from allkit.images.profiles import foreign_profile
from allkit.images.readers import raster_of
from allkit.images.refusal import check_bytes, check_size
from allkit.images.regular import read_regular
from allkit.images.tiles import is_slide_name, refuse_slide, tile_named
from allkit.records import Raster
from allkit.types import Pixels

__all__ = [
    "IMAGE_SUFFIXES",
    "Decoded",
    "ImageInfo",
    "decoded",
    "read_image",
    "read_info",
    "read_raster",
]

PROFILE = "colour_profile"
"""The entry of a raster's metadata that says that colours are meant otherwise than as sRGB."""


@dataclass(frozen=True)
class ImageInfo:
    """The content of the header: upright size in pixels, Pillow's mode, and the format's name."""

    width: int
    height: int
    mode: str
    format: str


@dataclass(frozen=True)
class Decoded:
    """The pixels of an image, `(H, W, 3)` uint8 RGB, and what its file says of their colours.

    `profile` names the colour profile where that is another one than sRGB; it was not applied. `tile`
    says that it is a part of a file that is never read whole, such as a whole slide, also where it was
    saved as an image of its own by `allkit tiles`.
    """

    pixels: Pixels
    profile: str = ""
    tile: bool = False


def read_image(
    source: str | Path | bytes | npt.NDArray[Any], *, name: str | None = None
) -> npt.NDArray[np.uint8]:
    """Return `(H, W, 3)` uint8 RGB, contiguous and writable, sharing no memory with `source`.

    `source` is a path, the bytes of a file, or an array: `(H, W, 3)` uint8 RGB or `(H, W)` uint8
    grey. `name` is what an error calls it. Raises `ImageError`.
    """
    return decoded(source, name=name).pixels


def read_raster(source: str | Path | bytes, *, name: str | None = None) -> Raster:
    """Return everything that the reader of a file says: the pixels, and what it says of them.

    Of JPEG, PNG, TIFF and BMP `left_out` names what the file holds beside pixels (`EXIF`, `GPS`), and
    `metadata` has `colour_profile` where that is not sRGB. Of a tile of a whole slide, by its name,
    there is the scale. `name` is what an error calls it. Raises `ImageError`.
    """
    if isinstance(source, str | Path) and (tile := tile_named(str(source))) is not None:
        return Raster(tile.read(name or ""), tile.region.micrometres_per_pixel)
    name, data = _bytes_of(source, name)
    raster = raster_of(data, name)
    if not format_of(data):
        return raster
    profile = {PROFILE: "not sRGB"} if foreign_profile(data) else {}
    return replace(raster, metadata=profile, left_out=hidden_parts(data))


def decoded(source: str | Path | bytes | npt.NDArray[Any], *, name: str | None = None) -> Decoded:
    """Return what `read_image` does, and what has to be said of it."""
    if isinstance(source, np.ndarray):
        return Decoded(_from_array(source, name or "The array"))
    if isinstance(source, str | Path) and (tile := tile_named(str(source))) is not None:
        return Decoded(tile.read(name or ""), tile=True)
    name, data = _bytes_of(source, name)
    raster = raster_of(data, name)
    profile = foreign_profile(data) if format_of(data) else raster.metadata.get(PROFILE, "")
    return Decoded(raster.pixels, str(profile), tile=says_tile(data))


def read_info(source: str | Path | bytes, *, name: str | None = None) -> ImageInfo:
    """Return the content of the header. Raises `ImageError` as `read_image`.

    No pixel of a format that allkit reads itself is decoded; other files are read whole.
    """
    name, data = _bytes_of(source, name)
    check_bytes(len(data), name)
    if kind := format_of(data):
        return ImageInfo(*head_of(kind, data, name))
    height, width = raster_of(data, name).pixels.shape[:2]
    return ImageInfo(width, height, "RGB", "")


def _bytes_of(source: str | Path | bytes, name: str | None) -> tuple[str, bytes]:
    """Return what an error calls an image, and the bytes of its file."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ConfigError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so half an image would pass for a whole "
            "one. Set it to False before reading images."
        )
    if isinstance(source, bytes | bytearray | memoryview):
        name = name or "The image in memory"
        if is_slide_name(name):
            refuse_slide(name, name)
        return name, bytes(source)
    if isinstance(source, str | Path):
        path, name = str(source), name or str(source)
        if is_slide_name(path) and os.path.isfile(path):
            refuse_slide(path, name)
        return name, read_regular(source, name)
    raise ImageError(
        f"{name or 'The image'} is a {type(source).__name__}. "
        "Give a path, the bytes of a file, or a numpy array.",
        code="array",
    )


def _from_array(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        raise ImageError(
            f"{name} has the shape {array.shape} and the type {array.dtype}; expected (H, W, 3) "
            "or (H, W) uint8. Convert it to 8-bit RGB.",
            code="array",
        )
    check_size(array.shape[1], array.shape[0], name)
    return np.array(np.stack([array] * 3, axis=-1) if grey else array, order="C", subok=False)
