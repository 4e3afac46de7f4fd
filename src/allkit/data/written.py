"""A set of images as the text of a table, which `Dataset.from_csv` and every command reads."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from allkit.data.rows import Sample
from allkit.data.shown import cell, path_cell, visible
from allkit.data.sources import FileSource
from allkit.errors import DatasetError
from allkit.files import write_whole

__all__ = ["as_csv", "rows_hash", "write_folds"]


def as_csv(
    samples: Sequence[Sample],
    path: Path,
    *,
    name: str,
    split_by: str | None = None,
    fingerprint: str | None = None,
) -> str:
    """Return the text of a table that will lie at `path`, further columns included.

    Paths are relative to the table. With `fingerprint` it says how the set was divided. What a
    spreadsheet would compute is guarded, in a way that reading the table takes back. Raises
    `DatasetError`, which calls the set `name`, when the images are not files, and where a path, a label
    or a group holds what cannot be shown: it would not be read as the same again.
    """
    further = list(dict.fromkeys(column for sample in samples for column in sample.columns))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    has_slide = ["slide"] if any(sample.slide for sample in samples) else []
    division = [] if fingerprint is None else ["split", "fold", "split_by", "split_fingerprint"]
    writer.writerow(["image", "label", "group", "case", *has_slide, *division, *map(cell, further)])
    here = path.resolve().parent
    for sample in samples:
        if not isinstance(sample.source, FileSource):
            raise DatasetError(
                f"The images of {name} are not files of their own, so a table cannot name them. "
                f"Unpack the zip, or save the images, first."
            )
        relative = Path(os.path.relpath(sample.source.path.resolve(), here)).as_posix()
        own = [sample.label, sample.group, sample.case, *[sample.slide] * len(has_slide)]
        row: list[Any] = [_same(path_cell(relative), relative, "path", name)]
        row += [
            None if text is None else cell(_same(visible(text), text, "name", name)) for text in own
        ]
        if division:
            row += [sample.part, sample.fold, split_by, fingerprint]
        kept = (sample.columns.get(column) for column in further)
        writer.writerow([*row, *(cell(text, lines=True) for text in kept)])
    return stream.getvalue()


def _same(shown: str, text: str, what: str, name: str) -> str:
    """Return the text; raise `DatasetError` where only another one could be shown."""
    if shown.removeprefix("./") != text.removeprefix("./"):
        raise DatasetError(
            f"The {what} {visible(text)} in {name} holds a character that no table can show. Rename it."
        )
    return shown if what == "path" else text


class Images(Protocol):
    """What a table of folds needs of a set of images; `Dataset` has it."""

    samples: tuple[Sample, ...]
    name: str

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of each image's file."""


def write_folds(images: Images, folds: Sequence[int], path: Path, by: str) -> None:
    """Write the images as a table with a column `fold`, whole or not at all."""
    samples = [replace(s, fold=f, part=None) for s, f in zip(images.samples, folds, strict=True)]
    fingerprint = rows_hash(zip(images.hashes, folds, strict=True))
    text = as_csv(samples, path, name=images.name, split_by=by, fingerprint=fingerprint)
    write_whole(path, text)


def rows_hash(rows: Iterable[tuple[object, ...]]) -> str:
    """Return SHA-256 over rows of plain values, in any order."""
    return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()
