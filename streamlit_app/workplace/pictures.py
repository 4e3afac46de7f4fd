"""Pictures of fields for the browser: JPEGs of a wanted size, of which the last are kept in memory."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable

from PIL import Image

__all__ = ["PICTURES", "SIDES", "Pictures", "jpeg"]

SIDES = (160, 1024, 0)
"""The longest side of a picture in pixels; 0 is the field's own size."""
MOST_BYTES = 64 * 2**20


def jpeg(data: bytes, side: int) -> bytes:
    """Return an image file as a JPEG whose longer side is at most `side` pixels; 0 keeps its size."""
    with Image.open(io.BytesIO(data)) as opened:
        if side:
            opened.draft("RGB", (side, side))  # a JPEG is decoded near the wanted size
        image = opened.convert("RGB")
    if side:
        image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80 if side == SIDES[0] else 92, subsampling=0)
    return stream.getvalue()


class Pictures:
    """The pictures that were asked for last, at most 64 MiB of them."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most, self._size = most, 0
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, sha256: str, side: int, read: Callable[[], bytes]) -> bytes:
        """Return the picture of an image, which `read` gives where it is not kept."""
        key = (sha256, side)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = jpeg(read(), side)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._size += len(made)
            while self._size > self._most and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1])
        return made


PICTURES = Pictures()
