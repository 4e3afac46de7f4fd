"""Every image and every order in a file, a folder or a zip, and every file that was refused.

Nothing is written to disk, nothing is followed out of the folder, and nothing is left out in silence:
each file comes out as an image, as an order, or as refused with the reason.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from allkit.clinic.intake.incoming import Incoming, Refused, take_dicom, take_image
from allkit.clinic.intake.sniff import sniff
from allkit.clinic.orders import parse_orders
from allkit.clinic.records import Order
from allkit.errors import AllkitError, ImageError
from allkit.images.refusal import MAX_BYTES, check_bytes

__all__ = ["Incoming", "IncomingOrder", "Refused", "Unpacked", "unpack"]

MAX_MEMBERS = 2000
"""Most files of a zip."""
MAX_UNPACKED = 4 * 2**30
"""Most bytes of all files of a zip together."""
HEAD = 4096
WASTE = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "@eadir"}
WASTE |= {"lost+found", "system volume information", "thumbnails"}
_DAMAGED = (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError)


@dataclass(frozen=True)
class IncomingOrder:
    """An order and the name of the file that held it."""

    name: str
    order: Order


Unpacked = Incoming | IncomingOrder | Refused


def unpack(source: Path | tuple[str, bytes]) -> Iterator[Unpacked]:
    """Yield what a file, a folder with all below it, a zip, or a name with its bytes holds, sorted.

    Every image is decoded whole, one at a time, so what cannot be read is refused here. Names are
    relative to the folder and have `/`; the files of a zip are named behind it (`a.zip/1.png`). A name
    is shown only and never opened; it may hold the name of a patient, so it belongs into no log.
    Links are not followed. Raises nothing for a bad file: it comes out as `Refused`.
    """
    if isinstance(source, tuple):
        name, data = source
        yield from _of_bytes(_shown(name), data)
    elif source.is_dir():
        yield from _of_folder(source)
    else:
        yield from _of_file(source, _shown(source.name))


def _shown(name: str) -> str:
    """Return a name of a file that is safe to show and to join: no way up, nothing unprintable."""
    parts = [p for p in name.replace("\\", "/").split("/") if p not in ("", ".", "..")]
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in "/".join(parts))
    return (text if len(text) <= 255 else "…" + text[-254:]) or "a file without a name"


def _left_out(name: str) -> Refused | None:
    parts = [part.lower() for part in PurePosixPath(name).parts]
    hidden = any(part.startswith(".") for part in parts)
    if not hidden and not any(part in WASTE for part in parts) and not parts[-1].endswith("~"):
        return None
    what = "hidden" if hidden else "a waste or helper file of another program"
    return Refused(name, f"{name} was left out: it is {what}.", "left_out")


def _refused(name: str, error: AllkitError) -> Refused:
    return Refused(name, str(error), error.code if isinstance(error, ImageError) else "order")


def _of_folder(folder: Path) -> Iterator[Unpacked]:
    unreadable: list[OSError] = []
    for where, folders, files in os.walk(folder, onerror=unreadable.append):
        base = Path(where)
        while unreadable:
            yield _unreadable(folder, unreadable.pop())
        folders.sort()
        for file in sorted([*files, *(f for f in folders if (base / f).is_symlink())]):
            path = base / file
            name = _shown(path.relative_to(folder).as_posix())
            left_out = _left_out(name)
            if left_out is not None:
                yield left_out
            elif path.is_symlink():
                message = f"{name} is a link. Put the file itself into the folder."
                yield Refused(name, message, "link")
            else:
                yield from _of_file(path, name)
    while unreadable:
        yield _unreadable(folder, unreadable.pop())


def _unreadable(folder: Path, error: OSError) -> Refused:
    place = Path(error.filename or folder)
    name = _shown(place.relative_to(folder).as_posix()) if place != folder else _shown(folder.name)
    message = f"The folder {name} cannot be read ({error.strerror}). Check its permissions."
    return Refused(name, message, "missing")


def _of_file(path: Path, name: str) -> Iterator[Unpacked]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
            message = f"{name} is not a regular file. Give a file."
            yield Refused(name, message, "not_an_image")
            return
        with path.open("rb") as stream:
            head = stream.read(HEAD)
            if sniff(head) == "zip":
                yield from _of_zip(path, name)
                return
            check_bytes(status.st_size, name)
            data = head + stream.read(MAX_BYTES + 1 - len(head))
    except ImageError as error:
        yield _refused(name, error)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not valid"
        message = f"{name} cannot be opened ({reason}). Check the path and its permissions."
        yield Refused(name, message, "missing")
    else:
        yield from _of_bytes(name, data)


def _of_bytes(name: str, data: bytes) -> Iterator[Unpacked]:
    kind = sniff(data)
    if kind == "zip":
        yield from _of_zip(io.BytesIO(data), name)
        return
    try:
        if kind in ("hl7", "fhir"):
            orders = parse_orders(data)
        elif kind == "dicom":
            check_bytes(len(data), name)
            yield take_dicom(data, name)
            return
        else:
            yield take_image(data, name)
            return
    except AllkitError as error:
        shown = error if isinstance(error, ImageError) else type(error)(f"{name}: {error}")
        yield _refused(name, shown)
        return
    for order in orders:
        yield IncomingOrder(name, order)


def _of_zip(source: Path | io.BytesIO, name: str) -> Iterator[Unpacked]:
    try:
        archive = zipfile.ZipFile(source)
    except _DAMAGED:
        message = f"{name} is a damaged zip. Make it again, or give the files themselves."
        yield Refused(name, message, "damaged_zip")
        return
    with archive:
        members = sorted(
            (m for m in archive.infolist() if not m.is_dir()), key=lambda m: m.filename
        )
        size = sum(member.file_size for member in members)
        if len(members) > MAX_MEMBERS:
            message = f"{name} holds {len(members):,} files; at most {MAX_MEMBERS:,} are taken. Divide it."
            yield Refused(name, message, "too_many")
        elif size > MAX_UNPACKED:
            message = (
                f"{name} unpacks to {size:,} bytes; at most {MAX_UNPACKED:,} are taken. Divide it."
            )
            yield Refused(name, message, "too_large")
        elif not members:
            yield Refused(name, f"{name} is a zip without files. Put the images into it.", "empty")
        else:
            for member in members:
                yield from _of_member(archive, member, f"{name}/{_shown(member.filename)}")


def _of_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Iterator[Unpacked]:
    left_out = _left_out(name)
    if left_out is not None:
        yield left_out
    elif member.flag_bits & 0x1:
        message = f"{name} is encrypted. Make the zip without a password."
        yield Refused(name, message, "encrypted")
    elif stat.S_ISLNK(member.external_attr >> 16):
        yield Refused(name, f"{name} is a link. Put the file itself into the zip.", "link")
    else:
        try:
            check_bytes(member.file_size, name)
            with archive.open(member) as stream:
                data = stream.read(MAX_BYTES + 1)
        except ImageError as error:
            yield _refused(name, error)
        except (*_DAMAGED, zlib.error):
            message = f"{name} is damaged in its zip. Make the zip again."
            yield Refused(name, message, "damaged_zip")
        else:
            if sniff(data) == "zip":
                message = f"{name} is a zip in a zip. Unpack it and give its files."
                yield Refused(name, message, "nested_zip")
            else:
                yield from _of_bytes(name, data)
