"""Small pictures of images, to be looked at."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw

from allkit.records import Cell
from allkit.types import Pixels

__all__ = ["SIDE", "jpeg_of", "picture_of"]

SIDE = 160
"""Pixels of the longer side."""
_RING = "#0b6e4f"


def jpeg_of(image: Pixels, side: int = SIDE) -> bytes:
    """Return an image `(H, W, 3)` uint8 as a JPEG whose longer side has at most `side` pixels."""
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return _encoded(small)


def picture_of(image: Pixels, cells: Sequence[Cell], width: int, side: int = 192) -> bytes:
    """Return `jpeg_of` with a ring about each white cell; they are in pixels of an image of `width`."""
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    scale = small.width / width
    draw = ImageDraw.Draw(small)
    for cell in cells:
        x, y, r = cell.x * scale, cell.y * scale, max(3.0, 0.75 * cell.diameter * scale)
        draw.ellipse((x - r, y - r, x + r, y + r), outline=_RING, width=2)
    return _encoded(small)


def _encoded(small: Image.Image) -> bytes:
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=82)
    return stream.getvalue()
