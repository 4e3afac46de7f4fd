"""The names of images in a new folder: relative, the same as before where they can be, each once."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence

from allkit.shown.text import hidden

__all__ = ["FOLDER", "new_names"]

FOLDER = "images"
"""The folder of the images below the new one."""
_FORBIDDEN = frozenset('<>:"|?*\\')  # on Windows
_DEVICES = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))}
_LONGEST = 180
"""Bytes of a part of a name that stay: with a number and an ending, 255 are the most."""


def new_names(images: Sequence[str]) -> list[str]:
    """Return for each image its path below the new folder, with `/`: `images/Pro/a.png` for `Pro/a.jpg`.

    None leads out of the folder, and none is another one's, also where capitals are not told apart.
    What a disk may refuse becomes `_`. Folders that all images share are left out where names were
    absolute or led upwards, and a first folder `images` is not doubled.
    """
    paths = [_parts(name) for name in images]
    if any(_leads_out(name) for name in images):
        folders = [path[:-1] for path in paths]
        first, last = min(folders), max(folders)  # what these share, all do
        shared = next(
            (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
            min(len(first), len(last)),
        )
        # The last one may be the class of the images: it stays.
        paths = [path[max(0, shared - 1) :] for path in paths]
    if all(len(path) > 1 and path[0] == FOLDER for path in paths):
        paths = [path[1:] for path in paths]
    taken: set[str] = set()
    names = []
    for path in paths:
        stem = os.path.splitext(path[-1])[0] or path[-1]
        name, number = "/".join([FOLDER, *path[:-1], f"{stem}.png"]), 1
        while _key(name) in taken:
            number += 1
            name = "/".join([FOLDER, *path[:-1], f"{stem}-{number}.png"])
        taken.add(_key(name))
        names.append(name)
    return names


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _leads_out(name: str) -> bool:
    plain = name.replace("\\", "/")
    return plain.startswith("/") or plain[1:2] == ":" or ".." in plain.split("/")


def _parts(name: str) -> list[str]:
    found = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return [_part(part) for part in found] or ["image"]


def _part(text: str) -> str:
    shown = "".join("_" if c in _FORBIDDEN or hidden(c) else c for c in text).rstrip(" .")
    short = shown.encode()[:_LONGEST].decode(errors="ignore") if _is_long(shown) else shown
    stem = short.split(".")[0].lower()
    return f"_{short}" if not short or stem in _DEVICES else short


def _is_long(text: str) -> bool:
    return len(text.encode()) > _LONGEST
