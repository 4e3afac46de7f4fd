"""One division of a set into parts, and the table that keeps it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from allkit.data.sources import FileSource
from allkit.errors import DatasetError
from allkit.files import write_whole

if TYPE_CHECKING:
    from allkit.data.dataset import Dataset

__all__ = ["By", "Split", "as_csv", "split_fingerprint"]

By = Literal["group", "image"]


@dataclass(frozen=True)
class Split:
    """One division of a set: its parts, and how it was made.

    `held_out` is the value that the whole test part shares when one was left out. `dropped` counts
    the images that are in no part, because they share a group, a case or a field with the test.
    """

    train: Dataset
    val: Dataset
    test: Dataset
    whole: Dataset
    by: By
    seed: int
    held_out: str | None = None

    @classmethod
    def of(cls, whole: Dataset, by: By, seed: int, held_out: str | None = None) -> Split:
        """Return the division that the parts of `whole` make."""
        train, val, test = (whole.part(name) for name in ("train", "val", "test"))
        return cls(train, val, test, whole, by, seed, held_out)

    @property
    def dropped(self) -> int:
        """Number of images that are in no part."""
        return len(self.whole) - len(self.train) - len(self.val) - len(self.test)

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


def as_csv(dataset: Dataset, path: Path, *, fingerprint: str | None) -> str:
    """Return the set as the text of a table that will lie at `path`, further columns included."""
    further = list(dict.fromkeys(name for sample in dataset for name in sample.columns))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    made = [] if fingerprint is None else ["split", "fold", "split_by", "split_fingerprint"]
    writer.writerow(["image", "label", "group", "case", *made, *further])
    here = path.resolve().parent
    for sample in dataset:
        if not isinstance(sample.source, FileSource):
            raise DatasetError(
                f"The images of {dataset.name} are not files of their own, so a table cannot name "
                f"them. Unpack the zip, or save the images, first."
            )
        relative = os.path.relpath(sample.source.path.resolve(), here)
        parts = [sample.part, sample.fold, dataset.split_by, fingerprint] if made else []
        writer.writerow(
            [
                Path(relative).as_posix(), sample.label, sample.group, sample.case, *parts,
                *(sample.columns.get(name) for name in further),
            ]
        )  # fmt: skip
    return stream.getvalue()


def split_fingerprint(dataset: Dataset) -> str:
    """Return SHA-256 over every image's bytes, label and part, in any order."""
    rows = sorted(
        (digest, s.label or "", s.part or "")
        for digest, s in zip(dataset.hashes, dataset.samples, strict=True)
    )
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
