"""Every form a set of images may have, read into the same rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from allkit.data.labels import ALL_CLASSES, canonical_label
from allkit.data.sources import (
    BytesSource,
    FileSource,
    Source,
    ZipSource,
    image_members,
    is_image_name,
)
from allkit.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Sample", "Table", "read"]

_PARTS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_SHOWN = 20  # problems written out; the rest is counted


@dataclass(frozen=True)
class Sample:
    """One image of a set: its name, where its bytes are, its class, and its origin if known."""

    image: str
    source: Source
    label: str
    group: str | None = None
    case: str | None = None
    part: str | None = None
    fold: int | None = None


@dataclass
class Table:
    """What was found: the rows, the files not taken, and what has to be mended first."""

    name: str
    rows: list[Sample] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    split_by: str | None = None


def describe(table: Table) -> str:
    """Return the problems of a table as one message."""
    shown = "\n".join(f"  {problem}" for problem in table.problems[:_SHOWN])
    more = len(table.problems) - _SHOWN
    rest = f"\n  … and {more:,} more" if more > 0 else ""
    return f"{table.name} cannot be used as it is:\n{shown}{rest}"


def read(path: Path) -> Table:
    """Read a folder, a zip or a table, whichever `path` is."""
    if path.is_dir():
        return read_folder(path)
    if not path.exists():
        raise DatasetError(
            f"{path} does not exist. Give a folder of class folders, a zip or a CSV."
        )
    suffix = path.suffix.lower()
    if suffix == ".zip":
        return read_zip(path)
    if suffix in (".csv", ".tsv"):
        return read_table(path)
    if suffix == ".parquet":
        import pandas as pd

        return read_frame(pd.read_parquet(path), path.parent, name=str(path))
    raise DatasetError(
        f"{path} is not a form of data that is known here. Give a folder of class folders, a zip "
        f"of one, or a .csv, .tsv or .parquet table with the columns image and label."
    )


def read_folder(root: Path) -> Table:
    """Read `root/CLASS/…/image` or `root/train/CLASS/…/image`."""
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder. Give the folder that holds the class folders.")
    images: list[str] = []
    others: list[str] = []
    for folder, _, files in sorted(root.walk() if hasattr(root, "walk") else _walk(root)):
        for name in sorted(files):
            relative = (folder / name).relative_to(root).as_posix()
            if any(part.startswith(".") for part in PurePosixPath(relative).parts[:-1]):
                continue
            (images if is_image_name(name) else others).append(relative)
    if not images:
        raise DatasetError(
            f"{root} holds no images ({len(others)} other files). Wanted: {root}/CLASS/image.jpg, "
            f"with .jpg, .png, .tif or .bmp files."
        )
    table = Table(str(root), left_out=others)
    return _from_members(table, images, {name: FileSource(root / name) for name in images})


def _walk(root: Path) -> Iterable[tuple[Path, list[str], list[str]]]:
    import os

    # Links to folders are not followed: a loop would never end.
    return ((Path(top), folders, files) for top, folders, files in os.walk(root))


def read_zip(path: Path) -> Table:
    """Read a zip of class folders, also when all lies in one folder of the zip."""
    if not path.is_file():
        raise DatasetError(f"{path} does not exist. Check the path of the zip file.")
    images, others = image_members(path)
    if not images:
        raise DatasetError(f"{path} holds no images. Wanted: CLASS/image.jpg inside the zip.")
    sources: dict[str, Source] = {name: ZipSource(path, name) for name in images}
    tops = {PurePosixPath(name).parts[0] for name in images}
    if len(tops) == 1 and all(len(PurePosixPath(name).parts) > 2 for name in images):
        prefix = f"{tops.pop()}/"  # zipping a folder puts the folder itself at the top
        sources = {name.removeprefix(prefix): source for name, source in sources.items()}
    table = Table(str(path), left_out=others)
    return _from_members(table, sorted(sources), sources)


def _from_members(table: Table, images: list[str], sources: Mapping[str, Source]) -> Table:
    """Take the class, and the part if there are parts, from each image's folders."""
    paths = {name: PurePosixPath(name).parts for name in images}
    outside = [name for name, parts in paths.items() if len(parts) == 1]
    if len(outside) == len(images):
        raise DatasetError(
            f"{table.name} has no class folders: its {len(images)} images lie side by side. Put "
            f"them into one folder per class, or give a CSV with the columns image and label."
        )
    table.problems += [f"{name} lies outside the class folders" for name in outside]
    tops = {parts[0] for parts in paths.values() if len(parts) > 1}
    nested = {top.lower() for top in tops} <= set(_PARTS) and all(
        len(parts) > 2 for parts in paths.values() if len(parts) > 1
    )
    depth = 1 if nested else 0
    labels = {name: parts[depth] for name, parts in paths.items() if len(parts) > depth + 1}
    _point_deeper(table, paths, set(labels.values()))
    for name, label in labels.items():
        part = _PARTS[paths[name][0].lower()] if nested else None
        table.rows.append(Sample(name, sources[name], label, part=part))
    _check_labels(table)
    return table


