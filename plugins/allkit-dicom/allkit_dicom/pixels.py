"""From the pixel data of a DICOM data set to RGB with 8 bits."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from allkit.errors import ImageError
from allkit.images.decode import read_image
from allkit.images.jpeg import reduce_jpeg
from allkit.images.refusal import MAX_MEMORY, MAX_PARTS, check_depth, check_size, refuse
from allkit.types import Pixels

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["rgb_of"]

IMPLICIT, EXPLICIT, BIG, RLE = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".5"))
JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
SAMPLES = {"RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3}
SAMPLES |= {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1}
WINDOWS = ("WindowCenter", "VOILUTSequence", "ModalityLUTSequence", "PresentationLUTSequence")
COLOURS = ("Red", "Green", "Blue")
ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
EXPORT = "Export it as 8-bit RGB"
ITEM = b"\xfe\xff\x00\xe0"
"""What begins each part of compressed pixels."""
MOST_REPEATED = 64
"""How many times its size a part of RLE becomes, at most: two bytes stand for 128."""


def rgb_of(dataset: Dataset, name: str) -> Pixels:
    """Return the one frame of a data set, `(H, W, 3)` uint8 RGB. Raises `ImageError`."""
    colours, bits = _check_layout(dataset, name)
    if _syntax(dataset) in {RLE} | JPEG and dataset.PixelData.count(ITEM) > MAX_PARTS:
        refuse(name, "too_slow", "its pixels are in thousands of parts")
    if _syntax(dataset) in JPEG:
        return _of_jpeg(dataset, name, colours)
    return _of_values(dataset, name, colours, bits)


def _refuse(name: str, what: str, code: str = "mode") -> NoReturn:
    raise ImageError(f"{name} {what}", code=code)


def _number(dataset: Dataset, keyword: str, absent: int) -> int:
    value: Any = dataset.get(keyword, None)
    return absent if value in (None, "") else int(value)


def _syntax(dataset: Dataset) -> str:
    """Return the transfer syntax; that of a file without meta information is how it was read."""
    meta = getattr(dataset, "file_meta", None)
    stated = str(getattr(meta, "TransferSyntaxUID", "") or "")
    implicit, little = dataset.original_encoding
    return stated or (IMPLICIT if implicit else EXPLICIT if little else BIG)


def _check_layout(dataset: Dataset, name: str) -> tuple[str, int]:
    """Return the photometric interpretation and the bits in use; refuse what is not read."""
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        refuse(name, "float")
    if "PixelData" not in dataset:
        what = "is a DICOM without pixels (a report, a list, or cut off). Export the image itself."
        _refuse(name, what, "not_an_image")
    if _number(dataset, "NumberOfFrames", 1) != 1:
        refuse(name, "animated")
    rows, columns = _number(dataset, "Rows", 0), _number(dataset, "Columns", 0)
    check_size(columns, rows, name)
    colours = str(dataset.get("PhotometricInterpretation", "")).strip()
    if SAMPLES.get(colours) != _number(dataset, "SamplesPerPixel", 1):
        _refuse(name, f"stores its colours in a way that is not read. {EXPORT}.")
    if _number(dataset, "PixelRepresentation", 0) != 0:
        _refuse(name, f"holds signed pixels. {EXPORT}.")
    allocated = _number(dataset, "BitsAllocated", 0)
    bits = _number(dataset, "BitsStored", allocated)
    whole = allocated == 8 == bits or (allocated == 16 and 9 <= bits <= 16)
    if not whole or _number(dataset, "HighBit", bits - 1) != bits - 1:
        _refuse(name, f"holds {bits} bits in {allocated}, which is not read. {EXPORT}.")
    if bits > 8 and colours.startswith("YBR"):
        _refuse(name, f"stores its colours in a way that is not read. {EXPORT}.")
    if colours.startswith("MONO") and (
        any(dataset.get(keyword) for keyword in WINDOWS)
        or float(dataset.get("RescaleSlope", None) or 1) != 1
    ):
        what = f"holds grey values that have to be windowed before they are an image. {EXPORT}."
        _refuse(name, what)
    if any(f"Segmented{colour}PaletteColorLookupTableData" in dataset for colour in COLOURS):
        _refuse(name, f"has a palette in segments, which is not read. {EXPORT}.")
    known = {IMPLICIT, EXPLICIT, BIG, RLE} | JPEG
    if _syntax(dataset) not in known:
        what = (
            "is compressed in a way that is not read. Export it uncompressed or as JPEG Baseline."
        )
        _refuse(name, what)
    return colours, bits


def _of_values(dataset: Dataset, name: str, colours: str, bits: int) -> Pixels:
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import get_expected_length
    from pydicom.uid import UID

    dataset.file_meta.TransferSyntaxUID = UID(_syntax(dataset))
    if _syntax(dataset) != RLE and len(dataset.PixelData) < get_expected_length(dataset):
        refuse(name, "truncated")
    if _syntax(dataset) == RLE:
        _check_runs(dataset, name)
    if 8 < bits < 16:
        _check_unused(dataset, name, bits)
    values = dataset.pixel_array  # YBR is converted to RGB
    if colours == "PALETTE COLOR":
        return _of_palette(apply_color_lut(values, dataset), name)
    if colours == "MONOCHROME1":
        values = 2**bits - 1 - values
    if bits > 8:
        values = _scaled(values, name, bits)
    grey = np.stack([values] * 3, axis=-1) if values.ndim == 2 else values
    return np.array(grey, np.uint8, order="C")


def _check_runs(dataset: Dataset, name: str) -> None:
    """Refuse RLE of which a plane becomes more than its pixels, before pydicom unpacks it."""
    from pydicom.encaps import get_frame

    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    plane = _number(dataset, "Rows", 0) * _number(dataset, "Columns", 0)
    count, *offsets = struct.unpack_from("<16L", frame)
    for begin, end in pairwise([*offsets[:count], len(frame)]):
        size = end - begin
        long = size * MOST_REPEATED > MAX_MEMORY
        if size > 2 * plane + 1024 or (long and _unpacked(frame[begin:end], 2 * plane) > 2 * plane):
            refuse(name, "corrupt", "its RLE becomes more than its pixels")


def _unpacked(runs: bytes, most: int) -> int:
    """Return how many bytes a part of RLE becomes; beyond `most` it is not counted on."""
    at = length = 0
    while at < len(runs) and length <= most:
        head = runs[at]
        length += head + 1 if head < 128 else 257 - head if head > 128 else 0
        at += head + 2 if head < 128 else 2 if head > 128 else 1
    return length


def _check_unused(dataset: Dataset, name: str, bits: int) -> None:
    """Refuse pixels with more bits than stated, which pydicom cuts off; overlays once lay there."""
    if _syntax(dataset) == RLE:
        _refuse(name, f"holds {bits} bits in 16, compressed, which is not read. {EXPORT}.")
    order = ">u2" if _syntax(dataset) == BIG else "<u2"
    data = dataset.PixelData
    if int(np.frombuffer(data[: len(data) // 2 * 2], order).max()) >= 2**bits:
        _refuse(name, f"holds pixels of more than the {bits} bits that it states. {EXPORT}.")


def _scaled(values: npt.NDArray[Any], name: str, bits: int) -> npt.NDArray[Any]:
    """Return values of up to 16 bits as 8 bits; the range is the one that the file states."""
    if bits == 16:
        check_depth(int(values.max()), 16, name)
    # By a table, since a float for each value takes eight times the memory.
    return np.rint(np.arange(2**bits) * (255.0 / (2**bits - 1))).astype(np.uint8)[values]


def _of_palette(colours: npt.NDArray[Any], name: str) -> Pixels:
    if colours.dtype.itemsize == 2:  # a palette of 16 bits, in the high byte or in both
        if int(colours.max()) < 256:
            refuse(name, "mode", "a palette of 8-bit colours where it states 16-bit ones")
        colours = colours >> 8
    return np.array(colours[..., :3], np.uint8, order="C")


def _of_jpeg(dataset: Dataset, name: str, colours: str) -> Pixels:
    """Decode the JPEG of the one frame by the one decoder; an orientation in its EXIF does not count."""
    from pydicom.encaps import get_frame

    if not dataset["PixelData"].is_undefined_length:
        refuse(name, "corrupt", "its JPEG is not encapsulated")
    data = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if not data.startswith(b"\xff\xd8\xff"):
        refuse(name, "corrupt", "there is no JPEG where it states one")
    data = reduce_jpeg(data, name).data
    transform, several = _colours_of(data)
    if several != (SAMPLES[colours] == 3) or colours == "PALETTE COLOR":
        _refuse(name, f"states other colours than its JPEG has. {EXPORT}.")
    if several and colours == "RGB" and transform is None:
        data = data[:2] + ADOBE_RGB + data[2:]  # or it would be taken for YCbCr
    elif several and colours != "RGB" and transform == 0:
        _refuse(name, f"states other colours than its JPEG has. {EXPORT}.")
    pixels = read_image(data, name=name)
    stated = (_number(dataset, "Rows", 0), _number(dataset, "Columns", 0))
    if pixels.shape[:2] != stated:
        _refuse(name, "states another size than its JPEG has. Export it again.", "corrupt")
    return np.array(255 - pixels) if colours == "MONOCHROME1" else pixels


def _colours_of(data: bytes) -> tuple[int | None, bool]:
    """Return what a JPEG says of its colours, and whether it has several.

    0 is RGB and 1 YCbCr, by the mark of Adobe, of JFIF, or the numbers of its colours; `None` where it
    says neither.
    """
    transform, at = None, 2
    while at + 4 <= len(data):
        kind, length = struct.unpack_from(">xBH", data, at)
        body, at = data[at + 4 : at + 2 + length], at + 2 + length
        if kind == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            transform = min(body[11], 1)
        elif kind == 0xE0 and body[:5] == b"JFIF\0" and transform is None:
            transform = 1
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and len(body) >= 6:
            several = body[5] > 1
            if several and bytes(body[6::3][:3]) == b"RGB":
                transform = 0 if transform is None else transform
            return transform, several
        elif kind == 0xDA:
            break
    return transform, False
