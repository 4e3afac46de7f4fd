"""From an image that Pillow has opened to upright `(H, W, 3)` uint8 RGB, in bands of rows.

Beside the pixels that are returned and those that Pillow holds, which are freed before the next are
decoded, there is one band in memory.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from allkit.errors import ImageError
from allkit.images.formats import PixelFile
from allkit.images.jpeg_end import Watched
from allkit.images.refusal import check_depth, refuse
from allkit.types import Pixels

__all__ = ["pixels_of_file"]

BAND = 2**21
"""Pixels of a band."""


def pixels_of_file(name: str, image: ImageFile.ImageFile, file: PixelFile) -> Pixels:
    """Return the upright pixels of an opened image, `(H, W, 3)` uint8; it is closed then."""
    rawmode = _rawmode(image)
    if rawmode.startswith("RGB") and ";16" in rawmode:
        rgb = _of_halves(name, image, file, rawmode)
    else:
        if isinstance(image, BmpImageFile) and image.tile:
            _check_fourth(name, image, file)
        _load(image, name, file)
        if image.mode == "F":
            refuse(name, "float")
        if image.mode[0] == "I" or file.grey_alpha_16:
            rgb = _of_grey_16(name, image, file)
        else:
            rgb = _of_8_bits(name, image, file)
        image.close()
    return np.ascontiguousarray(_upright(rgb, file.orientation))


def _rawmode(image: ImageFile.ImageFile) -> str:
    """Return the layout of the stored bytes, as Pillow names it."""
    args = image.tile[0].args if image.tile else ""
    return str(args[0]) if isinstance(args, tuple) and args else str(args)


def _load(image: ImageFile.ImageFile, name: str, file: PixelFile) -> None:
    if isinstance(image, TiffImageFile):  # made here, as Pillow would look at MAX_IMAGE_PIXELS
        image.im = Image.new(image.mode, image.size).im
    if isinstance(image, JpegImageFile) and file.data_end:
        watched = Watched(image, file)
        image.load()
        watched.check(name)
    else:
        image.load()


def _bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield the rows of each band, and the band as an image; small images are a single one."""
    width, height = image.size
    step = max(1, BAND // width)
    if step >= height:
        yield slice(0, height), image
        return
    for top in range(0, height, step):
        bottom = min(top + step, height)
        yield slice(top, bottom), image.crop((0, top, width, bottom))


def _room(image: Image.Image) -> Pixels:
    return np.empty((image.size[1], image.size[0], 3), np.uint8)


def _of_halves(name: str, image: ImageFile.ImageFile, file: PixelFile, rawmode: str) -> Pixels:
    """Return 16-bit RGB, opaque or not, of which Pillow keeps one byte of two, divided by 257.

    Decoding once as big-endian and once as little-endian yields both bytes. The high ones are what
    is returned, but for a correction by one (`_divided`).
    """
    big, little = (rawmode[:-1].replace("RGBa", "RGBA") + end for end in "BL")
    is_little = rawmode[-1] == "L" or (rawmode[-1] == "N" and sys.byteorder == "little")
    high, low = (little, big) if is_little else (big, little)
    rgb = _room(image)
    opaque: list[npt.NDArray[np.uint8]] = []  # by band, eight pixels a byte
    copy = _decoded_as(image, file, high, name)
    alpha = copy.mode == "RGBA"
    for rows, band in _bands(copy):
        values = np.asarray(band)
        rgb[rows] = values[..., :3]
        if alpha:
            opaque.append(np.packbits(values[..., 3] == 255))
    copy.close()
    copy = _decoded_as(image, file, low, name)
    summed = _Summed(name, file)
    for number, (rows, band) in enumerate(_bands(copy)):
        values = np.asarray(band)
        if alpha:
            clear = values[..., 3] < 255
            clear |= np.unpackbits(opaque[number], count=clear.size).reshape(clear.shape) == 0
            summed.clear += int(np.count_nonzero(clear))
        summed.add(rgb[rows], values[..., :3])
    copy.close()
    image.close()
    summed.check(rgb.shape[0] * rgb.shape[1])
    return rgb


def _decoded_as(
    image: ImageFile.ImageFile, file: PixelFile, rawmode: str, name: str
) -> ImageFile.ImageFile:
    copy: ImageFile.ImageFile = type(image)(io.BytesIO(file.data))
    copy.tile = [
        tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
        for tile in copy.tile
    ]
    _load(copy, name, file)
    return copy


class _Summed:
    """What is known of an image of 16 bits after all its bands: the brightest value, what is clear."""

    def __init__(self, name: str, file: PixelFile) -> None:
        self.name, self.file = name, file
        self.highest = self.clear = 0
        self.key = np.frombuffer(file.transparency, ">u2").astype(np.uint16)

    def add(self, high: Pixels, low: Pixels) -> None:
        """Take a band `(h, W, C)`, and make of its high bytes, in place, the values over 257."""
        values = high.astype(np.uint16)
        values <<= 8
        values |= low
        self.highest = max(self.highest, int(values.max()))
        if len(self.key):
            self.clear += int(np.count_nonzero((values == self.key).all(axis=2)))
        # (v + 128) // 257 is h + (l - h + 128) // 257 for v = 256 h + l: h, or one more or less.
        difference = low.astype(np.int16)
        difference -= high
        high += difference > 128
        high -= difference < -128

    def check(self, size: int) -> None:
        """Raise `ImageError` for an image that is translucent, or has fewer bits than 16."""
        _check_opaque(self.name, self.clear, size)
        check_depth(self.highest, self.file.stated_bits, self.name)


def _of_grey_16(name: str, image: Image.Image, file: PixelFile) -> Pixels:
    """Return 16-bit grey, or grey and alpha that Pillow takes for RGBA, divided by 257."""
    rgb, summed = _room(image), _Summed(name, file)
    for rows, band in _bands(image):
        values = np.asarray(band)
        if file.grey_alpha_16:
            values = values.view(">u2")
            summed.clear += int(np.count_nonzero(values[..., 1] < 65535))
            values = values[..., 0]
        lowest, highest = int(values.min()), int(values.max())
        if lowest < 0 or highest > 65535:
            refuse(name, "mode", f"values from {lowest} to {highest}, beyond 16 bits")
        values = 65535 - values if file.inverted_16 else values
        both = values.astype("<u2")[..., None].view(np.uint8)
        high = np.ascontiguousarray(both[..., 1:])
        summed.add(high, both[..., :1])
        rgb[rows] = high
    summed.check(rgb.shape[0] * rgb.shape[1])
    return rgb


def _check_fourth(name: str, image: ImageFile.ImageFile, file: PixelFile) -> None:
    """Check the fourth byte of each pixel of a BMP that does not say what it is.

    It means nothing where it is the same in all pixels, 0 or 255; else it can only be an opacity.
    """
    tile = image.tile[0]
    if tile.codec_name != "raw" or not isinstance(tile.args, tuple) or tile.args[0] != "BGRX":
        return
    size = image.size[0] * image.size[1]
    fourth = np.frombuffer(file.data, np.uint8, 4 * size, tile.offset)[3::4]
    low, high = int(fourth.min()), int(fourth.max())
    if low != high or low not in (0, 255):
        _check_opaque(name, int(np.count_nonzero(fourth < 255)), size)


def _of_8_bits(name: str, image: Image.Image, file: PixelFile) -> Pixels:
    """Return any mode of at most 8 bits as `(H, W, 3)`."""
    if image.mode not in ("1", "L", "P", "RGB", "CMYK", "YCbCr", "RGBA", "LA", "PA", "La"):
        refuse(name, "mode", f"pixels of the kind {image.mode!r}")
    rgb, clear = _room(image), 0
    for rows, band in _bands(image):
        if file.transparency:
            clear += int(_transparent(band, file.transparency, file.depth).sum())
        if image.mode in ("RGBA", "LA", "PA", "La"):
            clear += sum(band.getchannel(len(band.getbands()) - 1).histogram()[:255])
        plain = band.convert("LA") if image.mode == "La" else band
        rgb[rows] = np.asarray(plain if plain.mode == "RGB" else plain.convert("RGB"))
    _check_opaque(name, clear, rgb.shape[0] * rgb.shape[1])
    return rgb


def _transparent(image: Image.Image, transparency: bytes, depth: int) -> npt.NDArray[np.bool_]:
    """Return which pixels the tRNS chunk of a PNG makes less than opaque, `(H, W)`."""
    pixels = np.asarray(image)
    if image.mode == "P":
        alpha = np.full(256, 255, np.uint8)
        alpha[: len(transparency)] = np.frombuffer(transparency, np.uint8)
        return np.asarray(alpha[pixels] < 255)
    key: npt.NDArray[Any] = np.frombuffer(transparency, ">u2").astype(np.int64)
    if image.mode in ("1", "L"):  # the key counts in the file's own bits, the pixels in 8
        key = key * 255 // (2**depth - 1)
    if key.max(initial=0) > 255:  # no pixel of 8 bits is that
        return np.zeros(pixels.shape[:2], np.bool_)
    alike = pixels.reshape(*pixels.shape[:2], -1) == key.astype(pixels.dtype)
    return np.asarray(alike.all(axis=2))


def _check_opaque(name: str, clear: int, size: int) -> None:
    if clear:
        raise ImageError(
            f"{name} is translucent in {clear:,} of {size:,} pixels, "
            "and what shows through is not known. Save it without transparency.",
            code="translucent",
        )


def _upright(rgb: Pixels, orientation: int) -> Pixels:
    """Return `(H, W, 3)` turned as its EXIF orientation says."""
    if orientation >= 5:
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    return rgb
