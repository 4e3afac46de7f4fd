"""The slides, cases or folders of a run: the images of each stand together, in order."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, overload

import numpy as np

from allkit.data.left_out import Why
from allkit.data.listed import is_slide_file, is_table, is_zip, table_images
from allkit.data.names import compiled_pattern
from allkit.data.sources import name_on_disk
from allkit.errors import ConfigError, DatasetError
from allkit.images.tiles import file_of_tile
from allkit.volume.inputs import Paths, find_images

__all__ = ["By", "Units", "find_units"]

By = Literal["field", "slide", "case", "folder"]
"""What a row of a table of answers stands for."""


class Units(Sequence[tuple[str, int]]):
    """Units of images, by name and number of images; `images` holds those of all, in that order."""

    def __init__(self, images: Paths, names: Sequence[str], sizes: Sequence[int]) -> None:
        self.images, self.names, self.sizes = images, list(names), array("Q", sizes)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> tuple[str, int]: ...

    @overload
    def __getitem__(self, index: slice) -> Units: ...

    def __getitem__(self, index: int | slice) -> tuple[str, int] | Units:
        if not isinstance(index, slice):
            return self.names[index], self.sizes[index]
        ends = np.cumsum(self.sizes, dtype=np.int64)
        images = Paths()
        chosen = range(*index.indices(len(self)))
        for unit in chosen:
            for image in range(int(ends[unit]) - self.sizes[unit], int(ends[unit])):
                images.append(self.images[image])
        return Units(images, [self.names[i] for i in chosen], [self.sizes[i] for i in chosen])

    def fingerprint(self) -> str:
        """Return the SHA-256 of the units and, as `Paths.fingerprint`, of their images."""
        digest = hashlib.sha256(self.images.fingerprint().encode())
        for name, size in self:
            digest.update(os.fsencode(name) + f"\0{size}\n".encode())
        return digest.hexdigest()


def find_units(
    inputs: Iterable[str], by: By, pattern: str | None = None
) -> tuple[Units, dict[str, dict[Why, int]]]:
    """Return the units that `inputs` name, in order of first appearance, and other files by folder.

    By slide or case, `inputs` are tables with that column; with a `pattern`, slides are what its
    first pair of brackets matches in the paths of any images, relative to their folder or table. A whole
    slide is a slide, and a case, by itself, and so is each in a folder of nothing else. By
    folder, `inputs` are folders or zips, and a unit is a folder with images, called by its path
    relative to the input; images that lie in the input itself are a unit with the name of the input.

    Raises `ConfigError` for inputs that have no such units, and `DatasetError` for a table without
    the column or with gaps in it, and for images that the pattern does not match.
    """
    paths, others = Paths(), dict[str, dict[Why, int]]()
    keys: dict[tuple[str, str], int] = {}
    numbers = array("I")
    for text in inputs:
        for path, key in _members(text, by, pattern, others):
            paths.append(path)
            numbers.append(keys.setdefault(key, len(keys)))
    order = np.argsort(np.frombuffer(numbers, dtype=np.uint32), kind="stable")
    sizes = np.bincount(np.frombuffer(numbers, dtype=np.uint32), minlength=len(keys))
    images = Paths(paths[int(position)] for position in order)
    return Units(images, _names(list(keys)), sizes.tolist()), others


Key = tuple[str, str]
"""The input that a unit is from (empty where a unit may be from several), and its name there."""


def _members(
    text: str, by: By, pattern: str | None, others: dict[str, dict[Why, int]]
) -> Iterator[tuple[str, Key]]:
    """Yield the images of one input, each with its unit."""
    if by == "folder":
        yield from _of_folders(text, others)
    elif pattern is not None:
        yield from _of_pattern(text, pattern, others)
    elif is_table(text):
        root = os.path.dirname(text)
        for image, value in table_images(text, by):
            yield os.path.join(root, name_on_disk(root, image)), ("", value)
    elif slides := _of_slides(text, others):
        yield from slides
    else:
        kind = "a folder" if os.path.isdir(text) else "a file"
        also = ", or --slide REGEX to take the slides from the paths" if by == "slide" else ""
        raise ConfigError(
            f"--by {by} takes a table with the columns image and {by}; {text} is {kind}. Give a "
            f"table{also}."
        )


def _of_slides(text: str, others: dict[str, dict[Why, int]]) -> list[tuple[str, Key]]:
    """Return the tiles of a whole slide, or of those in a folder, each with its slide; else nothing."""
    if not os.path.isdir(text) and not is_slide_file(text):
        return []
    images, left = find_images([text])
    slides = [
        (path, file_of_tile(path) or (path if is_slide_file(path) else "")) for path in images
    ]
    if not all(slide for _, slide in slides):
        return []
    others |= left
    return [(path, ("", slide)) for path, slide in slides]


def _of_folders(text: str, others: dict[str, dict[Why, int]]) -> Iterator[tuple[str, Key]]:
    if not os.path.isdir(text) and not (is_zip(text) and os.path.isfile(text)):
        raise ConfigError(
            f"--by folder takes folders; {text} is {'a file' if os.path.exists(text) else 'none'}. "
            f"Give the folder, or a zip of it, that holds the folders of the slides or cases."
        )
    images, left = find_images([text])
    others |= left
    for path in images:
        folder = os.path.relpath(os.path.dirname(path) or os.curdir, text)
        yield path, (text, "" if folder == os.curdir else folder)


def _of_pattern(
    text: str, pattern: str, others: dict[str, dict[Why, int]]
) -> Iterator[tuple[str, Key]]:
    slides = compiled_pattern(pattern, "slide")
    images, left = find_images([text])
    others |= left
    root = text if os.path.isdir(text) or is_zip(text) else os.path.dirname(text)
    unmatched: list[str] = []
    for path in images:
        name = os.path.relpath(path, root) if root else path
        match = slides.search(name.replace(os.sep, "/"))
        if match is None or not match[1]:
            unmatched.append(name)
            continue
        yield path, ("", match[1])
    if unmatched:
        raise DatasetError(
            f"{pattern!r} finds no slide in {len(unmatched)} of {len(images)} names of {text}, "
            f"such as {', '.join(map(repr, unmatched[:3]))}. Fix the pattern."
        )


def _names(keys: Sequence[Key]) -> list[str]:
    """Return the name of each unit; with its input where the units of two have the same name."""
    plain = [name or os.path.normpath(of) for of, name in keys]
    twice = {name for name, count in Counter(plain).items() if count > 1}
    return [
        os.path.normpath(os.path.join(of, name)) if shown in twice else shown
        for (of, name), shown in zip(keys, plain, strict=True)
    ]
