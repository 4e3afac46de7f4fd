"""Notebooks as pages in Markdown, with what their cells printed and drew where they were run."""

from __future__ import annotations

import base64
import re
from typing import Any

__all__ = ["page_of", "title_of"]

NOT_RUN = (
    "!!! note\n    Only the cells are shown. `make notebooks` runs them and adds what they show.\n"
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def title_of(notebook: Any) -> str:
    """Return the heading of a notebook, which is the first line of its first cell."""
    return str(notebook["cells"][0]["source"]).splitlines()[0].removeprefix("# ")


def page_of(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """Return the text of a page, and its pictures by their file names.

    `notebook` is the content of an `.ipynb` file of format 4, run or not; `name` is that of the page
    and begins the names of its pictures.
    """
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            # The pages of the site lie in a folder beside those of docs/.
            parts.append(
                re.sub(r"\]\(([\w-]+)\.ipynb\)", r"](\1.md)", source).replace("../docs/", "../")
            )
            continue
        parts.append(_fenced(source, "python"))
        for output in cell["outputs"]:
            parts += _shown(output, name, pictures)
    if not any(cell["outputs"] for cell in code):
        parts.insert(1, NOT_RUN)
    return "\n\n".join(parts) + "\n", pictures


def _shown(output: Any, name: str, pictures: dict[str, bytes]) -> list[str]:
    """Return one output of a cell in Markdown; a picture is added to `pictures`."""
    if output["output_type"] == "stream":
        if "site-packages" in "".join(output["text"]):
            return []  # a library's word to its developers
        return [_fenced(_plain(output["text"]), "text")]
    data = output.get("data", {})
    if "image/png" in data:
        file = f"{name}-{len(pictures) + 1}.png"
        pictures[file] = base64.b64decode("".join(data["image/png"]))
        return [f"![What the cell above shows]({file})"]
    if "text/html" in data:
        # An empty line would end the HTML and begin Markdown.
        lines = "".join(data["text/html"]).splitlines()
        return ["<div class='output'>\n" + "\n".join(x for x in lines if x.strip()) + "\n</div>"]
    text = _plain(data.get("text/plain", ""))
    return [_fenced(text, "text")] if text else []


def _plain(text: Any) -> str:
    """Return a text without colours, and of lines that were written over only what stayed."""
    lines = _COLOURS.sub("", "".join(text)).rstrip("\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"
