"""What values the description of a model may hold, for model folders and exported files alike.

A description may come from a stranger, and its hash from the same hand: every value that makes no
sense is refused by the name of its field.
"""

from __future__ import annotations

import collections
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from allkit.errors import AllkitError
from allkit.runtime.reading import Refusal

__all__ = [
    "MOST_CLASSES",
    "ClassNames",
    "Flag",
    "Hex",
    "HiddenGroup",
    "Name",
    "Number",
    "Share",
    "Text",
    "Whole",
    "checked",
    "require_finite",
    "shortened",
]

Record = TypeVar("Record", bound=BaseModel)

MOST_CLASSES = 1000
LONGEST = 500
"""Characters of what is said of a field."""
LONGEST_NAME, LONGEST_TEXT = 200, 10_000
DEEPEST = 12
SHOWN = 80
"""Characters of a value in an error."""
STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""The categories of characters that steer a terminal or turn the direction of writing."""


def shortened(value: object, most: int = SHOWN) -> str:
    """Return a value as an error shows it: one line, without control characters, of a bearable length."""
    try:
        shown = repr(value[: most + 1] if isinstance(value, str) else value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    return shown if len(shown) <= most else f"{shown[:most]}…"


def _printable(text: str) -> str:
    """Refuse characters that steer a terminal or turn the direction of writing."""
    for character in text:
        if unicodedata.category(character) in STEERING and character != "\n":
            raise ValueError(f"it holds the control character {character!r}")
    return text


def _one_line(text: str) -> str:
    if text != text.strip() or "\n" in text:
        raise ValueError("it begins or ends with a blank, or has a line break in it")
    return text


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    plain = [unicodedata.normalize("NFC", name) for name in names]
    name, times = collections.Counter(plain).most_common(1)[0]
    if times > 1:
        raise ValueError(f"the class {shortened(name)} is in it {times} times")
    return names


Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True, ge=0, le=10**9)]
"""A count."""
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1)]
Text = Annotated[str, Field(strict=True, max_length=LONGEST_TEXT), AfterValidator(_printable)]
"""Words for people; may be empty."""
Name = Annotated[
    str,
    Field(strict=True, min_length=1, max_length=LONGEST_NAME),
    AfterValidator(_printable),
    AfterValidator(_one_line),
]
Hex = Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{0,64}$")]
"""A hash, whole or shortened; empty where older versions kept none."""
HiddenGroup = Annotated[
    str, Field(strict=True, pattern=r"^([0-9a-f]{8}:[0-9a-f]{32}|[0-9a-f]{16})$")
]
"""A group under the key of a site, `KEY:HMAC`; in models of the first versions a plain hash."""
ClassNames = Annotated[
    tuple[Name, ...], Field(min_length=2, max_length=MOST_CLASSES), AfterValidator(_distinct)
]


def require_finite(value: Any, name: str = "", depth: int = 0) -> Any:
    """Return a value of JSON; raise `ValueError` for numbers that are none, and for deep nesting."""
    if depth > DEEPEST:
        raise ValueError(f"{shortened(name)} is nested too deeply")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{shortened(name)} is {value}, which is not a number")
    if isinstance(value, int) and abs(value) > 10**15:
        raise ValueError(f"{shortened(name)} is out of all proportion")
    if isinstance(value, str):
        try:
            _printable(value)
        except ValueError as error:
            raise ValueError(f"{shortened(name)}: {error}") from None
    if isinstance(value, Mapping):
        for key, one in value.items():
            require_finite(one, f"{name}.{key}".strip("."), depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for one in value:
            require_finite(one, name, depth + 1)
    return value


def checked(record: type[Record], values: Any, path: Path, refusal: Refusal) -> Record:
    """Return `values` as a record; what is wrong is refused by the name of its field."""
    try:
        return record.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        if not where.isprintable() or len(where) > 2 * SHOWN:
            where = shortened(where, 2 * SHOWN)
        given = shortened(first.get("input"))
        if where and not given.endswith("…"):
            where = f"{where} = {given}"
        message = message if len(message) <= LONGEST else f"{message[:LONGEST]}…"
        raise refusal(f"{path}: {where}: {message}.".replace(": : ", ": ")) from None
    except AllkitError as error:
        raise refusal(f"{path}: {error}") from None
    except RecursionError:
        raise refusal(f"{path} is nested too deeply.") from None
