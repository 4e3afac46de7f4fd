"""Colour profiles in the files of images: which are there and mean other colours than sRGB.

The reader gives the numbers of the file as they are, so with another profile than sRGB the colours
are not those that were meant. Nothing is converted here: it is only said.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from allkit.images.formats import tiff_tags

__all__ = ["foreign_profile"]

MOST = 4 * 2**20
"""Bytes of a profile that are looked at; those of printers have up to 3 MB."""
BROKEN = "a colour profile that cannot be read"
UNCALIBRATED = "no known colour space, says its EXIF"
INKS = "inks of a printer (CMYK) without a profile"
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))
"""The primaries of sRGB, red, green and blue, as CIE XYZ under D50, in which profiles give them."""
CURVE = ((0.25, 0.0509), (0.5, 0.2140), (0.75, 0.5225))
"""Points of the tone curve of sRGB."""
NEAR_PRIMARY, NEAR_CURVE = 0.006, 0.014
CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""White, red, green and blue of sRGB, x and y of each."""
EXIF, INTEROPERABILITY, COLOUR_SPACE, INDEX = 34665, 40965, 40961, 1
PROFILE, PRIMARIES, WHITE = 34675, 319, 318
PHOTOMETRIC, SEPARATED = 262, 5
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""The markers of a JPEG whose segment says how many colours it has."""


def foreign_profile(data: bytes) -> str:
    """Return the name of a colour profile in a file that is not sRGB; empty where none is.

    `data` is a JPEG, PNG, TIFF or BMP. A profile that is broken is named as such; a file that is
    broken otherwise says nothing here.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _of_jpeg(data)
        if data.startswith(b"\x89PNG"):
            return _of_png(data)
        if data.startswith((b"II", b"MM")):
            return _of_tiff(data)
        if data.startswith(b"BM"):
            return _of_bmp(data)
    except (struct.error, IndexError, ValueError, zlib.error, EOFError, OverflowError):
        return BROKEN
    return ""


def _of_jpeg(data: bytes) -> str:
    pieces: dict[int, bytes] = {}
    number, exif, at, colours = 0, b"", 2, 3
    while at + 4 <= len(data):
        mark, kind, length = struct.unpack_from(">BBH", data, at)
        if kind == 0xFF:
            at += 1
            continue
        if mark != 0xFF or length < 2 or kind == 0xDA:
            break
        if kind in FRAMES:
            colours = data[at + 9]
        if kind in (0xE1, 0xE2):
            body = data[at + 4 : at + 2 + length]
            if kind == 0xE1 and body[:6] == b"Exif\0\0":
                exif = exif or body[6:]
            elif kind == 0xE2 and body[:12] == b"ICC_PROFILE\0" and len(body) > 14:
                pieces.setdefault(body[12], body[14:])
                number = max(number, body[13])
        at += 2 + length
    if not number and colours == 4:
        return INKS
    if not number:
        return _of_exif(exif) if exif else ""
    if sorted(pieces) != list(range(1, number + 1)):
        return BROKEN
    return _of_profile(b"".join(pieces[i] for i in range(1, number + 1)))


def _of_png(data: bytes) -> str:
    exif, gamma, colours, at, kind = b"", 0.0, (), 8, b""
    while at + 12 <= len(data) and kind not in (b"IDAT", b"IEND"):
        length, kind = struct.unpack_from(">I4s", data, at)
        begin, at = at + 8, at + 12 + length
        if kind == b"sRGB":
            return ""
        if kind == b"cICP":
            standard = tuple(data[begin : begin + 2]) in ((1, 13), (1, 1))
            return "" if standard else "colours of video (cICP)"
        if kind == b"iCCP":
            body = data[begin : begin + length]
            packed = body[body.index(b"\0") + 2 :]
            return _of_profile(zlib.decompressobj().decompress(packed, MOST))
        if kind == b"gAMA":
            gamma = struct.unpack_from(">I", data, begin)[0] / 1e5
        elif kind == b"cHRM":
            colours = tuple(v / 1e5 for v in struct.unpack_from(">8I", data, begin))
        elif kind == b"eXIf":
            exif = data[begin : begin + length]
    if colours and not _alike(colours, CHROMATICITIES, 0.006):
        return "primaries of its own (cHRM)"
    if gamma and abs(gamma - 1 / 2.2) > 0.01:
        return f"a gamma of {1 / gamma:.2g} (gAMA)"
    return _of_exif(exif) if exif else ""


