"""What each shortcut probe sees, in words: the one table for the terminal, pages and notes."""

from __future__ import annotations

__all__ = ["PROBE_WORDS", "probe_words"]

PROBE_WORDS = {
    "border": "border of 8 pixels",
    "corner_tl": "top left corner",
    "corner_tr": "top right corner",
    "corner_bl": "bottom left corner",
    "corner_br": "bottom right corner",
    "background": "background",
    "file": "file size and compression",
    "mean_colour": "mean colour",
    "colour_histogram": "colour histogram",
    "thumbnail": "thumbnail of 8 × 8 pixels",
}
"""The name of a probe, which stays what it is in `--json`, → words that go after "the"."""


def probe_words(name: str) -> str:
    """Return a probe in words; a name that is not in the table without its underscores."""
    return PROBE_WORDS.get(name, name.replace("_", " "))
