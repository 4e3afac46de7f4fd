"""What values the description of a model may hold, for model folders and exported files alike.

A description may come from a stranger, and its hash from the same hand: every value that makes no
sense is refused by the name of its field.
"""

from __future__ import annotations

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
]

Record = TypeVar("Record", bound=BaseModel)

MOST_CLASSES = 1000
LONGEST_NAME, LONGEST_TEXT = 200, 10_000
DEEPEST = 12


def _printable(text: str) -> str:
    """Refuse characters that steer a terminal or turn the direction of writing."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character != "\n":
            raise ValueError(f"it holds the control character {character!r}")
    return text


def _one_line(text: str) -> str:
    if text != text.strip() or "\n" in text:
        raise ValueError("it begins or ends with a blank, or has a line break in it")
    return text


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    plain = [unicodedata.normalize("NFC", name) for name in names]
    twice = [name for name in plain if plain.count(name) > 1]
    if twice:
        raise ValueError(f"the class {twice[0]!r} is in it {plain.count(twice[0])} times")
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
        raise ValueError(f"{name} is nested too deeply")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, which is not a number")
    if isinstance(value, int) and abs(value) > 10**15:
        raise ValueError(f"{name} is out of all proportion")
    if isinstance(value, str):
        _printable(value)
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
        try:
            given = repr(first.get("input"))
        except ValueError:  # Python writes no number of more than 4,300 digits
            given = "a number of thousands of digits"
        if where and len(given) <= 80:
            where = f"{where} = {given}"
        raise refusal(f"{path}: {where}: {message}.".replace(": : ", ": ")) from None
    except AllkitError as error:
        raise refusal(f"{path}: {error}") from None
    except RecursionError:
        raise refusal(f"{path} is nested too deeply.") from None