def _point_deeper(table: Table, paths: Mapping[str, tuple[str, ...]], labels: set[str]) -> None:
    """Refuse `Original/Benign/…` beside `Segmented/Benign/…`: the classes lie a level deeper."""
    known = set(ALL_CLASSES)
    if {canonical_label(label) for label in labels} & known:
        return
    inner = {canonical_label(parts[1]) for parts in paths.values() if len(parts) > 2}
    if len(inner & known) > 1:
        raise DatasetError(
            f"{table.name} has the folders {', '.join(sorted(labels))}, and the class folders lie "
            f"inside them. Give one of these folders instead, for example "
            f"{table.name}/{sorted(labels)[0]}."
        )


def read_table(path: Path) -> Table:
    """Read a CSV or TSV; its paths are relative to it."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(
            newline="", encoding="utf-8-sig"
        ) as stream:  # -sig: spreadsheets write a BOM
            reader = csv.DictReader(stream, delimiter=delimiter)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist. Check the path of the table.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path} cannot be read as a table: {error}. Save it as UTF-8 CSV."
        ) from None
    return _from_records(str(path), columns, rows, path.parent, first_line=2)


def read_frame(frame: pd.DataFrame, root: Path, *, name: str = "the data frame") -> Table:
    """Read a data frame; missing values count as empty."""
    columns = [str(column) for column in frame.columns]
    records = [
        {k: None if _missing(v) else v for k, v in zip(columns, row, strict=True)}
        for row in frame.itertuples(index=False, name=None)
    ]
    return _from_records(name, columns, records, root, first_line=0)


def _missing(value: object) -> bool:
    return value is None or value != value  # NaN is the one value that differs from itself


def _from_records(
    name: str, columns: list[str], records: list[dict[str, Any]], root: Path, *, first_line: int
) -> Table:
    missing = [column for column in ("image", "label") if column not in columns]
    if missing:
        raise DatasetError(
            f"{name} has no column {' and no column '.join(repr(c) for c in missing)}. It has: "
            f"{', '.join(columns) or 'none'}. Wanted: image, label, and optionally group, case, split."
        )
    if not records:
        raise DatasetError(f"{name} has no rows. Give one row per image.")
    table = Table(name)
    seen: dict[str, str] = {}
    for number, record in enumerate(records, start=first_line):
        where = f"row {number}"
        row = _row(table, record, root, where)
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
        table.rows.append(row)
    ways = {str(record.get("split_by") or "") for record in records} - {""}
    table.split_by = ways.pop() if len(ways) == 1 else None
    _check_labels(table)
    return table


def _row(table: Table, record: Mapping[str, Any], root: Path, where: str) -> Sample | None:
    value = record.get("image")
    label = _text(record.get("label"))
    source: Source
    if isinstance(value, (bytes, bytearray)):
        image, source = f"image of {where}", BytesSource(bytes(value))
    else:
        image = _text(value) or ""
        path = root / image
        if not image:
            table.problems.append(f"{where}: no image")
            return None
        if "\0" in image or not path.is_file():
            table.problems.append(f"{where}: {image} does not exist (looked for {path})")
            return None
        source = FileSource(path)
    if label is None:
        table.problems.append(f"{where}: {image} has no label")
        return None
    part = _text(record.get("split"))
    if part is not None and part.lower() not in _PARTS:
        table.problems.append(f"{where}: split is {part!r}; wanted train, val or test")
        return None
    fold = _text(record.get("fold"))
    if fold is not None and not fold.removesuffix(".0").isdigit():
        table.problems.append(f"{where}: fold is {fold!r}; wanted a whole number")
        return None
    return Sample(
        image, source, label, _text(record.get("group")), _text(record.get("case")),
        _PARTS[part.lower()] if part else None,
        int(fold.removesuffix(".0")) if fold else None,
    )  # fmt: skip


def _text(value: object) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None


def _check_labels(table: Table) -> None:
    """Name labels that differ in case or spacing only: they are one class, misspelt."""
    spellings: dict[str, set[str]] = {}
    for row in table.rows:
        label = canonical_label(row.label)
        if label not in ALL_CLASSES:
            spellings.setdefault("".join(label.lower().split()), set()).add(label)
    for variants in spellings.values():
        if len(variants) > 1:
            table.problems.append(
                f"the labels {', '.join(repr(v) for v in sorted(variants))} differ in case or spacing only"
            )
