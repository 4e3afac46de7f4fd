"""Every form a set of images may have, read into the same rows."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from allkit.data.folders import fold_number, is_role, is_unsure, part_name
from allkit.data.json_lines import json_rows
from allkit.data.layouts import layout_of
from allkit.data.left_out import METADATA, no_images, walk, whys_of
from allkit.data.listed import open_parquet
from allkit.data.missing import missing_text
from allkit.data.rows import PARTS, Sample, Table, check_labels, problems_text
from allkit.data.sources import FileSource, Source, ZipSource
from allkit.data.tables import read_parquet, read_table, table_of, text_rows
from allkit.data.vanished import vanished
from allkit.data.zips import image_members
from allkit.errors import DatasetError

__all__ = ["read", "read_folder", "read_unlabelled", "read_zip"]

UNLABELLED = "unlabelled"

_PACKED = ".tar .gz .tgz .bz2 .tbz2 .xz .txz .zst .7z .rar .zipx .cab .iso"
_ARCHIVES = frozenset(_PACKED.split())

MAX_TABLE_BYTES = 2**30
"""Most bytes of a table: a row has about a hundred."""


def read(path: Path) -> Table:
    """Read a folder, a zip or a table, whichever `path` is."""
    if path.is_dir():
        return read_folder(path)
    if not path.exists():
        raise DatasetError(
            f"{path} does not exist. Give a folder of class folders, a zip or a CSV."
        )
    suffix = path.suffix.lower()
    if not path.is_file():  # a pipe or a device may never end
        raise DatasetError(f"{path} is not a regular file. Give a folder, a zip or a table.")
    if suffix != ".zip" and path.stat().st_size > MAX_TABLE_BYTES:
        raise DatasetError(
            f"{path} has {path.stat().st_size:,} bytes; tables of up to {MAX_TABLE_BYTES:,} are read. "
            "Divide it."
        )
    if suffix == ".zip":
        return read_zip(path)
    if suffix in (".csv", ".tsv"):
        return read_table(path)
    if suffix == ".parquet":
        return read_parquet(path)
    if suffix in (".xlsx", ".xls", ".xlsm", ".ods"):
        raise DatasetError(f"{path} is a workbook. Save it as CSV in UTF-8, and give that.")
    raise DatasetError(
        f"{path} is not in a known form. {_unpack(path)}Give a folder of class folders, a zip "
        f"of one, or a .csv, .tsv or .parquet table with the columns image and label."
    )


def read_folder(root: Path) -> Table:
    """Read `root/CLASS/…/image`, `root/train/CLASS/…/image`, or a Hugging Face image folder.

    The last is one with a file `metadata.csv`, `.jsonl` or `.parquet` whose columns `file_name`
    and `label` take the place of class folders, at the top or in `train`, `val` and `test`. Where
    there are class folders and it has no labels, its other columns are taken.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder. Give the folder that holds the class folders.")
    tree = _tree(root)
    listings = _listings(root)
    if listings and all(listing.has("file_name", "label") for listing in listings):
        return _from_metadata(root, listings, tree)
    if listings:
        return _beside_metadata(root, listings, tree)
    return _from_folders(root, tree)


def _from_folders(root: Path, tree: _Tree) -> Table:
    if not tree.images:
        hint = f" It could not open {tree.unreadable[0]}." if tree.unreadable else ""
        raise DatasetError(f"{no_images(str(root), whys_of(tree.left_out))}{hint}")
    table = Table(str(root), left_out=tree.left_out, problems=list(tree.unreadable))
    top = str(root)
    sources = {name: FileSource(top, name) for name in tree.images}
    return _from_members(table, tree.images, sources, folders=tree.folders)


def read_unlabelled(path: Path) -> Table:
    """Read images without labels: a folder of any depth, a zip of one, or a CSV or TSV table."""
    if path.is_dir():
        tree = _tree(path)
        if not tree.images:
            raise no_images(str(path), whys_of(tree.left_out))
        table = Table(str(path), left_out=tree.left_out, problems=tree.unreadable)
        top = str(path)
        table.rows = _by_folder({name: FileSource(top, name) for name in tree.images})
        return table
    if path.is_file() and path.suffix.lower() == ".zip":
        sources, _, others = _inside_zip(path)
        return Table(str(path), _by_folder(sources), left_out=others)
    if path.suffix.lower() in (".csv", ".tsv"):
        columns, rows = text_rows(path)
        records = [{**row, "label": UNLABELLED} for row in rows]
        table = table_of(str(path), [*columns, "label"], records, path.parent, first_line=2)
        table.rows = [replace(row, label=None) for row in table.rows]
        return table
    if not path.exists():
        raise DatasetError(
            f"{path} does not exist. Give a folder of images, a zip of one, or a CSV with the column image."
        )
    raise DatasetError(
        f"{path} is no form of images without labels. {_unpack(path)}Give a folder of images, a zip of "
        f"one, or a CSV with the column image."
    )


