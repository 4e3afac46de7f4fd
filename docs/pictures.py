"""Put pictures of the workplace into the pages: `<!-- picture: NAME | what it shows -->` in a page.

They are made by `make pictures` (docs/screenshots.py) into `docs/pictures/` and are not kept in the
repository. Where they were not made, the pages are built without them.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

FOLDER = "pictures"
_MARK = re.compile(r"<!-- picture: ([\w-]+) \| ([^>]+?) -->")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return the text of a page with the pictures that are there; MkDocs calls it."""
    there = Path(config["docs_dir"]) / FOLDER
    here = posixpath.dirname(page.file.src_uri)

    def link(mark: re.Match[str]) -> str:
        name, shows = mark.groups()
        if not (there / f"{name}.png").is_file():
            return ""
        return f"![{shows}]({posixpath.relpath(f'{FOLDER}/{name}.png', here)})"

    return _MARK.sub(link, markdown)
