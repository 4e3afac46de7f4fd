"""Sets of labelled images, with what is known about where each comes from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from allkit._moved import warn_renamed
from allkit.data import readers, tables
from allkit.data.allocation import join, torn
from allkit.data.dividing import (
    allocated,
    held_out_values,
    parts_without_relatives,
    write_folds,
)
from allkit.data.known import Known
from allkit.data.labels import class_order
from allkit.data.names import groups_of
from allkit.data.rows import Sample, Table, describe, unreadable
from allkit.data.sources import digest, says_drawn
from allkit.data.split import By, Split
from allkit.errors import DatasetError, ImageError
from allkit.images.batches import read_ahead
from allkit.images.decode import read_image
from allkit.images.same_field import (
    DuplicatePair,
    Signature,
    SignatureStore,
    clusters,
    find_duplicates,
    signature,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Dataset", "Sample", "Split"]

T = TypeVar("T")


class Dataset:
    """Images with labels and, where known, groups and cases; the order of the images is kept.

    A *group* is whatever was acquired together (a slide, a session); a *case* is a patient. A
    split never divides either, nor images that show the same field. `classes` has a fixed order.
    An image without a label has `None`; a set of such images has no classes. `left_out` names the
    files that were found beside the images and not taken. `split_by` says how the set was divided,
    if it was: `"group"`, or `"image"` for the plain random division of the published systems.
    `known` is what was found out about these images before.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: Sequence[str] | None = None,
        *,
        name: str = "images",
        left_out: Sequence[str] = (),
        split_by: By | None = None,
        known: Known | None = None,
    ) -> None:
        self.samples = tuple(samples)
        order, mapping = class_order(s.label for s in self.samples if s.label is not None)
        self.classes = tuple(classes) if classes is not None else order
        if classes is None:
            self.samples = tuple(
                s if s.label is None or mapping[s.label] == s.label
                else replace(s, label=mapping[s.label])
                for s in self.samples
            )  # fmt: skip
        self.known = Known() if known is None else known
        self.name = name
        self.left_out = tuple(left_out)
        self.split_by = split_by

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

        Paths are relative to the table. Further columns are kept (`column`); images that share
        `near_duplicate_of` show the same field. Raises `DatasetError` that names missing columns,
        rows without a label, and files that do not exist.
        """
        return cls._from_rows(tables.read_table(Path(path)))

    @classmethod
    def unlabelled(cls, path: str | Path) -> Dataset:
        """Read images without labels: a folder, whose folders are the groups, or a table.

        Labels of a table are not read. Raises `DatasetError` when there are no images.
        """
        return cls._from_rows(readers.read_unlabelled(Path(path)))

    @classmethod
    def from_zip(cls, path: str | Path) -> Dataset:
        """Read a zip of class folders in memory, without extracting it."""
        return cls._from_rows(readers.read_zip(Path(path)))

    @classmethod
    def from_dataframe(cls, frame: pd.DataFrame, root: str | Path = ".") -> Dataset:
        """Read a data frame with the columns of `from_csv`.

        `image` holds paths (relative to `root`) or the bytes of encoded images.
        """
        return cls._from_rows(tables.read_frame(frame, Path(root)))

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
    def _from_rows(cls, table: Table) -> Dataset:
        if table.problems:
            raise DatasetError(describe(table))
        return cls.of_table(table)

    @classmethod
    def of_table(cls, table: Table) -> Dataset:
        """Return the set of a table's rows, whatever its problems."""
        return cls(
            table.rows,
            name=table.name,
            left_out=table.left_out,
            split_by="image" if table.split_by == "image" else "group" if table.split_by else None,
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __repr__(self) -> str:
        counts = self.counts
        classes = ", ".join(f"{name} {counts[name]}" for name in self.classes) or "no labels"
        return f"<Dataset {self.name!r}: {len(self)} images ({classes})>"

    @property
    def counts(self) -> Counter[str]:
        """Number of images of each class; those without a label are not counted."""
        return Counter(s.label for s in self.samples if s.label is not None)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """`(N,)` int64: the position of each image's class in `classes`; -1 without a label."""
        position: dict[str | None, int] = {name: i for i, name in enumerate(self.classes)}
        position[None] = -1
        return np.array([position[s.label] for s in self.samples], dtype=np.int64)

    @property
    def label_names(self) -> list[str]:
        """The label of every image; raises `DatasetError` where some have none."""
        names = [s.label for s in self.samples if s.label is not None]
        if len(names) < len(self):
            raise DatasetError(
                f"{len(self) - len(names)} of {len(self)} images of {self.name} have no label, and "
                f"this needs one for each. Give class folders, or a table with the column label."
            )
        return names

    @property
    def labelled(self) -> bool:
        """Whether the images have labels; those of `unlabelled` have none."""
        return any(s.label is not None for s in self.samples)

    @property
    def has_groups(self) -> bool:
        """Whether anything is known about which images belong together."""
        return any(s.group is not None or s.case is not None for s in self.samples)

    @property
    def origins(self) -> set[str]:
        """The groups that are known; of an image without one, the case."""
        return {origin for s in self.samples if (origin := s.group or s.case)}

    @property
    def drawn(self) -> bool:
        """Whether any image was drawn by this program, which its file says."""
        return any(says_drawn(s.source) for s in self.samples)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Return image `index` as `(H, W, 3)` uint8 RGB; raise `ImageError` if it is unreadable."""
        return self.load(index)[0]

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], bytes]:
        """Return image `index` as `read` does, and the bytes of its file, read once for both."""
        sample = self.samples[index]
        file = sample.source.read()
        return read_image(file, name=sample.image), file

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of each image's file, as hexadecimal digits.

        Raises `DatasetError` that names every file which cannot be opened.
        """
        if self.known.hashes is None:
            self.known.hashes = tuple(self.each(lambda i: digest(self.samples[i].source)))
        return self.known.hashes

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what the set holds: the images' bytes and their labels, in any order."""
        pairs = sorted(zip(self.hashes, (s.label or "" for s in self.samples), strict=True))
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()

    def verify(self) -> None:
        """Decode every image once; raise `DatasetError` that lists all that are unreadable."""
        self.each(lambda index: self.read(index) is None)

    def each(
        self, function: Callable[[int], T], progress: Callable[[int, int], None] | None = None
    ) -> list[T]:
        """Return what `function` makes of every position, in threads, few images at a time.

        Raises `DatasetError` that names every image for which it raised `ImageError`.
        """

        def attempt(index: int) -> T | ImageError:
            try:
                return function(index)
            except ImageError as error:
                return error

        values: list[T] = []
        errors: list[str] = []
        for batch in read_ahead(range(len(self)), attempt, 64):
            for _, value in batch:
                if isinstance(value, ImageError):
                    errors.append(str(value))
                else:
                    values.append(value)
            if progress:
                progress(len(values) + len(errors), len(self))
        if errors:
            raise unreadable(errors, len(self), self.name)
        return values

    @cached_property
    def units(self) -> npt.NDArray[np.int64]:
        """`(N,)` int64: images with one number belong together, as far as nobody has to look.

        They share a group or a case, or are byte-identical.
        """
        return join(
            len(self),
            [s.group for s in self.samples],
            [s.case for s in self.samples],
            self.hashes,
        )

    @cached_property
    def fields(self) -> npt.NDArray[np.int64]:
        """`(N,)` int64: images with one number must stay on one side of a split.

        They are of one unit, or show the same field or part of it: the column `near_duplicate_of`
        says so, or `duplicates` does.
        """
        found = clusters(len(self), self.duplicates)
        field_of = {index: number for number, members in enumerate(found) for index in members}
        given = [s.columns.get("near_duplicate_of") for s in self.samples]
        seen = [field_of.get(index) for index in range(len(self))]
        return join(len(self), self.units.tolist(), given, seen)

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """What is kept of each image to recognise its field, 3.5 KB each."""
        if self.known.signatures is None:
            store, hashes = SignatureStore(len(self)), self.hashes
            self.known.signatures = tuple(
                self.each(lambda i: store.keep(i, signature(self.read(i), hashes[i])))
            )
        return self.known.signatures

    @property
    def duplicates(self) -> tuple[DuplicatePair, ...]:
        """Pairs of images that show the same field, or part of it, by their positions.

        Looks at every image: some 10 ms each on the first call. Raises `DatasetError` that names
        every unreadable image.
        """
        if self.known.duplicates is None:
            self.known.duplicates = tuple(find_duplicates(self.signatures, self.read))
        return self.known.duplicates

    def column(self, name: str) -> list[str | None]:
        """Return a column of the table for each image: `group`, `case`, or any further one.

        Raises `DatasetError` that names the columns there are.
        """
        if name in ("group", "case"):
            return [getattr(s, name) for s in self.samples]
        known = sorted({key for s in self.samples for key in s.columns})
        if name not in known:
            raise DatasetError(
                f"{self.name} has no column {name!r}. It has: {', '.join(['group', 'case', *known])}."
            )
        return [s.columns.get(name) for s in self.samples]

    def with_groups(self, pattern: str) -> Dataset:
        """Return the set with groups taken from the images' names by a regular expression.

        The group is what the first pair of brackets matches, as in `UID_(\\d+)_`. Raises
        `DatasetError` when the expression does not match every name.
        """
        found = groups_of([s.image for s in self.samples], pattern)
        samples = [replace(s, group=g) for s, g in zip(self.samples, found, strict=True)]
        return self.same_images(samples, self.split_by)

    def leaks(self) -> list[str]:
        """Return what lies on two sides of the set's own division, in sentences; empty if nothing.

        Compares the parts `train`, `val` and `test`: groups and cases, and images of one field.
        """
        parts = [s.part for s in self.samples]
        # Images of one group are mostly of one field too: once is enough.
        for numbers, what in ((self.units, "groups or cases"), (self.fields, "fields")):
            units, images = torn(numbers, parts)
            if units:
                return [
                    f"{units:,} {what} ({images:,} images) lie on two sides of the division: "
                    f"figures on it are too high. Divide again with `allkit split`."
                ]
        return []

    def summary(self) -> str:
        """Return a table of what is in the set: images, groups and cases of each class, and parts."""
        from allkit.data.overview import summary

        return summary(self)

    def show(self, per_class: int = 6, *, seed: int = 0) -> Figure:
        """Return a contact sheet as a matplotlib figure: a row of images for each class.

        The images of a class are drawn at random with `seed`. `figure.savefig(path)` keeps it.
        """
        from allkit.data.overview import sheet

        return sheet(self, per_class, seed)

    def subset(
        self,
        indices: Sequence[int] | npt.NDArray[np.int64],
        *,
        name: str = "",
        classes: Sequence[str] | None = None,
    ) -> Dataset:
        """Return the images at `indices`, in that order, with the same classes or those given."""
        return Dataset(
            [self.samples[i] for i in indices],
            self.classes if classes is None else classes,
            name=name or self.name,
            left_out=self.left_out,
            split_by=self.split_by,
            known=self.known.at(indices),
        )

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

        `test` and `val` are shares of all images. `by="group"` keeps groups, cases and images of
        the same field whole. `by="image"` is the plain random division of the published
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
        placed = allocated(self, [share for _, share in sides], names, by, seed)
        parts = [names[side] for side in placed]
        return self._divided(parts, by, seed)

    def folds(self, k: int, by: By = "group", seed: int = 0) -> list[Split]:
        """Return k divisions into train and test; every image is in exactly one test part.

        A `fold` column in the set is taken as it is when it holds exactly k folds.
        """
        given = [s.fold for s in self.samples]
        if None not in given and len(set(given)) == k:
            numbers = sorted(set(given))  # type: ignore[type-var]  # it holds no None: asked above
            placed = np.array([numbers.index(fold) for fold in given])
            by = self.split_by or by  # as the table says that it was made
            return [self._without_relatives(placed == fold, by, seed) for fold in range(k)]
        else:
            placed = allocated(self, [1.0] * k, [f"fold {i}" for i in range(k)], by, seed)
        return [
            self._divided(["test" if p == fold else "train" for p in placed], by, seed)
            for fold in range(k)
        ]

    def leave_one_group_out(self, column: str = "group") -> Iterator[Split]:
        """Yield one division for each value of a column, all of its images being the test.

        Images that share a group, a case or a field with the test are in no part; `Split.dropped`
        counts them. Raises `DatasetError` when the column has fewer than two values or a gap.
        """
        values = self.column(column)
        for value in held_out_values(self, column):
            test = np.array([v == value for v in values])
            yield self._without_relatives(test, "group", 0, value)

    def leave_one_out(self, column: str = "group") -> Iterator[Split]:
        """Yield what `leave_one_group_out` does, by its name of 0.1.0."""
        warn_renamed("Dataset.leave_one_out", "Dataset.leave_one_group_out")
        return self.leave_one_group_out(column)

    def to_folds_csv(self, path: str | Path, k: int, *, by: By = "group", seed: int = 0) -> None:
        """Write the set as a table with a column `fold`, 0 to k − 1, that `folds` takes as it is."""
        fold_of: dict[int, int] = {}
        for number, split in enumerate(self.folds(k, by=by, seed=seed)):
            fold_of |= {i: number for i, s in enumerate(split.whole) if s.part == "test"}
        write_folds(self, Path(path), [fold_of[i] for i in range(len(self))], by)

    def to_leave_one_group_out_csv(self, path: str | Path, column: str = "group") -> int:
        """Write a table with one fold for each value of `column`; return the number of folds."""
        values = [split.held_out for split in self.leave_one_group_out(column)]
        number = {value: fold for fold, value in enumerate(values)}
        write_folds(self, Path(path), [number[value] for value in self.column(column)], "group")
        return len(values)

    def to_leave_one_out_csv(self, path: str | Path, column: str = "group") -> int:
        """Do what `to_leave_one_group_out_csv` does, by its name of 0.1.0."""
        warn_renamed("Dataset.to_leave_one_out_csv", "Dataset.to_leave_one_group_out_csv")
        return self.to_leave_one_group_out_csv(path, column)

    def _without_relatives(
        self, test: npt.NDArray[np.bool_], by: By, seed: int, held_out: str | None = None
    ) -> Split:
        parts = parts_without_relatives(self, test, by)
        return self._divided(parts, by, seed, held_out)

    def _divided(
        self, parts: Sequence[str | None], by: By, seed: int, held_out: str | None = None
    ) -> Split:
        samples = [replace(s, part=part) for s, part in zip(self.samples, parts, strict=True)]
        return Split.of(self.same_images(samples, by), by, seed, held_out)

    def same_images(self, samples: Sequence[Sample], by: By | None) -> Dataset:
        """Return a set of the same images, which knows what was found out about them."""
        return Dataset(
            samples, self.classes, name=self.name, left_out=self.left_out, split_by=by,
            known=self.known.same(),
        )  # fmt: skip
