"""The only reader of DICOM: the pixels of one photograph, and nothing that says whose it is."""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from allkit import ImageError, Raster

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read_dicom"]

MICROSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1."
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
TAKEN = {f"{MICROSCOPIC}2", f"{MICROSCOPIC}3", f"{MICROSCOPIC}4"}
TAKEN |= {SECONDARY, f"{SECONDARY}.2", f"{SECONDARY}.3", f"{SECONDARY}.4"}
"""VL microscopic, VL slide-coordinates microscopic, VL photographic; secondary capture, also as the
kinds of several frames where there is one frame."""
WHOLE_SLIDE = f"{MICROSCOPIC}6"
MOST_READS = 300_000
"""Pieces that a file is read in: a photograph has hundreds. A file of tiny attributes would take fifty
times its size as objects of Python."""
# Attributes outside group 0028 that identify nobody and are no loss: how the file is written.
PLAIN = {"SpecificCharacterSet", "SOPClassUID", "PixelData", "LossyImageCompression"}
# In group 0028, beside those that say how pixels are stored.
NOT_PIXELS = {"ICCProfile", "QualityControlImage", "PixelSpacingCalibrationDescription"}
SPACINGS = (0.001, 1000.0)
"""The micrometres per pixel that are believed."""

_QUIET = threading.RLock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's warnings and log, which quote values of the file, from everybody.

    Both switches act on the whole process, so one file is read at a time; no other code that warns
    runs meanwhile in this thread.
    """
    log = logging.getLogger("pydicom")
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, log.disabled = log.disabled, True
        try:
            yield
        finally:
            log.disabled = before


def read_dicom(data: bytes, name: str) -> Raster:
    """Return the photograph in a DICOM file, without any other attribute.

    Taken are single frames of the classes in `TAKEN`: uncompressed, RLE, or JPEG Baseline; RGB, YBR,
    grey or palette; 8 bits, or up to 16 that are scaled to 8. `left_out` lists the keywords of the
    attributes that held a value and were dropped (`PatientName`), never a value; `accession` is the
    accession number, `micrometres_per_pixel` comes from the pixel spacing where pixels are square.
    Raises `ImageError` for everything else, with what to do; its text quotes no attribute that could
    hold identity.
    """
    with _quiet():
        try:
            return _read(data, name)
        except ImageError:
            raise
        except MemoryError:
            message = f"{name} does not fit into the memory that is left. Shrink it or free memory."
        # pydicom raises a dozen types for damaged files. Their texts quote values of the file, so none
        # is shown and none is kept as the cause.
        except Exception as error:  # noqa: BLE001 - see above
            if isinstance(error, EOFError):
                _refuse(name, "is truncated: its end is missing. Copy it again.", "truncated")
            message = f"{name} is a damaged DICOM ({type(error).__name__}). Export it again."
            raise ImageError(message, code="corrupt") from None
        raise ImageError(message, code="too_large")


class _Source(io.BytesIO):
    """The bytes of a file as pydicom reads them, piece by piece.

    It asks for all the rest at once only to inflate it, whatever way it came to know that the file is
    deflated: a megabyte becomes gigabytes then. `ImageError` for that, and for too many pieces.
    """

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self._name, self._left = name, MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            what = "is a deflated DICOM, which is not read. Export it uncompressed."
            _refuse(self._name, what, "mode")
        self._left -= 1
        if self._left < 0:
            what = "holds more attributes than a photograph has. Export the image itself."
            _refuse(self._name, what, "too_large")
        return super().read(size)


def _refuse(name: str, what: str, code: str) -> NoReturn:
    raise ImageError(f"{name} {what}", code=code) from None


def _read(data: bytes, name: str) -> Raster:
    from pydicom import dcmread

    from allkit_dicom.pixels import rgb_of

    dataset = dcmread(_Source(data, name), force=True)
    _check_kind(dataset, name)
    _check_unmarked(dataset, name)
    accession = _accession(dataset)
    return Raster(
        rgb_of(dataset, name),
        micrometres_per_pixel=_spacing(dataset),
        left_out=_dropped(dataset, accession),
        accession=accession,
    )


def _check_kind(dataset: Dataset, name: str) -> None:
    from pydicom.uid import UID

    kind = UID(str(dataset.get("SOPClassUID", "")))
    if kind == WHOLE_SLIDE:
        what = (
            "is a DICOM of a whole slide. Export the fields to be read as images of their own (JPEG, "
            "PNG, or VL Microscopic Image)."
        )
        _refuse(name, what, "not_an_image")
    if kind not in TAKEN:
        known = f" ({kind.name})" if kind and kind.name != str(kind) else ""
        what = (
            f"is a DICOM of a kind that is not read{known}. Export the field as a VL Microscopic "
            "Image, a Secondary Capture Image, a JPEG or a PNG."
        )
        _refuse(name, what, "not_an_image")


def _check_unmarked(dataset: Dataset, name: str) -> None:
    for keyword, holds in (
        ("BurnedInAnnotation", "has writing in its pixels (BurnedInAnnotation is YES)"),
        ("RecognizableVisualFeatures", "shows a person (RecognizableVisualFeatures is YES)"),
    ):
        if str(dataset.get(keyword, "")).strip().upper() == "YES":
            what = f"{holds}, which may say whose it is. Export the photograph without it."
            _refuse(name, what, "identity")


def _accession(dataset: Dataset) -> str:
    value = str(dataset.get("AccessionNumber", None) or "").strip()
    return value if value.isprintable() and len(value) <= 64 else ""


def _spacing(dataset: Dataset) -> float | None:
    try:
        rows, columns = (float(value) * 1000 for value in dataset.PixelSpacing)
    except (AttributeError, TypeError, ValueError):  # absent, empty, or no two numbers
        return None
    square = abs(rows - columns) <= 0.01 * abs(rows)
    return rows if square and SPACINGS[0] <= rows <= SPACINGS[1] else None


def _dropped(dataset: Dataset, accession: str) -> tuple[str, ...]:
    """Return the keywords of what held a value and is not in the result, sorted."""
    found = set()
    for tag in dataset.keys():  # noqa: SIM118 - iterating over the data set itself reads each value
        element: Any = dataset.get_item(tag)
        value = getattr(element, "value", None)
        if value is None or (hasattr(value, "__len__") and not len(value)):
            continue
        keyword = _keyword(tag)
        pixels = tag.group == 0x0028 and keyword not in NOT_PIXELS
        if not pixels and keyword not in PLAIN and not (keyword == "AccessionNumber" and accession):
            found.add(keyword)
    if (getattr(dataset, "preamble", None) or b"").strip(b"\0"):
        found.add("preamble")
    return tuple(sorted(found))


def _keyword(tag: Any) -> str:
    from pydicom.datadict import keyword_for_tag

    if tag.is_private:
        return "private attributes"
    return keyword_for_tag(tag) or "unknown attributes"
