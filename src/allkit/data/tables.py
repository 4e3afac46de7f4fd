"""Sets of images given as a table: CSV, TSV, Parquet, or a data frame."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.data.delimited import KNOWN, LINE, OWN, open_lines
from allkit.data.listed import found_path, open_parquet
from allkit.data.missing import Kind, doubtful, missing_text
from allkit.data.rows import PARTS, Sample, Table, check_labels, problems_text
from allkit.data.sources import BytesSource, FileSource, Source, name_on_disk
from allkit.data.values import (
    Cells,
    cells_of,
    column_names,
    plain,
    rounded_sentence,
    stripped,
    text_of,
)
from allkit.errors import DatasetError
from allkit.shown.text import shortened, unguarded, visible

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_frame", "read_parquet", "read_table", "table_of", "text_rows"]

_PATHS = ("image", "file_name")
_WHOLE = re.compile(r"(\d+)(\.0*|,0+)?")
_ORIGINS = ("group", "case", "slide", "fold")


def read_table(path: Path) -> Table:
    """Read a CSV or TSV; its paths are relative to it."""
    columns, rows = text_rows(path)
    return table_of(str(path), columns, rows, path.parent, first_line=2)


def text_rows(path: Path, known: Sequence[str] = KNOWN) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and the rows of a CSV or TSV file; a row has its line's number at `LINE`.

    `known` are the columns whose names may be written in capitals. Raises `DatasetError` that names
    every line whose cells do not fit under the header.
    """
    table = Table(str(path))
    rows: list[dict[str, Any]] = []
    with open_lines(path, known) as lines:
        columns = [name for name in lines.columns if name]
        for number, cells, problem in lines.rows:
            if problem:
                table.problems.append(problem)
                continue
            row: dict[str, Any] = {
                name: text if name in _PATHS else unguarded(stripped(text))
                for name, text in zip(lines.columns, cells, strict=True)
                if name
            }
            rows.append(row | {LINE: number})
    if table.problems:
        raise DatasetError(problems_text(table))
    return columns, rows


