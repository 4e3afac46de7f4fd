"""Sets of images given as a table: CSV, TSV, Parquet, or a data frame."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.data.listed import open_text
from allkit.data.rows import PARTS, Sample, Table, check_labels
from allkit.data.sources import BytesSource, FileSource, Source, on_disk
from allkit.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_frame", "read_parquet", "read_table", "table_of"]

_OWN = (
    "image",
    "label",
    "group",
    "case",
    "slide",
    "split",
    "fold",
    "split_by",
    "split_fingerprint",
)


def read_table(path: Path) -> Table:
    """Read a CSV or TSV; its paths are relative to it."""
    columns, rows = text_rows(path)
    return table_of(str(path), columns, rows, path.parent, first_line=2)


def text_rows(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and the rows of a CSV or TSV file."""
    with open_text(path) as reader:
        return list(reader.fieldnames or []), list(reader)


def read_parquet(path: Path) -> Table:
    """Read a Parquet table, also one that holds the images themselves as the Hugging Face hub does.

    There `image` is a record of `bytes` and `path`, and `label` a number whose class names stand
    in the metadata of the file.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        frame = pd.read_parquet(path)
        names = _label_names(pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{path} cannot be read as Parquet: {reason}.") from None
    if names and "label" in frame.columns:
        frame["label"] = [
            names[value] if isinstance(value, int) and 0 <= value < len(names) else value
            for value in frame["label"].tolist()
        ]
    return read_frame(frame, path.parent, name=str(path))


def _label_names(metadata: Mapping[bytes, bytes]) -> list[str]:
    import json

    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        names = features["label"]["names"]
    except (KeyError, ValueError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def read_frame(frame: pd.DataFrame, root: Path, *, name: str = "the data frame") -> Table:
    """Read a data frame; missing values count as empty."""
    columns = [str(column) for column in frame.columns]
    records = [
        {k: None if _missing(v) else v for k, v in zip(columns, row, strict=True)}
        for row in frame.itertuples(index=False, name=None)
    ]
    return table_of(name, columns, records, root, first_line=0)


def _missing(value: object) -> bool:
    # NaN is the one value that differs from itself; an array has no single truth.
    return value is None or (isinstance(value, float) and value != value)


def table_of(
    name: str, columns: list[str], records: list[dict[str, Any]], root: Path, *, first_line: int
) -> Table:
    """Return the rows of `records`, whose paths are relative to `root`, and every mistake in them."""
    missing = [column for column in ("image", "label") if column not in columns]
    if missing:
        raise DatasetError(
            f"{name} has no column {' and no column '.join(repr(c) for c in missing)}. It has: "
            f"{', '.join(columns) or 'none'}. Wanted: image, label, and optionally group, case, slide, split."
        )
    if not records:
        raise DatasetError(f"{name} has no rows. Give one row per image.")
    table = Table(name)
    top = str(root)
    seen: dict[str, str | None] = {}
    further = [column for column in columns if column and column not in _OWN]
    for number, record in enumerate(records, start=first_line):
        where = f"row {number}"
        row = _row(table, record, top, where)
        if row is None:
            continue
        if row.image in seen and not isinstance(row.source, BytesSource):
            same = (
                "again"
                if seen[row.image] == row.label
                else f"under two labels ({seen[row.image]}, {row.label})"
            )
            table.problems.append(f"{where}: {row.image} is listed {same}")
            continue
        seen[row.image] = row.label
        kept = {column: text for column in further if (text := _shared(record.get(column)))}
        table.rows.append(replace(row, columns=kept) if kept else row)
    ways = {str(record.get("split_by") or "") for record in records} - {""}
    table.split_by = ways.pop() if len(ways) == 1 else None
    check_labels(table)
    return table


def _row(table: Table, record: Mapping[str, Any], root: str, where: str) -> Sample | None:
    value = record.get("image")
    name = None
    if isinstance(value, Mapping):  # the form of the Hugging Face hub
        name = _text(value.get("path"))
        value = value.get("bytes") or value.get("path")
    label = _shared(record.get("label"))
    source: Source
    if isinstance(value, (bytes, bytearray)):
        image, source = name or f"image of {where}", BytesSource(bytes(value))
    else:
        image = _text(value) or ""
        if not image:
            table.problems.append(f"{where}: no image")
            return None
        source = FileSource(root, on_disk(root, image))
        if "\0" in image or not source.path.is_file():
            table.problems.append(f"{where}: {image} does not exist (looked for {source.path})")
            return None
    if label is None:
        table.problems.append(f"{where}: {image} has no label")
        return None
    part = _text(record.get("split"))
    if part is not None and part.lower() not in PARTS:
        table.problems.append(f"{where}: split is {part!r}; wanted train, val or test")
        return None
    fold = _text(record.get("fold"))
    if fold is not None and not fold.removesuffix(".0").isdigit():
        table.problems.append(f"{where}: fold is {fold!r}; wanted a whole number")
        return None
    return Sample(
        image,
        source,
        label,
        group=_shared(record.get("group")),
        case=_shared(record.get("case")),
        part=PARTS[part.lower()] if part else None,
        fold=int(fold.removesuffix(".0")) if fold else None,
        slide=_shared(record.get("slide")),
    )


def _text(value: object) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None


def _shared(value: object) -> str | None:
    """Return the text of a value that many rows have: once for all of them."""
    text = _text(value)
    return None if text is None else sys.intern(text)
