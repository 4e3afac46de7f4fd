"""Which images the reader refuses for their size or content, and the messages."""

from __future__ import annotations

from typing import NoReturn

from allkit.errors import ImageError

__all__ = ["MAX_BYTES", "MAX_PIXELS", "MIN_SIDE", "check_bytes", "check_size", "refuse"]

MIN_SIDE = 32
"""Fewest pixels of the shorter side."""
MAX_PIXELS = 50_000_000
MAX_BYTES = 512 * 2**20
MESSAGES = {
    "truncated": "is truncated: its end is missing. Copy it again from its source.",
    "corrupt": "is damaged or of an unknown kind ({}). Copy or export it again.",
    "animated": "holds several frames. Save the one to be read as a file of its own.",
    "float": "holds floating-point pixels, whose range is not known. Save it as 8-bit RGB.",
    "mode": "holds {}. Save it as 8-bit RGB.",
    "low_bit_depth": "holds {}, which as 16 bits would turn out nearly black. Scale it to the "
    "full 8 or 16 bits where it was recorded, or save it as 8-bit RGB.",
}


def check_bytes(size: int, name: str) -> None:
    """Raise `ImageError` for a file of more than `MAX_BYTES`."""
    if size > MAX_BYTES:
        message = f"{name} has {size:,} bytes; the limit is {MAX_BYTES:,}. Cut or shrink the image."
        raise ImageError(message, code="too_large")


def check_size(width: int, height: int, name: str) -> None:
    """Raise `ImageError` for an image of more than `MAX_PIXELS`, or with a side below `MIN_SIDE`."""
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width} × {height} = {width * height:,} pixels; the limit is "
            f"{MAX_PIXELS:,}. Cut it into fields or shrink it.",
            code="too_large",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{name} is {width} × {height} pixels; the smallest side taken is {MIN_SIDE}. "
            "Give the original image, not a thumbnail.",
            code="too_small",
        )


def refuse(name: str, code: str, what: str = "", cause: Exception | None = None) -> NoReturn:
    """Raise the `ImageError` of this `code`; `what` fills the gap in its message, if there is one."""
    raise ImageError(f"{name} {MESSAGES[code].format(what)}", code=code) from cause
