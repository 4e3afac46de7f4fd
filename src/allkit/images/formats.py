"""PNG and TIFF files reduced to the parts that hold pixels.

Texts, profiles, EXIF and similar parts are removed before Pillow sees a file: they cost memory, and
Pillow warns about broken ones. `allkit.images.jpeg` does it for JPEG.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from PIL import TiffTags

from allkit.images.refusal import MAX_PARTS, MAX_SCANS, check_size, refuse

__all__ = ["PixelFile", "exif_orientation", "reduce_png", "reduce_tiff", "tiff_tags"]

# The TIFF tags that make pixels; Pillow and libtiff are shown no others.
TIFF_TAGS = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320}
TIFF_TAGS |= {322, 323, 324, 325, 332, 338, 339, 347, 512, 513, 514, 515, 519, 520, 521}
TIFF_TAGS |= {529, 530, 531, 532}
TIFF_READ = TIFF_TAGS | {281}  # and what is read here only: the most that a sample is
TIFF_TYPES = {1: "B", 2: "c", 3: "H", 4: "I", 5: "Q", 6: "b", 7: "c", 8: "h", 9: "i", 10: "q"}
TIFF_TYPES |= {11: "f", 12: "d", 16: "Q"}


@dataclass(frozen=True)
class PixelFile:
    """A file reduced to its pixels, and removed values that are needed to read them."""

    data: bytes
    orientation: int = 1
    transparency: bytes = b""  # the body of a PNG's tRNS chunk
    depth: int = 8  # the bits of a sample in a PNG
    grey_alpha_16: bool = False  # a PNG relabelled from 2 × 16 to 4 × 8 bits per pixel
    inverted_16: bool = False  # a TIFF in which 0 is white; Pillow inverts up to 8 bits only
    stated_bits: int = 16  # the bits of a sample that are in use, where a file of 16 bits says so
    passes: float = 1.0  # how often the pixels are gone over: 1 is the cost of a plain file
    buffered: float = 0.0  # bytes that the decoder holds beside the pixels, for each pixel
    data_end: int = 0  # where the data of a JPEG ends that is in one scan; 0 for all others


def reduce_png(data: bytes, name: str) -> PixelFile:
    """Check every checksum (Pillow skips those of the pixels) and keep the chunks of the pixels."""
    view = memoryview(data)
    chunks: list[bytes | memoryview] = [data[:8]]
    extra, at = {b"tRNS": b"", b"eXIf": b"", b"acTL": b"", b"sBIT": b""}, 8
    kind, depth_colour = b"", b""
    number, most, left = 0, MAX_PARTS + len(data) // 1024, len(data)
    while kind != b"IEND":
        number += 1
        if number > most:
            refuse(name, "too_slow", f"more than {most:,} parts")
        if at + 12 > len(data):
            refuse(name, "truncated")
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk: bytes | memoryview
        chunk, at = view[at : at + 12 + length], at + 12 + length
        if at > len(data):
            refuse(name, "truncated")
        body = chunk[8:-4]
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            refuse(name, "corrupt", f"wrong checksum in its {kind.decode('latin-1')!r} part")
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", body)
            check_size(width, height, name)  # before the checksums of a huge file
            head = bytes(body)
            depth_colour = head[8:10]
            left = _png_bytes(width, height, head)
            if depth_colour == b"\x10\x04":  # to Pillow, which would drop 8 of 16 bits, RGBA
                chunk = _png_chunk(kind, head[:8] + b"\x08\x06" + head[10:])
        if kind == b"IDAT":
            left -= length
            if left < 0:
                refuse(name, "too_slow", "more compressed data than its pixels are")
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            chunks.append(chunk)
        elif kind in extra:
            extra[kind] = bytes(body)
        elif kind == b"fdAT":
            refuse(name, "animated")
    if extra[b"acTL"] and extra[b"acTL"][:4] != b"\0\0\0\1":
        refuse(name, "animated")
    orientation = exif_orientation(extra[b"eXIf"])
    relabelled = depth_colour == b"\x10\x04"
    wide = depth_colour[:1] == b"\x10"
    # A PNG of 16 bits in several colours is decoded twice.
    passes = 4.0 if depth_colour in (b"\x10\x02", b"\x10\x06") else 2.0 if wide else 1.25
    return PixelFile(
        b"".join(chunks) if sum(map(len, chunks)) < len(data) or relabelled else data,
        orientation=orientation,
        transparency=extra[b"tRNS"],
        depth=depth_colour[0],
        grey_alpha_16=relabelled,
        stated_bits=max(extra[b"sBIT"], default=16) if wide else 16,
        passes=passes,
    )


def _png_bytes(width: int, height: int, header: bytes) -> int:
    """Return the most bytes of compressed data that a PNG may hold: those of its pixels, and 1 MiB."""
    bits = header[8] * {2: 3, 4: 2, 6: 4}.get(header[9], 1)
    return height * (1 + -(-width * bits // 8)) * 102 // 100 + 2**20


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


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
    """Read the `wanted` tags; `EOFError` when something is behind the end of `data`."""
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
    return _Directory(
        start=start, entries=entries, values=values, following=following, head=head, link=link
    )


def tiff_tags(data: bytes, wanted: set[int]) -> dict[int, tuple[int, ...]]:
    """Return the whole numbers of these tags of a TIFF, or of a block of EXIF; none if it is broken."""
    try:
        return _directory(data, wanted).values
    except (struct.error, EOFError, ValueError):
        return {}


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, said by a block of EXIF; 1 if it is broken or says none."""
    try:
        value = _directory(exif, {274}).values.get(274, (1,))[0]
    except (struct.error, EOFError, ValueError):
        return 1
    return value if 1 <= value <= 8 else 1


