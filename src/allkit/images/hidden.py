"""What the file of an image holds besides pixels: the names of these parts, never their content."""

from __future__ import annotations

import re
import struct

__all__ = ["DRAWN", "TILE", "hidden_parts", "says_tile"]

DRAWN = ("Source", "Drawn by allkit. This is no photograph of a smear.")
"""The keyword and the text that mark a drawn PNG file, before its pixels."""
TILE = ("Source", "A tile of a whole slide, not a field that a person chose.")
"""The same for a PNG file that a program cut out of a whole slide."""

TIFF_PIXELS = {254, 255, *range(256, 260), 262, 266, *range(273, 275), *range(277, 280), 284, 292}
TIFF_PIXELS |= {282, 283, 293, 296, 317, 318, 319, 320, *range(322, 326), 332, 338, 339, 347}
TIFF_PIXELS |= {*range(512, 516), *range(519, 522), *range(529, 533)}
TIFF_NAMES = {
    269: "document name", 270: "comment", 271: "camera", 272: "camera", 285: "page name",
    305: "software", 306: "time", 315: "artist", 316: "computer", 700: "XMP", 33432: "copyright",
    33723: "IPTC", 34377: "Photoshop", 34665: "EXIF", 34675: "ICC profile", 34853: "GPS",
}  # fmt: skip
GPS = 34853
PNG_PIXELS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"}
PNG_COLOURS = {b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs"}  # a few numbers of fixed size
PNG_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
DRAWN_TEXT, TILE_TEXT = ("\0".join(mark).encode("latin-1") for mark in (DRAWN, TILE))
JPEG_SEGMENTS = (
    (0xE1, b"Exif\0", "EXIF"),
    (0xE1, b"http://ns.adobe.com/x", "XMP"),
    (0xE2, b"ICC_PROFILE", "ICC profile"),
    (0xE2, b"MPF", "further images"),
    (0xED, b"", "IPTC"),
    (0xFE, b"", "comment"),
)
# A mark in the data of a JPEG: not a stuffed zero, a restart or padding.
_MARK = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


def hidden_parts(data: bytes) -> tuple[str, ...]:
    """Return the names of the parts that hold no pixels (`EXIF`, `GPS`, `comment`), each once.

    `data` is a JPEG, PNG, TIFF or BMP that `allkit.images.decode.read_image` reads.
    """
    if data.startswith(b"\xff\xd8"):
        found = _of_jpeg(data)
    elif data.startswith(b"\x89PNG"):
        found = _of_png(data)
    elif data.startswith((b"II", b"MM")):
        found = [TIFF_NAMES.get(tag, f"tag {tag}") for tag in sorted(_tags(data) - TIFF_PIXELS)]
    else:
        found = []
    return tuple(dict.fromkeys(found))


def says_tile(data: bytes) -> bool:
    """Return whether the text in an image's file says that it is a tile of a whole slide."""
    return data.startswith(b"\x89PNG") and b"tEXt" + TILE_TEXT in data[:1024]


def _of_jpeg(data: bytes) -> list[str]:
    found: list[str] = []
    at = 2
    while (mark := _MARK.search(data, at)) is not None:
        kind, at = data[mark.start() + 1], mark.end()
        if kind == 0xD9:
            if data[at:].strip(b"\0"):
                found.append("data behind the image")
            break
        if at + 2 > len(data):
            break
        length = int.from_bytes(data[at : at + 2], "big")
        body, at = data[at + 2 : at + length], at + max(length, 2)
        found += _segment(kind, body)
    return found


def _segment(kind: int, body: bytes) -> list[str]:
    if kind == 0xE0:  # JFIF of 14 bytes; more is a thumbnail
        return [] if body[:5] == b"JFIF\0" and len(body) == 14 else ["thumbnail"]
    if kind == 0xEE:
        return [] if body[:5] == b"Adobe" and len(body) == 12 else ["APP14"]
    if not (0xE0 <= kind <= 0xEF or kind == 0xFE):
        return []
    for its_kind, begin, name in JPEG_SEGMENTS:
        if kind == its_kind and body.startswith(begin):
            return [name, *_gps(body[6:])] if name == "EXIF" else [name]
    return [f"APP{kind - 0xE0}"]


def _of_png(data: bytes) -> list[str]:
    found, at, kind = [], 8, b""
    while at + 12 <= len(data) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        body, at = data[at + 8 : at + 8 + length], at + 12 + length
        if kind in PNG_TEXTS:
            if body not in (DRAWN_TEXT, TILE_TEXT):  # these marks have to stay
                found.append("XMP" if body.startswith(b"XML:com.adobe.xmp") else "comment")
        elif kind == b"eXIf":
            found += ["EXIF", *_gps(body)]
        elif kind == b"iCCP":
            found.append("ICC profile")
        elif kind == b"tIME":
            found.append("time")
        elif kind not in PNG_PIXELS and not (kind in PNG_COLOURS and length <= 32):
            found.append("a part of an unknown kind")
    if at < len(data):
        found.append("data behind the image")
    return found


def _gps(exif: bytes) -> list[str]:
    return ["GPS"] if GPS in _tags(exif) else []


def _tags(tiff: bytes) -> set[int]:
    """Return the tags of the first directory of a TIFF or of a block of EXIF; none if it is broken."""
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        big = struct.unpack_from(order + "H", tiff, 2)[0] == 43
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), tiff, start)
        first, step = (start + 8, 20) if big else (start + 2, 12)
        places = range(first, min(first + count * step, len(tiff) - 1), step)
        return {struct.unpack_from(order + "H", tiff, place)[0] for place in places}
    except struct.error:
        return set()
