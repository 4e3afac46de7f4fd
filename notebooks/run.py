"""Run the notebooks, and write what they show as pages.

    python notebooks/run.py                              run all of them; nothing is kept
    python notebooks/run.py --out build/notebooks        and write a page with pictures for each
    python notebooks/run.py --only first-hour

A notebook is run in an empty folder, in a kernel of its own, and ends at the first cell that fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pages import page_of

__all__ = ["FOLDER", "executed", "main"]

FOLDER = Path(__file__).resolve().parent
SECONDS = 300
"""How long one cell may take."""


def executed(path: Path, instead: Mapping[str, str] | None = None) -> Any:
    """Return a notebook with what its cells show; raises `CellExecutionError` where one fails.

    `instead` maps pieces of its code to what is run in their place.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook: Any = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for before, after in (instead or {}).items():
            cell.source = cell.source.replace(before, after)
    with tempfile.TemporaryDirectory() as work:
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": work}},
        )
        client.execute()
    return notebook


def main(arguments: list[str] | None = None) -> int:
    """Run notebooks; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    parser.add_argument("--only", choices=names, action="append")
    parser.add_argument("--out", type=Path, help="folder for the pages")
    asked = parser.parse_args(arguments)
    for name in asked.only or names:
        started = time.monotonic()
        notebook = executed(FOLDER / f"{name}.ipynb")
        print(f"{name}: {time.monotonic() - started:.0f} s")
        if asked.out is not None:
            asked.out.mkdir(parents=True, exist_ok=True)
            text, pictures = page_of(notebook, name)
            (asked.out / f"{name}.md").write_text(text, encoding="utf-8")
            for file, data in pictures.items():
                (asked.out / file).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
