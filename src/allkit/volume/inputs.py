"""The images of a run: their paths in order, kept small, and which of them a shard takes."""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar, overload

from allkit.data.left_out import Why
from allkit.data.listed import (
    folder_images,
    images_of_file,
    is_table,
    is_zip,
    table_images,
    zip_images,
    zip_member,
)
from allkit.data.sources import name_on_disk
from allkit.errors import ConfigError
from allkit.images.readers import asked_for
from allkit.images.tiles import file_of_tile

__all__ = ["Paths", "Shard", "find_images"]


class Paths(Sequence[str]):
    """Paths in a tenth of the memory of a list of them: folders once, names in one block of bytes.

    Ten million images of a few folders take about 250 MB.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._folders: list[str] = []
        self._known: dict[str, int] = {}
        self._folder = array("I")
        self._names = bytearray()
        self._ends = array("Q")
        for path in paths:
            self.append(path)

    def append(self, path: str) -> None:
        """Take one more path, to be given back to the letter."""
        cut = path.rfind(os.sep) + 1
        folder = path[:cut]
        if folder not in self._known:
            self._known[folder] = len(self._folders)
            self._folders.append(folder)
        self._folder.append(self._known[folder])
        self._names += os.fsencode(path[cut:])
        self._ends.append(len(self._names))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Paths: ...

    def __getitem__(self, index: int | slice) -> str | Paths:
        if isinstance(index, slice):
            return Paths(self[i] for i in range(*index.indices(len(self))))
        index = range(len(self))[index]
        start = self._ends[index - 1] if index else 0
        name = os.fsdecode(bytes(self._names[start : self._ends[index]]))
        return self._folders[self._folder[index]] + name

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def fingerprint(self) -> str:
        """Return the SHA-256 of every path, in order, with its size and time of change.

        It changes when an image is added, taken away, renamed, written again or moved.
        """
        digest = hashlib.sha256(asked_for().encode())  # the readers decide how a slide is cut
        for path in self:
            member = zip_member(path)
            try:
                status = os.stat((file_of_tile(path) or path) if member is None else member.archive)
                mark = f"{status.st_size} {status.st_mtime_ns}"
            except (OSError, ValueError):  # ValueError: a path with a null character
                mark = "missing"
            digest.update(os.fsencode(path) + f"\0{mark}\n".encode())
        return digest.hexdigest()


class Sliceable(Protocol):
    """Images, or units of them, of which some can be taken."""

    def __getitem__(self, index: slice, /) -> Self:
        """Return those at these places."""


Rows = TypeVar("Rows", bound=Sliceable)


@dataclass(frozen=True)
class Shard:
    """One of `count` shares of the images or units: every `count`-th, from `index` on (0 to count - 1)."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `I/N`. I counts from 1 to N; 0/N is another name for N/N.

        So an array of jobs that counts from 0 divides the images as well as one that counts
        from 1. Raises `ConfigError`.
        """
        numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if numbers is None or not 0 <= int(numbers[1]) <= int(numbers[2]) or int(numbers[2]) == 0:
            raise ConfigError(f"--shard is {text!r}. Give I/N with I from 1 to N, as in 2/4.")
        return cls(int(numbers[1]) % int(numbers[2]), int(numbers[2]))

    def __str__(self) -> str:
        return f"{self.index or self.count}/{self.count}"

    def of(self, rows: Rows) -> Rows:
        """Return this shard's images or units, in order."""
        return rows if self.count == 1 else rows[self.index :: self.count]


def find_images(inputs: Iterable[str]) -> tuple[Paths, dict[str, dict[Why, int]]]:
    """Return the images that `inputs` name, and how many other files each folder holds, by why.

    Folders are read recursively, in the order of names; links to folders are not followed. A table
    (`.csv`, `.tsv`, `.parquet`) stands for the images of its column `image`, whose paths are
    relative to it, and a `.zip` for its images. A whole slide that a plugin reads stands for its
    tiles. Anything else is taken as it is: a file that does
    not exist becomes a row that says so. Raises `DatasetError` when a folder or zip holds no images
    or cannot be opened, and when a table has no column `image` or a gap in it.
    """
    paths, others = Paths(), dict[str, dict[Why, int]]()
    for text in inputs:
        left: dict[Why, int] = {}
        if os.path.isdir(text):
            for path in folder_images(text, left):
                paths.append(path)
        elif is_table(text):
            root = os.path.dirname(text)
            for image, _ in table_images(text):
                paths.append(os.path.join(root, name_on_disk(root, image)))
        elif is_zip(text):
            members, left = zip_images(text)
            for member in members:
                paths.append(member)
        else:
            for image in images_of_file(text):
                paths.append(image)
        if left:
            others[text] = left
    return paths, others