def read_parquet(path: Path) -> Table:
    """Read a Parquet table, also one that holds the images themselves as the Hugging Face hub does.

    There `image` is a record of `bytes` and `path`, and `label` a number whose class names stand
    in the metadata of the file.
    """
    with open_parquet(path) as file:
        # What pandas writes beside the columns: the index of the rows.
        kept = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]
        columns = column_names(kept, OWN, of=str(path))
        names = _label_names(file.schema_arrow.metadata or {}, str(path))
        content = file.read(columns=kept)
        values = [_values(content.column(name)) for name in kept]
    records = [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
    if names:
        for number, record in enumerate(records):
            record["label"] = _named(record.get("label"), names, f"{path}, row {number}")
    return table_of(str(path), columns, records, path.parent, first_line=0)


def _values(column: Any) -> list[Any]:
    """Return a column of Arrow as values; narrow floats stay narrow, for they hold fewer digits."""
    import numpy as np

    narrow = {"float": np.float32, "halffloat": np.float16}.get(str(column.type))
    values: list[Any] = column.to_pylist()
    return values if narrow is None else [None if v is None else narrow(v) for v in values]


def _named(value: Any, names: Sequence[str], where: str) -> Any:
    """Return the name of a class that is a number; -1, which means that it is unknown, as it is."""
    if not isinstance(value, (int, float)) or value == -1:
        return value
    if value != value:
        return None
    if value not in range(len(names)):
        raise DatasetError(
            f"{where}: the label is {value}, and the file names {len(names)} classes."
        )
    return names[int(value)]


def _label_names(metadata: Mapping[bytes, bytes], of: str) -> list[str]:
    import json

    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        names = features["label"]["names"]
    except (KeyError, ValueError, TypeError):
        return []
    found = [str(name) for name in names] if isinstance(names, list) else []
    twice = [name for name, count in Counter(map(plain, found)).items() if count > 1]
    if twice:
        raise DatasetError(
            f"{of} names two classes {visible(twice[0])!r}, and their images could not be told apart. "
            f"Write it again, with a name for each class."
        )
    return found


def read_frame(frame: pd.DataFrame, root: str | Path, *, name: str = "the data frame") -> Table:
    """Read a data frame; missing values count as empty."""
    try:
        root = Path(root)
    except TypeError:
        raise DatasetError(
            f"The folder of the images is {root!r}. Give its path, or leave it out."
        ) from None
    if not hasattr(frame, "itertuples"):
        raise DatasetError(f"{name} is a {type(frame).__name__}. Give a data frame of pandas.")
    columns = column_names(frame.columns, OWN, of=name)
    values = [_listed(frame.iloc[:, place]) for place in range(len(columns))]
    records = [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
    return table_of(name, columns, records, root, first_line=0)


def _listed(column: pd.Series[Any]) -> list[Any]:
    narrow = str(column.dtype).lower()
    if narrow in ("float16", "float32"):  # they hold fewer digits, and shall be known by it
        return list(column.to_numpy(narrow, na_value=float("nan")))
    return column.tolist()


def table_of(
    name: str, columns: list[str], records: list[dict[str, Any]], root: Path, *, first_line: int
) -> Table:
    """Return the rows of `records`, whose paths are relative to `root`, and every mistake in them."""
    missing = [column for column in ("image", "label") if column not in columns]
    if missing:
        raise DatasetError(
            f"{name} has no column {' and no column '.join(repr(c) for c in missing)}. It has: "
            f"{shortened(', '.join(columns) or 'none', 300)}. Wanted: image, label, and optionally "
            f"group, case, slide, split."
        )
    if not records:
        raise DatasetError(f"{name} has no rows. Give one row per image.")
    table = Table(name)
    further = [column for column in columns if column and column not in OWN]
    read = {
        column: cells_of((r.get(column) for r in records), _kind(column))
        for column in dict.fromkeys(columns)
        if column and column != "image"
    }
    _require_exact(name, read)
    seen: dict[str, tuple[str, str | None]] = {}
    for position, record in enumerate(records):
        line = record.get(LINE)
        where = f"row {first_line + position}" if line is None else f"line {line}"
        row = _row(table, _Record(record.get("image"), read, position, where), str(root))
        if row is None:
            continue
        known = os.path.normpath(row.image)
        if known in seen and not isinstance(row.source, BytesSource):
            before, label = seen[known]
            same = "again" if label == row.label else f"under two labels ({label}, {row.label})"
            as_ = "" if before == row.image else f", as {visible(before)},"
            table.problems.append(f"{where}: {visible(row.image)} is listed{as_} {same}")
            continue
        seen[known] = row.image, row.label
        kept = {c: text for c in further if (text := read[c].texts[position])}
        table.rows.append(replace(row, columns=kept) if kept else row)
    ways = set(read["split_by"].texts) - {None} if "split_by" in read else set()
    table.split_by = ways.pop() if len(ways) == 1 else None
    check_labels(table)
    if not table.problems:
        _tell_missing(name, read.items(), further)
        _tell_doubtful(table)
    return table


def _kind(column: str) -> Kind:
    if column in _ORIGINS:
        return "origin"
    return "label" if column in OWN else "further"


def _require_exact(name: str, read: Mapping[str, Cells]) -> None:
    for column, cells in read.items():
        if cells.rounded is not None:
            raise DatasetError(f"{name}: {rounded_sentence(column, cells.rounded)}")


def _tell_missing(name: str, read: Iterable[tuple[str, Cells]], further: Sequence[str]) -> None:
    """Say once how many cells of allkit's own columns were taken for no value."""
    own = (cells for column, cells in read if column not in further)
    words = Counter(word for cells in own for word in cells.words.values())
    if words:
        which = ", ".join(f"{word!r} {count:,} times" for word, count in words.most_common(5))
        warnings.warn(
            f"{name}: {words.total():,} cell{'s' if words.total() > 1 else ''} taken as missing ({which}).",
            stacklevel=2,
        )


def _tell_doubtful(table: Table) -> None:
    """Name the classes whose names may stand for no value."""
    counts = Counter(row.label for row in table.rows if row.label and doubtful(row.label))
    if counts:
        which = ", ".join(f"{visible(label)!r} ({n:,})" for label, n in counts.most_common(5))
        warnings.warn(
            f"{table.name}: taken as classes, though they may stand for no value: {which}. If they do, "
            f"take these images out of the table.",
            stacklevel=2,
        )


@dataclass(frozen=True)
class _Record:
    """One row: what its image is, and its place in the columns that were read."""

    image: Any
    read: Mapping[str, Cells]
    position: int
    where: str

    def get(self, column: str) -> str | None:
        """Return the text of a column, `None` where it has none."""
        return self.read[column].texts[self.position] if column in self.read else None

    def instead(self, column: str) -> str:
        """Return in brackets what was taken for no value, if anything was."""
        word = self.read[column].words.get(self.position)
        return f" ({word!r} stands for none; give a class another name)" if word else ""

    def strange(self) -> list[str]:
        """Return what is wrong with the cells."""
        return [
            f"{column} {cells.strange[self.position]}"
            for column, cells in self.read.items()
            if self.position in cells.strange
        ]


def _row(table: Table, record: _Record, root: str) -> Sample | None:
    value, where = record.image, record.where
    name = None
    if isinstance(value, Mapping):  # the form of the Hugging Face hub
        name = _name(value.get("path")) or None
        value = value.get("bytes") or value.get("path")
    source: Source
    if isinstance(value, (bytes, bytearray)):
        image, source = name or f"image of {where}", BytesSource(bytes(value))
    else:
        image = found_path(root, _name(value))
        if not image:
            what = (
                "" if value is None or isinstance(value, str) else f" but a {type(value).__name__}"
            )
            hint = (
                "; pixels in memory come in by Dataset.from_arrays"
                if hasattr(value, "shape")
                else ""
            )
            table.problems.append(f"{where}: no image{what}{hint}")
            return None
        source = FileSource(root, name_on_disk(root, image))
        if "\0" in image or not source.path.is_file():
            hint = "; it is written with backslashes" if "\\" in image else ""
            table.problems.append(
                f"{where}: {visible(image)} does not exist (looked for {visible(str(source.path))}{hint})"
            )
            return None
    problems = record.strange()
    label = record.get("label")
    if label is None and not problems:
        problems.append(f"{visible(image)} has no label{record.instead('label')}")
    part = record.get("split")
    if part is not None and part.lower() not in PARTS:
        problems.append(f"split is {part!r}; wanted train, val or test")
    fold = record.get("fold")
    if fold is not None and (whole := _WHOLE.fullmatch(fold)):
        fold = whole[1]  # beside folds that are wrong, those are not named
    if fold is not None and not (fold.isascii() and fold.isdigit() and len(fold) < 10):
        problems.append(f"fold is {fold!r}; wanted a whole number")
    if problems or label is None:
        table.problems.append(f"{where}: {problems[0]}")
        return None
    return Sample(
        image,
        source,
        label,
        group=record.get("group"),
        case=record.get("case"),
        part=PARTS[part.lower()] if part else None,
        fold=int(fold) if fold else None,
        slide=record.get("slide"),
    )


def _name(value: Any) -> str:
    """Return the name of an image, empty where there is none."""
    try:
        text = stripped(value) if isinstance(value, str) else text_of(value) or ""
    except ValueError:
        return ""
    return "" if missing_text(text, "label") else text
