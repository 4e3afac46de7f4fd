"""From an image that Pillow has opened to upright `(H, W, 3)` uint8 RGB."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from allkit.errors import ImageError
from allkit.images.formats import PixelFile
from allkit.images.refusal import refuse

__all__ = ["pixels_of_file"]


def pixels_of_file(name: str, image: ImageFile.ImageFile, file: PixelFile) -> npt.NDArray[np.uint8]:
    """Return the upright pixels of an opened image, `(H, W, 3)` uint8."""
    rawmode = _rawmode(image)
    if rawmode.startswith("RGB") and ";16" in rawmode:
        pixels = _both_bytes(image, file, rawmode)
    else:
        _load(image)
        pixels = np.asarray(image) if image.mode[0] in "IF" else np.empty(0)
    if image.mode == "F":
        refuse(name, "float")
    if file.grey_alpha_16:
        pixels = np.asarray(image).view(">u2")
    if pixels.size:
        rgb = _from_16_bits(name, 65535 - pixels if file.inverted_16 else pixels, file)
    else:
        rgb = _from_8_bits(name, image, file)
    return np.array(_upright(rgb, file.orientation), order="C")


def _rawmode(image: ImageFile.ImageFile) -> str:
    """Return the layout of the stored bytes, as Pillow names it."""
    args = image.tile[0].args if image.tile else ""
    return str(args[0]) if isinstance(args, tuple) and args else str(args)


def _load(image: ImageFile.ImageFile) -> None:
    if isinstance(image, TiffImageFile):  # made here, as Pillow would look at MAX_IMAGE_PIXELS
        image.im = Image.new(image.mode, image.size).im
    image.load()


def _both_bytes(image: ImageFile.ImageFile, file: PixelFile, rawmode: str) -> npt.NDArray[Any]:
    """Return `(H, W, C)` uint16 of 16-bit RGB(A), of which Pillow keeps the high bytes only.

    Decoding once as big-endian and once as little-endian yields both bytes.
    """
    big, little = (rawmode[:-1].replace("RGBa", "RGBA") + end for end in "BL")
    is_little = rawmode[-1] == "L" or (rawmode[-1] == "N" and sys.byteorder == "little")
    halves = []
    for mode in (little, big) if is_little else (big, little):
        copy = type(image)(io.BytesIO(file.data))
        copy.tile = [
            tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode)
            for tile in copy.tile
        ]
        _load(copy)
        halves.append(np.asarray(copy))
    return np.asarray(halves[0].astype(np.uint16) << 8 | halves[1])


def _from_16_bits(name: str, pixels: npt.NDArray[Any], file: PixelFile) -> npt.NDArray[np.uint8]:
    """Return 16-bit grey, grey and alpha, RGB or RGBA divided by 257, `(H, W, 3)`."""
    lowest, highest = int(pixels.min()), int(pixels.max())
    if lowest < 0 or highest > 65535:
        refuse(name, "mode", f"values from {lowest} to {highest}, beyond 16 bits")
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] in (2, 4):
        _check_opaque(name, pixels[:, :, -1] < 65535)
        pixels = pixels[:, :, :-1]
    if file.transparency:
        key = np.frombuffer(file.transparency, ">u2")
        _check_opaque(name, (pixels == key).all(axis=2))
    highest = int(pixels.max())
    if highest < 4096:
        refuse(
            name,
            "low_bit_depth",
            f"16-bit pixels of which the brightest is {highest}: 12 bits in 16",
        )
    scaled = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return scaled if scaled.shape[2] == 3 else np.repeat(scaled, 3, axis=2)


def _from_8_bits(name: str, image: ImageFile.ImageFile, file: PixelFile) -> npt.NDArray[np.uint8]:
    """Return any mode of at most 8 bits as `(H, W, 3)`."""
    if image.mode not in ("1", "L", "P", "RGB", "CMYK", "YCbCr", "RGBA", "LA", "PA", "La"):
        refuse(name, "mode", f"pixels of the kind {image.mode!r}")
    if file.transparency:
        _check_opaque(name, _transparent(image, file.transparency, file.depth))
    if image.mode in ("RGBA", "LA", "PA", "La"):
        _check_opaque(name, np.asarray(image.getchannel(len(image.getbands()) - 1)) < 255)
    plain = image.convert("LA") if image.mode == "La" else image
    return np.asarray(plain if plain.mode == "RGB" else plain.convert("RGB"))


def _transparent(
    image: ImageFile.ImageFile, transparency: bytes, depth: int
) -> npt.NDArray[np.bool_]:
    """Return which pixels the tRNS chunk of a PNG makes less than opaque, `(H, W)`."""
    pixels = np.asarray(image)
    if image.mode == "P":
        alpha = np.full(256, 255, np.uint8)
        alpha[: len(transparency)] = np.frombuffer(transparency, np.uint8)
        return np.asarray(alpha[pixels] < 255)
    key = np.frombuffer(transparency, ">u2").astype(np.int64)
    if image.mode in ("1", "L"):  # the key counts in the file's own bits, the pixels in 8
        key = key * 255 // (2**depth - 1)
    return np.asarray((pixels.reshape(*pixels.shape[:2], -1) == key).all(axis=2))


def _check_opaque(name: str, transparent: npt.NDArray[np.bool_]) -> None:
    if transparent.any():
        raise ImageError(
            f"{name} is translucent in {int(transparent.sum()):,} of {transparent.size:,} pixels, "
            "and what shows through is not known. Save it without transparency.",
            code="translucent",
        )


def _upright(rgb: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Return `(H, W, 3)` turned as its EXIF orientation says."""
    if orientation >= 5:
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    return rgb
