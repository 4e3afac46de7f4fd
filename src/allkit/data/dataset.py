"""Sets of labelled images, with what is known about where each comes from."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt

from allkit.data import readers
from allkit.data.labels import class_order
from allkit.data.readers import Sample
from allkit.data.sources import FileSource, digest
from allkit.data.split import allocate, join
from allkit.errors import DatasetError, ImageError
from allkit.files import write_whole
from allkit.images import read_image

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dataset", "Sample", "Split"]

By = Literal["group", "image"]
T = TypeVar("T")


class Dataset:
    """Images with labels and, where known, groups and cases; the order of the images is kept.

    A *group* is whatever was acquired together (a slide, a session); a *case* is a patient. A
    split never divides either. `classes` has a fixed order. `left_out` names the files that were
    found beside the images and not taken. `split_by` says how the set was divided, if it was:
    `"group"`, or `"image"` for the plain random division of the published systems.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: Sequence[str] | None = None,
        *,
        name: str = "images",
        left_out: Sequence[str] = (),
        split_by: By | None = None,
    ) -> None:
        self.samples = tuple(samples)
        order, mapping = class_order(s.label for s in self.samples)
        self.classes = tuple(classes) if classes is not None else order
        if classes is None:
            self.samples = tuple(
                s if mapping[s.label] == s.label else replace(s, label=mapping[s.label])
                for s in self.samples
            )
        self.name = name
        self.left_out = tuple(left_out)
        self.split_by = split_by

    # ── reading ────────────────────────────────────────────────────────────────────────────

    @classmethod
    def open(cls, path: str | Path) -> Dataset:
        """Read a folder of class folders, a zip of one, or a CSV, TSV or Parquet table."""
        return cls._from_rows(readers.read(Path(path)))

    @classmethod
    def from_folder(cls, path: str | Path) -> Dataset:
        """Read `path/CLASS/…/image`, or `path/train/CLASS/…` with `val` and `test` beside it.

        Raises `DatasetError` when there are no class folders, or images lie outside them.
        """
        return cls._from_rows(readers.read_folder(Path(path)))

    @classmethod
    def from_csv(cls, path: str | Path) -> Dataset:
        """Read a table with `image,label` and optionally `group`, `case`, `split`, `fold`.

        Paths are relative to the table; further columns are ignored. Raises `DatasetError` that
        names missing columns, rows without a label, and files that do not exist.
        """
        return cls._from_rows(readers.read_table(Path(path)))

    @classmethod
    def from_zip(cls, path: str | Path) -> Dataset:
        """Read a zip of class folders in memory, without extracting it."""
        return cls._from_rows(readers.read_zip(Path(path)))

    @classmethod
    def from_dataframe(cls, frame: pd.DataFrame, root: str | Path = ".") -> Dataset:
        """Read a data frame with the columns of `from_csv`.

        `image` holds paths (relative to `root`) or the bytes of encoded images.
        """
        return cls._from_rows(readers.read_frame(frame, Path(root)))

    @classmethod
    def sample(cls, count: int = 240, *, groups: int = 24, seed: int = 0) -> Dataset:
        """Return drawn smears: made by the program, for trying things out, never for a claim."""
        from allkit.data import drawn

        samples = [
            Sample(
                f"drawn-{index:05d}.png", drawn.encode(field), field.label, field.group, field.case
            )
            for index, field in enumerate(drawn.draw_smears(count, groups=groups, seed=seed))
        ]
        return cls(samples, name="drawn smears")

    @classmethod
    def _from_rows(cls, table: readers.Table) -> Dataset:
        if table.problems:
            raise DatasetError(readers.describe(table))
        return cls(
            table.rows,
            name=table.name,
            left_out=table.left_out,
            split_by="image" if table.split_by == "image" else "group" if table.split_by else None,
        )

    # ── what is in it ──────────────────────────────────────────────────────────────────────

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __repr__(self) -> str:
        counts = self.counts
        classes = ", ".join(f"{name} {counts[name]}" for name in self.classes)
        return f"<Dataset {self.name!r}: {len(self)} images ({classes})>"

    @property
    def counts(self) -> Counter[str]:
        """Number of images of each class."""
        return Counter(s.label for s in self.samples)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """`(N,)` int64: the position of each image's class in `classes`."""
        position = {name: index for index, name in enumerate(self.classes)}
        return np.array([position[s.label] for s in self.samples], dtype=np.int64)

    @property
    def has_groups(self) -> bool:
        """Whether anything is known about which images belong together."""
        return any(s.group is not None or s.case is not None for s in self.samples)

    @property
    def drawn(self) -> bool:
        """Whether all images were drawn by this program, which their names say."""
        names = (PurePosixPath(s.image).name for s in self.samples)
        return len(self) > 0 and all(name.startswith("drawn-") for name in names)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Return image `index` as `(H, W, 3)` uint8 RGB; raise `ImageError` if it is unreadable."""
        sample = self.samples[index]
        return read_image(sample.source.read(), name=sample.image)

    @cached_property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of each image's file, as hexadecimal digits.

        Raises `DatasetError` that names every file which cannot be opened.
        """
        results = self._each(lambda index: digest(self.samples[index].source))
        return tuple(results)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what the set holds: the images' bytes and their labels, in any order."""
        pairs = sorted(zip(self.hashes, (s.label for s in self.samples), strict=True))
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()

    def verify(self) -> None:
        """Decode every image once; raise `DatasetError` that lists all that are unreadable."""
        self._each(lambda index: self.read(index) is None)

    def _each(self, function: Callable[[int], T]) -> list[T]:
        """Call `function` for every position, in threads; name every image that fails."""

        def attempt(index: int) -> tuple[T | None, str | None]:
            try:
                return function(index), None
            except ImageError as error:
                return None, str(error)

        with ThreadPoolExecutor() as pool:
            results = list(pool.map(attempt, range(len(self))))
        errors = [error for _, error in results if error is not None]
        if errors:
            raise unreadable(errors, len(self), self.name)
        return cast("list[T]", [value for value, _ in results])

    @cached_property
    def units(self) -> npt.NDArray[np.int64]:
        """`(N,)` int64: images with one number must stay on one side of a split.

        They share a group or a case, or are byte-identical.
        """
        return join(
            len(self),
            [s.group for s in self.samples],
            [s.case for s in self.samples],
            self.hashes,
        )

    # ── dividing ───────────────────────────────────────────────────────────────────────────

    def subset(self, indices: Sequence[int] | npt.NDArray[np.int64], *, name: str = "") -> Dataset:
        """Return the images at `indices`, in that order, with the same classes."""
        part = Dataset(
            [self.samples[i] for i in indices],
            self.classes,
            name=name or self.name,
            left_out=self.left_out,
            split_by=self.split_by,
        )
        if "hashes" in self.__dict__:
            part.__dict__["hashes"] = tuple(self.hashes[i] for i in indices)
        return part

    def part(self, *names: str) -> Dataset:
        """Return the images of the named parts (`train`, `val`, `test`) of the set's own split."""
        chosen = [i for i, s in enumerate(self.samples) if s.part in names]
        return self.subset(chosen, name=f"{self.name} ({'+'.join(names)})")

    @property
    def has_parts(self) -> bool:
        """Whether the set says which images are for training and which for testing."""
        return any(s.part is not None for s in self.samples)

    def split(self, test: float = 0.3, val: float = 0.0, by: By = "group", seed: int = 0) -> Split:
        """Divide into train, val and test, every class in proportion on every side.

        `test` and `val` are shares of all images. `by="group"` keeps groups, cases and
        byte-identical images whole. `by="image"` is the plain random division of the published
        systems: images of one slide, even of one field, come to lie on both sides, and figures
        measured on it are inflated. Raises `DatasetError` when a class cannot be on every side.
        """
        if not (0 <= test < 1 and 0 <= val < 1 and 0 < test + val < 1):
            raise DatasetError(
                f"test={test} and val={val}: give shares from 0 to 1 that leave something to train on."
            )
        sides = [("train", 1 - test - val), ("val", val), ("test", test)]
        sides = [(side, share) for side, share in sides if share > 0]
        names = [side for side, _ in sides]
        placed = self._allocate([share for _, share in sides], names, by, seed)
        parts = [names[side] for side in placed]
        whole = self._with(parts=parts, split_by=by)
        return Split.of(whole, by, seed)

    def folds(self, k: int, by: By = "group", seed: int = 0) -> list[Split]:
        """Return k divisions into train and test; every image is in exactly one test part.

        A `fold` column in the set is taken as it is when it holds exactly k folds.
        """
        given = [s.fold for s in self.samples]
        if None not in given and len(set(given)) == k:
            numbers = sorted(set(given))  # type: ignore[type-var]
            placed = np.array([numbers.index(fold) for fold in given])
            by = self.split_by or by  # as the table says that it was made
        else:
            placed = self._allocate([1.0] * k, [f"fold {i}" for i in range(k)], by, seed)
        splits = []
        for fold in range(k):
            whole = self._with(
                parts=["test" if p == fold else "train" for p in placed], split_by=by
            )
            splits.append(Split.of(whole, by, seed))
        return splits

    def to_folds_csv(self, path: str | Path, k: int, *, by: By = "group", seed: int = 0) -> None:
        """Write the set as a table with a column `fold`, 0 to k − 1, that `folds` takes as it is."""
        fold_of: dict[int, int] = {}
        for number, split in enumerate(self.folds(k, by=by, seed=seed)):
            fold_of |= {i: number for i, s in enumerate(split.whole) if s.part == "test"}
        placed = [replace(s, fold=fold_of[i], part=None) for i, s in enumerate(self.samples)]
        whole = Dataset(placed, self.classes, name=self.name, split_by=by)
        rows = sorted(zip(self.hashes, (s.fold for s in placed), strict=True))
        fingerprint = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
        write_whole(Path(path), as_csv(whole, Path(path), fingerprint=fingerprint))

    def _allocate(
        self, shares: list[float], sides: list[str], by: By, seed: int
    ) -> npt.NDArray[np.int64]:
        if by == "image":
            units, unit_name = np.arange(len(self)), "image"
        else:
            units, unit_name = self.units, "group" if self.has_groups else "distinct image"
            if not self.has_groups:
                warnings.warn(
                    f"{self.name} has no groups: byte-identical images are kept together, every "
                    f"other image stands alone. Images of one slide will lie on both sides and "
                    f"figures will be too high; give a `group` or `case` column.",
                    stacklevel=3,
                )
        labels = [s.label for s in self.samples]
        return allocate(units, labels, shares, sides=sides, unit_name=unit_name, seed=seed)

    def _with(self, *, parts: Sequence[str], split_by: By) -> Dataset:
        whole = Dataset(
            [replace(s, part=part) for s, part in zip(self.samples, parts, strict=True)],
            self.classes,
            name=self.name,
            left_out=self.left_out,
            split_by=split_by,
        )
        if "hashes" in self.__dict__:
            whole.__dict__["hashes"] = self.hashes
        return whole


