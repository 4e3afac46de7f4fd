"""Files of images that are made to harm: small, but long to decode or large in memory."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

SIDE = 7000  # 49 megapixels: just below the limit


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    side: int, depth: int, colour: int, *, interlaced: bool = False, before: bytes = b""
) -> bytes:
    """A white PNG, written row by row; `before` are parts before its pixels."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    packer = zlib.compressobj(9)
    passes = [(side, side)]
    if interlaced:
        steps = (
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        )
        passes = [(-(-(side - x) // dx), -(-(side - y) // dy)) for x, y, dx, dy in steps]
    body = b"".join(
        packer.compress(b"\0" + b"\xff" * (-(-width * bits // 8)))
        for width, height in passes
        for _ in range(height)
    )
    body += packer.flush()
    head = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + before
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


def with_scans(data: bytes, number: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again, without data."""
    at = data.rindex(b"\xff\xda")
    head = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
    return data[:-2] + head * number + data[-2:]


def tiff(tags: dict[int, tuple[int, int, int]], body: bytes = b"") -> bytes:
    """A TIFF of these tags (type, number, value); its body begins at byte 8."""
    entries = b"".join(struct.pack("<HHII", tag, *rest) for tag, rest in sorted(tags.items()))
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(body))
        + body
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )


def tiff_of_strips(
    number: int, width: int, height: int, *, tiles: bool = False, whole: bool = False
) -> bytes:
    """A grey TIFF of so many strips or tiles of one byte, or each as long as the file."""
    size = 8 * number + 64
    body = bytes(64) + struct.pack(f"<{number}I", *[8] * number)
    body += struct.pack(f"<{number}I", *[size if whole else 1] * number)
    where, counts = (324, 325) if tiles else (273, 279)
    tags = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, 32773),
        262: (3, 1, 1),
        277: (3, 1, 1),
        where: (4, number, 72),
        counts: (4, number, 72 + 4 * number),
    }
    tags |= {322: (4, 1, 16), 323: (4, 1, 16)} if tiles else {278: (4, 1, 1)}
    return tiff(tags, body)


def bmp_rle(body: bytes, width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 1, 1, 256, 0)
    begin = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", begin + len(body), 0, 0, begin) + head + bytes(1024) + body


def hostile(times: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield names and makers of files of many parts: `times` is 1, or 100 for the long run."""
    flat = Image.new("RGB", (64, 64), (200, 120, 160))
    jpeg = saved(flat, "JPEG")
    progressive = saved(Image.new("RGB", (1200, 1200), (200, 120, 160)), "JPEG", progressive=True)
    plain = png(64, 8, 2)
    many = 30_000 * times
    yield "scans", lambda: with_scans(progressive, 20_000)
    yield "scans below the limit", lambda: with_scans(progressive, 80)
    for mark in (b"\xff\xe5", b"\xff\xfe", b"\xff\xc4", b"\xff\xdb", b"\xff\xdd"):
        yield (
            f"empty segments {mark.hex()}",
            lambda m=mark: jpeg[:2] + (m + b"\0\2") * many + jpeg[2:],
        )
        yield (
            f"empty segments {mark.hex()} behind the data",
            lambda m=mark: jpeg[:-2] + (m + b"\0\2") * many + jpeg[-2:],
        )
    yield "padding", lambda: jpeg[:2] + b"\xff" * many * 16 + jpeg[2:]
    yield "padding behind the data", lambda: jpeg[:-2] + b"\xff" * many * 16 + jpeg[-2:]
    yield "restarts", lambda: jpeg[:-2] + b"\xff\xd0" * many + jpeg[-2:]
    yield "empty IDAT", lambda: plain[:33] + chunk(b"IDAT", b"") * (27_000 * times) + plain[33:]
    yield "empty texts", lambda: plain[:33] + chunk(b"tEXt", b"") * (27_000 * times) + plain[33:]
    stored = b"\x78\x01" + b"\0\0\0\xff\xff" * (300_000 * times // 2)
    yield "empty blocks of Deflate", lambda: plain[:33] + chunk(b"IDAT", stored) + plain[33:]
    yield (
        "a huge tRNS",
        lambda: png(
            64, 8, 3, before=chunk(b"PLTE", b"\xff" * 768) + chunk(b"tRNS", b"\xff" * 10**6)
        ),
    )
    yield (
        "a bomb of a profile",
        lambda: png(
            64,
            8,
            2,
            before=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(10**7 * max(1, times // 5)), 9)),
        ),
    )
    yield "strips", lambda: tiff_of_strips(many, 64, 64)
    yield "tiles", lambda: tiff_of_strips(many, 64, 64, tiles=True)
    yield "a strip for each row", lambda: tiff_of_strips(15_000 * times, 32, 15_000 * times)
    yield "strips over each other", lambda: tiff_of_strips(9000, 64, 64, whole=True)
    yield (
        "tags",
        lambda: (
            b"II*\0"
            + struct.pack("<IH", 8, 65535)
            + struct.pack("<HHII", 256, 4, 1, 64) * 65535
            + bytes(4)
        ),
    )
    yield "RLE, one by one", lambda: bmp_rle(b"\1\1" * many, 3000, 3000)
    yield "RLE, jumps", lambda: bmp_rle(b"\0\2\xff\xff" * 10, 1_500_000, 32)
    yield "RLE, jumps of nothing", lambda: bmp_rle(b"\0\2\0\0" * many, 300, 300)


def large() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield names and makers of files of 49 megapixels."""
    for depth, colour, what in (
        (16, 2, "RGB"),
        (16, 6, "RGBA"),
        (16, 4, "grey and alpha"),
        (16, 0, "grey"),
        (8, 2, "RGB"),
        (8, 6, "RGBA"),
        (1, 0, "grey"),
    ):
        for interlaced in (False, True):
            name = f"PNG, {what}, {depth} bits{', interlaced' if interlaced else ''}"
            yield name, lambda d=depth, c=colour, i=interlaced: png(SIDE, d, c, interlaced=i)
    key = chunk(b"tRNS", b"\0\1\0\1\0\1")
    yield "PNG, a transparent colour", lambda: png(SIDE, 8, 2, before=key)
    yield "PNG, 16 bits, a transparent colour", lambda: png(SIDE, 16, 2, before=key)
    size = SIDE, SIDE
    for mode in ("RGB", "CMYK", "L"):
        for progressive in (False, True):
            yield (
                f"JPEG, {mode}, progressive {progressive}",
                lambda m=mode, p=progressive: saved(
                    Image.new(m, size), "JPEG", progressive=p, subsampling=0
                ),
            )
    yield (
        "JPEG, 80 scans",
        lambda: with_scans(saved(Image.new("RGB", size), "JPEG", progressive=True), 80),
    )
    for how in ("group3", "group4", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", None):
        mode = "1" if how in ("group3", "group4") else "RGB"
        yield f"TIFF, {how}", lambda m=mode, h=how: saved(Image.new(m, size), "TIFF", compression=h)
    yield "TIFF, 16 bits", lambda: _tiff_16(None)
    yield "TIFF, 16 bits, Deflate in one strip", lambda: _tiff_16("zlib", rowsperstrip=SIDE)
    yield "TIFF, 16 bits, Deflate", lambda: _tiff_16("zlib", rowsperstrip=16)
    yield "BMP", lambda: saved(Image.new("RGB", size), "BMP")
    yield "BMP, RLE", lambda: bmp_rle(b"\xff\1" * 200_000, SIDE, SIDE)


def _tiff_16(how: str | None, **options: object) -> bytes:
    import tifffile

    stream = io.BytesIO()
    white = np.broadcast_to(np.uint16(65535), (SIDE, SIDE, 3))
    tifffile.imwrite(stream, white, compression=how, photometric="rgb", **options)
    return stream.getvalue()


def valid() -> list[bytes]:
    """Valid files of every format that is read."""
    rng = np.random.default_rng(4)
    noise = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    field = noise.resize((56, 44), Image.Resampling.BICUBIC)
    wide = (np.asarray(field).astype(np.uint16) * 257)[..., 0]
    exif = Image.Exif()
    exif[274] = 6
    return [
        saved(field, "JPEG", exif=exif),
        saved(field, "JPEG", progressive=True),
        saved(field, "JPEG", subsampling=0, restart_marker_blocks=4),
        saved(field.convert("CMYK"), "JPEG"),
        saved(field.convert("L"), "JPEG"),
        saved(field, "PNG"),
        saved(field.quantize(16), "PNG"),
        saved(Image.fromarray(wide), "PNG"),
        saved(field.convert("RGBA"), "PNG"),
        saved(field, "TIFF"),
        saved(field, "TIFF", compression="tiff_lzw"),
        saved(field, "TIFF", compression="jpeg"),
        saved(field.convert("1"), "TIFF", compression="group4"),
        saved(field, "BMP"),
        saved(field.quantize(), "BMP"),
    ]


def mutant(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with one to five edits: bits, bytes, cuts and inserts, mostly near its head."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(min(len(changed), rng.choice((64, 1024, 10**9))) or 1)
        edit = rng.randrange(5)
        if edit == 0:
            changed[at : at + 1] = bytes([rng.randrange(256)])
        elif edit == 1 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif edit == 2:
            del changed[at : at + rng.randint(1, 16)]
        elif edit == 3:
            changed[at:at] = rng.randbytes(rng.randint(1, 16))
        elif rng.random() < 0.2:
            del changed[at:]
    return bytes(changed)
