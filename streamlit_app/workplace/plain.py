"""Text of others in Markdown: a file's name may hold links and pictures."""

from __future__ import annotations

import re

__all__ = ["in_the_browser", "plain"]


def plain(text: str) -> str:
    """Return Markdown that shows `text` as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~:$&^=])", r"\\\1", text)


def in_the_browser(message: str) -> str:
    """Return what the clinic says without its advice for the command line, which no page has."""
    said = re.sub(r"\s*\(allkit [^)]*\)", "", message)
    return re.sub(r"(?:\s+with)?:\s*allkit [a-z][^.]*\.?$", ".", said)
