"""Every text of the workplace, by language. The files are read once.

pseudo    a language made from English, in which texts that are cut or written into the code are seen
en/, de/  the texts, a file for each part of the workplace

A text is found by its key, `desk.undo`: the name of its file, then its name in the file. In `pages.toml` and
`words.toml` the table comes first instead, because each is a part of its own: `worklist.title`, `slide.open`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from workplace.texts.pseudo import pseudo

__all__ = ["PSEUDO", "Texts", "languages", "negotiate", "texts"]

FOLDER = Path(__file__).parent
LANGUAGES = ("en", "de")
PSEUDO = "xx"
OF_PARTS = ("pages", "words")
"""The files whose tables are the first word of a key."""


class Texts:
    """The texts of one language: `say("worklist.fields", n=3)`.

    A value `n` chooses between `worklist.fields.one` and `worklist.fields.other`. What a language lacks is
    said in English; what English lacks is a `KeyError`.
    """

    def __init__(
        self, language: str, own: Mapping[str, str], english: Mapping[str, str], direction: str
    ) -> None:
        self.language = language
        self.direction = direction
        self._own = dict(own)
        self._all = {**english, **own}

    def __call__(self, key: str, /, **values: object) -> str:
        """Return a text with its values."""
        if key not in self._all and "n" in values:
            key = f"{key}.{'one' if values['n'] == 1 else 'other'}"
        if key not in self._all:
            raise KeyError(f"There is no text {key!r}. Add it to workplace/texts/en.")
        return self._all[key].format_map(values)

    def has(self, key: str) -> bool:
        """Tell whether there is a text, or a pair of singular and plural, of this key."""
        return key in self._all or f"{key}.other" in self._all

    def section(self, name: str) -> dict[str, str]:
        """Return all texts below a name as they are written, such as `undo` for `desk.undo`.

        A singular and a plural are two texts, `fields.one` and `fields.other`.
        """
        start = f"{name}."
        return {
            key.removeprefix(start): text
            for key, text in self._all.items()
            if key.startswith(start)
        }

    def number(self, value: float, digits: int = 1) -> str:
        """Return a number with so many places, written as the language writes it."""
        return f"{value:.{digits}f}".replace(".", self("frame.decimal"))

    @property
    def own(self) -> dict[str, str]:
        """The texts that the language itself has, without what is said in English."""
        return dict(self._own)


def languages() -> tuple[str, ...]:
    """Return the languages that people are offered; `xx` is known too, and is for testing."""
    return LANGUAGES


@cache
def texts(language: str) -> Texts:
    """Return the texts of a language. Raises `KeyError` where it is none of `languages()` or `xx`."""
    english = _read("en")
    if language == PSEUDO:
        own = {key: pseudo(text) for key, text in english.items()}
        # What stands between the digits of a number is no text to read.
        own["frame.decimal"] = english["frame.decimal"]
        return Texts(PSEUDO, own, english, "rtl")
    if language not in LANGUAGES:
        raise KeyError(f"There are no texts in {language!r}; the languages are {LANGUAGES}.")
    return Texts(language, _read(language), english, "ltr")


def negotiate(accept_language: str | None) -> str:
    """Return the language to speak to who asks with a header `Accept-Language`; English where none fits.

    A single name, such as `de`, is a header too. The made language `xx` is spoken only where the
    environment says `ALLKIT_PSEUDO=1`, as the tests do: nobody is to meet it by an address.
    """
    known = (*LANGUAGES, PSEUDO) if os.environ.get("ALLKIT_PSEUDO") == "1" else LANGUAGES
    wanted: list[tuple[float, str]] = []
    for part in (accept_language or "").split(","):
        name, _, weight = part.strip().partition(";")
        wanted.append((_weight(weight), name.split("-")[0].strip().lower()))
    for liking, name in sorted(wanted, key=lambda one: -one[0]):
        if liking > 0 and name in known:
            return name
    return "en"


def _weight(text: str) -> float:
    try:
        return float(text.strip().removeprefix("q=") or 1)
    except ValueError:
        return 0.0


def _read(language: str) -> dict[str, str]:
    """Return all texts of a language by their keys. Raises `ValueError` where a key stands twice."""
    found: dict[str, str] = {}
    for path in sorted((FOLDER / language).glob("*.toml")):
        table = tomllib.loads(path.read_text("utf-8"))
        area = path.stem
        for name, text in _flat(table):
            known = area in OF_PARTS or name.startswith(f"{area}.")
            key = name if known else f"{area}.{name}"
            if key in found:
                raise ValueError(f"{path} says {key!r} again. A text has one place; rename one.")
            found[key] = text
    return found


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, str):
            yield before + name, value
        else:
            yield from _flat(value, f"{before}{name}.")
