"""The cells of a table: the names of columns, and one text for a value however stored.

A slide that is 101 in one table is 101.0 in another, because pandas stores numbers with a gap among them
as floats, and a name has several forms in Unicode; written in two ways it would be two slides, and what
two sets share would be hidden.
"""

from __future__ import annotations

import datetime
import decimal
import numbers
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from allkit.data.missing import Kind, missing_text
from allkit.errors import DatasetError
from allkit.shown.text import hidden, visible

__all__ = ["Cells", "Form", "cells_of", "column_names", "plain"]
__all__ += ["rounded_sentence", "stripped", "text_of"]

_NUMBER = re.compile(r"(-?(?:0|[1-9]\d*))(?:([.,])(\d*))?")
_THOUSANDS = re.compile(r"-?[1-9]\d{0,2}(,\d{3})+")
_ROUNDED = re.compile(r"[+-]?\d([.,]\d+)?[eE]\+\d{2,}")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)")
_MIDNIGHT = re.compile(r"00:00(:00(\.0+)?)?")
_NO_WIDTH = "\u200b\u2060\ufeff"  # blanks to a reader, but not to Python
_EXACT: dict[int, int] = {2: 2**11, 4: 2**24}
"""From here on floats of so many bytes do not tell all whole numbers apart; those of 8 from 2**53 on."""


def stripped(text: str) -> str:
    """Return the text without blanks at its ends, those without a width too."""
    return text.strip().strip(_NO_WIDTH).strip()


def column_names(names: Iterable[object], known: Sequence[str], *, of: str) -> list[str]:
    """Return the names of a table's columns without blanks; the `known` ones in lower case.

    Raises `DatasetError`, which calls the table `of`, where two columns have one name.
    """
    given = [stripped(str(name)).strip('"') for name in names]
    found = [
        name
        if name in known or name.lower() not in known or name.lower() in given
        else name.lower()
        for name in given
    ]
    twice = [name for name, count in Counter(found).items() if name and count > 1]
    if twice:
        raise DatasetError(
            f"{of} has two columns {visible(twice[0])!r}. Take one away, or give it another name."
        )
    return found


# ── one value ─────────────────────────────────────────────────────────────────────────────────


def plain(text: str) -> str:
    """Return a name in its one form: NFC, letters and digits of usual width, single blanks; case stays."""
    if text.isascii():
        return " ".join(text.split())
    narrow = "".join(
        unicodedata.normalize("NFKC", sign)
        if unicodedata.decomposition(sign).startswith(("<wide>", "<narrow>"))
        else sign
        for sign in text
    )
    return " ".join(unicodedata.normalize("NFC", narrow).split())


def text_of(value: object) -> str | None:
    """Return the text of a value of Python, NumPy, pandas or Arrow; `None` for `None`, NaN, NaT and NA.

    Whole numbers have no fraction, dates no time at midnight. Raises `ValueError`, in words, for a list
    or the like, and for a whole number that a float could not hold exactly.
    """
    if isinstance(value, str):
        return _moment(stripped(value))
    if _is_none(value):
        return None
    if isinstance(value, (bytes, bytearray)):
        try:
            return stripped(value.decode("utf-8"))
        except UnicodeDecodeError:
            raise ValueError("holds bytes that are no text") from None
    if isinstance(value, (Mapping, list, tuple, set, frozenset)) or getattr(value, "ndim", 0) > 0:
        raise ValueError(f"is a {type(value).__name__}, not one value")
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, numbers.Real) and not isinstance(value, (bool, numbers.Rational)):
        return _of_float(value)
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            return str(float(value))
        return str(int(value)) if value == value.to_integral_value() else str(value.normalize())
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    return _moment(stripped(str(value)))


def _is_none(value: object) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    # NaN, and NaT of NumPy, differ from themselves; an array has no single truth.
    single = isinstance(value, float) or hasattr(value, "dtype")
    return single and not getattr(value, "ndim", 0) and bool(value != value)


def _of_float(value: numbers.Real) -> str:
    number = float(value)
    if not number.is_integer():  # nor is an infinite one
        return str(value)
    if abs(number) >= _EXACT.get(getattr(value, "itemsize", 8), 2**53):
        raise ValueError(
            f"is {number:.0f} as a floating-point number, which cannot hold all digits of such a number"
        )
    return str(int(number))


