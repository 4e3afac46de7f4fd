"""Which images the reader refuses for their size or content, and the messages."""

from __future__ import annotations

from typing import NoReturn

from allkit.errors import ImageError

__all__ = [
    "MAX_BYTES",
    "MAX_MEMORY",
    "MAX_PARTS",
    "MAX_PIXELS",
    "MAX_SCANS",
    "MIN_SIDE",
    "check_bytes",
]
__all__ += ["check_depth", "check_memory", "check_size", "refuse"]

MIN_SIDE = 32
"""Fewest pixels of the shorter side."""
MAX_PIXELS = 50_000_000
MAX_BYTES = 512 * 2**20
MAX_MEMORY = 420_000_000
"""Most bytes that decoding may need: the file, what the decoder holds, and the pixels."""
FULL = 2**14
"""The brightest of samples that have 16 bits is at least this."""
MAX_SCANS = 100
"""Most scans of a JPEG; progressive ones have about ten."""
MAX_PARTS = 10_000
"""Most segments of a JPEG, and parts of a PNG or strips of a TIFF beyond those that its size explains."""
MESSAGES = {
    "truncated": "is truncated: its end is missing. Copy it again from its source.",
    "corrupt": "is damaged or of an unknown kind ({}). Copy or export it again.",
    "animated": "holds several frames. Save the one to be read as a file of its own.",
    "too_slow": "would take longer to decode than images do ({}). Export it again as a plain JPEG or "
    "PNG.",
    "float": "holds floating-point pixels, whose range is not known. Save it as 8-bit RGB.",
    "mode": "holds {}. Save it as 8-bit RGB.",
    "low_bit_depth": "holds {}, which as 16 bits would turn out too dark. Scale it to the "
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


def check_depth(highest: int, stated: int, name: str) -> None:
    """Raise `ImageError` for samples of 16 bits that hold fewer: the brightest is `highest`.

    Fewer than `FULL` are at most 14 bits in 16, or too dark to be told from them; more are refused
    where the file states fewer bits, `stated`, and its samples are in the lower ones.
    """
    if highest >= FULL and (stated >= 16 or highest >= 2**stated):
        return
    bits = max(highest.bit_length(), stated if stated < 16 else 0)
    bits = 12 if bits < 12 and highest >= 1024 else max(bits, 10)
    what = f"16-bit pixels of which the brightest is {highest}: {bits} bits in 16"
    refuse(name, "low_bit_depth", what)


def check_memory(size: float, name: str) -> None:
    """Raise `ImageError` for an image whose decoding needs more than `MAX_MEMORY` bytes."""
    if size > MAX_MEMORY:
        raise ImageError(
            f"{name} needs {size / 1e6:,.0f} MB of memory to be decoded; the limit is "
            f"{MAX_MEMORY / 1e6:,.0f} MB. Cut it into fields, shrink it, or save it as a plain JPEG.",
            code="too_large",
        )


def refuse(name: str, code: str, what: str = "", cause: Exception | None = None) -> NoReturn:
    """Raise the `ImageError` of this `code`; `what` fills the gap in its message, if there is one."""
    raise ImageError(f"{name} {MESSAGES[code].format(what)}", code=code) from cause
