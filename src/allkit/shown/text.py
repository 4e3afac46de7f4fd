"""Texts from outside as people may be shown them: on a terminal, on a page, in a spreadsheet, as JSON.

A name, a label or an error may hold anything. What has no picture (control characters, and those that
turn round or hide the text beside them) is written as its escape. What a spreadsheet would compute has an
apostrophe in front, which allkit takes away again where it reads tables; the path of an image begins
with `./` in its place, and so needs no taking away.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

__all__ = [
    "JOINERS",
    "cell",
    "escape",
    "guarded",
    "hidden",
    "how_many",
    "json_escaped",
    "one_line",
    "path_cell",
    "printable",
    "shortened",
    "terminal_text",
    "unguarded",
    "unicode_text",
    "visible",
]

_HIDDEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
"""Unicode's categories without a picture: some of them reverse or hide the text beside them.

Characters that this Python does not know yet (`Cn`) may be letters of a later Unicode: they stay.
"""
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "'")
"""What a spreadsheet takes for a formula, full-width forms too; an apostrophe, that ours can be taken off."""
JOINERS = "\u200c\u200d"
"""They belong to the spelling of words in several scripts, and to no harm."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def hidden(character: str) -> bool:
    """Return whether a character has no picture: control, direction, half of a pair."""
    return unicodedata.category(character) in _HIDDEN


def escape(character: str) -> str:
    r"""Return how a character that cannot be shown is written: `\u202e`, as JSON and Python do."""
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def visible(text: str, keep: str = "") -> str:
    r"""Return the text with each character that has no picture written as its escape, also `\n`.

    Those of `keep` stay.
    """
    if text.isprintable():  # nearly always: blanks other than the usual one are looked at below
        return text
    return "".join(escape(c) if c not in keep and hidden(c) else c for c in text)


def printable(text: str) -> str:
    r"""Return the text with each character that has no picture written as its escape.

    Line feeds and tabs stay; a carriage return with a line feed is one line feed. A text that would turn
    round or hide what stands beside it (U+202E, for example) shows what it holds instead.
    """
    return visible(text.replace("\r\n", "\n").replace("\r", "\n"), keep="\n\t")


def one_line(text: str) -> str:
    """Return the printable text with line feeds and tabs written as blanks."""
    return printable(text).replace("\n", " ").replace("\t", " ")


def shortened(text: str, most: int) -> str:
    """Return at most `most` characters of one line, with `…` where something was cut."""
    line = one_line(text)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def how_many(number: int, noun: str, many: str = "") -> str:
    """Return a number with what it counts: `1 group`, `1,204 groups`; `many` is an uncommon plural."""
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"


def unicode_text(text: str) -> str:
    r"""Return a text that every file can hold: bytes of a name that is no Unicode become `\xNN`."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a pair that stands for no byte
        return text.encode("utf-8", "backslashreplace").decode()


# ── spreadsheets ──────────────────────────────────────────────────────────────────────────────


def _computed(text: str) -> bool:
    return text.lstrip().startswith(_FORMULA) or text[:1] in ("\t", "\n", "\r")


def guarded(text: str) -> str:
    """Return the printable text, with an apostrophe in front where a spreadsheet would compute it.

    That is where it begins with `= + - @`, their full-width forms or an apostrophe, blanks left aside,
    and where it begins with a tab or a line feed. Taking one apostrophe away gives the text again.
    """
    shown = printable(text)
    return f"'{shown}" if _computed(shown) else shown


def unguarded(text: str) -> str:
    """Return the text without the apostrophe that `guarded` put in front of it."""
    return text[1:] if text.startswith("'") and _computed(text[1:]) else text


def cell(value: Any, *, lines: bool = False) -> Any:
    """Return a value for a cell of CSV: a text guarded; a number, also as text, as it is.

    A text is in one line, its line feeds written as escapes, unless it may have several `lines`.
    """
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    shown = visible(value, keep=f"\n\t{JOINERS}" if lines else JOINERS)
    return f"'{shown}" if _computed(shown) else shown


def path_cell(path: str) -> str:
    """Return a path for a cell of CSV: still the path of the same file, and never a formula.

    A relative one that a spreadsheet would compute, or that begins with a blank, gets `./` in front.
    Characters without a picture are written as their escapes: such a file is not found by what is written.
    """
    risky = _computed(path) or path[:1].isspace()
    return visible(f"./{path}" if risky else path, keep=JOINERS)


def terminal_text(text: str) -> str:
    """Return a text of several lines for a terminal: what would move its cursor is written as escapes."""
    return visible(text, keep=f"\n\t{JOINERS}")


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────


def json_escaped(text: str, *, ascii_only: bool = False) -> str:
    """Return a text that is JSON so that it changes nothing on a terminal; its value stays the same.

    Characters without a picture become escapes of JSON; with `ascii_only`, all that are not ASCII.
    """
    if text.isprintable() and not (ascii_only and not text.isascii()):
        return text
    return "".join(
        _json_escape(c) if (c != "\n" and hidden(c)) or (ascii_only and not c.isascii()) else c
        for c in text
    )


def _json_escape(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
