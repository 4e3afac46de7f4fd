"""Texts that come from outside: what a name, a number and a note may hold."""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Sequence

from allkit.clinic.records import Identifier, Specimen
from allkit.errors import ClinicError

__all__ = ["date_of", "first_of", "identifier", "line", "note", "specimen", "without_options"]

LINE = 256
NOTE = 10_000
NAMED = 5
"""How many names a sentence lists before it ends with `…`."""
SPECIMENS = ("blood", "marrow")


def line(text: str, what: str, *, optional: bool = False) -> str:
    """Return a text of one line without blanks at its ends, in Unicode's composed form.

    What it holds stays as it is, were it HTML, a formula or HL7: each form of a report escapes it. Raises
    `ClinicError` where it is empty, longer than 256 characters, or holds control characters.
    """
    cleaned = unicodedata.normalize("NFC", text).strip()
    if not cleaned and not optional:
        raise ClinicError(f"The {what} is empty. Give one.")
    if len(cleaned) > LINE:
        raise ClinicError(
            f"The {what} has {len(cleaned):,} characters; {LINE} are allowed. It begins {cleaned[:30]!r}."
        )
    _require_printable(cleaned, what, allowed="")
    return cleaned


def note(text: str, what: str, *, optional: bool = True) -> str:
    """Return a text of several lines. Raises `ClinicError` as `line`, over 10,000 characters."""
    cleaned = unicodedata.normalize("NFC", text).replace("\r\n", "\n").strip()
    if not optional and not any(character.isalnum() for character in cleaned):
        raise ClinicError(f"The {what} is empty. Say why, in a few words.")
    if len(cleaned) > NOTE:
        raise ClinicError(f"The {what} has {len(cleaned):,} characters; {NOTE:,} are allowed.")
    _require_printable(cleaned, what, allowed="\n\t")
    return cleaned


def _require_printable(text: str, what: str, *, allowed: str) -> None:
    for position, character in enumerate(text):
        kind = unicodedata.category(character)
        # Cc: control; Cs: half of a pair, which no file can hold. Bidirectional overrides (in Cf) make a
        # number look like another one.
        hides = character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
        # Joiners belong to scripts; other signs without a width (Cf) make two names look alike.
        hides = hides or (kind == "Cf" and character not in "\u200c\u200d")
        if character not in allowed and (kind in ("Cc", "Cs") or hides):
            raise ClinicError(
                f"The {what} holds a character that cannot be shown (U+{ord(character):04X}, at position "
                f"{position + 1}). Remove it."
            )


def identifier(given: Identifier, what: str) -> Identifier:
    """Return an identifier whose parts are lines; the issuer may be empty."""
    return Identifier(
        line(given.value, what), line(given.issuer, f"issuer of the {what}", optional=True)
    )


def date_of(text: str | None, what: str) -> str | None:
    """Return a date as `2026-01-31`. Raises `ClinicError` for what is none, or lies before 1900."""
    if text is None or not text.strip():
        return None
    try:
        found = datetime.date.fromisoformat(text.strip())
    except ValueError:
        found = None
    if found is None or found.year < 1900:
        raise ClinicError(f"The {what} is {text[:30]!r}, which is no date. Write it as 2026-01-31.")
    return found.isoformat()


def specimen(given: Specimen, today: str) -> Specimen:
    """Return a specimen whose parts are checked; `today` is the date or time now, in UTC."""
    if given.kind not in SPECIMENS:
        raise ClinicError(f"A specimen is blood or marrow, not {given.kind!r}.")
    collected = date_of(given.collected, "date of the specimen")
    # In the east it is tomorrow already.
    tomorrow = datetime.date.fromisoformat(today[:10]) + datetime.timedelta(days=1)
    if collected is not None and collected > tomorrow.isoformat():
        raise ClinicError(f"The date of the specimen, {collected}, has not come yet. Correct it.")
    return Specimen(
        given.kind,
        collected,
        line(given.stain or "", "stain", optional=True) or None,
        line(given.number or "", "number of the specimen", optional=True) or None,
    )


def without_options(limit: str) -> str:
    """Return a limit of a model without what it advises to whoever trains one: `--slide REGEX`.

    A sentence that names an option or a column is left out; where nothing else is said, only these names are.
    """
    parts = re.split(r"(?<=[.!?])\s+", limit.strip())
    kept = [part for part in parts if not re.search(r"`|(?<!\S)--\w", part)]
    return " ".join(kept) or re.sub(r"`[^`]*`|(?<!\S)--\S+", "…", limit)


def first_of(names: Sequence[str]) -> str:
    """Return the first names as a list in a sentence; where there are more it ends with `…`."""
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