def _by_folder(sources: Mapping[str, Source]) -> list[Sample]:
    """Return images without labels, each with the first folder of its path as its group."""
    rows = []
    for name in sorted(sources):
        parts = PurePosixPath(name).parts
        group = sys.intern(parts[0]) if len(parts) > 1 else None
        rows.append(Sample(name, sources[name], None, group))
    return rows


def _unpack(path: Path) -> str:
    """Return what to do with an archive of another kind than zip, as a sentence and a blank."""
    packed = path.suffix.lower() in _ARCHIVES
    return "Unpack that archive first. " if packed else ""


@dataclass
class _Tree:
    """What lies below a folder, as paths with `/`; those of folders end with it."""

    images: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def _tree(root: Path) -> _Tree:
    tree = _Tree()

    def note(error: OSError) -> None:
        tree.unreadable.append(f"the folder {error.filename} cannot be opened: {error.strerror}")

    for path, why in walk(str(root), note):
        of_kind = tree.images if why is None else tree.folders if why == "folder" else tree.left_out
        of_kind.append(path)
    # By folder, and in it by name, so that divisions with a seed stay the same.
    tree.images.sort(key=lambda path: (path.rpartition("/")[0], path))
    return tree


@dataclass
class _Listing:
    """A table of metadata in an image folder, and the part in whose folder it lies."""

    part: str | None
    file: Path
    columns: list[str]
    rows: list[dict[str, Any]]

    def has(self, *columns: str) -> bool:
        return set(columns) <= set(self.columns)


def _listings(root: Path) -> list[_Listing]:
    """Return the metadata at the top of an image folder and in the folders of its parts."""
    folders: list[tuple[str | None, Path]] = [(None, root)]
    folders += [(PARTS[n], root / n) for n in sorted(PARTS) if (root / n).is_dir()]
    found = []
    for part, file in [(p, f / n) for p, f in folders for n in METADATA if (f / n).is_file()]:
        try:
            found.append(_Listing(part, file, *_rows_of(file)))
        except DatasetError as error:
            raise DatasetError(
                f"{error} If it does not name the images, rename or move it, and class folders are read."
            ) from None
    return found


