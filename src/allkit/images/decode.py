"""The reader of images: the only decoder of the library.

JPEG, PNG, TIFF and BMP become `(H, W, 3)` uint8 RGB, upright (EXIF orientation applied). Grey,
palette, CMYK, YCbCr and 1-bit become RGB, opaque alpha is dropped, 16 bits are divided by 257.
Everything else is refused with an `ImageError`, whose `code` says why. Colour profiles are
ignored, and so is an orientation given in XMP only. An MPO file is read as the JPEG it begins
with: what follows is a preview or a depth map.

Pillow decodes the pixels, but sees only the parts of a file that make pixels: the other parts
(texts, profiles, EXIF, ...) are cut out first, because they cost memory and because Pillow
*warns* about broken ones. A warning would be an error in one program and lost in another, and
`warnings.catch_warnings` would act on all threads at once. For the same reason the classes of
the formats are called directly: `Image.open` warns by the process-wide `MAX_IMAGE_PIXELS`.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, TiffTags
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from allkit.errors import ConfigError, ImageError

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "MIN_SIDE", "ImageInfo", "read_image", "read_info"]
__all__ += ["exif_orientation"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
MIN_SIDE = 32
MAX_PIXELS = 50_000_000
MAX_BYTES = 512 * 2**20

T = TypeVar("T")

TAKEN = "Give a JPEG, PNG, TIFF or BMP file"
FOREIGN = (
    (0, b"GIF8", "a GIF"), (8, b"WEBP", "a WebP"), (0, b"%PDF", "a PDF"), (128, b"DICM", "a DICOM"),
    (4, b"ftyphei", "a HEIC"), (4, b"ftypmif1", "a HEIC"), (4, b"ftypavif", "an AVIF"),
    (4, b"jP  ", "a JPEG 2000"), (0, b"8BPS", "a Photoshop"), (0, b"PK\x03\x04", "a ZIP"),
    (0, b"MM\0+", "a big-endian BigTIFF"),  # Pillow misreads it
)  # fmt: skip
MESSAGES = {
    "truncated": "is truncated: its end is missing. Copy it again from its source.",
    "corrupt": "is damaged or of an unknown kind ({}). Copy or export it again.",
    "animated": "holds several frames. Save the one to be read as a file of its own.",
    "float": "holds floating-point pixels, whose range is not known. Save it as 8-bit RGB.",
    "mode": "holds {}. Save it as 8-bit RGB.",
    "low_bit_depth": "holds {}, which as 16 bits would turn out nearly black. Scale it to the "
    "full 8 or 16 bits where it was recorded, or save it as 8-bit RGB.",
}
# The TIFF tags that make pixels; Pillow and libtiff are shown no others.
TIFF_TAGS = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320}
TIFF_TAGS |= {322, 323, 324, 325, 332, 338, 339, 347, 512, 513, 514, 515, 519, 520, 521}
TIFF_TAGS |= {529, 530, 531, 532}
TIFF_TYPES = {1: "B", 2: "c", 3: "H", 4: "I", 5: "Q", 6: "b", 7: "c", 8: "h", 9: "i", 10: "q"}
TIFF_TYPES |= {11: "f", 12: "d", 16: "Q"}


@dataclass(frozen=True)
class ImageInfo:
    """What the header says: upright size in pixels, Pillow's mode, and the format's name."""

    width: int
    height: int
    mode: str
    format: str


@dataclass(frozen=True)
class _File:
    """A file reduced to what makes pixels, and what was cut out but matters."""

    data: bytes
    orientation: int = 1
    transparency: bytes = b""  # the body of a PNG's tRNS chunk
    depth: int = 8  # the bits of a sample in a PNG
    grey_alpha_16: bool = False  # a PNG relabelled from 2 × 16 to 4 × 8 bits per pixel
    inverted_16: bool = False  # a TIFF in which 0 is white; Pillow inverts up to 8 bits only


def read_image(
    source: str | Path | bytes | npt.NDArray[Any], *, name: str | None = None
) -> npt.NDArray[np.uint8]:
    """Return `(H, W, 3)` uint8 RGB, contiguous and writable, sharing no memory with `source`.

    `source` is a path, the bytes of a file, or an array: `(H, W, 3)` uint8 RGB or `(H, W)` uint8
    grey. `name` is what an error calls it. Raises `ImageError`.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, name or "The array")
    name, image, file = _open(source, name)
    return _guarded(name, file.data, lambda: _decode(name, image, file))


