"""Every form a set of images may have, read into the same rows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from allkit.data.labels import ALL_CLASSES, canonical_label
from allkit.data.rows import PARTS, Sample, Table, check_labels
from allkit.data.sources import FileSource, Source, ZipSource, image_members, is_image_name
from allkit.data.tables import read_parquet, read_table, table_of, text_rows
from allkit.errors import DatasetError

__all__ = ["read", "read_folder", "read_unlabelled", "read_zip"]

UNLABELLED = "unlabelled"
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


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
        return read_parquet(path)
    raise DatasetError(
        f"{path} is not in a known form. Give a folder of class folders, a zip "
        f"of one, or a .csv, .tsv or .parquet table with the columns image and label."
    )


def read_folder(root: Path) -> Table:
    """Read `root/CLASS/…/image`, `root/train/CLASS/…/image`, or a Hugging Face image folder.

    The last is one with a file `metadata.csv`, `.jsonl` or `.parquet` whose columns `file_name`
    and `label` take the place of class folders, at the top or in `train`, `val` and `test`.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder. Give the folder that holds the class folders.")
    found = _metadata(root)
    if found:
        return _from_metadata(root, found)
    images: list[str] = []
    others: list[str] = []
    unreadable: list[str] = []
    # Links to folders are not followed: a loop would never end.
    for top, folders, files in sorted(os.walk(root, onerror=_into(unreadable))):
        folder = Path(top).relative_to(root)
        if any(part.startswith(".") for part in folder.parts):
            continue
        for name in folders:
            if name.startswith(".") or (root / folder / name).is_symlink():
                others.append(f"{(folder / name).as_posix()}/")
        for name in sorted(files):
            relative = (folder / name).as_posix()
            (images if is_image_name(name) else others).append(relative)
    if not images:
        hint = f" It could not open {unreadable[0]}." if unreadable else ""
        raise DatasetError(
            f"{root} holds no images ({len(others)} other files). Wanted: {root}/CLASS/image.jpg, "
            f"with .jpg, .png, .tif or .bmp files.{hint}"
        )
    table = Table(str(root), left_out=others, problems=unreadable)
    top = str(root)
    return _from_members(table, images, {name: FileSource(top, name) for name in images})


def read_unlabelled(path: Path) -> Table:
    """Read images without labels: a folder of any depth, or a CSV or TSV table."""
    if path.is_dir():
        files = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
        images = [name for name in files if is_image_name(name)]
        if not images:
            raise DatasetError(f"{path} holds no images. Wanted: .jpg, .png, .tif or .bmp files.")
        table = Table(str(path), left_out=[name for name in files if not is_image_name(name)])
        top = str(path)
        for name in images:
            parts = PurePosixPath(name).parts
            group = sys.intern(parts[0]) if len(parts) > 1 else None
            table.rows.append(Sample(name, FileSource(top, name), None, group))
        return table
    if path.suffix.lower() in (".csv", ".tsv"):
        columns, rows = text_rows(path)
        records = [{**row, "label": UNLABELLED} for row in rows]
        table = table_of(str(path), [*columns, "label"], records, path.parent, first_line=2)
        table.rows = [replace(row, label=None) for row in table.rows]
        return table
    raise DatasetError(
        f"{path} {'is no form of' if path.exists() else 'does not exist; give'} images without "
        f"labels: a folder of images, or a CSV with the column image."
    )


def _into(problems: list[str]) -> Any:
    def note(error: OSError) -> None:
        problems.append(f"the folder {error.filename} cannot be opened: {error.strerror}")

    return note


def _metadata(root: Path) -> list[tuple[str | None, Path]]:
    """Return (part, metadata file) of a Hugging Face image folder; empty if it is none."""
    folders: list[tuple[str | None, Path]] = [(None, root)]
    folders += [(PARTS[n], root / n) for n in sorted(PARTS) if (root / n).is_dir()]
    return [
        (part, folder / name)
        for part, folder in folders
        for name in _METADATA
        if (folder / name).is_file()
    ]


def _from_metadata(root: Path, found: list[tuple[str | None, Path]]) -> Table:
    records: list[dict[str, Any]] = []
    columns: list[str] = []
    for part, file in found:
        if file.suffix == ".csv":
            names, rows = text_rows(file)
        else:
            rows = _json_rows(file) if file.suffix == ".jsonl" else _parquet_rows(file)
            names = list(dict.fromkeys(key for row in rows for key in row))
        if "file_name" not in names:
            raise DatasetError(
                f"{file} has no column 'file_name'. It has: {', '.join(names) or 'none'}."
            )
        prefix = file.parent.relative_to(root)
        for row in rows:
            where = {"image": (prefix / str(row.pop("file_name") or "")).as_posix()}
            records.append(row | where | ({"split": part} if part else {}))
        columns += [name for name in names if name != "file_name"]
    columns = list(dict.fromkeys(["image", *columns, "split"]))
    return table_of(str(root), columns, records, root, first_line=1)


def _json_rows(file: Path) -> list[dict[str, Any]]:
    rows = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read: {error}.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DatasetError(f"{file}, line {number}: not a JSON object.")
        rows.append(row)
    return rows


def _parquet_rows(file: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{file} cannot be read as Parquet: {error}.") from None
    return rows


def read_zip(path: Path) -> Table:
    """Read a zip of class folders, also if they are all in one folder of the zip."""
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
    nested = {top.lower() for top in tops} <= set(PARTS) and all(
        len(parts) > 2 for parts in paths.values() if len(parts) > 1
    )
    depth = 1 if nested else 0
    labels = {
        name: sys.intern(parts[depth]) for name, parts in paths.items() if len(parts) > depth + 1
    }
    _point_deeper(table, paths, set(labels.values()))
    for name, label in labels.items():
        part = PARTS[paths[name][0].lower()] if nested else None
        table.rows.append(Sample(name, sources[name], label, part=part))
    check_labels(table)
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
