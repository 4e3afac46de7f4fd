"""CSV and TSV as they come: any of four delimiters, UTF-8 or UTF-16, names of columns in any case.

What is certain is read; the rest is refused by the number of its line, with the cause. One row at a time
is in memory.
"""

from __future__ import annotations

import codecs
import csv
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO

from allkit.data.shown import shortened
from allkit.data.values import column_names, stripped
from allkit.errors import DatasetError

__all__ = ["OWN", "Line", "Lines", "open_lines"]

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
_KNOWN = (*OWN, "file_name")
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_LONGEST = 2**20
"""Characters of a line, at most."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER = (
    (b"PK\x03\x04", "an Excel workbook or a zip"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"PAR1", "a Parquet file; let its name end with .parquet"),
    (b"\x1f\x8b", "compressed"),
)
_SAVE = "Save it as CSV in UTF-8 (in Excel: “CSV UTF-8”)."


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
def open_lines(path: Path, known: Sequence[str] = _KNOWN) -> Iterator[Lines]:
    """Give the columns and rows of a CSV or TSV file; `known` are columns that it may have.

    Raises `DatasetError` where it cannot be read as one.
    """
    try:
        with path.open(newline="", encoding=_encoding(path)) as stream:
            yield _parsed(path, stream, known)
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist. Check the path of the table.") from None
    except UnicodeError as error:
        byte = ""
        if isinstance(error, UnicodeDecodeError) and error.start < len(error.object):
            byte = f" (it holds the byte 0x{error.object[error.start]:02X})"
        raise DatasetError(
            f"{path} cannot be read as a table: it is no text in UTF-8{byte}. {_SAVE}"
        ) from None
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read as a table: {error.strerror or error}. Check the file."
        ) from None


def _encoding(path: Path) -> str:
    if not stat.S_ISREG(path.stat().st_mode):
        raise DatasetError(f"{path} is no file. Give the path of a table.")
    with path.open("rb") as stream:
        head = stream.read(4096)
    if not head:
        raise DatasetError(f"{path} is empty. Give a table with a line of column names.")
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    for start, what in _OTHER:
        if head.startswith(start):
            raise DatasetError(f"{path} cannot be read as a table: it is {what}. {_SAVE}")
    return "utf-8"


def _parsed(path: Path, stream: TextIO, known: Sequence[str]) -> Lines:
    lines = _lines(path, stream)
    before, first = 0, ""
    delimiter: str | None = None
    for first in lines:
        told = re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE)
        if told is None and stripped(first):
            break
        delimiter = told[1] if told else delimiter
        before, first = before + 1, ""
    if not first:
        raise DatasetError(f"{path} is empty. Give a table with a line of column names.")
    delimiter = delimiter or _delimiter(path, first, known)
    reader = csv.reader(
        chain([first], lines), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    rows = _rows(path, reader, before)
    head = next(rows)
    columns = column_names(head[1], known, of=str(path))
    return Lines(columns, _checked(rows, columns, head[1], delimiter))


def _lines(path: Path, stream: TextIO) -> Iterator[str]:
    number = 0
    while line := stream.readline(_LONGEST + 1):
        number += 1
        if len(line) > _LONGEST:
            raise DatasetError(
                f"Line {number} of {path} has over {_LONGEST:,} characters. It is no table of images, "
                f"or its lines are not divided."
            )
        if "\0" in line:
            raise DatasetError(f"Line {number} of {path} holds a null character. {_SAVE}")
        yield line


def _delimiter(path: Path, first: str, known: Sequence[str]) -> str:
    """Return what divides the names of columns so that most are known; or else, so that most are there."""
    usual = "\t" if path.suffix.lower() == ".tsv" else ","

    def fit(delimiter: str) -> tuple[int, int, bool]:
        cells = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
        found = sum(stripped(cell).strip('"').lower() in known for cell in cells)
        return found, 0 if found else len(cells), delimiter == usual

    return max(_DELIMITERS, key=fit)


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
    rows: Iterator[tuple[int, list[str]]],
    columns: Sequence[str],
    head: Sequence[str],
    delimiter: str,
) -> Iterator[Line]:
    # Without a name are the numbers that pandas writes in front of the rows, and empty cells at the end.
    unnamed = [place for place, name in enumerate(columns) if place and not name]
    heading = [stripped(cell).lower() for cell in head]
    for number, cells in rows:
        if not any(map(stripped, cells)):
            continue
        problem = None
        if len(cells) != len(columns):
            name = _DELIMITERS.get(delimiter, delimiter)
            problem = (
                f"line {number}: {len(cells)} cells, and the header has {len(columns)}; put quotation "
                f"marks around a text that holds a {name}"
            )
        elif [stripped(cell).lower() for cell in cells] == heading:
            problem = f"line {number}: it repeats the header"
        elif strange := [cells[place] for place in unnamed if stripped(cells[place])]:
            what = shortened(strange[0], 30)
            problem = f"line {number}: {what!r} stands under no name of a column"
        yield Line(number, cells, problem)
