"""JPEG files reduced to the segments that hold pixels, and the damage in them that can be known.

A decoder of JPEG gives a picture whatever the data is: it fills in what is missing, skips what is too
much, and only remarks on it. So the segments and the marks in the data are followed here.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from allkit.images.formats import PixelFile, exif_orientation
from allkit.images.refusal import MAX_PARTS, MAX_SCANS, refuse

__all__ = ["reduce_jpeg"]

_PADDING = re.compile(rb"\xff*")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
# A mark in the data of a scan: not a stuffed zero and no restart; it may be padded before.
_MARK = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Marks of the segments that state the size; 0xC0 and 0xC1 are coded in one go, by Huffman."""
TABLES, SCAN, END, INTERVAL, LINES = 0xC4, 0xDA, 0xD9, 0xDD, 0xDC
BETWEEN = {TABLES, 0xCC, 0xDB, INTERVAL, LINES, 0xFE, *range(0xE0, 0xF0)}
"""Marks of the segments that may follow the data of a scan."""
ZEROS = bytes(64)


@dataclass
class _Frame:
    """What the segments said so far: the frame, the tables, the interval of restarts, in MCUs."""

    name: str
    kind: int = 0
    size: tuple[int, int] = (0, 0)  # width and height
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)  # by component
    first_symbols: dict[int, int] = field(default_factory=dict)  # of the tables for AC
    interval: int = 0
    parts: int = 0

    def take(self, kind: int, segment: bytes) -> None:
        """Take a segment, from its mark on."""
        self.parts += 1
        if self.parts > MAX_PARTS:
            refuse(self.name, "too_slow", f"more than {MAX_PARTS:,} segments")
        body = segment[4:]
        if kind in FRAMES and len(body) >= 6:
            self.kind = kind
            height, width, number = struct.unpack_from(">HHB", body, 1)
            self.size = width, height
            parts = [body[6 + 3 * i : 9 + 3 * i] for i in range(number)]
            self.sampling = {p[0]: (p[1] >> 4, p[1] & 15) for p in parts if len(p) == 3}
        elif kind == INTERVAL and len(body) >= 2:
            self.interval = int.from_bytes(body[:2], "big")
        elif kind == TABLES:
            at = 0
            while at + 17 < len(body):
                if body[at] >> 4 == 1:  # its shortest code is all zeros, and stands for this
                    self.first_symbols[body[at] & 15] = body[at + 17]
                at += 17 + sum(body[at + 1 : at + 17])

    def units(self, components: int) -> int:
        """Return the number of MCUs in a scan of all components."""
        across = max((h for h, _ in self.sampling.values()), default=1)
        down = max((v for _, v in self.sampling.values()), default=1)
        if components == 1:
            across = down = 1
        width, height = self.size
        return -(-width // (8 * (across or 1))) * -(-height // (8 * (down or 1)))

    def coefficients(self) -> float:
        """Return how many coefficients there are for a pixel: one of each component, or fewer."""
        across = max((h for h, _ in self.sampling.values()), default=1) or 1
        down = max((v for _, v in self.sampling.values()), default=1) or 1
        return sum(h * v for h, v in self.sampling.values()) / (across * down)


def reduce_jpeg(data: bytes, name: str) -> PixelFile:
    """Keep the segments of the pixels; of the others, APP0 and APP14 say how colours are stored.

    What follows the end of the image is left out. Raises `ImageError` for a file that is cut or whose
    segments do not line up, and for what `_data_of` finds.
    """
    segments, orientation, at = [data[:2]], 1, 2
    frame = _Frame(name)
    while True:
        at = _unpadded(data, at)
        if at + 4 > len(data):
            refuse(name, "truncated")
        mark, kind, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF or length < 2:
            refuse(name, "corrupt", "its segments do not line up")
        if kind == SCAN:
            break
        segment, at = data[at : at + 2 + length], at + 2 + length
        frame.take(kind, segment)
        if kind == 0xE1 and segment[4:10] == b"Exif\0\0":
            orientation = exif_orientation(segment[10:])
        if kind in (0xE0, 0xEE) or not (0xE0 <= kind <= 0xEF or kind == 0xFE):
            segments.append(segment)
    last, end, scans, whole = _data_of(data, at, frame)
    head = b"".join(segments)
    kept = data if head == data[:at] and end == len(data) else head + data[at:end]
    return PixelFile(
        kept,
        orientation,
        passes=(4.0 if frame.kind > 0xC8 else 1.0) * (1 + 0.1 * (scans - 1 if whole else scans)),
        buffered=2 * frame.coefficients() if scans > 1 or not whole else 0.0,
        data_end=last - end + len(kept) if scans == 1 and whole else 0,
    )


def _unpadded(data: bytes, at: int) -> int:
    """Return where the mark begins that is at `at`, or after the padding there."""
    match = _PADDING.match(data, at)
    return at if match is None or match.end() == at else match.end() - 1


def _data_of(data: bytes, at: int, frame: _Frame) -> tuple[int, int, int, bool]:
    """Follow the scans, of which the first begins at `at`.

    Returns where the data of the last one ends, where the image ends, the number of scans, and
    whether it is coded in one go, by Huffman. Raises `ImageError` for marks that cannot be in data,
    restarts that are missing, doubled or out of order, and runs of bytes that no encoder writes.
    """
    name, scans = frame.name, 0
    while True:
        scans += 1
        if scans > MAX_SCANS:
            refuse(name, "too_slow", f"more than {MAX_SCANS} scans")
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        head, begin = data[at + 4 : at + 2 + length], at + 2 + length
        if len(head) < 6 or len(head) != 4 + 2 * head[0]:
            refuse(name, "corrupt", "the head of its pixel data")
        found = _MARK.search(data, begin)
        if found is None:
            refuse(name, "truncated")
        last, at = found.start(), found.end() - 2
        whole = frame.kind in (0xC0, 0xC1) and head[0] == len(frame.sampling)
        _check_data(data, begin, last, frame=frame, head=head, whole=whole)
        while (kind := data[at + 1]) not in (SCAN, END):
            if kind not in BETWEEN:
                refuse(name, "corrupt", f"a mark {kind:02X} within its pixel data")
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            frame.take(kind, data[at : at + 2 + length])
            at = _unpadded(data, at + 2 + length)
            if at + 2 > len(data):
                refuse(name, "truncated")
            if length < 2 or data[at] != 0xFF:
                refuse(name, "corrupt", "its segments do not line up")
        if kind == END:
            return last, at + 2, scans, whole


def _check_data(
    data: bytes, begin: int, end: int, *, frame: _Frame, head: bytes, whole: bool
) -> None:
    """Check the data of a scan whose segment has the body `head`; `whole`: of all components."""
    name = frame.name
    if data.find(b"\xff\xff", begin, end) >= 0:
        refuse(name, "corrupt", "a gap in its pixel data")
    restarts = b"".join(_RESTART.findall(data, begin, end))[1::2]
    if not frame.interval and restarts:
        refuse(name, "corrupt", "a mark within its pixel data")
    pattern = bytes(range(0xD0, 0xD8))
    if restarts != (pattern * (len(restarts) // 8 + 1))[: len(restarts)]:
        refuse(name, "corrupt", "a part of its pixel data is missing or out of order")
    if not whole:
        return
    if frame.interval:
        number = -(-frame.units(head[0]) // frame.interval) - 1
        if len(restarts) not in (
            number,
            number + 1,
        ):  # some encoders end the last part with one too
            refuse(name, "corrupt", "a part of its pixel data is missing or out of order")
    # Zeros stand for blocks of nothing only where the shortest code says so; else they were written
    # over the data.
    if frame.first_symbols.get(head[2] & 15, 0) not in (0x00, 0xF0) and (
        data.find(ZEROS, begin, end) >= 0
    ):
        refuse(name, "corrupt", "a gap in its pixel data")
