"""Small pictures of images, to be looked at."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from allkit.records import Cell
from allkit.types import Pixels

__all__ = ["picture_of"]

_RING = "#0b6e4f"


def picture_of(image: Pixels, cells: Sequence[Cell], width: int, side: int = 192) -> bytes:
    """Return a JPEG with `side` as the longer side, and a ring about each white cell.

    Places of cells are in pixels of an image of `width`.
    """
    # Imported here: whoever answers imports this module, and hardly ever draws.
    from PIL import ImageDraw

    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    scale = small.width / width
    draw = ImageDraw.Draw(small)
    for cell in cells:
        x, y, r = cell.x * scale, cell.y * scale, max(3.0, 0.75 * cell.diameter * scale)
        draw.ellipse((x - r, y - r, x + r, y + r), outline=_RING, width=2)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=82)
    return stream.getvalue()
