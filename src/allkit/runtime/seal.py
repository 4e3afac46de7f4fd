"""What is written into an exported file after it was made, at places of a fixed size kept free.

The *seal* is a hash, so that a single flipped bit is noticed before the file is parsed. The *parity*
is what was found when the file was compared with its model; it stands under the key `proof`. Both
are written over blanks of the same length, which works in every format that holds its description
uncompressed.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allkit.errors import ExportError
from allkit.runtime.reading import look_alike, read_plain
from allkit.runtime.signature import doubt, require_trusted

__all__ = ["SEAL_BLANK", "bytes_of", "check_seal", "describe", "read_sealed", "seal", "with_parity"]

SEAL_BLANK = "0" * 64
"""What the metadata holds under `sha256` while the file is hashed."""

_PATTERN = re.compile(rb'"sha256": "([0-9a-f]{64})"')
_ROOM, _ROOM_PER_CLASS = 4096, 128  # bytes that the parity may take
_BLANK = re.compile(rb'"proof": "(~+)"')


def describe(info: Any, *, format: int, precision: str, **further: str) -> dict[str, Any]:
    """Return what every exported file says of itself; `info` is that of a `Classifier`.

    `further` is what one format adds. It holds the blanks of parity and seal, so it goes into the
    file before `seal`.
    """
    return {
        "format": format,
        "allkit": info.allkit,
        "created": info.created,
        "limits": list(info.trust_notes),
        "classes": list(info.classes),
        "display_names": info.display_names,
        "backbone": info.backbone.name,
        "precision": precision,
        "bag": info.backbone.input.bag,
        "finder": info.backbone.finder,
        **finder_version(info),
        "tiles": info.backbone.tiles,
        "max_cells": info.backbone.input.max_cells,
        "spread": info.backbone.input.spread,
        "data": info.data.fingerprint,
        **further,
        "proof": "~" * (_ROOM + _ROOM_PER_CLASS * len(info.classes)),
        "sha256": SEAL_BLANK,
    }


def finder_version(info: Any) -> dict[str, str]:
    """Return the version of the package of a plugin's finder, which says what to install."""
    package = info.backbone.finder.partition("/")[0]
    return {"finder_version": info.plugins[package]} if package in info.plugins else {}


def with_parity(data: bytes, parity: Mapping[str, Any]) -> bytes | None:
    """Return the bytes of a sealed file with its parity inside, sealed again.

    `None` when the file keeps no room for one, since its exporter does not use `describe`.
    """
    blanks = _BLANK.findall(data)
    if len(blanks) != 1 or not _PATTERN.search(data):
        return None
    text = json.dumps(parity).encode()
    room = len(blanks[0]) + 2  # with its quotation marks
    if len(text) > room:
        raise ExportError(
            f"The parity report takes {len(text):,} bytes, and there is room for {room:,}."
        )
    blank = _PATTERN.sub(f'"sha256": "{SEAL_BLANK}"'.encode(), data)
    written = _BLANK.sub(lambda _: b'"proof": ' + text.ljust(room), blank)
    return seal(written)


def read_sealed(path: Path) -> bytes:
    """Return the bytes of an exported file.

    Raises `ExportError` if it is missing, no plain file or was altered, and if the site trusts certain
    keys only (`ALLKIT_TRUSTED_KEYS`) and none of them signed it. Warns where a signature beside it is
    damaged or not its own.
    """
    data = bytes_of(path)
    content = hashlib.sha256(data).hexdigest()
    require_trusted(path, content)
    check_seal(data, str(path))
    doubted = doubt(path, content)
    if doubted:
        warnings.warn(doubted, stacklevel=4)
    return data


def bytes_of(path: Path) -> bytes:
    """Return the bytes of a plain file, unchecked; raise `ExportError` where there is none."""
    try:
        return read_plain(path, ExportError, follow=True)  # who gives the name knows where it leads
    except FileNotFoundError:
        raise ExportError(
            f"{path} does not exist. Give a file that `allkit export` wrote."
        ) from None


def seal(data: bytes) -> bytes:
    """Return `data` with its one blank seal filled: the SHA-256 of `data` with the blank."""
    blank = f'"sha256": "{SEAL_BLANK}"'.encode()
    if data.count(blank) != 1:
        raise ExportError("The exported file holds no blank seal, so it cannot be sealed.")
    return data.replace(blank, f'"sha256": "{hashlib.sha256(data).hexdigest()}"'.encode())


def check_seal(data: bytes, name: str) -> None:
    """Raise `ExportError` unless the bytes of the file `name` are those that were sealed."""
    seals = _PATTERN.findall(data)
    if not seals:
        what = look_alike(data)
        if what:
            raise ExportError(f"{name} {what}")
        raise ExportError(
            f"{name} was not written by allkit. Export the model with `allkit export`."
        )
    blank = _PATTERN.sub(f'"sha256": "{SEAL_BLANK}"'.encode(), data)
    if len(seals) != 1 or hashlib.sha256(blank).hexdigest() != seals[0].decode():
        raise ExportError(
            f"{name} was altered or damaged after it was exported: its hash does not match. "
            f"Copy it again from where it was made, or export the model again."
        )