def _of_tiff(data: bytes) -> str:
    tags = tiff_tags(data, {PROFILE, EXIF, PHOTOMETRIC})
    place = _bytes_of_tag(data, PROFILE)
    if place is not None:
        return _of_profile(place)
    if tags.get(PHOTOMETRIC) == (SEPARATED,):
        return INKS
    primaries = _ratios(data, PRIMARIES, 6)
    if primaries and not _alike(primaries, CHROMATICITIES[2:], 0.006):
        return "primaries of its own"
    return _of_exif(data) if EXIF in tags else ""


def _of_bmp(data: bytes) -> str:
    size = int.from_bytes(data[14:18], "little")
    if size < 108:
        return ""
    kind = data[70:74]
    if size >= 124 and kind in (b"DEBM", b"KNIL"):  # embedded, or linked to
        begin, length = struct.unpack_from("<II", data, 126)
        profile = data[14 + begin : 14 + begin + length]
        return _of_profile(profile) if kind == b"DEBM" else "a profile in another file"
    if kind == bytes(4):  # calibrated: the primaries as fractions of 2^30, all zero where not known
        ends = [v / 2**30 for v in struct.unpack_from("<9i", data, 74)]
        if any(ends):
            red = ends[0] / (sum(ends[:3]) or 1)
            return "" if abs(red - 0.64) < 0.006 else "primaries of its own"
    return ""


def _of_exif(exif: bytes) -> str:
    """Return what a block of EXIF says of the colours, where it is not sRGB."""
    below = tiff_tags(exif, {EXIF}).get(EXIF)
    if below is None:
        return ""
    values = dict(_entries(exif, below[0]))
    space, further = values.get(COLOUR_SPACE), values.get(INTEROPERABILITY)
    if further is not None:
        at = int.from_bytes(further, "little" if exif[:2] == b"II" else "big")
        if dict(_entries(exif, at)).get(INDEX, b"")[:3] == b"R03":
            return "Adobe RGB"
    if space is None:
        return ""
    number = int.from_bytes(space[:2], "little" if exif[:2] == b"II" else "big")
    return {0xFFFF: UNCALIBRATED, 2: "Adobe RGB"}.get(number, "")


