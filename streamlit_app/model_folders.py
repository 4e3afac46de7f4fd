"""Where the models are. No Streamlit, and no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MARK = "model.json"
FILES = (MARK, "model.safetensors", "SHA256SUMS")


@dataclass(frozen=True)
class Found:
    """The model folders that were found, and the places that hold none."""

    folders: tuple[Path, ...]
    empty: tuple[Path, ...]


def find_models() -> Found:
    """Look in the places that ALLKIT_MODELS names, or else below the current folder."""
    named = [Path(text) for text in os.environ.get("ALLKIT_MODELS", "").split(os.pathsep) if text]
    folders: dict[Path, Path] = {}
    empty: list[Path] = []
    for place in named or [Path.cwd()]:
        here = [place] if (place / MARK).is_file() else sorted(_below(place))
        if not here:
            empty.append(place)
        for folder in here:
            folders.setdefault(folder.resolve(), folder)
    return Found(tuple(folders.values()), tuple(empty))


def _below(place: Path) -> Iterable[Path]:
    # Two levels: `allkit demo` writes allkit-demo/model.
    for pattern in (f"*/{MARK}", f"*/*/{MARK}"):
        for path in place.glob(pattern):
            if not any(part.startswith(".") for part in path.relative_to(place).parts):
                yield path.parent


def short_name(folder: Path) -> str:
    """Return the folder as one would type it from here."""
    try:
        return str(folder.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(folder)


def stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what changes when a file of the model is changed: names, sizes and times."""
    found = []
    for name in FILES:
        try:
            status = (folder / name).stat()
        except OSError:
            continue
        found.append((name, status.st_size, status.st_mtime_ns))
    return tuple(found)
