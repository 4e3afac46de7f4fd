"""JSON Lines: one JSON object a line, its keys being the names of columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from allkit.data.delimited import KNOWN, LINE
from allkit.data.text_files import lines_of, open_text
from allkit.data.values import column_names
from allkit.errors import DatasetError
from allkit.shown.text import shortened, visible

__all__ = ["json_rows"]

_PATHS = ("image", "file_name")


def json_rows(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    r"""Return the columns and the rows of a file; a row has its line's number at `LINE`.

    Only `\n` ends a line: texts in JSON may hold the other signs that end lines elsewhere. Raises
    `DatasetError` that names the line which is no JSON object, or names an image by a number.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    with open_text(path, newline="\n") as stream:
        for number, line in enumerate(lines_of(path, stream), start=1):
            if text := line.removeprefix("\ufeff").strip():
                rows.append((number, _object(text, f"{path}, line {number}")))
    given = list(dict.fromkeys(key for _, row in rows for key in row))
    names = dict(zip(given, column_names(given, KNOWN, of=str(path)), strict=True))
    records = [{names[key]: value for key, value in row.items()} | {LINE: n} for n, row in rows]
    for record in records:
        for column in _PATHS:
            _require_name(record.get(column), column, f"{path}, line {record[LINE]}")
    return [name for name in names.values() if name], records


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, where))
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise DatasetError(f"{where}: not a JSON object. Write one object in each line.")
    return row


def _once(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DatasetError(f"{where}: it has {visible(twice)!r} twice. Take one away.")
    return values


def _require_name(value: Any, column: str, where: str) -> None:
    if isinstance(value, (bool, int, float, list)) and value == value:
        what = shortened(json.dumps(value), 40)
        raise DatasetError(
            f"{where}: {column} is {what}, which is no text. Write the name of the image's file."
        )
