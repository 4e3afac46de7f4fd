"""Zips of images: what they hold, and the bytes of a member; nothing is written to disk.

Names are those of the members with `/` between folders, also where a zip was made with `\\`. A zip
that was made again under its name is opened again, and so is one in a process that was forked.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
import zipfile
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from allkit.data.left_out import is_image_name, why_left_out
from allkit.errors import DatasetError, ImageError
from allkit.images.mistaken import MOST_TO_TELL, mistaken_for

__all__ = ["Members", "first_bytes_of_member", "image_members", "read_member"]

MAX_MEMBERS = 1_000_000
MAX_MEMBER_BYTES = 512 * 2**20
MAX_RATIO = 200  # a real photograph is already compressed; a bomb packs thousands to one
_READ = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_READ |= {getattr(zipfile, "ZIP_ZSTANDARD", zipfile.ZIP_STORED)}  # from Python 3.14 on
_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 96: "JPEG", 98: "PPMd", 99: "AES encryption"}


class Members(NamedTuple):
    """The images of a zip, the files that are not taken, and the folders, each sorted."""

    images: list[str]
    others: list[str]
    folders: list[str]


class _Archive:
    """An open zip, its members by their names with `/`, and the lock for reading it."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self.file = zipfile.ZipFile(path)
        self.members = {_name(member): member for member in self.file.infolist()}


def _name(member: zipfile.ZipInfo) -> str:
    return PurePosixPath(member.filename.replace("\\", "/")).as_posix()


@lru_cache(maxsize=8)
def _opened(archive: Path, stamp: tuple[int, ...]) -> _Archive:
    return _Archive(archive)


if hasattr(os, "register_at_fork"):  # two processes would move one position in the file
    os.register_at_fork(after_in_child=_opened.cache_clear)


def _open(path: Path) -> _Archive:
    status = path.stat()
    changed = (status.st_mtime_ns, status.st_ctime_ns)
    return _opened(path, (status.st_dev, status.st_ino, status.st_size, *changed))


def read_member(archive: Path, name: str) -> bytes:
    """Return the bytes of a member; raise `ImageError` when it is damaged or not there."""
    # One byte over the limit is enough to know that the header lied.
    data = _first(archive, name, MAX_MEMBER_BYTES + 1)
    if len(data) > MAX_MEMBER_BYTES:
        limit = MAX_MEMBER_BYTES >> 20
        raise ImageError(f"{name} in {archive} is over {limit} MB.", code="too_large")
    return data


def first_bytes_of_member(archive: Path, name: str, count: int) -> bytes:
    """Return the first bytes of a member, `count` at most; none when it cannot be read."""
    try:
        return _first(archive, name, count)
    except ImageError:
        return b""


def _first(archive: Path, name: str, count: int) -> bytes:
    try:
        zipped = _open(archive)
        member = zipped.members.get(name)
        if member is None:
            raise ImageError(f"{archive} holds no {name}. Check the path.", code="missing")
        with zipped.lock, zipped.file.open(member) as stream:
            return stream.read(count)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{archive} does not exist. Check the path.", code="missing") from None
    except MemoryError as error:
        message = f"{name} in {archive} does not fit into the memory that is left."
        raise ImageError(message, code="too_large") from error
    # Each decompressor has error classes of its own (zlib.error, LZMAError), and zipfile has more.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ImageError(
            f"{name} in {archive} is damaged: {reason}. Make the zip again.", code="corrupt"
        ) from error