def read_info(source: str | Path | bytes, *, name: str | None = None) -> ImageInfo:
    """Return what the header says; no pixel is decoded. Raises `ImageError` as `read_image`."""
    _, image, file = _open(source, name)
    width, height = image.size if file.orientation < 5 else image.size[::-1]
    return ImageInfo(width, height, image.mode, str(image.format))


def _open(source: str | Path | bytes, name: str | None) -> tuple[str, ImageFile.ImageFile, _File]:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ConfigError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so half an image would pass for a whole "
            "one. Set it to False before reading images."
        )
    if isinstance(source, bytes | bytearray | memoryview):
        name, data = name or "The image in memory", bytes(source)
    elif isinstance(source, str | Path):
        name = name or str(source)
        data = _file_bytes(Path(source), name)
    else:
        raise ImageError(
            f"{name or 'The image'} is a {type(source).__name__}. "
            "Give a path, the bytes of a file, or a numpy array.",
            code="array",
        )
    if not data:
        raise ImageError(f"{name} is empty (0 bytes). Copy it again from its source.", code="empty")
    _check_bytes(len(data), name)
    reduce, opener = _format(data, name)
    file = _guarded(name, data, lambda: reduce(data, name))
    image = _guarded(name, file.data, lambda: opener(io.BytesIO(file.data)))
    _check_size(*image.size, name)
    return name, image, file


def _file_bytes(path: Path, name: str) -> bytes:
    try:
        if path.is_dir():
            raise ImageError(f"{name} is a folder. {TAKEN}.", code="not_an_image")
        if path.exists() and not path.is_file():  # a pipe or a device may never end
            raise ImageError(f"{name} is not a regular file. {TAKEN}.", code="not_an_image")
        _check_bytes(path.stat().st_size, name)
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"{name} does not exist. Check the path.", code="missing") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or error
        message = f"{name} cannot be opened ({reason}). Check the path and its permissions."
        raise ImageError(message, code="missing") from error


def _check_bytes(size: int, name: str) -> None:
    if size > MAX_BYTES:
        message = f"{name} has {size:,} bytes; the limit is {MAX_BYTES:,}. Cut or shrink the image."
        raise ImageError(message, code="too_large")


def _check_size(width: int, height: int, name: str) -> None:
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


