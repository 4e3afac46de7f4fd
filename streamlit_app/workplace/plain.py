"""Text of others in Markdown: a file's name may hold links and pictures."""

from __future__ import annotations

import re

__all__ = ["plain", "sentence"]


def plain(text: str) -> str:
    """Return Markdown that shows `text` as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~:$&^=])", r"\\\1", text)


def sentence(text: str) -> str:
    """Return Markdown for a message of allkit: commands between backticks stay as they are."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else plain(part) for part in parts if part)
