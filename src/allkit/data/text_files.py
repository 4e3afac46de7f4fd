"""Text files of rows as they come: in UTF-8, or with a mark in UTF-16 or UTF-32, one line at a time.

A file that is something else is refused by what it is.
"""

from __future__ import annotations

import codecs
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from allkit.errors import DatasetError
from allkit.images.mistaken import pretender

__all__ = ["lines_of", "open_text"]

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
_CONTROL_Z = "\x1a"
"""What DOS, and some instruments to this day, write at the end of a text."""


def _save(path: Path) -> str:
    if path.suffix.lower() in (".csv", ".tsv"):
        return "Save it as CSV in UTF-8 (in Excel: “CSV UTF-8”)."
    return "Save it in UTF-8."


@contextmanager
def open_text(path: Path, newline: str = "") -> Iterator[TextIO]:
    r"""Give a file as text; with `newline="\n"` no other sign ends a line.

    Raises `DatasetError` where it is no file, empty, or no text; also while it is read.
    """
    try:
        with path.open(newline=newline, encoding=_encoding(path)) as stream:
            yield stream
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist. Check the path of the table.") from None
    except UnicodeError as error:
        byte = ""
        if isinstance(error, UnicodeDecodeError) and error.start < len(error.object):
            byte = f" (it holds the byte 0x{error.object[error.start]:02X})"
        raise DatasetError(
            f"{path} cannot be read as a table: it is no text in UTF-8{byte}. {_save(path)}"
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
        if head.startswith(mark) and not pretender(head[len(codecs.BOM_UTF8) :]):
            return encoding
    for start, what in _OTHER:
        if head.startswith(start):
            raise DatasetError(f"{path} cannot be read as a table: it is {what}. {_save(path)}")
    # Rows may speak of web pages and errors; what was saved in place of them begins so.
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    begin = start if start.startswith(b"<") else start.split(b"\n")[0]
    if not start.startswith(b"{") and (what := pretender(begin)):
        raise DatasetError(f"{path} {what}")
    return "utf-8"


def lines_of(path: Path, stream: TextIO) -> Iterator[str]:
    """Yield the lines of a text with their ends; without a Ctrl-Z behind the last one.

    Raises `DatasetError` for a line that is too long, and for a null character.
    """
    number = 0
    while line := stream.readline(_LONGEST + 1):
        number += 1
        if len(line) > _LONGEST:
            raise DatasetError(
                f"Line {number} of {path} has over {_LONGEST:,} characters. It is no table of images, "
                f"or its lines are not divided."
            )
        if "\0" in line:
            raise DatasetError(f"Line {number} of {path} holds a null character. {_save(path)}")
        if line.endswith(_CONTROL_Z):  # no end of a line: it is the last one
            line = line.rstrip(_CONTROL_Z)
        if line:
            yield line