def _from_array(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        raise ImageError(
            f"{name} has the shape {array.shape} and the type {array.dtype}; expected (H, W, 3) "
            "or (H, W) uint8. Convert it to 8-bit RGB.",
            code="array",
        )
    _check_size(array.shape[1], array.shape[0], name)
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
    # Pillow promises no base class: hostile files have raised a dozen types, among them warnings
    # made errors. All that runs in `work` is the decoding of this one file.
    except Exception as error:  # noqa: BLE001 - decoders raise types of their own
        cut_bmp = file[:2] == b"BM" and struct.unpack("<I", file[2:6].ljust(4, b"\xff"))[0] > len(
            file
        )
        if cut_bmp or isinstance(error, EOFError) or "truncated" in str(error).lower():
            _refuse(name, "truncated", cause=error)
        _refuse(name, "corrupt", str(error) or type(error).__name__, error)


def _refuse(name: str, code: str, what: str = "", cause: Exception | None = None) -> NoReturn:
    raise ImageError(f"{name} {MESSAGES[code].format(what)}", code=code) from cause


_Format = tuple[Callable[[bytes, str], _File], Callable[[io.BytesIO], ImageFile.ImageFile]]


def _format(data: bytes, name: str) -> _Format:
    """Return what reduces and what opens `data`, told by its first bytes, never by its name."""
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg, JpegImageFile
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png, PngImageFile
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0")):
        return _tiff, TiffImageFile
    if data.startswith(b"BM") and b"\0" in data[:18]:
        return (lambda data, name: _File(data)), BmpImageFile
    kinds = (kind for at, magic, kind in FOREIGN if data[at : at + len(magic)] == magic)
    kind = next(kinds, "an SVG" if b"<svg" in data[:1024] else "")
    if not kind and not any(byte < 9 for byte in data[:512]):
        kind = "a text"
    what = f"is {kind} file, which is not read" if kind else "is not an image of a known format"
    raise ImageError(f"{name} {what}. {TAKEN}.", code="not_an_image")


def _png(data: bytes, name: str) -> _File:
    """Check every checksum (Pillow skips those of the pixels) and keep the chunks of the pixels."""
    kept, extra, at = [data[:8]], {b"tRNS": b"", b"eXIf": b"", b"acTL": b""}, 8
    kind, depth_colour = b"", b""
    while kind != b"IEND":
        if at + 12 > len(data):
            _refuse(name, "truncated")
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk, at = data[at : at + 12 + length], at + 12 + length
        if at > len(data):
            _refuse(name, "truncated")
        body = chunk[8:-4]
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            _refuse(name, "corrupt", f"wrong checksum in its {kind.decode('latin-1')!r} part")
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", body)
            _check_size(width, height, name)  # before the checksums of a huge file
            depth_colour = body[8:10]
            if depth_colour == b"\x10\x04":  # to Pillow, which would drop 8 of 16 bits, RGBA
                chunk = _png_chunk(kind, body[:8] + b"\x08\x06" + body[10:])
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            kept.append(chunk)
        elif kind in extra:
            extra[kind] = body
        elif kind == b"fdAT":
            _refuse(name, "animated")
    if extra[b"acTL"] and extra[b"acTL"][:4] != b"\0\0\0\1":
        _refuse(name, "animated")
    orientation = exif_orientation(extra[b"eXIf"])
    relabelled = depth_colour == b"\x10\x04"
    return _File(b"".join(kept), orientation, extra[b"tRNS"], depth_colour[0], relabelled)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _jpeg(data: bytes, name: str) -> _File:
    """Keep the segments of the pixels; of the others, APP0 and APP14 say how colours are stored."""
    kept, orientation, at = [data[:2]], 1, 2
    while True:
        while data[at : at + 2] == b"\xff\xff":  # padding
            at += 1
        if at + 4 > len(data):
            _refuse(name, "truncated")
        mark, kind, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF or length < 2:
            _refuse(name, "corrupt", "its segments do not line up")
        if kind == 0xDA:
            break
        segment, at = data[at : at + 2 + length], at + 2 + length
        if kind == 0xE1 and segment[4:10] == b"Exif\0\0":
            orientation = exif_orientation(segment[10:])
        if kind in (0xE0, 0xEE) or not (0xE0 <= kind <= 0xEF or kind == 0xFE):
            kept.append(segment)
    if data.find(b"\xff\xd9", at) < 0:  # Pillow is content when the last rows are guessed
        _refuse(name, "truncated")
    return _File(b"".join([*kept, data[at:]]), orientation)


@dataclass(frozen=True)
class _Directory:
    """The first directory of a TIFF: where it is, its raw entries, its integers, what follows."""

    start: int
    entries: dict[int, bytes]
    values: dict[int, tuple[int, ...]]
    following: int
    head: str  # the struct format of its number of entries
    link: str  # and that of the place of the next directory


def _directory(data: bytes, wanted: set[int]) -> _Directory:
    """Read the `wanted` tags; `EOFError` when something lies behind the end of `data`."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    head, entry, link = (order + f for f in (("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")))
    (start,) = struct.unpack_from(link, data, 8 if big else 4)
    try:
        (count,) = struct.unpack_from(head, data, start)
        at, step = start + struct.calcsize(head), struct.calcsize(entry)
        (following,) = struct.unpack_from(link, data, at + count * step)
    except struct.error as error:
        raise EOFError("its directory is truncated") from error
    entries: dict[int, bytes] = {}
    values: dict[int, tuple[int, ...]] = {}
    total = 0
    for place in range(at, at + count * step, step):
        tag, kind, number, value = struct.unpack_from(entry, data, place)
        if tag not in wanted or tag in entries or kind not in TIFF_TYPES or not number:
            continue
        size = number * struct.calcsize(order + TIFF_TYPES[kind])
        if size > len(value):
            (where,) = struct.unpack(link, value)
            total += size
            if where + size > len(data):
                raise EOFError(f"the data of its tag {tag} is truncated")
            value = data[where : where + size]
        if total > len(data) or (number > 1 and TiffTags.lookup(tag).length == 1 and kind != 7):
            raise ValueError(f"tag {tag} has {number} values")
        entries[tag] = data[place : place + step]
        if kind in (1, 3, 4, 16):
            values[tag] = struct.unpack(f"{order}{number}{TIFF_TYPES[kind]}", value[:size])
    return _Directory(start, entries, values, following, head, link)


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, said by a block of EXIF; 1 if it is broken or says none."""
    try:
        value = _directory(exif, {274}).values.get(274, (1,))[0]
    except (struct.error, EOFError, ValueError):
        return 1
    return value if 1 <= value <= 8 else 1


def _tiff(data: bytes, name: str) -> _File:
    """Rewrite the directory in its place so that it holds the tags of the pixels only."""
    found = _directory(data, TIFF_TAGS)
    values = found.values
    if found.following:
        _refuse(name, "animated")
    if 3 in values.get(339, ()):
        _refuse(name, "float")
    for offsets, counts in ((273, 279), (324, 325)):
        pairs = zip(values.get(offsets, ()), values.get(counts, ()), strict=False)
        if any(offset + count > len(data) for offset, count in pairs):
            _refuse(name, "truncated")
    bits, colours = max(values.get(258, (1,))), values.get(262, (0,))[0]
    several = max(values.get(277, (1,))) > 1
    if bits == 12:
        _refuse(name, "low_bit_depth", "12 bits per pixel")
    if bits == 16 and several and (colours != 2 or values.get(284) == (2,)):
        _refuse(name, "mode", "16-bit pixels in an order that is not read")
    if bits in (8, 16) and 2 in values.get(339, ()):
        _refuse(name, "mode", "signed pixels")
    if colours == 3 and max(values.get(320, (0,))) < 256:  # Pillow would make it black
        _refuse(name, "mode", "a palette of 8-bit colours where a TIFF has 16-bit ones")
    inverted = bits == 16 and not several and values.get(262) == (0,)
    if inverted:  # Pillow reads only some of these, and none as meant: it is told 0 is black
        entry, at = found.entries[262], 12 if found.head[1] == "Q" else 8
        found.entries[262] = entry[:at] + struct.pack(found.head[0] + "H", 1) + entry[at + 2 :]
    table = struct.pack(found.head, len(found.entries)) + b"".join(found.entries.values())
    table += struct.pack(found.link, 0)  # no further directory
    end = found.start + len(table)
    file = data[: found.start] + table + data[end:]
    return _File(file, exif_orientation(data), inverted_16=inverted)


def _decode(name: str, image: ImageFile.ImageFile, file: _File) -> npt.NDArray[np.uint8]:
    """Return the upright pixels of an opened image, `(H, W, 3)` uint8."""
    rawmode = _rawmode(image)
    if rawmode.startswith("RGB") and ";16" in rawmode:
        pixels = _both_bytes(image, file, rawmode)
    else:
        _load(image)
        pixels = np.asarray(image) if image.mode[0] in "IF" else np.empty(0)
    if image.mode == "F":
        _refuse(name, "float")
    if file.grey_alpha_16:
        pixels = np.asarray(image).view(">u2")
    if pixels.size:
        rgb = _from_16_bits(name, 65535 - pixels if file.inverted_16 else pixels, file)
    else:
        rgb = _from_8_bits(name, image, file)
    return np.array(_upright(rgb, file.orientation), order="C")


def _rawmode(image: ImageFile.ImageFile) -> str:
    """Return how the stored bytes are laid out, in Pillow's words."""
    args = image.tile[0].args if image.tile else ""
    return str(args[0]) if isinstance(args, tuple) and args else str(args)


def _load(image: ImageFile.ImageFile) -> None:
    if isinstance(image, TiffImageFile):  # made here, as Pillow would look at MAX_IMAGE_PIXELS
        image.im = Image.new(image.mode, image.size).im
    image.load()


def _both_bytes(image: ImageFile.ImageFile, file: _File, rawmode: str) -> npt.NDArray[Any]:
    """Return `(H, W, C)` uint16 of 16-bit RGB(A), of which Pillow keeps the high bytes only.

    Decoding once as big-endian and once as little-endian yields both bytes.
    """
    big, little = (rawmode[:-1].replace("RGBa", "RGBA") + end for end in "BL")
    is_little = rawmode[-1] == "L" or (rawmode[-1] == "N" and sys.byteorder == "little")
    halves = []
    for mode in (little, big) if is_little else (big, little):
        copy = type(image)(io.BytesIO(file.data))
        copy.tile = [
            tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode)
            for tile in copy.tile
        ]
        _load(copy)
        halves.append(np.asarray(copy))
    return np.asarray(halves[0].astype(np.uint16) << 8 | halves[1])


