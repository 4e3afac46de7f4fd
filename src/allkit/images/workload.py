"""What decoding costs, told from the head of a file before it begins: memory and time.

A file of a few hundred KB can keep a decoder busy for minutes. What asks for more than images do is
refused by `formats` and `jpeg`; what may take longer than a second is decoded apart.
"""

from __future__ import annotations

from PIL import ImageFile

from allkit.images.formats import PixelFile

__all__ = ["is_long", "memory_of"]

LONG = 30_000_000
"""Pixels, each as often as it is gone over, that take about a second."""
SIZES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes that Pillow keeps of a pixel, by mode; 4 of all others."""


def memory_of(image: ImageFile.ImageFile, file: PixelFile) -> float:
    """Return the bytes that decoding needs at once: file, decoder, Pillow's image and the pixels."""
    held = SIZES.get(image.mode, 4)
    rawmode = str(image.tile[0].args) if image.tile else ""
    twice = image.mode.startswith("RGB") and ";16" in rawmode
    each = held + file.buffered + 3 if twice else held + max(file.buffered, 3)
    return image.size[0] * image.size[1] * each + len(file.data)


def is_long(image: ImageFile.ImageFile, file: PixelFile) -> bool:
    """Return whether decoding may take longer than about a second."""
    width, height = image.size
    work = width * height * file.passes + len(file.data)
    if (
        image.tile and image.tile[0].codec_name == "bmp_rle"
    ):  # by Python, and a jump down fills rows
        work += 40 * len(file.data) + 255 * width
    return work > LONG
