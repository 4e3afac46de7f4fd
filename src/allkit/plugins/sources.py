"""The files of a plugin that change without an installation, as those of an editable one do.

They are the files of its package, other than what Python or a tool made of them, and, for a module
without a package, the modules beside it. A file of up to 32 MB counts by its content, a larger one,
such as weights, by its size and the time of its last change.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from allkit.plugins.distributions import Distribution

__all__ = ["changing", "content", "state"]

LARGEST = 32 * 2**20
MOST = 2000
"""Files of one plugin that are looked at."""
LEFT_OUT = ("__pycache__", "node_modules")
MADE = (".pyc", ".pyo", ".log", ".tmp", ".swp")


def changing(package: Distribution, value: str) -> list[Path]:
    """Return the files behind an entry point that are not those of its installation, sorted.

    Empty where the code was installed, so that the version tells all of it.
    """
    editable = '"editable": true' in package.text("direct_url.json")
    if not editable and package.text("RECORD"):
        return []
    tops = {
        value.partition(":")[0].partition(".")[0].strip(),
        *package.text("top_level.txt").split(),
    }
    return sorted({file for top in tops for file in _of_module(top, editable, package.root)})


def _of_module(top: str, editable: bool, root: Path) -> Iterator[Path]:
    here = root / f"{top}.py"
    if here.is_file() and not (root / top).is_dir():
        yield here  # as below, without asking every finder
        return
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    for folder in folders:
        yield from _inside(folder)
    if spec and spec.origin and not folders and os.path.isfile(spec.origin):
        yield Path(spec.origin)
        if editable:
            yield from Path(spec.origin).parent.glob("*.py")


def _inside(folder: Path) -> Iterator[Path]:
    count = 0
    for inner, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in LEFT_OUT and not f.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith(MADE) and count < MOST:
                count += 1
                yield Path(inner, name)


def state(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Return path, time and size of each file: what changes when its content does, without reading."""
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError:  # it went, or leads nowhere
            continue
        found.append((str(file), status.st_mtime_ns, status.st_size))
    return found


def content(files: Sequence[Path]) -> str:
    """Return a hash of what the files hold, wherever they lie."""
    common = os.path.commonpath([str(file.parent) for file in files])
    parts = []
    for path, changed, size in state(files):
        try:
            held = str(changed) if size > LARGEST else hashlib.sha256(_bytes(path)).hexdigest()
        except OSError:
            held = "unreadable"
        parts.append((os.path.relpath(path, common).replace(os.sep, "/"), size, held))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
