"""CSV and TSV as they come: any of four delimiters, UTF-8 or UTF-16, names of columns in any case.

What is certain is read; the rest is refused by the number of its line, with the cause. One row at a time
is in memory, and a few lines ahead.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TextIO

from allkit.data.text_files import lines_of, open_text
from allkit.data.values import column_names, stripped
from allkit.errors import DatasetError
from allkit.shown.text import shortened

__all__ = ["KNOWN", "LINE", "OWN", "Line", "Lines", "open_lines"]

OWN = (
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
"""The columns of a table that mean something to allkit."""
KNOWN = (*OWN, "file_name")
"""The columns whose names may be written in capitals."""
LINE = "\n"
"""Where a record of a text file has the number of its line: no column can be called so."""
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_TOLD = re.compile(r'"?sep=(\\t|[^\w\s"]|\t)?[\s;,|]*"?[\s;,|]*', re.IGNORECASE)
"""What Excel reads in a first line, and may have written again with empty cells behind."""
_FILE = re.compile(r".*\.\w{2,5}")
_LOOKED_AT = 20
"""Lines in which the names of columns are looked for, where the first one has none."""


class Line(NamedTuple):
    """A row: the line of the file in which it ends, its cells, and what is wrong with it, if anything."""

    number: int
    cells: list[str]
    problem: str | None


class Lines(NamedTuple):
    """The names of the columns, empty for those without one, and the rows that are not blank."""

    columns: list[str]
    rows: Iterator[Line]


@contextmanager
def open_lines(path: Path, known: Sequence[str] = KNOWN) -> Iterator[Lines]:
    """Give the columns and rows of a CSV or TSV file; `known` are columns that it may have.

    Raises `DatasetError` where it cannot be read as one.
    """
    with open_text(path) as stream:
        yield _parsed(path, stream, known)


def _parsed(path: Path, stream: TextIO, known: Sequence[str]) -> Lines:
    lines = lines_of(path, stream)
    before, first = 0, ""
    told: re.Match[str] | None = None
    for first in lines:
        now = _TOLD.fullmatch(first)
        told = now or told
        if now is None and stripped(first) and not _is_remark(first, known):
            break
        before, first = before + 1, ""
    if not first:
        raise DatasetError(f"{path} is empty. Give a table with a line of column names.")
    delimiter = _delimiter(path, first, known, told[1] if told else None)
    ahead = list(islice(lines, _LOOKED_AT))
    _require_no_title(path, [first, *ahead], known, before)
    reader = csv.reader(
        chain([first], ahead, lines), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    rows = _rows(path, reader, before)
    head = next(rows)
    columns = column_names(head[1], known, of=str(path))
    return Lines(columns, _checked(path, rows, columns, (head[1], delimiter)))


def _found(line: str, delimiter: str, known: Sequence[str]) -> int:
    """Return how many names of known columns a line holds."""
    return sum(stripped(cell).strip('"').lower() in known for cell in _cells(line, delimiter))


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a cell that is too long
        return []


def _is_remark(line: str, known: Sequence[str]) -> bool:
    """Return whether a line above the names of columns is a remark, as programs write them."""
    return stripped(line).strip('"').startswith("#") and not any(
        _found(line.replace("#", " "), delimiter, known) for delimiter in _DELIMITERS
    )


def _require_no_title(path: Path, lines: Sequence[str], known: Sequence[str], before: int) -> None:
    """Raise `DatasetError` where the names of columns stand further down, under a title."""
    found = [max(_found(line, delimiter, known) for delimiter in _DELIMITERS) for line in lines]
    if found[0] > 1:
        return
    for number, count in enumerate(found[1:], start=before + 2):
        if count > 1:
            raise DatasetError(
                f"{path} does not begin with the names of its columns ({shortened(lines[0], 60)!r}): "
                f"they stand in line {number}. Delete the lines above it."
            )


def _delimiter(path: Path, first: str, known: Sequence[str], told: str | None) -> str:
    """Return what divides the names of columns so that most are known; or else, so that most are there.

    What a line `sep=` has `told` counts unless fewer are known by it.
    """
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    told = "\t" if told == r"\t" else told

    def fit(delimiter: str) -> tuple[int, bool, int, bool]:
        found = _found(first, delimiter, known)
        count = 0 if found else len(_cells(first, delimiter))
        return found, delimiter == told, count, delimiter == usual

    return max([*_DELIMITERS, *([told] if told else [])], key=fit)


def _rows(path: Path, reader: Iterator[list[str]], before: int) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the number of the line in which it ends; raise where no more can be read."""
    end = before
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cause = (
                "a quotation mark is not closed"
                if "end of data" in str(error) or "limit" in str(error)
                else "a text goes on behind its closing quotation mark"
                if "expected after" in str(error)
                else str(error)
            )
            raise DatasetError(
                f"{path} cannot be read as a table from line {end + 1} on: {cause}. Write a quotation "
                f"mark within quotation marks twice."
            ) from None
        end = before + reader.line_num  # type: ignore[attr-defined]  # readers of csv have it
        yield end, cells


def _checked(
    path: Path,
    rows: Iterator[tuple[int, list[str]]],
    columns: Sequence[str],
    given: tuple[Sequence[str], str],
) -> Iterator[Line]:
    """Yield the rows that are not blank; `given` are the cells of the header, and what divides them."""
    # Without a name are the numbers that pandas writes in front of the rows, and empty cells at the end.
    unnamed = [place for place, name in enumerate(columns) if place and not name]
    heading = [stripped(cell).lower() for cell in given[0]]
    first = True
    for number, row in rows:
        if not any(map(stripped, row)):
            continue
        cells, surplus = row[: len(columns)], row[len(columns) :]
        if first and len(surplus) == 1 and _has_row_names(columns, row):
            raise DatasetError(
                f"{path} has a cell more in its rows than in its header, {row[0]!r} in front of the "
                f"first: names of rows, as R writes them. Write it with row.names = FALSE."
            )
        first = False
        problem = None
        if any(map(stripped, surplus)) or len(cells) < len(columns):
            problem = f"line {number}: {_unfit(row, columns, given[1])}"
        elif [stripped(cell).lower() for cell in cells] == heading:
            problem = f"line {number}: it repeats the header"
        elif strange := [cells[place] for place in unnamed if stripped(cells[place])]:
            what = shortened(strange[0], 30)
            problem = f"line {number}: {what!r} stands under no name of a column"
        yield Line(number, cells, problem)


def _unfit(row: Sequence[str], columns: Sequence[str], delimiter: str) -> str:
    """Return what is wrong with a row that has not as many cells as the header, and what to do."""
    name = _DELIMITERS.get(delimiter, delimiter)
    count = f"{len(row)} cells, and the header has {len(columns)}"
    if len(row) > len(columns):
        return f"{count}; put quotation marks around a text that holds a {name}"
    if len(row) == 1 and delimiter in row[0]:
        return f"{count}; the whole line stands in quotation marks, take them away"
    ends = "empty cells at its end count too" if len(row) > 1 else "it may be no row of the table"
    return f"{count}; write a {name} for each cell that is missing ({ends})"


def _has_row_names(columns: Sequence[str], row: Sequence[str]) -> bool:
    """Return whether the image of a row stands one cell behind its column."""
    place = next((columns.index(name) for name in ("image", "file_name") if name in columns), None)
    if place is None:
        return False
    here, behind = row[place], row[place + 1]
    return _FILE.fullmatch(behind) is not None and _FILE.fullmatch(here) is None