def _from_16_bits(name: str, pixels: npt.NDArray[Any], file: _File) -> npt.NDArray[np.uint8]:
    """Return 16-bit grey, grey and alpha, RGB or RGBA divided by 257, `(H, W, 3)`."""
    lowest, highest = int(pixels.min()), int(pixels.max())
    if lowest < 0 or highest > 65535:
        _refuse(name, "mode", f"values from {lowest} to {highest}, beyond 16 bits")
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] in (2, 4):
        _check_opaque(name, pixels[:, :, -1] < 65535)
        pixels = pixels[:, :, :-1]
    if file.transparency:
        key = np.frombuffer(file.transparency, ">u2")
        _check_opaque(name, (pixels == key).all(axis=2))
    highest = int(pixels.max())
    if highest < 4096:
        _refuse(
            name,
            "low_bit_depth",
            f"16-bit pixels of which the brightest is {highest}: 12 bits in 16",
        )
    scaled = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return scaled if scaled.shape[2] == 3 else np.repeat(scaled, 3, axis=2)


def _from_8_bits(name: str, image: ImageFile.ImageFile, file: _File) -> npt.NDArray[np.uint8]:
    """Return any mode of at most 8 bits as `(H, W, 3)`."""
    if image.mode not in ("1", "L", "P", "RGB", "CMYK", "YCbCr", "RGBA", "LA", "PA", "La"):
        _refuse(name, "mode", f"pixels of the kind {image.mode!r}")
    if file.transparency:
        _check_opaque(name, _transparent(image, file.transparency, file.depth))
    if image.mode in ("RGBA", "LA", "PA", "La"):
        _check_opaque(name, np.asarray(image.getchannel(len(image.getbands()) - 1)) < 255)
    plain = image.convert("LA") if image.mode == "La" else image
    return np.asarray(plain.convert("RGB"))


def _transparent(
    image: ImageFile.ImageFile, transparency: bytes, depth: int
) -> npt.NDArray[np.bool_]:
    """Return which pixels the tRNS chunk of a PNG makes less than opaque, `(H, W)`."""
    pixels = np.asarray(image)
    if image.mode == "P":
        alpha = np.full(256, 255, np.uint8)
        alpha[: len(transparency)] = np.frombuffer(transparency, np.uint8)
        return np.asarray(alpha[pixels] < 255)
    key = np.frombuffer(transparency, ">u2").astype(np.int64)
    if image.mode in ("1", "L"):  # the key counts in the file's own bits, the pixels in 8
        key = key * 255 // (2**depth - 1)
    return np.asarray((pixels.reshape(*pixels.shape[:2], -1) == key).all(axis=2))


def _check_opaque(name: str, transparent: npt.NDArray[np.bool_]) -> None:
    if transparent.any():
        raise ImageError(
            f"{name} is translucent in {int(transparent.sum()):,} of {transparent.size:,} pixels, "
            "and what shows through is not known. Save it without transparency.",
            code="translucent",
        )


def _upright(rgb: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Return `(H, W, 3)` turned as its EXIF orientation says."""
    if orientation >= 5:
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    return rgb
