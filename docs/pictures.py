"""What goes into the pages when the site is built: pictures, and files from outside `docs/`.

`<!-- picture: NAME | what it shows -->` becomes the picture `docs/pictures/NAME.png`. Pictures are made by
`make pictures` and are not kept in the repository; where they were not made, the pages are built without.

`<!-- file: CHANGELOG.md -->` becomes the text of that file of the repository, without its title, with links
that work in the site, so that nothing is written twice.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

FOLDER = "pictures"
# Where the files of the repository's root are in the site.
PAGES = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
}
_MARK = re.compile(r"<!-- picture: ([\w-]+) \| ([^>]+?) -->")
_FILE = re.compile(r"<!-- file: ([\w.]+) -->")
_TITLE = re.compile(r"\A# [^\n]*\n")
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Watch the included files too while the site is served; MkDocs calls it."""
    root = Path(config["docs_dir"]).parent
    config["watch"] = [*config["watch"], *(str(root / name) for name in PAGES)]
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return the text of a page with the files and the pictures that are there; MkDocs calls it."""
    docs = Path(config["docs_dir"])
    here = posixpath.dirname(page.file.src_uri)

    def include(mark: re.Match[str]) -> str:
        text = docs.parent.joinpath(mark[1]).read_text(encoding="utf-8")
        return _TITLE.sub("", _LINK.sub(lambda link: f"]({_moved(link, here)})", text))

    def picture(mark: re.Match[str]) -> str:
        name, shows = mark.groups()
        if not (docs / FOLDER / f"{name}.png").is_file():
            return ""
        return f"![{shows}]({posixpath.relpath(f'{FOLDER}/{name}.png', here)})"

    return _MARK.sub(picture, _FILE.sub(include, markdown))


def _moved(link: re.Match[str], here: str) -> str:
    """A link of a file in the repository's root, as seen from a page of the site in the folder `here`."""
    target = PAGES.get(link[1], link[1].removeprefix("docs/"))
    return posixpath.relpath(target, here) + (link[2] or "")
