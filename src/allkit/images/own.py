"""The formats that allkit reads itself: JPEG, PNG, TIFF and BMP, chosen by their first bytes.

They become `(H, W, 3)` uint8 RGB, upright (EXIF orientation applied). Grey, palette, CMYK, YCbCr and
1-bit become RGB, opaque alpha is dropped, 16 bits are divided by 257. (`pixels` does that; `refusal`
has the texts.) Everything else is refused with an `ImageError`, whose `code` says why. Colour
profiles are not applied, but named where they are not sRGB (`profiles`), and an orientation given in
XMP only is ignored. An MPO file is read as the JPEG at its beginning: the rest is a preview or a
depth map. What takes long is decoded in a process of its own (`apart`).

Pillow decodes the pixels, but sees only the parts of a file that hold pixels: the other parts
(texts, profiles, EXIF, ...) are removed first, because they cost memory and because Pillow
*warns* about broken ones. A warning would be an error in one program and lost in another, and
`warnings.catch_warnings` would act on all threads at once. For the same reason the classes of
the formats are called directly: `Image.open` warns by the process-wide `MAX_IMAGE_PIXELS`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from PIL import ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from allkit.errors import ImageError
from allkit.images.apart import decode_apart
from allkit.images.formats import PixelFile, reduce_png, reduce_tiff
from allkit.images.jpeg import reduce_jpeg
from allkit.images.pixels import pixels_of_file
from allkit.images.refusal import check_memory, check_size, refuse
from allkit.images.workload import is_long, memory_of
from allkit.types import Pixels

__all__ = ["FORMATS", "IMAGE_SUFFIXES", "Head", "format_of", "head_of", "pixels_of", "read_here"]

T = TypeVar("T")


class Format(NamedTuple):
    """One format: the ends of names, the beginnings of files, and what reduces and opens them."""

    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...]
    reduce: Callable[[bytes, str], PixelFile]
    opener: Callable[[io.BytesIO], ImageFile.ImageFile]


def _whole(data: bytes, name: str) -> PixelFile:
    return PixelFile(data)


FORMATS = {
    "jpeg": Format(
        (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"), (b"\xff\xd8\xff",), reduce_jpeg, JpegImageFile
    ),
    "png": Format((".png", ".apng"), (b"\x89PNG\r\n\x1a\n",), reduce_png, PngImageFile),
    "tiff": Format((".tif", ".tiff"), (b"II*\0", b"MM\0*", b"II+\0"), reduce_tiff, TiffImageFile),
    "bmp": Format((".bmp", ".dib"), (b"BM",), _whole, BmpImageFile),
}
"""The formats, by the names of their readers."""
IMAGE_SUFFIXES = tuple(suffix for kind in FORMATS.values() for suffix in kind.suffixes)


class Head(NamedTuple):
    """The content of the header: upright size in pixels, Pillow's mode, and the format's name."""

    width: int
    height: int
    mode: str
    format: str


def format_of(data: bytes) -> str:
    """Return the name of the format of a file by its first bytes, never by its name; empty for others."""
    for name, kind in FORMATS.items():
        if data.startswith(kind.magic):
            return name if name != "bmp" or b"\0" in data[:18] else ""
    return ""


def pixels_of(kind: str, data: bytes, name: str) -> Pixels:
    """Return the pixels of a file of one format, `(H, W, 3)` uint8 RGB. Raises `ImageError`."""
    image, file = _open(kind, data, name)
    if is_long(image, file):
        image.close()
        del image, file
        return decode_apart(data, name)
    return _guarded(name, file.data, lambda: pixels_of_file(name, image, file))


def read_here(files: list[bytes], name: str) -> Pixels:
    """Return the pixels of the one file in a list, in this process, whatever it takes.

    The file is taken out of the list, so that it is not held while its pixels are decoded.
    """
    kind = format_of(files[0])
    image, file = _open(kind, files.pop(), name)
    return _guarded(name, file.data, lambda: pixels_of_file(name, image, file))


def head_of(kind: str, data: bytes, name: str) -> Head:
    """Return the content of the header of a file of one format; no pixel is decoded."""
    image, file = _open(kind, data, name)
    width, height = image.size if file.orientation < 5 else image.size[::-1]
    return Head(width, height, image.mode, str(image.format))


def _open(kind: str, data: bytes, name: str) -> tuple[ImageFile.ImageFile, PixelFile]:
    reduce, opener = FORMATS[kind].reduce, FORMATS[kind].opener
    file = _guarded(name, data, lambda: reduce(data, name))
    image = _guarded(name, file.data, lambda: opener(io.BytesIO(file.data)))
    check_size(*image.size, name)
    check_memory(memory_of(image, file), name)
    return image, file


def _guarded(name: str, file: bytes, work: Callable[[], T]) -> T:
    """Return `work()`, with whatever Pillow raises for `file` turned into an `ImageError`."""
    try:
        return work()
    except ImageError:
        raise
    except MemoryError as error:
        message = f"{name} does not fit into the memory that is left. Shrink it or free memory."
        raise ImageError(message, code="too_large") from error
    # Pillow has no common error class: hostile files have raised a dozen types, among them warnings
    # turned into errors. `work` does nothing but decode this one file.
    except Exception as error:  # noqa: BLE001 - decoders raise types of their own
        cut_bmp = file[:2] == b"BM" and struct.unpack("<I", file[2:6].ljust(4, b"\xff"))[0] > len(
            file
        )
        if cut_bmp or isinstance(error, EOFError) or "truncated" in str(error).lower():
            refuse(name, "truncated", cause=error)
        refuse(name, "corrupt", str(error) or type(error).__name__, error)
