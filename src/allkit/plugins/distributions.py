"""The installed distributions that name a plugin, read from their own folders.

One folder that is damaged harms no other: what is wrong with it is said with its path. So they are
not listed by `importlib.metadata`, which stops at the first damaged one, takes several times as long,
and is imported for nothing else in `allkit --help`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from allkit.shown.text import one_line, shortened

__all__ = ["GROUP", "Distribution", "distributions", "plain", "shown"]

GROUP = "allkit"
"""The group of entry points under which a distribution names its plugin."""
ENDINGS = {".dist-info": "METADATA", ".egg-info": "PKG-INFO"}
"""The folders that tell of a distribution, with the file that holds its name and version."""
_ENTRY = re.compile(r"\s*\w+(\.\w+)*\s*(:\s*\w+(\.\w+)*\s*)?(\[[^\]]*\]\s*)?")
_AGAIN = "Type: pip install --force-reinstall"


@dataclass(frozen=True)
class Distribution:
    """One installed distribution, by its folder of metadata.

    `entries` are the names and values of its entry points, `damage` what is wrong with the folder and
    what to do; empty where it is whole.
    """

    folder: Path
    name: str
    version: str
    entries: tuple[tuple[str, str], ...] = ()
    damage: str = ""

    @property
    def root(self) -> Path:
        """The folder on the path in which it is installed."""
        return self.folder.parent

    def text(self, file: str) -> str:
        """Return a file of the metadata; an empty text where there is none that can be read."""
        return _text(self.folder / file) or ""


def plain(name: str) -> str:
    """Return the name of a package in the one form in which names are compared."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def shown(text: object, most: int = 300) -> str:
    """Return what a stranger wrote as one line that a terminal shows as it is, and does not obey."""
    return shortened(" ".join(one_line(str(text)).split()), most)


def distributions() -> list[Distribution]:
    """Return the distributions with a plugin, and the damaged ones that may have one.

    Where two folders on the path hold one name, the first counts, as for Python itself.
    """
    found: list[Distribution] = []
    seen: set[str] = set()
    for root in dict.fromkeys(sys.path):
        by_name: dict[str, list[Path]] = {}
        for folder in _folders(root):
            by_name.setdefault(plain(folder.name.partition("-")[0]), []).append(folder)
        for name, folders in by_name.items():
            if name not in seen:
                found += _of_one_name(folders)
        seen |= by_name.keys()
    return found


def _folders(root: str) -> list[Path]:
    if os.path.isfile(root):
        return []  # a zip: nothing that is installed, so it names no plugin
    try:
        names = sorted(os.listdir(root or os.curdir))
    except OSError:
        return []
    return [Path(root, name) for name in names if name.endswith(tuple(ENDINGS))]


def _of_one_name(folders: list[Path]) -> Iterator[Distribution]:
    """Yield what the folders of one name, which lie beside each other, tell of a plugin."""
    told = [d for d in map(_read, folders) if d is not None]
    whole = [d for d in told if not d.damage]
    if len(whole) < 2:
        yield from told
        return
    where = " and ".join(str(d.folder) for d in whole)
    package = whole[0].name
    for one in whole:
        what = f"Two versions of it are installed: {where}. {_AGAIN} {package}"
        yield replace(one, damage=what)


def _read(folder: Path) -> Distribution | None:
    """Return what a folder tells; `None` where it names no plugin."""
    stem = folder.name.rpartition(".")[0]
    name, _, version = (shown(part, 100) for part in stem.partition("-"))
    text = _text(folder / "entry_points.txt")
    if text is None:
        if not os.path.lexists(folder / "entry_points.txt"):
            return None
        what = f"{folder}: its entry_points.txt cannot be read. {_AGAIN} {name}"
        return Distribution(folder, name, version or "?", damage=what)
    entries, wrong = _entries(text)
    if not entries and not wrong:
        return None
    head = _head(folder / ENDINGS[folder.suffix])
    if not head.get("Name") or not head.get("Version"):
        what = f"{folder} has no {ENDINGS[folder.suffix]} with a name and a version"
        wrong = wrong or f"{what}. {_AGAIN} {name}"
    elif wrong:
        wrong = f"{folder / 'entry_points.txt'}: {wrong} Update the plugin, or tell its author."
    return Distribution(
        folder,
        name=shown(head.get("Name") or name, 100),
        version=shown(head.get("Version") or version or "?", 100),
        entries=tuple(entries),
        damage=wrong,
    )


def _entries(text: str) -> tuple[list[tuple[str, str]], str]:
    """Return the entry points of our group, and what is wrong with them."""
    entries, wrong = [], ""
    for line in _section(text.splitlines()):
        name, equals, value = (part.strip() for part in line.partition("="))
        entries.append((shown(name, 100), value))
        if not equals or not _ENTRY.fullmatch(value):
            wrong = f"The entry point {shown(line, 100)!r} names no module."
    return entries, wrong


def _section(lines: Iterable[str]) -> Iterator[str]:
    inside = False
    for line in map(str.strip, lines):
        if line.startswith("["):
            inside = line == f"[{GROUP}]"
        elif inside and line and not line.startswith(("#", ";")):
            yield line


def _head(file: Path) -> dict[str, str]:
    """Return the fields at the beginning of a METADATA, the first of each name."""
    fields: dict[str, str] = {}
    for line in (_text(file) or "").splitlines():
        name, colon, value = line.partition(":")
        if not line.strip() or len(fields) == 50:
            break
        if colon and not line[0].isspace():
            fields.setdefault(name, value.strip())
    return fields


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
