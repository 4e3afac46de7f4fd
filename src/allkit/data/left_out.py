"""What is not taken from a folder or a zip, and why: one rule for every command.

Taken are files with the suffix of an image, also of one that an installed plugin reads. Hidden files
and folders, and those of trash, thumbnails and the system, hold copies of images that nobody means,
so they are not; links to folders are not followed, since a loop would never end. All of it is counted
and said.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Literal

from allkit.errors import DatasetError
from allkit.images.mistaken import package_for
from allkit.images.own import IMAGE_SUFFIXES
from allkit.images.readers import reader_suffixes
from allkit.images.tiles import is_slide_name

__all__ = [
    "METADATA",
    "Why",
    "is_image_name",
    "left_out_text",
    "no_images",
    "walk",
    "why_left_out",
    "why_no_image",
    "whys_of",
]

Why = Literal["name", "slide", "reader", "hidden", "system", "link", "table", "unnamed"]
"""Why something is not taken; `left_out_text` has the words."""

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Names of the table of a Hugging Face image folder; other publishers use them too."""

_WORDS: dict[Why, tuple[str, str]] = {
    "name": ("file is no image by its name", "files are no images by their names"),
    "slide": (
        "is a whole slide, not an image of one field (`allkit tiles`, of allkit-wsi, cuts it)",
        "are whole slides, not images of one field (`allkit tiles`, of allkit-wsi, cuts them)",
    ),
    "reader": (
        "is a DICOM, whose reader is not installed (pip install allkit-dicom)",
        "are DICOM, whose reader is not installed (pip install allkit-dicom)",
    ),
    "hidden": ("is hidden", "are hidden"),
    "system": (
        "is of the trash, thumbnails or the system",
        "are of the trash, thumbnails or the system",
    ),
    "link": ("is a link to a folder", "are links to folders"),
    "table": ("table does not name the images", "tables do not name the images"),
    "unnamed": ("image is not named in metadata", "images are not named in metadata"),
}
_SYSTEM = {
    "$recycle.bin",
    "recycler",
    "$extend",
    "system volume information",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "__macosx",
    "resource.frk",
    "network trash folder",
    "temporary items",
    "lost+found",
    "@eadir",
    "@tmp",
    "@sharebin",
    "#recycle",
    "#snapshot",
    "@recycle",
    "@recently-snapshot",
    "thumbnails",
    "thumbs",
    "__pycache__",
    "node_modules",
}
"""Files and folders of Windows, macOS, Linux, Synology, QNAP and programs, in lower case."""
_SHOWN = 3


def is_image_name(name: str) -> bool:
    """Return whether a file is an image by its name; hidden files and junk are not."""
    path = PurePosixPath(name.replace("\\", "/"))
    suffix = path.suffix.lower()
    if not suffix or path.name.startswith("."):
        return False
    return suffix in IMAGE_SUFFIXES or path.name.lower().endswith(reader_suffixes())


def why_no_image(name: str) -> Why:
    """Return why a file that is no image by its name is not taken."""
    if is_slide_name(name):
        return "slide"
    return "reader" if package_for(name) else "name"


def why_left_out(name: str) -> Why | None:
    """Return why a file or folder of this name, without its path, is waste; `None` if it is not."""
    lower = name.lower()
    if lower in _SYSTEM or lower.startswith(("~$", "found.0")):
        return "system"
    return "hidden" if name.startswith(".") else None


def whys_of(paths: Iterable[str]) -> dict[Why, list[str]]:
    """Return the paths of what was left out by the reason; that of a folder ends with `/`."""
    found: dict[Why, list[str]] = {}
    for path in paths:
        parts = PurePosixPath(path).parts
        waste = next((why for part in parts if (why := why_left_out(part))), None)
        named: Why = (
            "link"
            if path.endswith("/")
            else "table"
            if parts and parts[-1] in METADATA
            else "unnamed"
            if is_image_name(path)
            else why_no_image(path)
        )
        found.setdefault(waste or named, []).append(path)
    return found


def left_out_text(found: Mapping[Why, int | Sequence[str]]) -> str:
    """Say how many things were left out for each reason, with a few of their paths where given."""
    texts = []
    for why, (one, many) in _WORDS.items():
        what = found.get(why)
        if not what:
            continue
        number, paths = (what, []) if isinstance(what, int) else (len(what), what[:_SHOWN])
        shown = ", ".join(paths) + (", …" if paths and len(paths) < number else "")
        texts.append(
            f"{number:,} {one if number == 1 else many}" + (f" ({shown})" if shown else "")
        )
    return "; ".join(texts)


def no_images(place: str, found: Mapping[Why, int | Sequence[str]]) -> DatasetError:
    """Return the error for a folder or a zip without images, which says what it holds."""
    left = left_out_text(found)
    return DatasetError(
        f"{place} holds no images{f' ({left})' if left else ''}. Wanted: JPEG, PNG, TIFF or BMP files "
        f"with the suffix .jpg, .png, .tif or .bmp."
    )


def walk(
    root: str,
    unreadable: Callable[[OSError], None],
    taken: Callable[[str], bool] = is_image_name,
) -> Iterator[tuple[str, Why | Literal["folder"] | None]]:
    """Yield everything below a folder in the order of names, and why it is not taken.

    Paths are relative to `root` and have `/`; that of a folder ends with it. `None` stands for an
    image, which is what is `taken` by its name, and `folder` for a folder that is entered. A folder that
    cannot be opened goes to `unreadable`.
    """
    below = [("", _entries(root, "", unreadable))]
    while below:
        folder, entries = below[-1]
        entry = next(entries, None)
        if entry is None:
            below.pop()
            continue
        name, is_folder, is_link = entry
        waste = why_left_out(name)
        path = f"{folder}{name}/" if is_folder or is_link else folder + name
        if waste or is_link:
            yield path, waste or "link"
        elif is_folder:
            yield path, "folder"
            below.append((path, _entries(root, path, unreadable)))
        else:
            yield path, None if taken(name) else why_no_image(name)


def _entries(
    root: str, below: str, unreadable: Callable[[OSError], None]
) -> Iterator[tuple[str, bool, bool]]:
    """Return the sorted names of a folder; whether each is a folder, and a link to one."""
    entries: list[tuple[str, bool, bool]] = []
    try:
        with os.scandir(os.path.join(root, below) or os.curdir) as found:
            for entry in found:
                link = _links_to_folder(entry)
                entries.append((entry.name, not link and entry.is_dir(follow_symlinks=False), link))
    except OSError as error:
        unreadable(error)
    return iter(sorted(entries))


def _links_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        junction = getattr(entry, "is_junction", None)  # of Windows, from Python 3.12 on
        return (entry.is_symlink() and entry.is_dir()) or (junction is not None and junction())
    except OSError:  # a link that leads to itself; reading it says so
        return False
