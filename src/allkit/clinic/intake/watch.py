"""A watched folder: which files are whole, and where they go when they were taken.

A file in a subfolder belongs to the case of this name, however deep it lies; a file in the watched
folder itself is a case of its own. A program that copies into the folder is best told to write under a
temporary name (`x.part`) and to rename at the end. The caller polls, every two seconds say.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["OUTCOMES", "Seen", "Stamp", "case_of", "set_aside", "settled"]

OUTCOMES = ("taken", "refused")
"""The folders inside the watched folder to which files are moved; they are not watched."""
TEMPORARY = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", "~")


class Stamp(NamedTuple):
    """What tells that a file did not change: bytes, time in nanoseconds, number on the disk."""

    size: int
    modified: int
    inode: int
    given: bool = False


Seen = dict[Path, Stamp]
"""What a poll remembers for the next one; begin with an empty one. It keeps no file that is gone."""


def settled(
    folder: Path, seen: Seen, *, tell: Callable[[str], None] | None = None
) -> Iterator[Path]:
    """Yield the files that did not change since the last poll, sorted, each once.

    Temporary and hidden files wait, links are not followed. A file that was given and then changes, or
    another under its name, is given again when it has settled. A folder that cannot be read (a share that
    went away) is told to `tell`, and what was seen in it is forgotten only when it can be read again.
    """
    found: Seen = {}
    failed: list[OSError] = []
    for where, folders, files in os.walk(folder, onerror=failed.append):
        base = Path(where)
        if base == folder:
            folders[:] = [name for name in folders if name not in OUTCOMES]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if name.startswith(".") or name.lower().endswith(TEMPORARY):
                continue
            stamp = _stamp(base / name)
            if stamp is not None:
                found[base / name] = stamp
    for error in failed:
        if tell is not None:
            tell(f"{error.filename} cannot be read ({error.strerror}). It is tried again.")
    lost = [Path(error.filename) for error in failed if error.filename]
    for path in list(seen):
        if path not in found and not any(path.is_relative_to(place) for place in lost):
            del seen[path]
    ready = []
    for path, stamp in sorted(found.items()):
        before = seen.get(path)
        same = before is not None and before[:3] == stamp[:3]
        seen[path] = stamp._replace(given=same)
        if same and before is not None and not before.given:
            ready.append(path)
    yield from ready


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.lstat()
    except OSError:  # it vanished, or its folder is closed
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


def case_of(folder: Path, path: Path) -> str:
    """Return the name of the subfolder whose case a file belongs to; `""` for a case of its own."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else ""


def set_aside(
    path: Path, folder: Path, outcome: Literal["taken", "refused"], *, why: str = ""
) -> Path | None:
    """Move a file of the watched folder into its `taken` or `refused` folder; return where it is now.

    It keeps its subfolder. `why` is written beside it, as `NAME.txt`. Nothing is overwritten: the second
    file of one name becomes `NAME (2)`. Returns `None` where the file has vanished meanwhile. Raises
    `OSError` where the folder cannot be written, and leaves the file where it was.
    """
    aim = folder / outcome / path.relative_to(folder)
    aim.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        place = aim if number == 1 else aim.with_name(f"{aim.stem} ({number}){aim.suffix}")
        text = place.with_name(f"{place.name}.txt")
        if not text.exists() and _reserved(place):
            break
        number += 1
    try:
        if why:  # first: no file is ever there without its reason
            text.write_text(why.rstrip() + "\n", "utf-8")
        path.replace(place)
    except OSError as error:
        place.unlink()
        text.unlink(missing_ok=True)
        if isinstance(error, FileNotFoundError):
            return None
        raise
    return place


def _reserved(place: Path) -> bool:
    """Return whether an empty file could be made there, and was: renaming alone would overwrite."""
    try:
        place.open("xb").close()
    except FileExistsError:
        return False
    return True
