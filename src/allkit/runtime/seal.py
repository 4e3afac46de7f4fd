"""What is written into an exported file after it was made, so that it can be checked and proves itself.

The *seal* is a hash, so that a single flipped bit is noticed before the file is parsed. The *parity*
is what was found when the file was compared with its model; it stands under the key `proof`. Files of
plugins keep both in a trailer (`allkit.exporting.write`). Those of allkit's own formats can be opened
by other programs as well: there both are written over blanks of the same length, which works in
formats that hold their description uncompressed and under no checksum of their own.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allkit.errors import ExportError
from allkit.runtime.description import EXPORTER
from allkit.runtime.reading import look_alike, parse_json, read_plain
from allkit.runtime.signature import doubt, require_trusted
from allkit.runtime.trailer import AGAIN, has_trailer, parts_of, with_trailer

__all__ = [
    "SEAL_BLANK",
    "bytes_of",
    "check_seal",
    "describe",
    "exporter_in",
    "read_sealed",
    "seal",
    "with_parity",
]

SEAL_BLANK = "0" * 64
"""What the metadata holds under `sha256` while the file is hashed."""

_PATTERN = re.compile(rb'"sha256": "([0-9a-f]{64})"')
_ROOM, _ROOM_PER_CLASS = 4096, 128  # bytes that the parity may take
_BLANK = re.compile(rb'"proof": "(~+)"')
_EXPORTER = re.compile(rf'"exporter": "({EXPORTER[1:-1]})"'.encode())
INSTEAD = "Write it with `allkit.exporting.write`, which touches nothing in it."


def describe(info: Any, *, format: int, precision: str, **further: str) -> dict[str, Any]:
    """Return what every exported file says of itself; `info` is that of a `Classifier`.

    `further` is what one format adds, such as its `exporter`, `PACKAGE/NAME`. It holds the blanks of
    parity and seal, so it goes into the file before `seal`.
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


def with_parity(
    data: bytes, parity: Mapping[str, Any], further: Mapping[str, Any] | None = None
) -> bytes | None:
    """Return the bytes of a sealed file with its parity inside, sealed again.

    In a trailer, what it says is replaced by `further` as well. `None` when the file keeps no room for a
    parity, since its exporter uses neither `allkit.exporting.write` nor `describe`. Raises `ExportError`
    where the file could then not be read back.
    """
    if has_trailer(data):
        parts = parts_of(data, "The exported file")
        described = parse_json(parts.description) | dict(further or {}) | {"proof": dict(parity)}
        return with_trailer(parts.payload, described)
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
    """Return the bytes of a file that is sealed in its blanks.

    Raises `ExportError` if it is missing, no plain file, was altered, or has a trailer, and if the site
    trusts certain keys only (`ALLKIT_TRUSTED_KEYS`) and none of them signed it. Warns where a signature
    beside it is damaged or not its own.
    """
    data = bytes_of(path)
    content = hashlib.sha256(data).hexdigest()
    require_trusted(path, content)
    if has_trailer(data):  # its hash is right whatever was done to what lies before it
        raise ExportError(
            f"{path} has a trailer behind it, which files of its format have not: it was altered after it "
            f"was exported. {AGAIN}"
        )
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
    """Return `data` with its one blank seal filled: the SHA-256 of `data` with the blank.

    Raises `ExportError` where there is no blank, or the file could not be read back with the seal in it.
    """
    blank = f'"sha256": "{SEAL_BLANK}"'.encode()
    if data.count(blank) != 1:
        raise ExportError(
            f"The exported file holds no blank seal, or several, so it cannot be sealed. {INSTEAD}"
        )
    filled = data.replace(blank, f'"sha256": "{hashlib.sha256(data).hexdigest()}"'.encode())
    if len(_PATTERN.findall(filled)) != 1:
        raise ExportError(
            f"The exported file holds another file that is sealed already, and two seals in one file "
            f"cannot be told apart. {INSTEAD}"
        )
    check_seal(filled, "The exported file")
    if filled[:4] == b"PK\3\4":
        _require_whole_zip(filled)
    return filled


def _require_whole_zip(data: bytes) -> None:
    """Raise `ExportError` where a seal lies in a file of a zip, whose checksum is then another."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            broken = file.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
        raise ExportError(
            f"The exported file is a zip that cannot be read back once it is sealed ({error}). {INSTEAD}"
        ) from None
    if broken is not None:
        raise ExportError(
            f"The seal would break the exported file: it lies in {broken[:100]!r}, a file of the zip, "
            f"which has a checksum of its own. {INSTEAD}"
        )


def exporter_in(data: bytes) -> str:
    """Return the exporter that a file names, `PACKAGE/NAME`; empty where it names none, several or no name.

    Nothing is checked: it says who is to be asked to open the file, which then checks it.
    """
    if has_trailer(data):
        try:
            named = parse_json(parts_of(data, "").description).get("exporter")
        except (ExportError, ValueError, AttributeError):
            return ""
        return named if isinstance(named, str) and re.fullmatch(EXPORTER, named) else ""
    found = set(_EXPORTER.findall(data))
    return found.pop().decode() if len(found) == 1 else ""


def check_seal(data: bytes, name: str) -> None:
    """Raise `ExportError` unless the bytes of the file `name` are those that were sealed."""
    if has_trailer(data):
        parts_of(data, name)
        return
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
