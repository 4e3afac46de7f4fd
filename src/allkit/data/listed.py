"""The images that a table or a zip lists, one after another, whether or not they can be read.

What answers needs no labels, and reports a file that is missing in its place; so nothing is checked
here but that images are named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from allkit.data.delimited import OWN, open_lines
from allkit.data.left_out import Why, is_image_name, no_images, walk, whys_of
from allkit.data.missing import missing_text
from allkit.data.sources import ZipSource, name_on_disk
from allkit.data.values import (
    Form,
    column_names,
    plain,
    rounded_sentence,
    stripped,
    text_of,
)
from allkit.data.zips import image_members
from allkit.errors import AllkitError, ConfigError, DatasetError
from allkit.images.mistaken import pretender
from allkit.images.readers import region_suffixes
from allkit.images.tiles import is_slide_name, tiles_in
from allkit.shown.text import shortened, unguarded

__all__ = [
    "TABLES",
    "ZIP",
    "folder_images",
    "found_path",
    "images_of_file",
    "is_slide_file",
    "is_table",
    "is_zip",
    "open_parquet",
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
    empty = True
    for where, values in rows:
        empty = False
        for name, value in zip(wanted, values, strict=True):
            if missing_text(value, "label" if name == IMAGE else "origin"):
                said = f"{value!r}, which stands for nothing," if value else "nothing"
                raise DatasetError(
                    f"{where} has {said} in the column {name!r}. Fill it in every row."
                )
        yield values[0], values[1] if column is not None else ""
    if empty:
        raise DatasetError(f"{path} has no rows. Give one row per image.")


def found_path(root: str | os.PathLike[str], name: str) -> str:
    """Return `name`, or with `/` for backslashes where only so there is a file below `root`.

    Tables come from Windows. Where the system writes names of files in another encoding than UTF-8, the
    name comes back as the system has it.
    """
    if name.isascii() and "\\" not in name:
        return name
    try:
        plain = os.fsdecode(name.encode("utf-8", "surrogateescape"))
    except UnicodeError:
        return name
    if "\\" not in plain or "\0" in plain:
        return plain
    top, slashed = os.fsdecode(root), plain.replace("\\", "/")
    is_there = [
        os.path.isfile(os.path.join(top, name_on_disk(top, one))) for one in (plain, slashed)
    ]
    return slashed if is_there == [False, True] else plain


def _text(path: Path, wanted: list[str]) -> Iterator[tuple[str, list[str]]]:
    form = Form()
    if len(wanted) > 1:  # a column is in one form; it is looked at as a whole first
        form = Form.of(t for _, (_, t) in _cells(path, wanted) if not missing_text(t))
        _require_exact(path, wanted[1], form)
    for where, (image, *texts) in _cells(path, wanted):
        yield where, [found_path(path.parent, image), *map(form.read, texts)]


def _cells(path: Path, wanted: list[str]) -> Iterator[tuple[str, list[str]]]:
    with open_lines(path) as lines:
        _require(path, [name for name in lines.columns if name], wanted)
        image, *others = (lines.columns.index(name) for name in wanted)
        for number, cells, problem in lines.rows:
            if problem:
                raise DatasetError(f"{path}, {problem}.")
            texts = [plain(text_of(unguarded(stripped(cells[p]))) or "") for p in others]
            yield f"Line {number} of {path}", [stripped(cells[image]), *texts]


def _parquet(path: Path, wanted: list[str]) -> Iterator[tuple[str, list[str]]]:
    form = Form()
    if len(wanted) > 1:
        form = Form.of(t for t in _parquet_texts(path, wanted, wanted[1]) if not missing_text(t))
        _require_exact(path, wanted[1], form)
    images = _parquet_texts(path, wanted, wanted[0])
    others = (_parquet_texts(path, wanted, name) for name in wanted[1:])
    for number, (image, *texts) in enumerate(zip(images, *others, strict=True), start=1):
        where = f"Row {number} of {path} (the first one being 1)"
        yield where, [found_path(path.parent, image), *map(form.read, texts)]


def _parquet_texts(path: Path, wanted: list[str], column: str) -> Iterator[str]:
    """Yield the texts of one column, empty where there is none."""
    with open_parquet(path) as file:
        names = column_names(file.schema_arrow.names, OWN, of=str(path))
        _require(path, names, wanted)
        place = names.index(column)
        if column == IMAGE and _holds_images(file.schema_arrow.field(place).type):
            raise DatasetError(
                f"{path} holds the images themselves, not their paths. Read it with "
                f"Dataset.open and give `predict` that set, or save the images as files."
            )
        given = file.schema_arrow.names[place]
        for batch in file.iter_batches(columns=[given]):
            for value in batch.column(0).to_pylist():
                try:
                    text = text_of(value) or ""
                    yield text if column == IMAGE else plain(text)
                except ValueError as error:
                    raise DatasetError(
                        f"The column {column!r} of {path} cannot be used: a value {error}."
                    ) from None


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Give a Parquet file of pyarrow; raise `DatasetError` where it cannot be read as one."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError(
            f"{path} needs pyarrow. Type: pip install pyarrow; or give a CSV."
        ) from None
    if not path.is_file():
        raise DatasetError(f"{path} does not exist. Check the path of the table.")
    _require_itself(path)
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except AllkitError:
        raise
    # What a damaged file leads to is not only of its own kinds: also a wrong type, a text that is none.
    except Exception as error:  # noqa: BLE001 - the block does nothing but read this file
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DatasetError(
            f"{path} cannot be read as Parquet: {reason}. Write it again, or give a CSV."
        ) from None


def _require_itself(path: Path) -> None:
    """Raise `DatasetError` that says what was saved in place of a Parquet file."""
    try:
        with path.open("rb") as stream:
            head = stream.read(1024)
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read: {error.strerror or error}. Check who may read it."
        ) from None
    if not head.startswith(b"PAR1") and (what := pretender(head)):
        raise DatasetError(f"{path} {what}")


def _holds_images(kind: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    )


def _require_exact(path: Path, column: str, form: Form) -> None:
    if form.rounded is not None:
        raise DatasetError(f"{path}: {rounded_sentence(column, form.rounded)}")


def _require(path: Path, columns: list[str], wanted: list[str]) -> None:
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise DatasetError(
            f"{path} has no column {' and no column '.join(map(repr, missing))}. It has: "
            f"{shortened(', '.join(columns) or 'none', 300)}."
        )


def folder_images(folder: str, left: dict[Why, int]) -> Iterator[str]:
    """Yield the images of a folder, at any depth, in the order of names, each with the folder's path.

    A whole slide that an installed plugin reads stands for its tiles. Links to folders are not
    followed. What is not taken is counted in `left`, by why. Raises `DatasetError` where a folder cannot
    be opened, and at the end where there were no images.
    """
    root = os.path.normpath(folder)
    prefix = "" if root == os.curdir else os.path.join(root, "")
    empty = True
    for path, why in walk(root, _refuse, _is_taken):
        if why is None:
            empty = False
            yield from images_of_file(prefix + path.replace("/", os.sep))
        elif why != "folder":
            left[why] = left.get(why, 0) + 1
    if empty:
        raise no_images(folder, left)


def images_of_file(path: str) -> list[str]:
    """Return what a file stands for: itself, or the tiles of a whole slide that a plugin reads."""
    return tiles_in(path) if is_slide_file(path) else [path]


def is_slide_file(path: str) -> bool:
    """Return whether a path is that of a whole slide for which a reader is installed."""
    return is_slide_name(path) and path.lower().endswith(region_suffixes()) and os.path.isfile(path)


def _is_taken(name: str) -> bool:
    return is_image_name(name) or (is_slide_name(name) and name.lower().endswith(region_suffixes()))


def _refuse(error: OSError) -> None:
    raise DatasetError(
        f"The folder {error.filename} cannot be opened ({error.strerror}). Check its permissions."
    ) from None


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