def _entries(exif: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield the tags of a directory of EXIF, and the four bytes of each that hold or place its value."""
    order = "<" if exif[:2] == b"II" else ">"
    (count,) = struct.unpack_from(order + "H", exif, at)
    for number in range(min(count, 1000)):
        tag, value = struct.unpack_from(order + "H6x4s", exif, at + 2 + 12 * number)
        yield tag, value


def _bytes_of_tag(data: bytes, wanted: int) -> bytes | None:
    """Return the bytes of a tag of a TIFF; `None` where it has none."""
    for tag, kind, number, place in _tiff_entries(data):
        if tag == wanted and kind in (1, 7):
            if place + number > len(data):
                raise ValueError("it is cut off")
            return data[place : place + min(number, MOST)]
    return None


def _ratios(data: bytes, wanted: int, count: int) -> tuple[float, ...]:
    """Return the fractions of a tag of a TIFF; none where it has not so many."""
    order = "<" if data[:2] == b"II" else ">"
    for tag, kind, number, place in _tiff_entries(data):
        if tag == wanted and kind == 5 and number == count:
            values = struct.unpack_from(f"{order}{2 * count}I", data, place)
            return tuple(a / (b or 1) for a, b in zip(values[::2], values[1::2], strict=True))
    return ()


def _tiff_entries(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield tag, type, number of values and place of each entry of the first directory of a TIFF."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    link, head, entry = ("Q", "Q", "HHQQ") if big else ("I", "H", "HHII")
    (start,) = struct.unpack_from(order + link, data, 8 if big else 4)
    (count,) = struct.unpack_from(order + head, data, start)
    start += struct.calcsize(order + head)
    for number in range(min(count, 4096)):
        yield struct.unpack_from(
            order + entry, data, start + number * struct.calcsize(order + entry)
        )


class _Profile(NamedTuple):
    """A profile of the International Color Consortium: its bytes, its kind, its parts by name."""

    data: bytes
    space: bytes
    parts: dict[bytes, tuple[int, int]]

    def part(self, name: bytes) -> bytes:
        """Return the bytes of a part; none where it is not there."""
        begin, size = self.parts.get(name, (0, 0))
        return self.data[begin : begin + size]


def _of_profile(data: bytes) -> str:
    """Return the name of a profile; empty where it is sRGB or as good as that."""
    if len(data) < 132 or data[36:40] != b"acsp":
        return BROKEN
    (count,) = struct.unpack_from(">I", data, 128)
    parts = {}
    for number in range(min(count, 200)):
        name, begin, size = struct.unpack_from(">4sII", data, 132 + 12 * number)
        parts[name] = begin, size
    profile = _Profile(data, data[16:20], parts)
    name = _description(profile)
    if profile.space == b"GRAY":
        return "" if _is_srgb_curve(profile.part(b"kTRC")) else name
    if profile.space != b"RGB ":
        return name
    primaries = [profile.part(part) for part in (b"rXYZ", b"gXYZ", b"bXYZ")]
    if not all(primaries):  # tables: known by name only
        return "" if "srgb" in name.lower() else name
    for part, wanted in zip(primaries, SRGB, strict=True):
        found = tuple(v / 65536 for v in struct.unpack_from(">3i", part, 8))
        if not _alike(found, wanted, NEAR_PRIMARY):
            return name
    return "" if _is_srgb_curve(profile.part(b"gTRC")) else name


def _alike(found: tuple[float, ...], wanted: tuple[float, ...], near: float) -> bool:
    return all(abs(a - b) <= near for a, b in zip(found, wanted, strict=True))


def _is_srgb_curve(part: bytes) -> bool:
    return all(abs(_curve(part, x) - y) <= NEAR_CURVE for x, y in CURVE)


def _curve(part: bytes, x: float) -> float:
    """Return the value of a tone curve at `x`, both from 0 to 1."""
    if part[:4] == b"para":
        (kind,) = struct.unpack_from(">H", part, 8)
        number = (1, 3, 4, 5, 7)[kind]
        values = [v / 65536 for v in struct.unpack_from(f">{number}i", part, 12)]
        g, a, b, c, d, e, f = (values + [1.0, 0.0, 0.0, 0.0, 0.0, 0.0][len(values) - 1 :])[:7]
        if kind == 0:
            return float(x**g)
        if kind in (1, 2):
            offset = c if kind == 2 else 0.0
            return float(max(a * x + b, 0.0) ** g + offset) if x >= -b / a else offset
        above = max(a * x + b, 0.0) ** g + (e if kind == 4 else 0.0)
        return float(above if x >= d else c * x + (f if kind == 4 else 0.0))
    if part[:4] != b"curv":
        raise ValueError("a curve of an unknown kind")
    (number,) = struct.unpack_from(">I", part, 8)
    if number == 0:
        return x
    if number == 1:
        return float(x ** (struct.unpack_from(">H", part, 12)[0] / 256))
    place = x * (number - 1)
    low = min(int(place), number - 2)
    first, second = struct.unpack_from(">2H", part, 12 + 2 * low)
    return float(first + (second - first) * (place - low)) / 65535


def _description(profile: _Profile) -> str:
    """Return the name that a profile gives itself, or what kind it is."""
    part = profile.part(b"desc")
    text = ""
    if part[:4] == b"desc":
        (size,) = struct.unpack_from(">I", part, 8)
        text = part[12 : 12 + min(size, 200)].split(b"\0")[0].decode("latin-1")
    elif part[:4] == b"mluc":
        size, begin = struct.unpack_from(">II", part, 20)
        text = part[begin : begin + min(size, 200) // 2 * 2].decode("utf-16-be", "replace")
    text = "".join(c if c.isprintable() else " " for c in text).strip()[:60].strip()
    kind = profile.space.decode("latin-1").strip()
    return text or f"a profile of the kind {kind if kind.isalnum() else 'unknown'}"