def image_members(archive: Path) -> Members:
    """Return what a zip holds; it is read anew.

    Nothing is written to disk, so a path like `../x` could do no harm; such an archive is refused
    all the same, since no honest tool makes one. Raises `DatasetError` also for links, encrypted
    members, two members of one name, unknown compression, too many members, and members that unpack
    to over 200 times their size.
    """
    _opened.cache_clear()  # also where the clock is too coarse to tell a zip that was just made again
    try:
        members = _open(archive).file.infolist()
    # zipfile raises errors of many kinds for damaged directories: struct.error, ValueError, ...
    except Exception as error:  # noqa: BLE001
        raise DatasetError(_unreadable(archive, error)) from None
    if len(members) > MAX_MEMBERS:
        raise DatasetError(
            f"{archive} has {len(members):,} members; at most {MAX_MEMBERS:,} are taken. "
            "Unpack it, and give the folder."
        )
    images, others, folders = [], [], set[str]()
    seen = set[str]()
    for member in members:
        name = _name(member)
        _require_safe(archive, member)
        parts = PurePosixPath(name).parts
        waste = any(map(why_left_out, parts))
        if not parts and member.file_size:
            others.append("a file without a name")
        elif not parts or member.filename.endswith(("/", "\\")):
            folders.update(_folders(parts))
        elif waste or not is_image_name(name):
            others.append(name)
            folders.update(_folders(parts[:-1]))
        else:
            if name in seen:
                raise DatasetError(
                    f"{archive} holds {name!r} twice. Make it again with one of them."
                )
            seen.add(name)
            _require_readable(archive, member)
            images.append(name)
            folders.update(_folders(parts[:-1]))
    return Members(sorted(images), sorted(others), sorted(folders))


def _folders(parts: tuple[str, ...]) -> list[str]:
    """Return the folders of a path down to the first one that is waste; a zip need not list them."""
    kept = list(itertools.takewhile(lambda part: why_left_out(part) is None, parts))
    return ["/".join(kept[:depth]) + "/" for depth in range(1, len(kept) + 1)]


def _unreadable(archive: Path, error: Exception) -> str:
    """Say why a file cannot be read as a zip, and what to do."""
    try:
        with archive.open("rb") as stream:
            head = stream.read(MOST_TO_TELL)
    except OSError as closed:
        return f"{archive} cannot be opened: {closed.strerror}. Check its permissions."
    if instead := mistaken_for(head, wanted=b"PK"):
        return f"{archive} {instead}"
    if isinstance(error, UnicodeDecodeError):
        return (
            f"{archive} cannot be read: the name of a file in it is no UTF-8, though the zip says so. "
            f"Unpack it, and give the folder, or make the zip again."
        )
    reason = str(error) or type(error).__name__
    return (
        f"{archive} is not a readable zip file: {reason}. It may be cut off or damaged: copy or "
        f"download it again, or make it again from the folder."
    )


def _require_safe(archive: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", path.as_posix()):
        raise DatasetError(
            f"{archive} holds the unsafe path {name!r}, so it is refused as a whole. Make "
            f"the zip again from the folder itself."
        )
    kind = (member.external_attr >> 16) & 0o170000
    if kind == 0o120000:
        raise DatasetError(f"{archive} holds a link, {name!r}. Put the file itself into the zip.")
    if kind not in (0, 0o100000, 0o040000):
        raise DatasetError(
            f"{archive} holds {name!r}, which is a pipe or a device, so it is refused as a whole. "
            f"Make the zip again without it."
        )


def _require_readable(archive: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename
    if member.flag_bits & 0x1:
        raise DatasetError(f"{archive} is encrypted ({name!r}). Make it without a password.")
    if member.compress_type not in _READ:
        method = _METHODS.get(member.compress_type, f"method {member.compress_type}")
        raise DatasetError(
            f"{name!r} in {archive} is compressed by {method}, which is not read. Make the zip again "
            f"with Deflate, the usual method."
        )
    if member.file_size > MAX_MEMBER_BYTES or (
        member.file_size > 2**20 and member.file_size > MAX_RATIO * max(1, member.compress_size)
    ):
        raise DatasetError(
            f"{name!r} in {archive} unpacks from {member.compress_size:,} to "
            f"{member.file_size:,} bytes, so the zip is refused as a whole. If you trust it, unpack it, and "
            f"give the folder."
        )