@dataclass(frozen=True)
class Split:
    """One division of a set: its parts, and how it was made."""

    train: Dataset
    val: Dataset
    test: Dataset
    whole: Dataset
    by: By
    seed: int

    @classmethod
    def of(cls, whole: Dataset, by: By, seed: int) -> Split:
        """Return the division that the parts of `whole` make."""
        train, val, test = (whole.part(name) for name in ("train", "val", "test"))
        return cls(train=train, val=val, test=test, whole=whole, by=by, seed=seed)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every image's bytes, label and part, in any order."""
        return split_fingerprint(self.whole)

    def to_csv(self, path: str | Path) -> None:
        """Write the division as a table that `Dataset.from_csv` and every command reads.

        Its paths are relative to the table; the columns `split_by` and `split_fingerprint` say
        how it was made, on every row. Raises `DatasetError` when the images are not files.
        """
        write_whole(Path(path), as_csv(self.whole, Path(path), fingerprint=self.fingerprint))


def as_csv(dataset: Dataset, path: Path, *, fingerprint: str) -> str:
    """Return the set as the text of a table that will lie at `path`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["image", "label", "group", "case", "split", "fold", "split_by", "split_fingerprint"]
    )
    here = path.resolve().parent
    for sample in dataset:
        if not isinstance(sample.source, FileSource):
            raise DatasetError(
                f"The images of {dataset.name} are not files of their own, so a table cannot name "
                f"them. Unpack the zip, or save the images, first."
            )
        relative = os.path.relpath(sample.source.path.resolve(), here)
        writer.writerow(
            [
                Path(relative).as_posix(),
                sample.label,
                sample.group,
                sample.case,
                sample.part,
                sample.fold,
                dataset.split_by,
                fingerprint,
            ]
        )
    return stream.getvalue()


def split_fingerprint(dataset: Dataset) -> str:
    """Return SHA-256 over every image's bytes, label and part, in any order."""
    rows = sorted(
        (digest, s.label, s.part or "")
        for digest, s in zip(dataset.hashes, dataset.samples, strict=True)
    )
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def unreadable(errors: Sequence[str], total: int, name: str) -> DatasetError:
    """Return the error that lists every unreadable image."""
    lines = "\n".join(f"  {error}" for error in errors)
    return DatasetError(
        f"{len(errors)} of {total} images of {name} cannot be read:\n{lines}\n"
        f"Mend or remove them; nothing is skipped in silence."
    )