def _moment(text: str) -> str:
    """Return a time as `2026-01-31 10:00:00`, and the beginning of a day as its date."""
    found = _MOMENT.fullmatch(text)
    if found is None:
        return text
    time = found[2].rstrip("0").rstrip(".") if "." in found[2] else found[2]
    return found[1] if _MIDNIGHT.fullmatch(found[2]) else f"{found[1]} {time}"


# ── a column ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Form:
    """What the texts of a column are: whole numbers that went through floats, truth values, or neither."""

    whole: bool = False
    """No number has a real fraction, and some have one of zeros, which means nothing."""
    truth: bool = False
    rounded: str | None = None
    """A number that a spreadsheet or a float has rounded: numbers that differed may be the same here."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> Form:
        """Look at every text of a column; missing values are not among them.

        Texts that are no numbers, beside some that are, change nothing about those.
        """
        zeros, fraction, truth, rounded, count = False, False, True, None, 0
        for text in texts:
            count += 1
            found = _number_of(text)
            if found is not None and found[2]:
                some = bool(found[3].strip("0"))
                fraction, zeros = fraction or some, zeros or not some
            truth = truth and text.lower() in ("true", "false")
            if rounded is None and (_lost(found) or _ROUNDED.fullmatch(text)):
                rounded = text
        return cls(zeros and not fraction, bool(count) and truth, rounded)

    def read(self, text: str) -> str:
        """Return a text of the column in its one form."""
        if self.whole and (found := _number_of(text)):
            return found[1]
        return text.capitalize() if self.truth else text


def _number_of(text: str) -> re.Match[str] | None:
    """Return the whole part, the point or comma, and the fraction of a number without leading zeros."""
    found = _NUMBER.fullmatch(text)
    if found is None or (found[2] == "," and (not found[3] or _THOUSANDS.fullmatch(text))):
        return None
    return found


def _lost(found: re.Match[str] | None) -> bool:
    """Return whether a whole number with a fraction is too large for a float to hold it exactly."""
    if found is None or not found[2] or found[3].strip("0"):
        return False
    return len(found[1]) > 17 or abs(int(found[1])) >= 2**53


@dataclass
class Cells:
    """The texts of a column, `None` where there is none; what is wrong with some of them, by position.

    `words` holds what was taken for no value, where that is not simply nothing. `rounded` is that of `Form`.
    """

    texts: list[str | None] = field(default_factory=list)
    strange: dict[int, str] = field(default_factory=dict)
    words: dict[int, str] = field(default_factory=dict)
    rounded: str | None = None


def cells_of(values: Iterable[Any], kind: Kind = "origin") -> Cells:
    """Read a column.

    One of the further columns, which allkit only keeps, may hold what has no picture, lists, rounded
    numbers, and -1 as a number; the letters and blanks of its texts stay as they are.
    """
    cells = Cells()
    further = kind == "further"
    for position, value in enumerate(values):
        try:
            text = text_of(value)
        except ValueError as error:
            if not further:
                cells.strange[position] = str(error)
            text = str(value) if further else None
        if text is not None and missing_text(text, kind):
            if text:
                cells.words[position] = text
            text = None
        if text is not None and not further:
            if sign := next(filter(hidden, text), ""):
                cells.strange[position] = (
                    f"holds a character that cannot be shown ({_number(sign)})"
                )
            text = None if sign else plain(text)
        cells.texts.append(text)
    form = Form.of(text for text in cells.texts if text is not None)
    cells.texts = [None if t is None else sys.intern(form.read(t)) for t in cells.texts]
    cells.rounded = None if further else form.rounded
    return cells


def _number(character: str) -> str:
    return "a line break" if character in "\r\n" else f"U+{ord(character):04X}"


def rounded_sentence(column: str, example: str) -> str:
    """Return what to do about a column that holds rounded numbers such as `example`."""
    return (
        f"the column {column!r} holds {example}, a number whose last digits are lost: others may have "
        f"become the same. Take the numbers from where they were whole, and store them as text."
    )
