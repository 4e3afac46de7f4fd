"""Sets of labelled images, with the group and case of each where they are known."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from allkit.data import dividing, memory, readers, rows, tables
from allkit.data.dividing import By, KeptWhole
from allkit.data.labels import class_order
from allkit.data.names import with_origins
from allkit.data.overview import dataset_html, sheet
from allkit.data.passes import ImagePasses, Measured
from allkit.data.relations import SIGNATURE, duplicates_of, fields_of, leaks_of, units_of
from allkit.data.rows import Sample, Table
from allkit.data.samples import Samples
from allkit.data.split import Split
from allkit.data.written import as_csv, rows_hash, write_folds
from allkit.errors import DatasetError
from allkit.files import write_whole
from allkit.images.same_field import DuplicatePair, Signature
from allkit.types import Ints, Pixels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from allkit.records import InputSpec

__all__ = ["By", "Dataset", "Sample", "Split"]

T = TypeVar("T")


def _above(module: str) -> Any:
    """Return a module of what learns, which this layer does not know: it is opened when it is asked for."""
    return importlib.import_module(module)


def _named(value: object) -> str:
    return repr(value) if value is None or value == "" else f"a {type(value).__name__}"


class Dataset(Samples):
    """Images with labels and, where known, groups, cases and slides; the order is kept.

    A *group* holds images that were acquired together and is the unit to split by, a *case* is a
    patient, a *slide* one acquisition (one slide, one sitting at the microscope). A split by group
    divides neither group nor case, nor images that show the same field. `classes` has a fixed
    order. An image without a label has `None`; a set of such images has no classes. `left_out`
    names the files that were found beside the images and not used. `split_by` says how the set was
    divided, if it was: `"group"`, or `"image"` for the plain random division of the published
    systems. `measured` holds what was measured on these images by `passes`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: Sequence[str] | None = None,
        *,
        name: str = "images",
        left_out: Sequence[str] = (),
        split_by: By | None = None,
        measured: Measured | None = None,
    ) -> None:
        self.samples = rows.samples_of(samples)
        if classes is None:
            classes, names = class_order(s.label for s in self.samples if s.label is not None)
            self.samples = tuple(rows.renamed(sample, names) for sample in self.samples)
        self.classes = tuple(classes)
        self.passes = ImagePasses(self.samples, name, measured)
        self.name = name
        self.left_out = tuple(left_out)
        self.split_by = split_by

    @classmethod
    def open(cls, path: str | Path) -> Dataset:
        """Read a folder of class folders, a zip of one, or a CSV, TSV or Parquet table."""
        if not isinstance(path, (str, os.PathLike)) or not str(path):
            given: Any = path  # `of` takes a set or a data frame, and names what is needed
            return cls.of(given)
        return cls._from_rows(readers.read(Path(path)))

    @classmethod
    def of(cls, data: Dataset | str | Path | pd.DataFrame) -> Dataset:
        """Return a set as it is, open the path of one, or read a data frame; else raise `DatasetError`."""
        if isinstance(data, cls):
            return data
        if isinstance(data, (str, os.PathLike)) and str(data):
            return cls.open(data)
        if not isinstance(data, (Dataset, str, os.PathLike)) and hasattr(data, "itertuples"):
            return cls.from_frame(data)
        raise DatasetError(
            f"A set of labelled images is needed, and this is {_named(data)}. Give a Dataset "
            f"(Dataset.open(path), Dataset.from_arrays(images, labels)), a path or a data frame."
        )

    @classmethod
    def from_folder(cls, path: str | Path, *, slide: str | None = None) -> Dataset:
        """Read `path/CLASS/…/image`, or `path/train/CLASS/…` with `val` and `test` beside it.

        `slide` is the pattern of `with_slides`. Raises `DatasetError` when there are no class
        folders, or images lie outside them.
        """
        dataset = cls._from_rows(readers.read_folder(Path(path)))
        return dataset if slide is None else dataset.with_slides(slide)

    @classmethod
    def from_csv(cls, path: str | Path) -> Dataset:
        """Read a table with `image,label` and optionally `group, case, slide, split, fold`.

        Paths are relative to the table. Further columns are kept (`column`); images that share
        `near_duplicate_of` show the same field. Raises `DatasetError` that names missing columns,
        rows without a label, and files that do not exist.
        """
        return cls._from_rows(tables.read_table(Path(path)))

    @classmethod
    def unlabelled(cls, path: str | Path) -> Dataset:
        """Read images without labels: a folder or zip, whose folders are the groups, or a table.

        Labels of a table are not read. Raises `DatasetError` when there are no images.
        """
        return cls._from_rows(readers.read_unlabelled(Path(path)))

    @classmethod
    def from_zip(cls, path: str | Path) -> Dataset:
        """Read a zip of class folders in memory, without extracting it."""
        return cls._from_rows(readers.read_zip(Path(path)))

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, root: str | Path = ".") -> Dataset:
        """Read a data frame of pandas with the columns of `from_csv`; `to_frame` gives such a one.

        `image` holds paths (relative to `root`) or the bytes of encoded images.
        """
        return cls._from_rows(tables.read_frame(frame, root))

    from_dataframe = from_frame

    @classmethod
    def from_arrays(
        cls,
        images: Iterable[Any],
        labels: Sequence[Any] | None,
        *,
        groups: Sequence[Any] | None = None,
        cases: Sequence[Any] | None = None,
        slides: Sequence[Any] | None = None,
        names: Sequence[str] | None = None,
    ) -> Dataset:
        """Return a set of images that are in memory, each with its label (`None`: without labels).

        An image is an array `(H, W, 3)` uint8 RGB, a Pillow image, the bytes of a file or a path, as
        `Classifier.predict` takes it; all may be one array `(N, H, W, 3)`. `groups`, `cases` and
        `slides` say which images belong together, `names` what they are called. Pixels are kept
        as PNG files without loss. Raises `DatasetError` that names a length that differs, an image that
        is none, and a label that is no class.
        """
        columns = {"label": labels, "group": groups, "case": cases, "slide": slides}
        return cls._from_rows(memory.table_of_arrays(images, columns, names))

    @classmethod
    def sample(cls, count: int = 240, *, groups: int = 24, seed: int = 0) -> Dataset:
        """Return smears drawn by allkit, to try things out; results on them show nothing."""
        from allkit.data.drawn import drawn_samples

        return cls(drawn_samples(count, groups=groups, seed=seed), name="drawn smears")

    @classmethod
    def _from_rows(cls, table: Table) -> Dataset:
        if table.problems:
            raise DatasetError(rows.problems_text(table))
        return cls.of_table(table)

    @classmethod
    def of_table(cls, table: Table) -> Dataset:
        """Return the set of a table's rows, even if the table has problems."""
        return cls(
            table.rows,
            name=table.name,
            left_out=table.left_out,
            split_by="image" if table.split_by == "image" else "group" if table.split_by else None,
        )

    @overload
    def __getitem__(self, index: int, /) -> Sample: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[Any], /) -> Dataset: ...

    def __getitem__(self, index: Any, /) -> Sample | Dataset:
        """Return one sample, or the subset of a slice, of positions, or of an array of bool."""
        if isinstance(index, (int, np.integer)):
            return self.samples[index]
        return self.subset(rows.positions_in(index, len(self)))

    def read(self, index: int) -> Pixels:
        """Return image `index` as `(H, W, 3)` uint8 RGB; raise `ImageError` if it is unreadable."""
        return self.passes.load(index)[0]

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of each image's file, as hexadecimal digits.

        Raises `DatasetError` that names every file which cannot be opened.
        """
        return self.passes.hashes

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the images' bytes and their labels, in any order."""
        return rows_hash(zip(self.hashes, (s.label or "" for s in self.samples), strict=True))

    def verify(self) -> None:
        """Decode every image once; raise `DatasetError` that lists all that are unreadable."""
        self.passes.verify()

    def each(
        self, function: Callable[[int], T], progress: Callable[[int, int], None] | None = None
    ) -> list[T]:
        """Return `function(position)` for every position, in threads, few images at a time.

        Raises `DatasetError` that names every image for which it raised `ImageError`.
        """
        return self.passes.each(function, progress)

    @cached_property
    def units(self) -> Ints:
        """`(N,)` int64: images with the same number share a group or a case, or are byte-identical.

        No image is decoded for this.
        """
        return units_of(self.samples, self.hashes)

    @property
    def fields(self) -> Ints:
        """`(N,)` int64: images with the same number must stay on one side of a split.

        They are of one unit, or show the same field or part of it, by the column `near_duplicate_of`
        or by `duplicates`. The first time, every image is decoded.
        """
        return fields_of(self.samples, self.units, self.duplicates)

    @property
    def signatures(self) -> Sequence[Signature]:
        """The signature of each image, by which its field is recognised; 3.5 KB each.

        The first time, every image is decoded. Raises `DatasetError` that names unreadable ones.
        """
        return self.passes.measure([SIGNATURE])[0]

    @property
    def duplicates(self) -> tuple[DuplicatePair, ...]:
        """Pairs of images that show the same field, or part of it, by their positions.

        The first time, every image is decoded. Raises `DatasetError` that names unreadable ones.
        """
        return duplicates_of(self.passes)

    def with_groups(self, pattern: str) -> Dataset:
        """Return the set with groups taken from the images' names by a regular expression.

        The group is what the first pair of brackets matches, as in `UID_(\\d+)_`. Raises
        `DatasetError` when the expression does not match every name.
        """
        return self.same_images(with_origins(self.samples, pattern, "group"), self.split_by)

    def with_slides(self, pattern: str) -> Dataset:
        """Return the set with slides taken from the images' paths, as `with_groups` takes groups."""
        return self.same_images(with_origins(self.samples, pattern, "slide"), self.split_by)

    def leaks(self) -> list[str]:
        """Return what is on two sides of the set's own division, in sentences; empty if nothing.

        Compares the parts `train`, `val` and `test`: groups and cases, and images of one field.
        """
        known = self.slides if self.has_slides and not self.slides_suggested else None
        return leaks_of([s.part for s in self.samples], self.units, self.fields, known)

    def show(self, per_class: int = 6, *, seed: int = 0) -> Figure:
        """Return a contact sheet as a matplotlib figure: a row of images for each class.

        The images of a class are drawn at random with `seed`. `figure.savefig(path)` keeps it.
        """
        return sheet(self.samples, self.classes, self.read, per_class=per_class, seed=seed)

    def _repr_html_(self) -> str:
        """Return the set for the end of a notebook's cell: counts of each class, and some images."""
        return dataset_html(self)

    def show_batch(self, augment: Sequence[Any] = ("orientation",), *, seed: int = 0) -> Figure:
        """Return a contact sheet of twelve images as `Trainer(augment=…)` would change them.

        `augment` is what the setting takes: names, or callables. Each is shown beside what it was made
        of; both are drawn at random with `seed`. Raises `PluginError` for an unknown name.
        """
        figure: Figure = _above("allkit.training.augmented").augmented_sheet(
            self, augment, seed=seed
        )
        return figure

    def as_torch(self, spec: InputSpec) -> Any:
        """Return the images for `torch.utils.data.DataLoader`, standardised as `spec` says.

        Item i is `(image, label)`: a tensor `(3, S, S)` float32 of the whole field, and the position of
        its class in `classes`, -1 without one. `model.spec` is that of a classifier. Reading raises
        `ImageError` for an unreadable image.
        """
        return _above("allkit.network.loading").TorchImages(self, spec)

    def to_frame(self) -> pd.DataFrame:
        """Return a row an image as a data frame of pandas, which `from_frame` and `predict` take.

        `image` holds its path; of an image that is no file, its bytes. Columns that no image has a
        value for are left out.
        """
        return memory.frame_of(self.samples)

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
            measured=self.passes.measured.at(indices),
        )

    def part(self, *names: str) -> Dataset:
        """Return the images of the named parts (`train`, `val`, `test`) of the set's own split."""
        chosen = [i for i, s in enumerate(self.samples) if s.part in names]
        return self.subset(chosen, name=f"{self.name} ({'+'.join(names)})")

    def split(
        self, test: float = 0.3, val: float = 0.0, by: KeptWhole = "group", seed: int = 0
    ) -> Split[Dataset]:
        """Divide into train, val and test, every class in proportion on every side.

        `test` and `val` are shares of all images. `by="group"` keeps groups, cases and images of
        the same field whole, `by="slide"` slides too. `by="image"` is the plain random division of
        the published systems: images of one slide, even of one field, are then on both sides, and
        metrics measured on it are inflated. Raises `DatasetError` when a class cannot be on every
        side, for another word, and by slide where slides are unknown.
        """
        names, shares = dividing.sides_of(test, val)
        placed, kept = self._allocated(shares, names, by, seed)
        return self._divided([names[side] for side in placed], kept, seed)

    def folds(self, k: int, by: KeptWhole = "group", seed: int = 0) -> list[Split[Dataset]]:
        """Return k divisions into train and test; every image is in exactly one test part.

        A `fold` column in the set is taken as it is when it holds exactly k folds. `by` is that of
        `split`. Raises `DatasetError` also for k below 2.
        """
        dividing.require_folds(k)
        placed = dividing.given_folds([s.fold for s in self.samples], k)
        if placed is not None:
            known = self.split_by or dividing.kept_whole(self, by)[1]  # as the table says
            return [self._without_relatives(placed == fold, known, seed) for fold in range(k)]
        placed, kept = self._allocated([1.0] * k, [f"fold {i}" for i in range(k)], by, seed)
        return [
            self._divided(["test" if p == fold else "train" for p in placed], kept, seed)
            for fold in range(k)
        ]

    def leave_one_group_out(self, column: str = "group") -> Iterator[Split[Dataset]]:
        """Yield one division for each value of a column, all of its images being the test.

        Images that share a group, a case or a field with the test are in no part; `Split.dropped`
        counts them. Raises `DatasetError` when the column has fewer than two values or a gap.
        """
        values = self.column(column)
        for value in dividing.values_to_leave_out(values, column=column, name=self.name):
            test = np.array([v == value for v in values])
            yield self._without_relatives(test, "group", 0, value)

    def to_folds_csv(
        self, path: str | Path, k: int, *, by: KeptWhole = "group", seed: int = 0
    ) -> None:
        """Write the set as a table with a column `fold`, 0 to k − 1, that `folds` takes as it is."""
        folds = enumerate(self.folds(k, by=by, seed=seed))
        fold_of = {i: n for n, f in folds for i, s in enumerate(f.whole) if s.part == "test"}
        kept: By = "image" if by == "image" else "group"
        write_folds(self, [fold_of[i] for i in range(len(self))], Path(path), kept)

    def to_leave_one_group_out_csv(self, path: str | Path, column: str = "group") -> int:
        """Write a table with one fold for each value of `column`; return the number of folds."""
        values = [split.held_out for split in self.leave_one_group_out(column)]
        number = {value: fold for fold, value in enumerate(values)}
        write_folds(self, [number[value] for value in self.column(column)], Path(path), "group")
        return len(values)

    def to_csv(self, path: str | Path) -> None:
        """Write the set as a table that `from_csv` reads; its paths are relative to the table."""
        write_whole(Path(path), as_csv(self.samples, Path(path), name=self.name))

    def _allocated(
        self, shares: Sequence[float], sides: Sequence[str], by: KeptWhole, seed: int
    ) -> tuple[Ints, By]:
        fields, kept = dividing.kept_whole(self, by)
        placed = dividing.allocated(
            [s.label for s in self.samples],
            fields,
            shares,
            sides=sides,
            grouped=self.has_groups or by == "slide",
            on_slides=self.has_slides and not self.slides_suggested,
            name=self.name,
            seed=seed,
        )
        return placed, kept

    def _without_relatives(
        self, test: npt.NDArray[np.bool_], by: By, seed: int, held_out: str | None = None
    ) -> Split[Dataset]:
        parts = dividing.parts_without_relatives(test, self.fields if by == "group" else None)
        return self._divided(parts, by, seed, held_out)

    def _divided(
        self, parts: Sequence[str | None], by: By, seed: int, held_out: str | None = None
    ) -> Split[Dataset]:
        samples = [replace(s, part=part) for s, part in zip(self.samples, parts, strict=True)]
        return Split.of(self.same_images(samples, by), by, seed, held_out)

    def same_images(self, samples: Sequence[Sample], by: By | None) -> Dataset:
        """Return a set of the same images, with everything that was measured on them."""
        return Dataset(
            samples,
            self.classes,
            name=self.name,
            left_out=self.left_out,
            split_by=by,
            measured=self.passes.measured.same(),
        )
