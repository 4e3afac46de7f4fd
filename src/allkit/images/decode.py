"""The reader of images: the only decoder of the library.

JPEG, PNG, TIFF and BMP become `(H, W, 3)` uint8 RGB, upright (EXIF orientation applied). Grey,
palette, CMYK, YCbCr and 1-bit become RGB, opaque alpha is dropped, 16 bits are divided by 257.
(`pixels` does that; `refusal` has the texts.) Everything else is refused with an `ImageError`, whose
`code` says why. Colour profiles are not applied, but named where they are not sRGB (`profiles`), and
an orientation given in XMP only is ignored. An MPO file is read as the JPEG at its beginning: the
rest is a preview or a depth map. What takes long is decoded in a process of its own (`apart`).

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from allkit.errors import ConfigError, ImageError
from allkit.images.apart import decode_apart
from allkit.images.formats import PixelFile, reduce_png, reduce_tiff
from allkit.images.jpeg import reduce_jpeg
from allkit.images.mistaken import pretender
from allkit.images.pixels import pixels_of_file
from allkit.images.profiles import foreign_profile
from allkit.images.refusal import check_bytes, check_memory, check_size, refuse
from allkit.images.regular import TAKEN, read_regular
from allkit.images.workload import is_long, memory_of
from allkit.types import Pixels

__all__ = [
    "IMAGE_SUFFIXES",
    "Decoded",
    "ImageInfo",
    "decoded",
    "read_here",
    "read_image",
    "read_info",
]

IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".jif",
    ".png",
    ".apng",
    ".tif",
    ".tiff",
    ".bmp",
    ".dib",
)

T = TypeVar("T")

FOREIGN = (
    (0, b"GIF8", "a GIF"),
    (8, b"WEBP", "a WebP"),
    (0, b"%PDF", "a PDF"),
    (128, b"DICM", "a DICOM"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftypmif1", "a HEIC"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"jP  ", "a JPEG 2000"),
    (0, b"8BPS", "a Photoshop"),
    (0, b"PK\x03\x04", "a ZIP"),
    (0, b"MM\0+", "a big-endian BigTIFF"),  # Pillow misreads it
)
"""The bytes by which files of other formats are recognised, their position, and the format's name."""


@dataclass(frozen=True)
class ImageInfo:
    """The content of the header: upright size in pixels, Pillow's mode, and the format's name."""

    width: int
    height: int
    mode: str
    format: str


@dataclass(frozen=True)
class Decoded:
    """The pixels of an image, `(H, W, 3)` uint8 RGB, and what its file says of their colours.

    `profile` names the colour profile where that is another one than sRGB; it was not applied.
    """

    pixels: Pixels
    profile: str = ""


def read_image(
    source: str | Path | bytes | npt.NDArray[Any], *, name: str | None = None
) -> npt.NDArray[np.uint8]:
    """Return `(H, W, 3)` uint8 RGB, contiguous and writable, sharing no memory with `source`.

    `source` is a path, the bytes of a file, or an array: `(H, W, 3)` uint8 RGB or `(H, W)` uint8
    grey. `name` is what an error calls it. Raises `ImageError`.
    """
    return decoded(source, name=name).pixels


def decoded(source: str | Path | bytes | npt.NDArray[Any], *, name: str | None = None) -> Decoded:
    """Return what `read_image` does, and with it the name of a colour profile that is not sRGB."""
    if isinstance(source, np.ndarray):
        return Decoded(_from_array(source, name or "The array"))
    name, data = _bytes_of(source, name)
    image, file = _open(data, name)
    profile = foreign_profile(data)
    if is_long(image, file):
        image.close()
        del image, file
        return Decoded(decode_apart(data, name), profile)
    return Decoded(_guarded(name, file.data, lambda: pixels_of_file(name, image, file)), profile)


def read_here(files: list[bytes], name: str) -> Pixels:
    """Return the pixels of the one file in a list, in this process, whatever it takes.

    The file is taken out of the list, so that it is not held while its pixels are decoded.
    """
    image, file = _open(files.pop(), name)
    return _guarded(name, file.data, lambda: pixels_of_file(name, image, file))


def read_info(source: str | Path | bytes, *, name: str | None = None) -> ImageInfo:
    """Return the content of the header; no pixel is decoded. Raises `ImageError` as `read_image`."""
    name, data = _bytes_of(source, name)
    image, file = _open(data, name)
    width, height = image.size if file.orientation < 5 else image.size[::-1]
    return ImageInfo(width, height, image.mode, str(image.format))


def _bytes_of(source: str | Path | bytes, name: str | None) -> tuple[str, bytes]:
    """Return what an error calls an image, and the bytes of its file."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ConfigError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so half an image would pass for a whole "
            "one. Set it to False before reading images."
        )
    if isinstance(source, bytes | bytearray | memoryview):
        return name or "The image in memory", bytes(source)
    if isinstance(source, str | Path):
        name = name or str(source)
        return name, read_regular(source, name)
    raise ImageError(
        f"{name or 'The image'} is a {type(source).__name__}. "
        "Give a path, the bytes of a file, or a numpy array.",
        code="array",
    )


def _open(data: bytes, name: str) -> tuple[ImageFile.ImageFile, PixelFile]:
    if not data:
        raise ImageError(f"{name} is empty (0 bytes). Copy it again from its source.", code="empty")
    check_bytes(len(data), name)
    reduce, opener = _format(data, name)
    file = _guarded(name, data, lambda: reduce(data, name))
    image = _guarded(name, file.data, lambda: opener(io.BytesIO(file.data)))
    check_size(*image.size, name)
    check_memory(memory_of(image, file), name)
    return image, file


def _from_array(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        raise ImageError(
            f"{name} has the shape {array.shape} and the type {array.dtype}; expected (H, W, 3) "
            "or (H, W) uint8. Convert it to 8-bit RGB.",
            code="array",
        )
    check_size(array.shape[1], array.shape[0], name)
    return np.array(np.stack([array] * 3, axis=-1) if grey else array, order="C", subok=False)


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


_Format = tuple[Callable[[bytes, str], PixelFile], Callable[[io.BytesIO], ImageFile.ImageFile]]


def _format(data: bytes, name: str) -> _Format:
    """Return the functions that reduce and open `data`, chosen by its first bytes, never by its name."""
    if data.startswith(b"\xff\xd8\xff"):
        return reduce_jpeg, JpegImageFile
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return reduce_png, PngImageFile
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0")):
        return reduce_tiff, TiffImageFile
    if data.startswith(b"BM") and b"\0" in data[:18]:
        return (lambda data, name: PixelFile(data)), BmpImageFile
    if saved := pretender(data):
        raise ImageError(f"{name} {saved}", code="not_an_image")
    kinds = (kind for at, magic, kind in FOREIGN if data[at : at + len(magic)] == magic)
    kind = next(kinds, "an SVG" if b"<svg" in data[:1024] else "")
    if not kind and not any(byte < 9 for byte in data[:512]):
        kind = "a text"
    what = f"is {kind} file, which is not read" if kind else "is not an image of a known format"
    raise ImageError(f"{name} {what}. {TAKEN}.", code="not_an_image")
