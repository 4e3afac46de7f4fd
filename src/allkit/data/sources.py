"""Where the bytes of an image come from: a file, a member of a zip, or memory."""

from __future__ import annotations

import hashlib
import struct
import threading
import zipfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from allkit.errors import DatasetError, ImageError
from allkit.images.decode import IMAGE_SUFFIXES
from allkit.images.regular import read_first, read_regular

__all__ = ["DRAWN", "BytesSource", "FileSource", "Source", "ZipSource", "digest", "image_members"]
__all__ += ["is_image_name", "says_drawn"]

MAX_MEMBERS = 1_000_000
MAX_MEMBER_BYTES = 512 * 2**20
_DAMAGED = (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError)
HEAD = 1024
"""Bytes at the beginning of a file that may hold the text of drawn images."""
DRAWN = ("Source", "Drawn by allkit. This is no photograph of a smear.")
"""The keyword and the text that mark a drawn PNG file, before its pixels."""
MAX_RATIO = 200  # a real photograph is already compressed; a bomb packs thousands to one


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
        """Return the member's bytes; raise `ImageError` when it is damaged."""
        try:
            # One byte over the limit is enough to know that the header lied.
            data = self._first(MAX_MEMBER_BYTES + 1)
        except _DAMAGED as error:
            raise ImageError(
                f"{self.member} in {self.archive} is damaged: {error}. Make the zip again.",
                code="corrupt",
            ) from None
        if len(data) > MAX_MEMBER_BYTES:
            raise ImageError(
                f"{self.member} in {self.archive} is over {MAX_MEMBER_BYTES >> 20} MB.",
                code="too_large",
            )
        return data

    def head(self) -> bytes:
        """Return the first bytes, `HEAD` at most; none when it is damaged."""
        try:
            return self._first(HEAD)
        except _DAMAGED:
            return b""

    def _first(self, count: int) -> bytes:
        with _lock(self.archive), _open(self.archive).open(self.member) as stream:
            return stream.read(count)


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


def digest(source: Source) -> str:
    """Return the SHA-256 of the source's bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(source.read()).hexdigest()


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


def is_image_name(name: str) -> bool:
    """Return whether a file is an image by its name; hidden files and junk are not."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


@lru_cache(maxsize=8)
def _lock(archive: Path) -> threading.Lock:
    return threading.Lock()


@lru_cache(maxsize=8)
def _open(archive: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(archive)


def image_members(archive: Path) -> tuple[list[str], list[str]]:
    """Return the names of the images in a zip, sorted, and of what was left out.

    Nothing is written to disk, so a path like `../x` could do no harm; such an archive is refused
    all the same, since no honest tool makes one. Raises `DatasetError` also for links, encrypted
    members, too many members, and members that unpack to over 200 times their size.
    """
    try:
        members = _open(archive).infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{archive} is not a readable zip file: {error}.") from None
    if len(members) > MAX_MEMBERS:
        raise DatasetError(
            f"{archive} has {len(members):,} members; at most {MAX_MEMBERS:,} are taken."
        )
    images, others = [], []
    for member in members:
        name = member.filename
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise DatasetError(
                f"{archive} holds the unsafe path {name!r}. It is refused as a whole."
            )
        if member.is_dir():
            continue
        if (member.external_attr >> 16) & 0o170000 == 0o120000:
            raise DatasetError(
                f"{archive} holds a link, {name!r}. Put the file itself into the zip."
            )
        if path.parts[0] == "__MACOSX" or not is_image_name(name):
            others.append(name)
            continue
        if member.flag_bits & 0x1:
            raise DatasetError(f"{archive} is encrypted ({name!r}). Make it without a password.")
        if member.file_size > MAX_MEMBER_BYTES or (
            member.file_size > 2**20 and member.file_size > MAX_RATIO * max(1, member.compress_size)
        ):
            raise DatasetError(
                f"{name!r} in {archive} unpacks from {member.compress_size:,} to "
                f"{member.file_size:,} bytes. The zip is refused as a whole."
            )
        images.append(name)
    return sorted(images), sorted(others)
