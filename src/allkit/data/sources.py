"""Where the bytes of an image come from: a file, a member of a zip, or memory."""

from __future__ import annotations

import os
import struct
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from allkit.data.zips import first_bytes_of_member, read_member
from allkit.images.hidden import DRAWN
from allkit.images.regular import read_first, read_regular

__all__ = [
    "DRAWN",
    "BytesSource",
    "FileSource",
    "Source",
    "ZipSource",
    "name_on_disk",
    "says_drawn",
]

HEAD = 1024
"""Bytes at the beginning of a file that may hold the text of drawn images."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file on disk.

    Kept as text: for a hundred thousand images, `Path`s would take 50 MB. Those of one set share the
    text of its folder, and with their rows that of the name below it.
    """

    location: str | Path
    below: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.location, str):
            object.__setattr__(self, "location", str(self.location))

    @property
    def path(self) -> Path:
        """Where the file is."""
        return Path(self.location, self.below) if self.below else Path(self.location)

    def read(self) -> bytes:
        """Return the file's bytes; raise `ImageError` as `read_image` does for a path."""
        path = self.path
        return read_regular(path, str(path))

    def head(self) -> bytes:
        """Return the first bytes, `HEAD` at most; none when it cannot be opened."""
        return read_first(self.path, HEAD)


@dataclass(frozen=True, slots=True)
class ZipSource:
    """A member of a zip file, read in memory and never extracted."""

    archive: Path
    member: str

    def read(self) -> bytes:
        """Return the member's bytes; raise `ImageError` when it is damaged or no longer there."""
        return read_member(self.archive, self.member)

    def head(self) -> bytes:
        """Return the first bytes, `HEAD` at most; none when it is damaged."""
        return first_bytes_of_member(self.archive, self.member, HEAD)


@dataclass(frozen=True, slots=True)
class BytesSource:
    """An encoded image in memory."""

    data: bytes = field(repr=False)

    def read(self) -> bytes:
        """Return the bytes."""
        return self.data

    def head(self) -> bytes:
        """Return the first bytes, `HEAD` at most."""
        return self.data[:HEAD]


Source = FileSource | ZipSource | BytesSource


def says_drawn(source: Source) -> bool:
    """Return whether the text in an image's file says that allkit drew it; its name does not count."""
    head = source.head()
    if not head.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    at = 8
    while at + 12 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, at)
        if kind == b"IDAT":
            break
        if kind == b"tEXt" and head[at + 8 : at + 8 + length] == "\0".join(DRAWN).encode("latin-1"):
            return True
        at += 12 + length
    return False


def name_on_disk(root: str, name: str) -> str:
    """Return the name below `root` of the file that a table calls `name`.

    A table and a disk may spell one letter differently: `é`, or `e` and an accent, which is how macOS
    names files. A name that exists as it is comes back as it is, and so does one that exists in no
    form.
    """
    if name.isascii() or os.path.lexists(os.path.join(root, name)):
        return name
    found: list[str] = []
    for part in Path(name).parts:
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        there = [form for form in forms if os.path.lexists(os.path.join(root, *found, form))]
        if not there:
            return name
        found.append(there[0])
    return os.path.join(*found)
