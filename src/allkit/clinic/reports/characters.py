"""What no reader may see raw: control and direction characters."""

from __future__ import annotations

import unicodedata

__all__ = ["escape", "one_line", "printable", "shortened"]

_HIDDEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
"""Unicode's categories without a picture: some of them reverse or hide the text beside them."""


def escape(character: str) -> str:
    r"""Return how a character that cannot be shown is written: `\u202e`, as JSON and Python do."""
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def printable(text: str) -> str:
    r"""Return the text with each character that has no picture written as its escape.

    Line feeds and tabs stay; a carriage return with a line feed is one line feed. A text that would turn
    round or hide what stands beside it (U+202E, for example) shows what it holds instead.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(
        escape(c) if c not in "\n\t" and unicodedata.category(c) in _HIDDEN else c for c in lines
    )


def one_line(text: str) -> str:
    """Return the printable text with line feeds and tabs written as blanks."""
    return printable(text).replace("\n", " ").replace("\t", " ")


def shortened(text: str, most: int) -> str:
    """Return at most `most` characters of one line, with `…` where something was cut."""
    line = one_line(text)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