def reduce_tiff(data: bytes, name: str) -> PixelFile:
    """Rewrite the directory in its place so that it holds the tags of the pixels only."""
    directory = _directory(data, TIFF_READ)
    values = directory.values
    if directory.following:
        refuse(name, "animated")
    if 3 in values.get(339, ()):
        refuse(name, "float")
    strips = _check_strips(data, values, name)
    bits, colours = max(values.get(258, (1,))), values.get(262, (0,))[0]
    several = max(values.get(277, (1,))) > 1
    if bits == 12:
        refuse(name, "low_bit_depth", "12 bits per pixel")
    if bits == 16 and several and (colours != 2 or values.get(284) == (2,)):
        refuse(name, "mode", "16-bit pixels in an order that is not read")
    if bits in (8, 16) and 2 in values.get(339, ()):
        refuse(name, "mode", "signed pixels")
    if colours == 3 and max(values.get(320, (0,))) < 256:  # Pillow would make it black
        refuse(name, "mode", "a palette of 8-bit colours where a TIFF has 16-bit ones")
    inverted = bits == 16 and not several and values.get(262) == (0,)
    if inverted:
        # Pillow misreads these: it is told that 0 is black, and the pixels are inverted later.
        entry, at = directory.entries[262], 12 if directory.head[1] == "Q" else 8
        directory.entries[262] = (
            entry[:at] + struct.pack(directory.head[0] + "H", 1) + entry[at + 2 :]
        )
    directory.entries.pop(281, None)
    table = struct.pack(directory.head, len(directory.entries)) + b"".join(
        directory.entries.values()
    )
    table += struct.pack(directory.link, 0)  # no further directory
    end = directory.start + len(table)
    file = data[: directory.start] + table + data[end:]
    size = max(1, values.get(256, (1,))[0] * values.get(257, (1,))[0])
    stated = min(values.get(281, (0,)))
    return PixelFile(
        file,
        exif_orientation(data),
        inverted_16=inverted,
        stated_bits=stated.bit_length()
        if bits == 16 and stated & (stated + 1) == 0 < stated
        else 16,
        passes=1.0 if bits < 16 else 2.0 if values.get(259, (1,)) == (1,) else 4.0,
        buffered=0.0 if values.get(259, (1,)) == (1,) else strips / size,
    )


def _check_strips(data: bytes, values: dict[int, tuple[int, ...]], name: str) -> int:
    """Return the bytes of the largest strip or tile, decoded; refuse strips that no image needs."""
    width, height = values.get(256, (0,))[0], values.get(257, (0,))[0]
    check_size(width, height, name)
    pixels, number, total = width * height, 0, 0
    for offsets, counts in ((273, 279), (324, 325)):
        pairs = list(zip(values.get(offsets, ()), values.get(counts, ()), strict=False))
        if any(offset + count > len(data) for offset, count in pairs):
            refuse(name, "truncated")
        number += len(values.get(offsets, ()))
        total += sum(count for _, count in pairs)
    most = MAX_PARTS + pixels // 1024
    if number > most:
        refuse(name, "too_slow", f"{number:,} strips or tiles, where at most {most:,} are read")
    if total > 2 * len(data):
        refuse(name, "corrupt", "its strips lie over each other")
    if {6, 7} & set(values.get(259, ())) and data.count(b"\xff\xda") > MAX_SCANS + 2 * number:
        refuse(name, "too_slow", f"more than {MAX_SCANS} scans")
    samples = values.get(277, (1,))[0] if values.get(284) != (2,) else 1
    wide = -(-width * samples * max(values.get(258, (1,))) // 8)
    rows = min(height, values.get(278, (height,))[0] or height)
    if 324 in values:
        tile = values.get(322, (0,))[0] * values.get(323, (0,))[0]
        if tile > 4 * pixels + 2**20:
            refuse(name, "corrupt", "a tile that is larger than the image")
        return tile * samples * max(values.get(258, (1,))) // 8
    return rows * wide
