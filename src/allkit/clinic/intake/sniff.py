"""What a file is: its content decides, its name never does."""

from __future__ import annotations

import re
from typing import Literal

from allkit.clinic.orders.kinds import kind_of_message

__all__ = ["Kind", "sniff"]

Kind = Literal["image", "dicom", "zip", "hl7", "fhir", "other"]

IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0")
ZIPS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
# Data elements that begin a DICOM file without a preamble: group 2 or 8 in little-endian, a low
# element number, and then a VR of these elements or a short length.
_BARE_DICOM = re.compile(
    rb"(?:\x02\0[\0-\x12]\0|\x08\0[\0-\x64]\0)(?:CS|DA|DT|LO|OB|SH|SQ|TM|UI|UL|[\0-\x40]\0\0\0)",
    re.DOTALL,
)


def sniff(data: bytes) -> Kind:
    """Return what a file is; its first 4 KiB tell, but for JSON, which has to be whole.

    `image`: a JPEG, PNG, TIFF or BMP by its first bytes. `dicom`: with or without the preamble; it
    goes before all others, because the preamble may hold the beginning of a TIFF. `hl7`: begins with
    MSH, or with the head of a batch, also in an MLLP frame. `fhir`: a JSON object with a
    `resourceType`. Byte order marks and blanks before a text do not count.
    """
    if data[128:132] == b"DICM":
        return "dicom"
    if data.startswith(IMAGES) or (data.startswith(b"BM") and b"\0" in data[:18]):
        return "image"
    if data.startswith(ZIPS):
        return "zip"
    if _BARE_DICOM.match(data):
        return "dicom"
    return kind_of_message(data) or "other"
