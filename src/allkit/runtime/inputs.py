"""What a caller asks about: one image, several, or something that holds images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Any

from allkit.data.left_out import Why, is_image_name, left_out_text
from allkit.data.listed import (
    folder_images,
    images_of_file,
    is_slide_file,
    is_table,
    is_zip,
    table_images,
    zip_images,
)
from allkit.data.sources import name_on_disk
from allkit.errors import DatasetError, ImageError
from allkit.images.given import Given, given, is_one
from allkit.images.tiles import tiles_in

__all__ = ["Listed", "asked"]


@dataclass(frozen=True)
class Listed:
    """The images that something stands for, in order.

    `count` is their number where it is known before they are read, `left_out` says in words what
    was found beside them and not taken, and `index` is that of a data frame.
    """

    images: Iterable[Given]
    count: int | None = None
    left_out: str = ""
    index: Any = None


def asked(images: Any) -> Listed:
    """Return the images that `images` stands for; of those that were listed already, these.

    That is what `allkit.images.given` takes, and: the path of a folder, which stands for all images
    in it at any depth; a pattern such as `smears/*.png`; the path of a table (`.csv`, `.tsv`,
    `.parquet`) with a column `image`, or of a `.zip`; a data frame of pandas with a column `image`; and
    the path of a whole slide, whose tiles are the images where a plugin reads it.

    Raises `ImageError` for anything that is no image and holds none, and `DatasetError` for a folder,
    pattern, zip or table without images.
    """
    if isinstance(images, Listed):
        return images
    if isinstance(images, (str, os.PathLike)):
        return _of_path(images)
    if hasattr(images, "columns") and hasattr(images, "iloc"):
        return _of_frame(images)
    count = len(images) if isinstance(images, Sized) and not is_one(images) else None
    return Listed(given(images), count)


def _of_path(path: str | os.PathLike[str]) -> Listed:
    try:
        text = os.fsdecode(path)
        if os.path.isdir(text):
            left: dict[Why, int] = {}
            return _of_names(list(folder_images(text, left)), left_out_text(left))
        if glob.has_magic(text) and not os.path.lexists(text):
            return _of_pattern(text)
    except (
        TypeError,
        ValueError,
    ):  # a path object of anybody, a null character: one image that fails
        return Listed(given(path))
    if is_table(text):
        root = os.path.dirname(text)
        rows = (os.path.join(root, name_on_disk(root, image)) for image, _ in table_images(text))
        return Listed(Given(file, file) for file in rows)
    if is_zip(text):
        members, left = zip_images(text)
        return _of_names(members, left_out_text(left))
    if is_slide_file(text):
        return _of_names(tiles_in(text), "")
    return Listed(given(path))


def _of_pattern(pattern: str) -> Listed:
    found = sorted(path for path in glob.iglob(pattern, recursive=True) if os.path.isfile(path))
    taken = [path for path in found if is_image_name(path) or is_slide_file(path)]
    images = [image for path in taken for image in images_of_file(path)]
    if not images:
        raise DatasetError(f"No image matches {pattern}. Check the path.")
    others = len(found) - len(taken)
    return _of_names(images, left_out_text({"name": others}) if others else "")


def _of_names(names: list[str], left_out: str) -> Listed:
    return Listed([Given(name, name) for name in names], len(names), left_out)


def _of_frame(frame: Any) -> Listed:
    names = [str(name) for name in frame.columns]
    if names.count("image") != 1:
        raise ImageError(
            f"The data frame has no column 'image' that holds paths or images. It has: "
            f"{', '.join(names)[:300] or 'no columns'}.",
            code="array",
        )
    values = frame.iloc[:, names.index("image")].tolist()
    return Listed(given(values), len(values), index=frame.index)
