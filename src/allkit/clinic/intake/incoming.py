"""An image as it will be stored: every pixel as the reader reads it, and nothing else."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace

import numpy as np

from allkit.clinic.records import sha256_of
from allkit.data.sources import DRAWN, BytesSource, says_drawn
from allkit.errors import ImageError
from allkit.images.decode import read_image
from allkit.images.formats import reduce_png
from allkit.images.hidden import hidden_parts, says_tile
from allkit.images.jpeg import reduce_jpeg
from allkit.images.own import format_of
from allkit.images.readers import raster_of
from allkit.images.statistics import STATISTIC_NAMES, image_statistics
from allkit.types import Pixels

__all__ = ["STAIN", "Incoming", "Refused", "incoming_of", "png_of", "take_dicom", "take_image"]


STAIN = tuple(f"{part}_{colour}" for part in ("background", "cells") for colour in "rgb")
"""What is kept of the colours of an image, by the names of `allkit.images.statistics`."""


@dataclass(frozen=True)
class Incoming:
    """An image that was read whole, as it will be stored.

    `data` is a JPEG or a PNG (`media` says which) without metadata; `sha256` is its hash. `width` and
    `height` are in pixels, upright. `stripped` names what the file held besides pixels (`EXIF`, or a
    keyword of DICOM), never its content. `accession` is the order's number in a DICOM, `""` where none.
    """

    name: str
    data: bytes = field(repr=False)
    width: int
    height: int
    media: str
    sha256: str
    micrometres_per_pixel: float | None = None
    stripped: tuple[str, ...] = ()
    accession: str = ""
    stain: tuple[float, ...] = ()
    """Optical densities of red, green and blue light (`STAIN`), of the background and the stained cells."""


@dataclass(frozen=True)
class Refused:
    """A file that was not taken: its name, why and what to do, and a stable word for programs.

    `code` is that of an `ImageError`, or `left_out` (hidden files, thumbnails, waste), `link`,
    `nested_zip`, `encrypted`, `damaged_zip`, `too_many`, `order`.
    """

    name: str
    message: str
    code: str


def take_image(data: bytes, name: str) -> Incoming:
    """Return an image as it will be stored. Raises `ImageError` as its reader does.

    A JPEG or PNG that holds pixels only is kept as it is. One that holds more is reduced to the parts
    that make pixels; where this would change a pixel (a photograph that has to be turned), and for all
    TIFF and BMP files, which no browser shows or which have room between their parts, the pixels are
    written as a PNG. So are those of every format that a plugin reads; of what its reader says of them
    the scale, the accession number and the names of what was left out are kept.
    """
    if not format_of(data):
        return _of_raster(data, name)
    if says_tile(data):
        raise ImageError(
            f"{name} is a tile that a program cut out of a whole slide. A case is made of fields that a "
            f"person chose: give photographs of those.",
            code="tile",
        )
    pixels = read_image(data, name=name)
    parts = hidden_parts(data)
    kept = data if data.startswith((b"\xff\xd8", b"\x89PNG")) else b""
    if kept and parts:
        kept = _reduced(kept, name, pixels)
    if not kept:
        kept = png_of(pixels, drawn=says_drawn(BytesSource(data)))
    return incoming_of(kept, name, pixels, stripped=parts)


def take_dicom(data: bytes, name: str) -> Incoming:
    """Return a DICOM, with or without its preamble, as `take_image` does, whatever it is called.

    Its reader is a plugin, allkit-dicom; without one the `ImageError` says what to install.
    """
    return _of_raster(data, name, suffix=".dcm")


def _of_raster(data: bytes, name: str, *, suffix: str = "") -> Incoming:
    raster = raster_of(data, name, suffix=suffix)
    taken = incoming_of(png_of(raster.pixels), name, raster.pixels, stripped=raster.left_out)
    return replace(
        taken,
        micrometres_per_pixel=raster.micrometres_per_pixel,
        accession=raster.accession,
    )


def incoming_of(
    data: bytes, name: str, pixels: Pixels, *, stripped: tuple[str, ...] = ()
) -> Incoming:
    """Return the record of a stored file `data` whose pixels are `pixels`, `(H, W, 3)`."""
    measured = dict(zip(STATISTIC_NAMES, image_statistics(pixels), strict=True))
    return Incoming(
        name=name,
        data=data,
        width=pixels.shape[1],
        height=pixels.shape[0],
        media="image/jpeg" if data.startswith(b"\xff\xd8") else "image/png",
        sha256=sha256_of(data),
        stripped=stripped,
        stain=tuple(round(float(measured[name]), 4) for name in STAIN),
    )


def _reduced(data: bytes, name: str, pixels: Pixels) -> bytes:
    """Return the parts that make pixels if they still give the same pixels, otherwise nothing."""
    if says_drawn(BytesSource(data)):  # the mark would go too
        return b""
    try:
        file = (reduce_jpeg if data.startswith(b"\xff\xd8") else reduce_png)(data, name)
        same = not hidden_parts(file.data) and np.array_equal(
            read_image(file.data, name=name), pixels
        )
    except ImageError:  # a PNG that the reader relabels for itself
        return b""
    return file.data if same else b""


def png_of(pixels: Pixels, *, drawn: bool = False) -> bytes:
    """Return `(H, W, 3)` uint8 RGB as a PNG; `drawn` adds the mark of images that allkit drew."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    if drawn:
        mark.add_text(*DRAWN)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=mark)
    return stream.getvalue()
