"""Which characters the bundled fonts can print."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from allkit.clinic.records import CaseReport
from allkit.clinic.reports.library import library
from allkit.errors import ConfigError
from allkit.shown.text import escape, printable

__all__ = ["BOLD", "REGULAR", "glyphs_of", "missing_glyphs", "typeset"]

_FONTS = Path(__file__).with_name("fonts")
REGULAR = _FONTS / "DejaVuSans.ttf"
BOLD = _FONTS / "DejaVuSans-Bold.ttf"

_RIGHT_TO_LEFT = ("R", "AL", "AN")


def missing_glyphs(
    report: CaseReport, fonts: Sequence[str | Path] | None = None
) -> tuple[str, ...]:
    """Return the characters of the report that a PDF would not print as they are, sorted.

    Control and direction characters, those without a glyph in DejaVu Sans or in `fonts` (files, TrueType
    or OpenType), and those of scripts that are written from right to left or whose letters change with
    their neighbours, which are not set here. Whoever signs must be able to read what they sign: a report
    with such characters is not to be signed. Raises `ConfigError` where a font cannot be read.
    """
    known = glyphs_of(fonts)
    found = {c for text in _texts(asdict(report)) for c in _normal(text) if not _shown(c, known)}
    return tuple(sorted(found))


def typeset(text: str, known: frozenset[int]) -> str:
    """Return the printable text with each character that the fonts lack written as its escape."""
    shown = _normal(printable(text)).replace("\t", "    ")
    return "".join(c if _shown(c, known) else escape(c) for c in shown)


def glyphs_of(fonts: Sequence[str | Path] | None = None) -> frozenset[int]:
    """Return the characters, as code points, that DejaVu Sans (both weights) or one of `fonts` has."""
    bundled = _cmap(str(REGULAR)) & _cmap(str(BOLD))
    return bundled.union(*(_cmap(str(path)) for path in fonts or ()))


def _shown(character: str, known: frozenset[int]) -> bool:
    if character in "\n\t":
        return True
    if unicodedata.bidirectional(character) in _RIGHT_TO_LEFT:
        return False
    return (
        ord(character) in known
        and unicodedata.category(character) != "Mc"
        and printable(character) == character
    )


def _normal(text: str) -> str:
    """Letters and their marks as one character where Unicode has one: marks alone are set badly."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n"))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


@lru_cache(maxsize=8)
def _cmap(path: str) -> frozenset[int]:
    fonttools = library("fontTools.ttLib")
    try:
        with Path(path).open("rb") as file:
            return frozenset(fonttools.TTFont(file, lazy=True, fontNumber=0).getBestCmap() or ())
    except (OSError, fonttools.TTLibError) as error:
        raise ConfigError(
            f"The font {path} cannot be read ({error}). Give a TrueType or OpenType file."
        ) from error