def _rows_of(file: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and the rows of a file of metadata."""
    if file.suffix == ".csv":
        return text_rows(file)
    if file.suffix == ".jsonl":
        return json_rows(file)
    rows = _parquet_rows(file)
    return list(dict.fromkeys(key for row in rows for key in row)), rows


def _records(root: Path, listings: list[_Listing]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and rows of all metadata, with the column `image` below `root`."""
    records: list[dict[str, Any]] = []
    columns: list[str] = []
    for listing in listings:
        prefix = listing.file.parent.relative_to(root)
        for row in listing.rows:
            where = {"image": (prefix / str(row.get("file_name") or "")).as_posix()}
            part = {"split": listing.part} if listing.part else {}
            records.append({k: v for k, v in row.items() if k != "file_name"} | where | part)
        columns += [name for name in listing.columns if name != "file_name"]
    return list(dict.fromkeys(["image", *columns, "split"])), records


def _from_metadata(root: Path, listings: list[_Listing], tree: _Tree) -> Table:
    columns, records = _records(root, listings)
    table = table_of(str(root), columns, records, root, first_line=1)
    own = {listing.file.relative_to(root).as_posix() for listing in listings}
    named = {row.image for row in table.rows}
    table.left_out = [path for path in tree.left_out if path not in own]
    table.left_out += [path for path in tree.images if path not in named]
    return table


def _beside_metadata(root: Path, listings: list[_Listing], tree: _Tree) -> Table:
    """Read class folders beside metadata that does not name the classes of images."""
    file = listings[0].file
    missing = [f"{name!r}" for name in ("file_name", "label") if not listings[0].has(name)]
    fault = (
        f"{file} has no column {' and no column '.join(missing) or 'that the others lack'}. It has: "
        f"{', '.join(listings[0].columns) or 'none'}."
    )
    way = f"Rename or move {file.name}, and the class folders alone are read"
    try:
        table = _from_folders(root, tree)
    except DatasetError as error:
        raise DatasetError(
            f"{fault} It has to name the images, or class folders have to lie beside it. {error}"
        ) from None
    if len({row.label for row in table.rows}) < 2 or any(one.has("label") for one in listings):
        raise DatasetError(f"{fault} Add the columns file_name and label. {way}.")
    if table.problems or not all(one.has("file_name") for one in listings):
        return table
    columns, records = _records(root, listings)
    of_image = {record["image"]: record for record in records}
    known = {row.image for row in table.rows}
    problems = [f"{name} is named in {file.name} and not there" for name in of_image.keys() - known]
    problems += [f"{name} is not named in {file.name}" for name in known - of_image.keys()]
    if problems:
        shown = Table(table.name, problems=[*sorted(problems), way])
        raise DatasetError(problems_text(shown))
    rows = [
        of_image[row.image]
        | {"image": row.image, "label": row.label}
        | ({"split": row.part} if row.part else {})
        | ({"fold": row.fold} if row.fold is not None else {})
        for row in table.rows
    ]
    joined = table_of(
        table.name, list(dict.fromkeys([*columns, "label", "fold"])), rows, root, first_line=1
    )
    own = {listing.file.relative_to(root).as_posix() for listing in listings}
    joined.left_out = [path for path in table.left_out if path not in own]
    return joined


def _parquet_rows(file: Path) -> list[dict[str, Any]]:
    with open_parquet(file) as stream:
        rows: list[dict[str, Any]] = stream.read().to_pylist()
    return rows


def read_zip(path: Path) -> Table:
    """Read a zip of class folders, also if they are all in one folder of the zip."""
    if not path.is_file():
        raise DatasetError(f"{path} does not exist. Check the path of the zip file.")
    sources, folders, others = _inside_zip(path)
    table = Table(str(path), left_out=others)
    return _from_members(table, sorted(sources), sources, folders=folders, zipped=True)


def _inside_zip(path: Path) -> tuple[dict[str, Source], list[str], list[str]]:
    """Return the images of a zip, its folders and its other files, without one folder at the top."""
    members = image_members(path)
    if not members.images:
        raise no_images(str(path), whys_of(members.others))
    sources: dict[str, Source] = {name: ZipSource(path, name) for name in members.images}
    others, folders = members.others, members.folders
    while prefix := _one_top(sources):  # zipping a folder puts the folder itself at the top
        sources = {name.removeprefix(prefix): source for name, source in sources.items()}
        others = [name.removeprefix(prefix) for name in others]
        folders = [
            inner for name in folders if (inner := name.removeprefix(prefix)) and inner != name
        ]
    return sources, folders, others


def _one_top(names: Iterable[str]) -> str | None:
    """Return the one folder, with its `/`, that holds folders of all images and is no class."""
    paths = [name.split("/", 2) for name in names]
    tops = {parts[0] for parts in paths}
    if len(tops) > 1 or any(len(parts) < 3 for parts in paths) or any(map(is_role, tops)):
        return None
    return f"{tops.pop()}/"


def _from_members(
    table: Table,
    images: list[str],
    sources: Mapping[str, Source],
    *,
    folders: Collection[str],
    zipped: bool = False,
) -> Table:
    """Take the class, and the part and the fold if there are any, from each image's folders."""
    paths = {name: PurePosixPath(name).parts[:-1] for name in images}
    taken = set(paths.values()) - {()}
    if not taken:
        raise DatasetError(
            f"{table.name} has no class folders: its {len(images)} images lie side by side. Put "
            f"them into one folder per class, or give a CSV with the columns image and label."
        )
    layout = layout_of(table.name, taken, zipped=zipped)
    table.problems += vanished(layout, taken, folders, table.left_out)
    for name, parts in paths.items():
        if len(parts) <= layout.label:
            table.problems.append(f"{name} lies outside the class folders")
            continue
        table.rows.append(
            Sample(
                name,
                sources[name],
                sys.intern(parts[layout.label]),
                part=None if layout.part is None else part_name(parts[layout.part]),
                fold=None if layout.fold is None else fold_number(parts[layout.fold]),
            )
        )
    check_labels(table)
    _tell_doubtful(table)
    return table


def _tell_doubtful(table: Table) -> None:
    """Warn of class folders whose names rather stand for no class; it is not for allkit to decide."""
    for label in sorted({row.label for row in table.rows if row.label is not None}):
        if missing_text(label, "label"):
            warnings.warn(
                f"{table.name}: {label!r} is taken as a class, but in a table it stands for no label, so "
                f"a table of this set, as `split` writes, could not be read. Rename that folder, or move "
                f"it away if it is no class.",
                stacklevel=2,
            )
        elif is_unsure(label):
            warnings.warn(
                f"{table.name}: {label!r} is taken as a class. If nobody knows the class of its images, "
                f"move that folder away.",
                stacklevel=2,
            )
