"""The trailer of an exported file: what it says of itself, behind a payload that is not touched.

    payload | description, JSON | SHA-256 of all the rest, 32 bytes | length of the description, 8 bytes |
    mark, 8 bytes

The payload may be anything but a file that ends in a trailer itself: an archive with checksums of its
own, a database, a file of allkit's own formats.
The trailer can be written anew, so that the parity report finds its place when the file is finished.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from allkit.errors import ExportError

__all__ = ["Parts", "broken_trailer", "has_trailer", "parts_of", "with_trailer"]

_TAIL = struct.Struct("<32sQ7sB")
_MARK, _VERSION = b"\x89ALLKIT", 1
_DIGEST = 32
_NAMED = re.compile(rb'"exporter": "([A-Za-z0-9][\w.-]{0,99}/[A-Za-z0-9][\w.+:-]{0,99})"', re.ASCII)
_TWICE = "ends in a trailer of allkit already"
AGAIN = "Copy it again from where it was made, or export the model again."


class Parts(NamedTuple):
    """What a file with a trailer is made of; `digest` is its SHA-256 as text."""

    payload: bytes
    description: bytes
    digest: str


def has_trailer(data: bytes) -> bool:
    """Say whether a file ends in a trailer; whether that is right, `parts_of` says."""
    return len(data) >= _TAIL.size and data[-8:-1] == _MARK


def broken_trailer(data: bytes) -> str:
    """Return what became of the trailer that a file had, and what to do; empty where no trace of one is.

    The text goes on a sentence that begins with the name of the file. Of a file that is cut in its payload
    no trace is left; one that ends in a trailer may still have been altered, which `parts_of` says.
    """
    if has_trailer(data):
        return ""
    named = _NAMED.findall(data)
    # What is written by older exporters names itself too, and has its seal beside the name.
    if _MARK not in data and (not named or b'"sha256": "' in data):
        return ""
    by = f"was written by the exporter {named[-1].decode()}, and " if named else ""
    return f"{by}was cut off or has bytes behind its trailer. {AGAIN}"


def with_trailer(payload: bytes, description: Mapping[str, Any]) -> bytes:
    """Return a payload with its trailer; raise `ExportError` where it has one already."""
    if has_trailer(payload):
        raise ExportError(f"The payload of an exported file {_TWICE}. Write what lies before it.")
    text = json.dumps(description).encode()
    end = _TAIL.pack(b"", len(text), _MARK, _VERSION)[_DIGEST:]
    whole = hashlib.sha256(payload)
    whole.update(text)
    whole.update(end)
    return b"".join((payload, text, whole.digest(), end))


def parts_of(data: bytes, name: str) -> Parts:
    """Return the parts of the file `name`, which has a trailer.

    Raises `ExportError` unless its bytes are those that were written, and for a newer kind of trailer or
    a second one.
    """
    digest, length, _, version = _TAIL.unpack(data[-_TAIL.size :])
    if version > _VERSION:
        raise ExportError(
            f"{name} has a trailer of the kind {version}; this allkit reads up to {_VERSION}. Update "
            f"allkit, or copy the file again if it was damaged."
        )
    view = memoryview(data)
    end = len(data) - _TAIL.size
    whole = hashlib.sha256(view[:end])
    whole.update(view[end + _DIGEST :])
    if whole.digest() != digest or length > end:
        raise ExportError(
            f"{name} was altered or damaged after it was exported: its hash does not match. {AGAIN}"
        )
    start = end - length
    if has_trailer(data[max(0, start - _TAIL.size) : start]):
        raise ExportError(
            f"{name} {_TWICE}, and of two the outer one would vouch for the inner one. {AGAIN}"
        )
    return Parts(bytes(view[:start]), bytes(view[start:end]), digest.hex())
