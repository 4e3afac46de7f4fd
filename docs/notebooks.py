"""Show the notebooks as pages: `notebooks/NAME.md` for each `notebooks/NAME.ipynb` of the repository.

`make notebooks` runs them and leaves pages with what they show in `build/notebooks/`. Where it was
not run, the pages hold the cells alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "build" / "notebooks"


def on_files(files: Any, *, config: Any, **_: Any) -> Any:
    """Add a page for each notebook, and its pictures; MkDocs calls it."""
    sys.path.insert(0, str(ROOT / "notebooks"))
    try:
        from pages import page_of
    finally:
        sys.path.remove(str(ROOT / "notebooks"))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        done = RUN / f"{path.stem}.md"
        if done.is_file():
            text = done.read_text(encoding="utf-8")
            for picture in sorted(RUN.glob(f"{path.stem}-*.png")):
                files.append(
                    File.generated(config, f"notebooks/{picture.name}", abs_src_path=str(picture))
                )
        else:
            text, _ = page_of(json.loads(path.read_text(encoding="utf-8")), path.stem)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
    return files
