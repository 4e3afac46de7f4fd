"""The images that a table or a zip lists, one after another, whether or not they can be read.

What answers needs no labels, and reports a file that is missing in its place; so nothing is checked
here but that images are named.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from allkit.data.left_out import Why, no_images, whys_of
from allkit.data.sources import ZipSource
from allkit.data.zips import image_members
from allkit.errors import ConfigError, DatasetError

__all__ = [
    "TABLES",
    "ZIP",
    "is_table",
    "is_zip",
    "open_text",
    "table_images",
    "zip_images",
    "zip_member",
]

TABLES = (".csv", ".tsv", ".parquet")
"""What the names of tables end with."""
ZIP = ".zip"
IMAGE = "image"
"""The column of a table that names the images."""


def is_table(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is that of a table, by its name."""
    return os.fsdecode(path).lower().endswith(TABLES)


def is_zip(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is that of a zip of images, by its name."""
    return os.fsdecode(path).lower().endswith(ZIP)


def table_images(
    table: str | os.PathLike[str], column: str | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the image of each row as the table names it, and the row's value of `column`.

    Without `column` that is empty. One row at a time is in memory. Raises `DatasetError` when the
    table cannot be read, has no such column (it names those there are), or has a gap in one of both.
    """
    path = Path(table)
    wanted = [IMAGE] if column is None else [IMAGE, column]
    rows = _parquet(path, wanted) if path.suffix.lower() == ".parquet" else _text(path, wanted)
    number = 0
    for number, values in enumerate(rows, start=1):
        for name, value in zip(wanted, values, strict=True):
            if not value:
                raise DatasetError(
                    f"Row {number} of {path} (the first one being 1) has nothing in the column "
                    f"{name!r}. Fill it in every row."
                )
        yield values[0], values[1] if column is not None else ""
    if not number:
        raise DatasetError(f"{path} has no rows. Give one row per image.")


@contextmanager
def open_text(path: Path) -> Iterator[csv.DictReader[str]]:
    """Give the reader of a CSV or TSV file; raise `DatasetError` where it cannot be read as one."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        # -sig: spreadsheets write a mark at the beginning.
        with path.open(newline="", encoding="utf-8-sig") as stream:
            yield csv.DictReader(stream, delimiter=delimiter)
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist. Check the path of the table.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path} cannot be read as a table: {error}. Save it as UTF-8 CSV."
        ) from None


def _text(path: Path, wanted: list[str]) -> Iterator[list[str]]:
    with open_text(path) as reader:
        _require(path, list(reader.fieldnames or []), wanted)
        for row in reader:
            yield [(row[name] or "").strip() for name in wanted]


def _parquet(path: Path, wanted: list[str]) -> Iterator[list[str]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError(
            f"{path} needs pyarrow. Type: pip install pyarrow; or give a CSV."
        ) from None
    if not path.is_file():
        raise DatasetError(f"{path} does not exist. Check the path of the table.")
    try:
        with pq.ParquetFile(path) as file:
            _require(path, file.schema_arrow.names, wanted)
            if pa.types.is_struct(file.schema_arrow.field(IMAGE).type):
                raise DatasetError(
                    f"{path} holds the images themselves, not their paths. Read it with "
                    f"Dataset.open and give `predict` that set, or save the images as files."
                )
            for batch in file.iter_batches(columns=wanted):
                columns = [batch.column(name).to_pylist() for name in wanted]
                for values in zip(*columns, strict=True):
                    yield ["" if value is None else str(value).strip() for value in values]
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{path} cannot be read as Parquet: {reason}.") from None


def _require(path: Path, columns: list[str], wanted: list[str]) -> None:
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise DatasetError(
            f"{path} has no column {' and no column '.join(map(repr, missing))}. It has: "
            f"{', '.join(columns) or 'none'}."
        )


def zip_images(archive: str | os.PathLike[str]) -> tuple[list[str], dict[Why, int]]:
    """Return the images of a zip as `ARCHIVE/MEMBER`, and how many other files it holds, by why.

    Raises `DatasetError` where it is no readable zip, is unsafe, or holds no images.
    """
    text = os.fsdecode(archive)
    if not os.path.isfile(text):
        raise DatasetError(f"{text} does not exist. Check the path of the zip file.")
    members = image_members(Path(text))
    left = whys_of(members.others)
    if not members.images:
        raise no_images(text, left)
    return [f"{text}/{name}" for name in members.images], {w: len(left[w]) for w in left}


def zip_member(path: str) -> ZipSource | None:
    """Return the member of a zip that a path of `zip_images` names; `None` for any other path."""
    end = path.lower().find(f"{ZIP}/")
    while end >= 0:
        cut = end + len(ZIP)
        if os.path.isfile(path[:cut]):
            return ZipSource(Path(path[:cut]), path[cut + 1 :])
        end = path.lower().find(f"{ZIP}/", cut)
    return None
