"""In which order the search shows what it finds: pages for use before records.

A page may name its own rank in its front matter (`search: {boost: 2}`); the ranks of folders are here.
"""

from __future__ import annotations

from typing import Any

RANKS = {
    "reference/glossary.md": 2.0,
    "adr/": 0.3,
    "figures-former.md": 0.3,
    "project/changelog.md": 0.3,
}
"""The rank of a page by the beginning of its path; others have 1."""


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Give a page its rank; MkDocs calls it before the search reads the page."""
    for beginning, rank in RANKS.items():
        if page.file.src_uri.startswith(beginning):
            page.meta.setdefault("search", {}).setdefault("boost", rank)
    return markdown
