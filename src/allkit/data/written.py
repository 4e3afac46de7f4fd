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
from allkit.data.sources import FileSource
from allkit.errors import DatasetError
from allkit.files import write_whole
from allkit.shown.text import JOINERS, cell, path_cell, visible

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
    `DatasetError`, which calls the set `name`, where a name holds what cannot be shown, and when the images
    are not files.
    """
    further = list(dict.fromkeys(column for sample in samples for column in sample.columns))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    has_slide = ["slide"] if any(sample.slide for sample in samples) else []
    division = [] if fingerprint is None else ["split", "fold", "split_by", "split_fingerprint"]
    writer.writerow(["image", "label", "group", "case", *has_slide, *division, *map(cell, further)])
    here = path.parent.resolve()
    folder_of: dict[Path, Path] = {}
    for sample in samples:
        if not isinstance(sample.source, FileSource):
            raise DatasetError(
                f"The images of {name} are not files of their own, so a table cannot name them. "
                f"Unpack the zip, or save the images, first."
            )
        file = sample.source.path
        if file.parent not in folder_of:
            folder_of[file.parent] = _way(here, file.parent)
        own = [sample.label, sample.group, sample.case, *[sample.slide] * len(has_slide)]
        row: list[Any] = [_path((folder_of[file.parent] / file.name).as_posix(), name)]
        row += [None if text is None else cell(_same(text, name)) for text in own]
        if division:
            row += [sample.part, sample.fold, split_by, fingerprint]
        kept = (sample.columns.get(column) for column in further)
        writer.writerow([*row, *(cell(text, lines=True) for text in kept)])
    text = stream.getvalue()
    _require_text(text, path)
    return text


def _path(path: str, name: str) -> str:
    """Return a path so that reading the table finds its file, and a spreadsheet computes nothing."""
    return path_cell(_same(path, name)) if _is_unicode(path) else path


def _same(text: str, name: str) -> str:
    """Return the text; raise `DatasetError` where a table could only show another one."""
    shown = visible(text, keep=JOINERS)
    if shown != text and _is_unicode(text):
        raise DatasetError(
            f"The name {shown} in {name} holds a character that cannot be shown, so no table can have it. "
            f"Rename it."
        )
    return text


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _way(here: Path, folder: Path) -> Path:
    """Return the path of a folder from `here`, by the names that it was given, not those of links' ends."""
    there = os.path.realpath(folder)
    try:
        way = os.path.relpath(os.path.abspath(folder), here)
        if os.path.realpath(here / way) != there:
            way = os.path.relpath(there, here)
    except ValueError:  # another drive of Windows
        way = there
    return Path(way)


def _require_text(table: str, path: Path) -> None:
    """Raise `DatasetError` for a table with a name that UTF-8 cannot write."""
    try:
        table.encode()
    except UnicodeEncodeError:
        lines = table.splitlines()
        strange = [line for line in lines if not _is_unicode(line)]
        raise DatasetError(
            f"{path} cannot be written: {len(strange)} of {len(lines) - 1} rows have a name that is "
            f"no UTF-8, such as {strange[0].split(',')[0]!a}. Rename these files, for example "
            f"with convmv."
        ) from None


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
